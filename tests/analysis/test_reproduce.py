from analysis.reproduce import Size, experiments, main, page


def test_every_experiment_is_run_once_and_put_on_one_page(tmp_path, monkeypatch, capsys):
    from analysis import reproduce

    small = Size(1, (4,), 20, (4,), 4, 2)
    monkeypatch.setattr(reproduce, "QUICK", small)
    assert main(["--out", str(tmp_path), "--models", "digits"]) == 0
    text = (tmp_path / "quick" / "reproduce.md").read_text()
    for words in (
        "Tables 2 and 3",
        "from x_N alone",
        "agrees: belm(2) from all k states",
        "FID on CIFAR-10 as published",
        "detour",
    ):
        assert words in text
    calls = []
    original = reproduce.command
    monkeypatch.setattr(reproduce, "command", lambda arguments: calls.append(arguments[0]) or original(arguments))
    assert main(["--out", str(tmp_path), "--models", "digits"]) == 0
    assert calls == list(experiments("digits", small, tmp_path)) and page("digits", tmp_path / "quick") in text + "\n"


def test_the_full_size_is_the_papers():
    from analysis.reproduce import FULL

    assert FULL.reconstruction_steps == FULL.quality_steps == (10, 20, 50, 100) and FULL.samples >= 5000
