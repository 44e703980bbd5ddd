"""The command line: `vsvf derive | coefficients | sample | invert | check`.

This module imports no torch and no sympy; each command loads what it needs when it is called.

Exit codes: 0 success, 1 an error while running, 2 wrong usage, 128 + n stopped by signal n (130: interrupted). Errors are one line
on stderr; `--debug` adds the traceback. A command that is stopped leaves no partial file.
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO

from vsvf.commands.answer import show, transliterate
from vsvf.commands.common import UsageError

COMMANDS: dict[str, tuple[str, str]] = {
    "derive": ("vsvf.symbolic.command", "derive a variable-step formula symbolically, with its error"),
    "coefficients": ("vsvf.commands.coefficients", "print a formula's coefficients on a grid"),
    "check": ("vsvf.commands.check", "order and zero-stability of a formula on a grid, both directions"),
    "sample": ("vsvf.commands.sample", "sample handwritten digits from the embedded network"),
    "invert": ("vsvf.commands.invert", "take an image or a saved state back to noise, and return"),
    "budget": ("vsvf.commands.budget", "why a reconstruction is not exact: the parts of its error"),
    "reconstruct": ("vsvf.commands.reconstruct", "tables of reconstruction: samplers, steps, all states or x_N alone"),
    "fid": ("vsvf.commands.fid", "the quality of many samples: Fréchet distances of samplers and steps"),
    "interpolate": ("vsvf.commands.interpolate", "the pictures between two noises or two inverted pictures"),
    "edit": ("vsvf.commands.edit", "edit a picture by changing the prompt that describes it"),
    "edit-bench": ("vsvf.commands.edit_bench", "edits of many pictures whose right result is known, as tables"),
    "rerun": ("vsvf.commands.rerun", "repeat the run that a folder holds and compare the files"),
}

INTRODUCTION = """\
Solvers for the probability-flow ODE of diffusion models, as data: derive a formula, look at its numbers, check whether it
is stable, sample with it, and invert what it sampled."""

EXAMPLES = """\
a first round:
  vsvf derive --steps 2                               the formula of 2-step BELM, proved
  vsvf coefficients 'belm(2)' --nodes 0,1,2,4         its numbers on your own nodes
  vsvf check 'belm(3)' --steps 50                     why not every derived formula can be used
  vsvf sample --formula 'belm(2)' --out digits        ten digits: digits.png and digits.safetensors
  vsvf invert digits.safetensors                      back to their noise, and to the same digits again

vsvf COMMAND --help explains a command. --json (every command) prints one JSON document instead.
Exit codes: 0 success, 1 an error while running, 2 wrong usage, 128 + n stopped by signal n (130: interrupted)."""

OUT_OF_MEMORY = "error: out of memory; take fewer steps, or fewer or smaller images"
NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")  # in the messages of torch

DERIVE = """\
examples:
  vsvf derive --steps 3                       3-step BELM: conditions, coefficients, leading error term
  vsvf derive --pattern 'bdf(3)' --format latex
  vsvf derive --steps 2 --unknown a1,b1 --fixed a2=1/2
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} ({self.prog} --help explains)\n")


class Stopped(BaseException):
    """A signal asked the program to end. No Exception: nothing but the clean-up on the way out is to see it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        with _streams(), _signals(), warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _warn
            return _run(arguments, debug)
    except Stopped as stop:
        return _failure(f"stopped by {signal.Signals(stop.number).name}", 128 + stop.number, debug)


def _run(arguments: list[str], debug: bool) -> int:
    """Dispatch, with every error as one line."""
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # from argparse
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return _failure("interrupted", 130, debug)
    except BrokenPipeError:  # the reader of our output went away, as in `vsvf … | head`
        _forget_stdout()
        return 1
    except UsageError as error:
        return _failure(f"error: {error}", 2, debug)
    except MemoryError:
        return _failure(OUT_OF_MEMORY, 1, debug)
    except OSError as error:
        _forget_stdout_if_full()
        known = error.strerror and error.filename is not None
        return _failure(f"error: {error.filename}: {error.strerror}" if known else f"error: {error.strerror or error}", 1, debug)
    except (ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and any(word in str(error) for word in NO_MEMORY):
            return _failure(OUT_OF_MEMORY, 1, debug)
        return _failure(f"error: {error}", 1, debug)
    except Exception as error:
        hint = "" if debug else " (a defect of vsvf; --debug shows where)"
        return _failure(f"internal error: {type(error).__name__}: {error}{hint}", 1, debug)


@contextmanager
def _streams() -> Iterator[None]:
    """Streams that can be written to: a closed one leads nowhere, and letters that a terminal does not know are spelt out."""
    kept = sys.stdout, sys.stderr
    opened: list[TextIO] = []
    for name, stream in zip(("stdout", "stderr"), kept):
        if not _is_open(stream):
            opened.append(open(os.devnull, "w"))
            setattr(sys, name, opened[-1])
    errors = [(stream, stream.errors) for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    codecs.register_error("vsvf.transliterate", transliterate)
    for stream, _ in errors:
        stream.reconfigure(errors="vsvf.transliterate")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept
        for stream, before in errors:
            if _is_open(stream) and before is not None:
                stream.reconfigure(errors=before)
        for stream in opened:
            stream.close()


def _is_open(stream: TextIO | None) -> bool:
    return stream is not None and not getattr(stream, "closed", False)


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program by an exception, so that temporary files are removed. Ignored ones (nohup) stay so."""

    def stop(number: int, frame: Any) -> NoReturn:
        raise Stopped(number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        names = []
    before = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in names)}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)


def _dispatch(arguments: list[str]) -> int:
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    parser, commands = _parser()
    if chosen in COMMANDS:
        module = importlib.import_module(COMMANDS[chosen][0])
        command = commands.add_parser(
            chosen,
            help=COMMANDS[chosen][1],
            description=(getattr(module, "DESCRIPTION", None) or COMMANDS[chosen][1]).strip(),
            epilog=getattr(module, "EXAMPLES", DERIVE if chosen == "derive" else None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        module.add_arguments(command)
        answer = module.run(parser.parse_args(arguments))
        if answer is not None:
            if getattr(sys.stdout, "name", "") == os.devnull:
                raise OSError("standard output is closed: the answer has nowhere to go")
            show(answer)
        return 0 if answer is None else answer.code
    for name, (_, line) in COMMANDS.items():
        commands.add_parser(name, help=line)
    args = parser.parse_args(arguments)
    if not args.command:
        parser.print_help()
    return 0


def _parser() -> tuple[Parser, argparse._SubParsersAction]:
    from vsvf import __version__

    parser = Parser(
        prog="vsvf",
        description=INTRODUCTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"vsvf {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    return parser, commands


def _failure(message: str, code: int, debug: bool) -> int:
    with suppress(OSError, ValueError, AttributeError):  # a stderr that is closed, or full
        if debug:
            traceback.print_exc()
        print(f"vsvf: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, UserWarning):
        with suppress(OSError, ValueError):
            print(f"vsvf: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _forget_stdout_if_full() -> None:
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _forget_stdout()


def _forget_stdout() -> None:
    """Point stdout at nothing, so that Python's own flush at exit does not complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


if __name__ == "__main__":
    sys.exit(main())
