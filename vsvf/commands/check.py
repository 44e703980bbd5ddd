"""`vsvf check`: may this formula be used on this grid? Its order, and its zero-stability in both directions."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING

from vsvf.commands.answer import Answer
from vsvf.commands.common import (
    FORMULAS,
    GRID_KEYS,
    OWN,
    UsageError,
    add_grid_arguments,
    describe_grid,
    finite,
    given_settings,
    grid_settings,
    make_grid,
    whole,
)

if TYPE_CHECKING:
    from vsvf.apps.models import Model
    from vsvf.convergence.examine import Examination
    from vsvf.formula import Formula
    from vsvf.grid import Grid

DESCRIPTION = """\
Check a formula on a grid: how fast its error falls as steps are added (order), and how much it can amplify rounding errors
along sampling and along inversion (zero-stability)."""

EXAMPLES = f"""\
what the numbers mean:
  order           error ~ N^-order as the number of steps N grows; measured on four ODEs with known solutions and smooth
                  grids, from exact starting values
  K               the largest factor by which a perturbation (a rounding error, an error of the starter) can grow during
                  this march of N steps, were the network constant. K = 1e5 costs 5 of float32's 7 digits.
  spurious roots  a k-step formula carries k-1 modes that mean nothing; on uniform steps each is multiplied by its root per
                  step of sampling (per step of inversion: by 1/root). |root| < 1 damps it, |root| = 1 keeps it, > 1 blows up.
  verdict         by the roots, thus for ever finer grids; the sentence after it is about this very grid

examples:
  vsvf check 'belm(2)' --schedule linear --steps 50
  vsvf check 'belm(3)' --steps 50              the highest order is of no use: K = 1e41
  vsvf check 'stable_belm(4)' --schedule scaled_linear --spacing leading --steps 50 --json
  vsvf check 'stable_belm(4)' --spacing leading --final smallest --steps 20 --no-order --model digits --label 3 --guidance 2

In JSON, gaussian_error is what sampling on these steps is off by per pixel, worst case, for Gaussian data of standard
deviation 0.5, ddim_error the same of DDIM, and too_coarse says that a zero-stable formula is more than three times worse. null
stands for a number that is infinite (a K: no inverse, or beyond 1e308, see log10_k) and for an order that cannot be measured.

