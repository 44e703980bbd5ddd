import json
import math
import subprocess
import sys

import pytest

from vsvf.apps.run_folder import RunFolder, file_name, read_head, result_files


def open_run(path, force=False, **settings):
    return RunFolder(path, "test", {"option": 1}, {"seed": 0, **settings}, force)


def test_a_unit_is_computed_once_and_read_afterwards(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"value": math.inf, "pair": (1, 2)}

    with open_run(tmp_path / "run") as run:
        first = run.unit("units/a.json", compute)
    with open_run(tmp_path / "run") as run:
        assert run.resumed and run.unit("units/a.json", compute) == first == {"value": math.inf, "pair": [1, 2]}
    assert calls == [1]


def test_the_head_says_what_was_run(tmp_path):
    with open_run(tmp_path / "run", steps=[10, 20]) as run:
        run.finish(skipped=[])
    head = json.loads((tmp_path / "run" / "run.json").read_text())
    assert head["command"] == "test" and head["arguments"] == {"option": 1} and head["settings"]["steps"] == [10, 20]
    assert head["versions"]["torch"] and head["versions"]["vsvf"] and head["finished"] and head["skipped"] == []


def test_other_settings_are_refused_by_name_and_nothing_is_lost(tmp_path):
    with open_run(tmp_path / "run", weights="abc") as run:
        run.write("a.txt", b"kept")
    with pytest.raises(ValueError, match='weights "abc" then, "xyz" now'):
        open_run(tmp_path / "run", weights="xyz")
    assert (tmp_path / "run" / "a.txt").read_bytes() == b"kept"
    with open_run(tmp_path / "run", force=True, weights="xyz") as run:
        assert not run.resumed and not (run / "a.txt").exists()
    with pytest.raises(ValueError, match="holds a run of `vsvf test`"):
        RunFolder(tmp_path / "run", "other", {}, {})


def test_a_folder_that_holds_no_run_is_never_touched(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    for force in (False, True):
        with pytest.raises(ValueError, match="holds files, but no run"):
            open_run(tmp_path / "photos", force)
        with pytest.raises(NotADirectoryError):
            open_run(tmp_path / "file", force)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.png"]


def test_one_process_at_a_time_and_the_lock_ends_with_it(tmp_path):
    script = "import sys, time\nfrom vsvf.apps.run_folder import RunFolder\n"
    script += "run = RunFolder(sys.argv[1], 'test', {}, {'seed': 0})\nprint('held', flush=True)\ntime.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", script, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "held"
        with pytest.raises(RuntimeError, match="another process is at work"):
            open_run(tmp_path / "run")
    finally:
        other.kill()
        other.wait()
    with open_run(tmp_path / "run") as run:
        assert run.resumed


def test_what_a_killed_writer_left_is_removed(tmp_path):
    with open_run(tmp_path / "run") as run:
        run.write("images/0.png", b"whole")
    (tmp_path / "run" / "images" / ".1.png.abc12_x9").write_bytes(b"par")
    with open_run(tmp_path / "run"):
        pass
    assert list(result_files(tmp_path / "run")) == ["images/0.png"]
    assert [p.name for p in (tmp_path / "run" / "images").iterdir()] == ["0.png"]


def test_killed_before_its_head_was_written_a_folder_is_as_new(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".run.json.q0w_er7t").write_bytes(b"{")
    with open_run(tmp_path / "run") as run:
        assert not run.resumed
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "run.json"]


def test_other_files_are_no_head(tmp_path):
    for text in ("{", "[]", '{"format": "other"}'):
        (tmp_path / "run.json").write_text(text)
        assert read_head(tmp_path) is None
    assert read_head(tmp_path / "missing") is None


def test_names_of_formulas_as_file_names():
    assert file_name("belm(2)") == "belm(2)" and file_name("root_placed_belm((1/2,),2)") == "root_placed_belm((1_2,),2)"
