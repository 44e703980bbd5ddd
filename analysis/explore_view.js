// The controls, the numbers and the drawings. `data` holds the grids' nodes, the named members and the standard deviations.
function view(data) {
  const element = (id) => document.getElementById(id);
  const DIRECTIONS = ["sampling", "inversion"];
  const OBELM = { angles: [1], modulus: 1, exponent: 2, modeRho: 1, slopeRho: 1 };
  const SIXTIETHS = 60;
  const COUNTS = Object.keys(Object.values(data.grids)[0]).map(Number);
  const remembered = {};

  /** What the controls say. */
  function settings() {
    const k = Number(element("steps_k").value), angles = [];
    if (k > 2) angles.push(element("angle1").value / SIXTIETHS);
    if (k > 4) angles.push(element("angle2").value / SIXTIETHS);
    if (k % 2 === 0) angles.push(1);
    const number = (id) => Number(element(id).value);
    return { angles, modulus: number("modulus"), exponent: number("exponent"), modeRho: number("mode_rho"), slopeRho: number("slope_rho") };
  }

  /** Set the controls to a named member. */
  function take(member) {
    const { angles, modulus, exponent, modeRho, slopeRho } = data.members[member];
    const pairs = angles.filter((angle) => angle !== 1);
    element("steps_k").value = angles.length + pairs.length + 1;
    element("angle1").value = Math.round((pairs[0] ?? 3 / 4) * SIXTIETHS);
    element("angle2").value = Math.round((pairs[1] ?? 5 / 6) * SIXTIETHS);
    for (const [id, value] of [["modulus", modulus], ["exponent", exponent], ["mode_rho", modeRho], ["slope_rho", slopeRho]]) element(id).value = value;
  }

  /** O-BELM's numbers on a grid, computed once. */
  function base(grid, count) {
    return (remembered[`${grid} ${count}`] ??= rootPlaced.study(data.grids[grid][count], OBELM, data.stds));
  }

  /** Three digits; large and small numbers as powers of ten. */
  function digits(value) {
    if (!Number.isFinite(value)) return "∞";
    if (value !== 0 && (value >= 1e4 || value < 1e-2)) {
      const [mantissa, exponent] = value.toExponential(2).split("e");
      return `${mantissa}·10<sup>${String(Number(exponent)).replace("-", "−")}</sup>`;
    }
    return String(Number(value.toPrecision(3)));
  }

  function draw(svg, parts) {
    svg.innerHTML = parts.join("");
  }

  function circle(chosen) {
    const dot = ([re, im], kind) => `<circle class="${kind}" cx="${re}" cy="${-im}" r="0.06"/>`;
    draw(element("circle"), [
      '<circle class="frame" r="1"/><line class="frame" x1="-1.25" x2="1.25"/><line class="frame" y1="-1.25" y2="1.25"/>',
      dot([1, 0], "principal"), ...rootPlaced.roots(chosen.angles, chosen.modulus).map((root) => dot(root, "spurious")),
    ]);
  }

  /** Lines over N in logarithmic scales: [class, marker, dashed, values]. */
  function chart(svg, lines) {
    const [left, right, top, bottom] = [46, 290, 10, 205];
    const finite = lines.flatMap((line) => line.values).filter((value) => Number.isFinite(value) && value > 0).map(Math.log10);
    const low = Math.floor(Math.min(...finite)), high = Math.max(Math.ceil(Math.max(...finite)), low + 1);
    const x = (count) => left + ((right - left) * Math.log(count / COUNTS[0])) / Math.log(COUNTS[COUNTS.length - 1] / COUNTS[0]);
    const y = (value) => bottom - ((bottom - top) * (Math.log10(value) - low)) / (high - low);
    const every = Math.ceil((high - low) / 6), parts = [];
    for (let power = low; power <= high; power += every) {
      const height = y(10 ** power);
      parts.push(`<line class="frame" x1="${left}" x2="${right}" y1="${height}" y2="${height}"/>`);
      parts.push(`<text x="${left - 6}" y="${height + 4}" text-anchor="end">10<tspan dy="-5" font-size="8">${String(power).replace("-", "−")}</tspan></text>`);
    }
    for (const count of COUNTS) parts.push(`<text x="${x(count)}" y="${bottom + 16}" text-anchor="middle">${count}</text>`);
    parts.push(`<text x="${(left + right) / 2}" y="${bottom + 32}" text-anchor="middle">number of steps N</text>`);
    for (const { kind, dashed, square, values } of lines) {
      const points = COUNTS.map((count, n) => [x(count), y(values[n])]).filter(([, height]) => Number.isFinite(height));
      parts.push(`<polyline class="${kind}" ${dashed ? 'stroke-dasharray="6 4"' : ""} points="${points.map((p) => p.join(",")).join(" ")}"/>`);
      if (kind !== "base") parts.push(...points.map(([px, py]) => (square ? `<rect class="${kind}" x="${px - 3}" y="${py - 3}" width="6" height="6"/>` : `<circle class="${kind}" cx="${px}" cy="${py}" r="3"/>`)));
    }
    draw(svg, parts);
  }

  function charts(chosen, grid) {
    const own = COUNTS.map((count) => (count > chosen.k ? rootPlaced.study(data.grids[grid][count], chosen, data.stds) : null));
    const other = COUNTS.map((count) => base(grid, count));
    for (const [id, quantity] of [["growth", "K"], ["errors", "E"]]) {
      const lines = [];
      for (const [kind, found] of [["base", other], ["own", own]])
        DIRECTIONS.forEach((direction, up) => lines.push({
          kind: kind === "base" ? kind : up ? "up" : "down", dashed: up, square: up,
          values: found.map((each) => (each ? each[direction][quantity] : NaN)),
        }));
      chart(element(id), lines);
    }
  }

  function python(chosen) {
    const angles = chosen.angles.map((angle) => (angle === 1 ? "1.0" : `${Math.round(angle * SIXTIETHS)}/${SIXTIETHS}`)).join(", ");
    const modulus = chosen.modulus === 1 ? "" : `, ${chosen.modulus}`;
    return `root_placed_belm(roots_at((${angles},)${modulus}), ${chosen.exponent}, ${chosen.modeRho}, ${chosen.slopeRho})`;
  }

  function show() {
    const chosen = settings(), grid = element("grid").value, count = Number(element("count").value);
    const k = Number(element("steps_k").value);
    for (const [id, text] of [
      ["angle1", `${element("angle1").value}/60`], ["angle2", `${element("angle2").value}/60`],
      ...["modulus", "exponent", "mode_rho", "slope_rho"].map((id) => [id, element(id).value]),
    ]) element(`${id}_text`).textContent = text;
    element("angle1").disabled = k < 3;
    element("angle2").disabled = k < 5;
    const body = element("found").tBodies[0];
    if (new Set(chosen.angles).size < chosen.angles.length) {
      element("said").textContent = "Two roots at one place: the modes are no longer independent. Move one of the pairs.";
      body.innerHTML = "";
      return;
    }
    const found = rootPlaced.study(data.grids[grid][count], chosen, data.stds), other = base(grid, count);
    const cell = (value, name) => `<td><data ${name ? `id="${name}"` : ""} value="${value}">${digits(value)}</data></td>`;
    const line = (title, values, name) => `<tr><td>${title}</td>${DIRECTIONS.map((way) => cell(values(way), `${name}_${way}`)).join("")}</tr>`;
    body.innerHTML =
      line("K, amplification of a perturbation", (way) => found[way].K, "K") +
      line("E, error on Gaussian data", (way) => found[way].E, "E") +
      line("E relative to O-BELM's on this grid", (way) => found[way].E / other[way].E, "ratio") +
      line("largest reaction of the slopes", (way) => found[way].reaction, "reaction");
    element("said").innerHTML =
      (chosen.modulus < 1
        ? "Roots inside the circle: sampling damps its modes, and inversion amplifies them without bound as steps are added."
        : "All roots on the circle: K stays bounded in both directions on smooth grids.") +
      ` By E, sampling errs ${digits(found.sampling.E / other.sampling.E)} times as much as O-BELM, inversion ${digits(found.inversion.E / other.inversion.E)} times.`;
    circle(chosen);
    charts({ ...chosen, k }, grid);
    element("python").textContent = python(chosen);
  }

  for (const name of Object.keys(data.members)) element("member").add(new Option(name));
  element("member").add(new Option("own"));
  for (const name of Object.keys(data.grids)) element("grid").add(new Option(name));
  for (const count of COUNTS) element("count").add(new Option(count));
  element("count").value = data.shown;
  take(element("member").value);
  element("member").addEventListener("change", () => { if (element("member").value !== "own") { take(element("member").value); show(); } });
  for (const id of ["steps_k", "angle1", "angle2", "modulus", "exponent", "mode_rho", "slope_rho"])
    element(id).addEventListener("input", () => { element("member").value = "own"; show(); });
  for (const id of ["grid", "count"]) element(id).addEventListener("input", show);
  show();
}
