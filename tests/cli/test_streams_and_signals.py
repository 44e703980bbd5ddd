"""Terminals that know no Greek, streams that are closed or full, signals, `python -m vsvf`. No command here needs torch."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest

from vsvf import cli, files
from vsvf.cli import main

DERIVE = ["derive", "--steps", "2"]


def in_ascii(*arguments):
    """Code, stdout and stderr of a command on an ASCII terminal."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True) for _ in range(2)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        code = main([*arguments])
    return code, *(stream.buffer.getvalue().decode("ascii") for stream in streams)


def test_greek_is_spelt_out_on_an_ascii_terminal():
    code, out, err = in_ascii(*DERIVE)
    assert code == 0 and err == ""
    assert "sigma_bar_{i-1}" in out and "x_bar_{i-1} = a_1 x_bar_{i}" in out


def test_json_keeps_its_letters_on_an_ascii_terminal(vsvf):
    code, out, _ = in_ascii(*DERIVE, "--json")
    assert code == 0 and json.loads(out) == vsvf(*DERIVE, "--json").json


def test_errors_are_printed_on_an_ascii_terminal():
    code, out, err = in_ascii("check", "bélm(σ̄)")
    assert (code, out) == (1, "") and "b\\xe9lm(sigma_bar)" in err


@pytest.mark.parametrize("missing", [None, "closed"])
def test_a_closed_stderr_changes_no_exit_code(monkeypatch, missing):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", None if missing is None else stream)
    assert main(["check", "nonsense"]) == 1
    assert main(["--nonsense"]) == 2


@pytest.mark.parametrize("missing", [None, "closed"])
def test_a_closed_stdout_is_named(monkeypatch, missing):
    stream, err = io.StringIO(), io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stdout", None if missing is None else stream)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(DERIVE) == 1
    assert err.getvalue() == "vsvf: error: standard output is closed: the answer has nowhere to go\n"


def test_streams_are_put_back(capsys):
    before = sys.stdout, sys.stderr, sys.stdout.errors, signal.getsignal(signal.SIGTERM)
    main(DERIVE)
    assert (sys.stdout, sys.stderr, sys.stdout.errors, signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device")
def test_a_full_stdout_is_one_line_and_code_1_and_so_does_the_module_run():
    with open("/dev/full", "w") as full:
        run = subprocess.run([sys.executable, "-m", "vsvf", *DERIVE], stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert run.returncode == 1
    assert run.stderr == "vsvf: error: No space left on device\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_temporary_file(vsvf, tmp_path, monkeypatch, number):
    def stopped(*arguments):
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr(files.os, "replace", stopped)
    before = signal.signal(number, signal.SIG_DFL)  # tests that run under nohup inherit an ignored one
    try:
        result = vsvf("coefficients", "ddim", "--nodes", "0,1", "-o", "x.csv")
    finally:
        signal.signal(number, before)
    assert result.code == 128 + number
    assert result.err == f"vsvf: stopped by {number.name}\n"
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_signal_stays_ignored(vsvf, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        seen = []
        monkeypatch.setattr(cli, "_dispatch", lambda arguments: seen.append(signal.getsignal(signal.SIGHUP)) or 0)
        assert vsvf(*DERIVE).code == 0
        assert seen == [signal.SIG_IGN]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_memory_is_said_in_words_that_fit_every_command(vsvf, monkeypatch):
    for error in (MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …")):

        def fail(arguments, error=error):
            raise error

        monkeypatch.setattr(cli, "_dispatch", fail)
        result = vsvf("check", "ddim")
        assert (result.code, result.err) == (1, "vsvf: error: out of memory; take fewer steps, or fewer or smaller images\n")


def test_a_temporary_name_is_in_no_message(vsvf, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", ".x.csv.hidden")

    monkeypatch.setattr(files.os, "replace", full)
    result = vsvf("coefficients", "ddim", "--nodes", "0,1", "-o", "x.csv")
    assert (result.code, result.err) == (1, "vsvf: error: x.csv: No space left on device\n")
