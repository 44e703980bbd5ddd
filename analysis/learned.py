"""A three-step formula's numbers learned for a network by gradients, and what they are worth on noises and a network held back.

    python -m analysis.learned [--steps 10] [--images 8] [--updates 30]

The family: root-placed BELM with roots e^{+-i pi angle}, an exponent, the modes' coordinate rho = 1 + r^2 and the slopes' rho = 3.
It begins at stable_belm(3) with r = 0.3. Leading timesteps of the DDPM schedule that end at its smallest sigma_bar, exact states
to begin with; the loss is the mean logarithm of the errors of sampling and inversion on the embedded digits network at guidance 2
(`vsvf.apps.learn`). Held back: other noises, and a network that predicts x_0 (`analysis.variants`). Printed: errors over O-BELM's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

import vsvf
from analysis import variants
from analysis.common import generator
from analysis.pareto import march_errors, trajectory
from vsvf import formulas, predictors
from vsvf.apps.learn import Case, learn
from vsvf.formula import Formula
from vsvf.formulas.root_placed import roots_at
from vsvf.predictors import Predictor

BEGUN = (0.75, 1.0, 0.3)
LEARNED_ON, HELD_BACK = 601, 602  # seeds


def family(numbers: Sequence[float]) -> Formula:
    """Angle, exponent, r -> the formula."""
    angle, exponent, r = numbers
    return formulas.root_placed_belm(roots_at([angle]), exponent, 1.0 + r * r, 3)


def case(predictor: Predictor, steps: int, seed: int, images: int) -> Case:
    """The solution of a network from noises of a seed."""
    grid = vsvf.Grid.from_schedule(predictor.schedule, steps, "leading", "smallest")
    noise = predictors.noise((images, 1, 28, 28), predictor, grid, generator=generator(seed))
    return Case(predictor, grid, trajectory(predictor, noise, grid.sigma_bar))


def ratios(formula: str, judged: Case) -> tuple[float, float]:
    """Errors of sampling and inversion over O-BELM's, rms over all images."""
    ours, base = (march_errors(judged.predictor, judged.path, judged.grid, name).rms for name in (formula, "belm(2)"))
    return ours[0] / base[0], ours[1] / base[1]


def main(argv: list[str] | None = None) -> list[str]:
    """Learn, judge, print the table."""
    parser = argparse.ArgumentParser(prog="python -m analysis.learned", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=10, metavar="N")
    parser.add_argument("--images", type=int, default=8, metavar="B")
    parser.add_argument("--updates", type=int, default=30, metavar="N", help="of Adam")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    labels = torch.arange(args.images) % 10
    embedded = predictors.digits(labels, guidance=2.0)
    own = case(embedded, args.steps, LEARNED_ON, args.images)
    found = learn(family, BEGUN, [own], steps=args.updates, learning_rate=0.03)
    print(f"loss {found.losses[0]:.3f} -> {min(found.losses):.3f}; angle, exponent, r: {[round(n, 4) for n in found.numbers]}")
    judged = {
        "learned on": own,
        "other noises": case(embedded, args.steps, HELD_BACK, args.images),
        "x_0-network": case(variants.load("x_0-network", labels, guidance=2.0), args.steps, HELD_BACK, args.images),
    }
    lines = [f"| N = {args.steps}: sampling / inversion over O-BELM's | {' | '.join(judged)} |", "|---" * (len(judged) + 1) + "|"]
    members = {
        "stable_belm(3)": "stable_belm(3)",
        "coarse_belm": formulas.coarse_belm().name,
        "learned": family(found.numbers).name,
    }
    for name, formula in members.items():
        cells = ["{:.2f} / {:.3f}".format(*ratios(formula, where)) for where in judged.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    print("\n".join(lines))
    return lines


if __name__ == "__main__":
    main()
