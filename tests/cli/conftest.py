import json

import pytest

from vsvf.cli import main


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.fixture
def vsvf(capsys, tmp_path, monkeypatch):
    """Run the command line in an empty folder: vsvf("check", "ddim") -> code, out, err."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def fails(vsvf, tmp_path):
    """Run what must fail: one line on stderr that says `text`, nothing on stdout, no file written or left behind."""

    def run(code, text, *arguments):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        result = vsvf(*arguments)
        assert result.code == code, result.err
        assert result.out == ""
        assert "Traceback" not in result.err
        last = result.err.splitlines()[-1]
        assert [line for line in result.err.splitlines() if "error" in line] == [last]
        assert text in last, last
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    return run
