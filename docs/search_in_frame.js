// A page that was opened from a file may not start a worker. There, the search's script runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      const script = (source) => new Promise((done, failed) => {
        const element = inside.document.createElement("script");
        element.onload = done;
        element.onerror = failed;
        element.src = source;
        inside.document.body.append(element);
      });
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = (...sources) => Promise.all(sources.map(script));
      this.ready = script(String(address));
      this.ready.catch(() => this.dispatchEvent(new Event("error")));
    }
    postMessage(data) {
      const inside = this.frame.contentWindow;
      this.ready.then(() => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