{FORMULAS}"""

STEPS = (16, 24, 32, 48, 64, 96, 128, 192, 256)  # the grids on which the order is measured
CONVERGES = 0.3  # a smaller slope is no convergence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf check`."""
    parser.add_argument("formula", metavar="FORMULA", help="for instance 'belm(2)'; the list is below")
    add_grid_arguments(parser)
    parser.add_argument("--no-order", action="store_true", help="do not measure the order (seconds)")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="examine it on a network too (digits, scenes, or a folder that diffusers wrote): its spurious modes and its error "
        "against O-BELM's, with the Jacobian measured along two trajectories (on a predictor of your own: vsvf.examine)",
    )
    parser.add_argument("--label", type=whole(0), metavar="DIGIT", help="of the network's digit, with --model digits (default 3)")
    parser.add_argument("--prompt", metavar="TEXT", help="for a model that takes prompts (default none)")
    parser.add_argument("--guidance", type=finite, default=1.0, metavar="W", help="guidance scale, with --model (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> Answer:
    """Examine."""
    from vsvf import formulas
    from vsvf.convergence.order import order
    from vsvf.stability.report import stability

    formula = formulas.by_name(args.formula)
    model = None if args.model is None else _model(args)
    own = None if model is None or model.name == "digits" else model.schedule
    grid = make_grid(grid_settings(given_settings(args, GRID_KEYS), schedule="linear" if own is None else OWN), own)
    report = stability(formula, grid)
    measured: dict[str, float | None] = {"sampling": None, "inversion": None}
    if not args.no_order:
        if sys.stderr.isatty():
            print("measuring the order …", file=sys.stderr)
        found = order(formula, STEPS)
        measured = {"sampling": _slope(found.sampling), "inversion": _slope(found.inversion)}
    roots = [complex(z) for z in report.spurious_roots]
    examination = None if model is None else _examined(formula, grid, model, args)
    document = {
        "formula": formula.name,
        "grid": {"name": grid.name, "steps": grid.steps, "sigma_bar": [grid.sigma_bar[0], grid.sigma_bar[-1]]},
        "order": {"claimed": formula.order, "measured": None if args.no_order else measured},
        "k_sampling": report.k_sampling,
        "k_inversion": report.k_inversion,
        "log10_k_sampling": report.log10_k_sampling,
        "log10_k_inversion": report.log10_k_inversion,
        "inversion": report.inversion,
        "spurious_roots": [{"real": z.real, "imag": z.imag, "modulus": abs(z)} for z in roots],
        "verdict": str(report.verdict),
        "gaussian_error": report.gaussian_error,
        "ddim_error": report.ddim_error,
        "too_coarse": report.too_coarse,
        "sentence": report.sentence,
        "examination": None if examination is None else _document(examination),
    }
    lines = [
        f"{formula.name} on {describe_grid(grid)}",
        "",
        f"order           {_orders(formula.order, measured, report.inversion, args.no_order)}",
        f"K sampling      {_factor(report.log10_k_sampling)}",
        f"K inversion     {_factor(report.log10_k_inversion)}{_how(report.inversion)}",
        f"spurious roots  {', '.join(_root(z) for z in roots) if roots else 'none (a one-step formula)'}",
        f"verdict         {report.verdict}",
        "",
        f"{report.sentence[0].upper()}{report.sentence[1:]}.",
    ]
    if examination is not None:
        lines.append(f"{examination.sentence[0].upper()}{examination.sentence[1:]}.")
    return Answer(document, "\n".join(lines), args.json)


def _model(args: argparse.Namespace) -> Model:
    from vsvf.commands.network import make_model

    model = make_model(args.model, "float32", "cpu")
    for kind in ("label", "prompt"):
        if getattr(args, kind) is not None and model.condition != kind:
            raise UsageError(f"--{kind} does not go with {model.name}")
    return model


def _examined(formula: Formula, grid: Grid, model: Model, args: argparse.Namespace) -> Examination:
    """The formula on a network, along two trajectories."""
    from vsvf.commands.network import draw_noise
    from vsvf.convergence.examine import examine

    given = args.prompt if model.condition == "prompt" else 3 if args.label is None else args.label
    conditions = None if given is None or model.condition == "none" else [given] * 2
    predictor = model.predict(conditions, args.guidance)
    return examine(predictor, draw_noise((2, *model.latents), 0, predictor, grid), grid, formula)


def _document(examination: Examination) -> dict[str, object]:
    ways = {"sampling": examination.sampling, "inversion": examination.inversion}
    return {
        "suspect": examination.suspect,
        "sentence": examination.sentence,
        "nfe": examination.nfe,
        **{
            name: None
            if way is None
            else {"error_over_belm2": way.ratio, "growth": float(way.growth.max()), "suspect": way.suspect}
            for name, way in ways.items()
        },
    }


def _slope(slope: float | None) -> float | None:
    """A measured order, or None where the errors do not fall."""
    return None if slope is None or not math.isfinite(slope) or slope < CONVERGES else float(slope)


def _orders(claimed: int, measured: dict[str, float | None], inversion: str, skipped: bool) -> str:
    if skipped:
        return f"{claimed} claimed"

    def text(value: float | None) -> str:
        return "none, the errors grow as steps are added" if value is None else f"{value:.2f}"

    parts = [f"{claimed} claimed; measured: sampling {text(measured['sampling'])}"]
    if inversion == "explicit":
        parts.append(f"inversion {text(measured['inversion'])}")
    return ", ".join(parts)


def _how(inversion: str) -> str:
    return {"none": " (no exact inverse)", "implicit": " (by an implicit equation per step)"}.get(inversion, "")


def _factor(log10: float) -> str:
    """K from its logarithm, which never overflows."""
    if math.isinf(log10):
        return "infinite"
    return f"{10.0**log10:.3g}" if log10 < 300.0 else f"1e{log10:.0f}"


def _root(z: complex) -> str:
    small = 1e-12
    real, imag = (0.0 if abs(part) < small else part for part in (z.real, z.imag))
    text = f"{real:.4g}" if imag == 0.0 else f"{real:.4g}{imag:+.4g}i"
    return f"{text} (modulus {abs(z):.4g})"
