"""`vsvf derive`: a derivation on the command line.

This module loads neither sympy nor torch by itself; sympy comes when a derivation is asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from vsvf.commands.answer import Answer
from vsvf.commands.common import whole

if TYPE_CHECKING:
    from vsvf.symbolic import Derivation, Pattern

GIVEN = ("dpm_solver_pp", "edict", "mccallum_foster", "root_placed_belm")  # methods that no pattern determines
LARGEST = 17  # coefficients to solve for, those of belm(9): the time grows threefold with each further step, to minutes
FORMATS = ("text", "latex", "python", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf derive`."""
    parser.add_argument("--steps", type=whole(1), default=None, help="k, the number of states a row reads")
    parser.add_argument(
        "--pattern",
        default=None,
        help="a family or method: belm (default), ddim, adams_bashforth, adams_moulton, bdf, bdia, deis, gaussian, "
        "dpm_solver_pp; 'bdf(3)' fixes the steps; 'table1' prints the local errors of the methods of that table",
    )
    parser.add_argument(
        "--unknown", default=None, help="own pattern: the coefficients to solve for, as in a1,a2,b1 (needs --steps)"
    )
    parser.add_argument(
        "--fixed", action="append", default=[], metavar="A=EXPR", help="own pattern: a coefficient that is given, as in a2=1/2"
    )
    parser.add_argument(
        "--conditions", type=whole(1), default=None, help="own pattern: how many monomials to reproduce (default: all possible)"
    )
    parser.add_argument(
        "--basis", default=None, help="own pattern: functions to reproduce instead, as in '1, sigma_bar, sqrt(sigma_bar**2+c**2)'"
    )
    parser.add_argument("--format", choices=FORMATS, default=None, help="default: text")
    parser.add_argument("--json", action="store_true", help="the same as --format json")


def run(args: argparse.Namespace) -> Answer:
    """Derive. ValueError with one clear line on bad arguments."""
    style = args.format or ("json" if args.json else "text")
    if args.json and style != "json":
        raise ValueError(f"--json contradicts --format {style}")
    if args.pattern == "table1":
        return _table(args, style)
    derivation = _derivation(args)
    writers: dict[str, Callable[[], str]] = {"text": derivation.__str__, "latex": derivation.latex, "python": derivation.python}
    text = writers[style]() if style in writers else ""
    return Answer(derivation.as_dict() if style == "json" else {}, text.rstrip(), style == "json")


def _derivation(args: argparse.Namespace) -> Derivation:
    from vsvf.symbolic import Pattern, derive, known
    from vsvf.symbolic.pattern import split
    from vsvf.symbolic.patterns import by_name

    own = args.unknown is not None or args.fixed or args.conditions is not None or args.basis is not None
    if not own:
        if args.pattern is not None and args.pattern.split("(")[0].strip() in GIVEN:
            name = args.pattern if "(" in args.pattern or args.steps is None else f"{args.pattern}({args.steps})"
            return known(name)
        _in_time(by_name(args.pattern or "belm", args.steps))
        return derive(args.pattern, steps=args.steps)
    if args.pattern is not None:
        raise ValueError("--pattern names a ready-made pattern and does not go with --unknown, --fixed, --conditions or --basis")
    if args.steps is None:
        raise ValueError("--steps must be given for an own pattern")
    fixed = {}
    for item in args.fixed:
        coefficient, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--fixed must read as in a2=1/2, got {item!r}")
        fixed[coefficient.strip()] = value
    return derive(_in_time(Pattern(args.steps, split(args.unknown or ""), fixed, args.conditions, args.basis)))


def _in_time(pattern: Pattern) -> Pattern:
    """The pattern, if it is solved in less than a minute."""
    if len(pattern.unknown) > LARGEST:
        raise ValueError(
            f"{pattern.name} has {len(pattern.unknown)} coefficients to solve for, which takes minutes; the command takes at most "
            f"{LARGEST}, as belm(9) has (vsvf.symbolic.derive takes more)"
        )
    return pattern


def _table(args: argparse.Namespace, style: str) -> Answer:
    if style != "text":
        raise ValueError(f"--format {style} is not offered for table1, which is text")
    if args.steps is not None:
        raise ValueError("--steps does not go with table1")
    from vsvf.symbolic import table

    return Answer({}, table.text())
