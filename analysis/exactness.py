"""In which arithmetic does every bit come back, and what does that cost in accuracy?

noise → image → noise with the digits network in float16, float32 or float64, as the arithmetic (fixed point runs with the
float16 network, the worst case): the largest difference between the first states and those that come back. Fixed point returns
every bit, so its difference is zero, drawn at the bottom; a missing point means that the states left the range of 53 bits,
which is an error there and never wrong bits.

The second figure asks what the integers cost in accuracy: the largest distance of the fixed-point sample to the float64 sample
of the same method, with the digits network in float64.

A float32 network has a say in this too: it rounds its input, and where a difference of 1e-12 flips one of these roundings, its
output changes by 1e-7 and the sample by 1e-6. The last table counts the images for which that happens, beside what happens when
the noise of the float64 run itself is changed by one part in 1e13, and what the network's own precision costs.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import vsvf
from analysis import progress, style
from analysis.common import generator, save_answer, save_figure, save_number, save_table
from vsvf import Fixed, predictors
from vsvf.apps.roundtrip import from_noise

METHODS = ("belm(2)", "bdia(1)", "mccallum_foster(0.999)", "edict(0.93)", "stable_belm(3)", "stable_belm(4)")
STEPS = (10, 20, 30)
ARITHMETICS = ("float16", "float32", "float64", "fixed")
BITS = (8, 16, 24, 32)
SAMPLE_STEPS = 20
NETWORK_METHODS = ("belm(2)", "bdia(1)", "stable_belm(3)", "stable_belm(4)")
FIXED = {f"{bits} bits": Fixed(fraction_bits=bits) for bits in (40, 44)}  # 40 by default
LEAST_CHANGE = 1e-13
WIDE = Fixed(data_range=2000.0)  # EDICT's samples grow to 1000 with 10 steps
FLOOR = 1e-18


def round_trip(method: str, arithmetic: str, steps: int, x: torch.Tensor) -> tuple[float, int]:
    """The largest difference, and the number of entries of all k states that differ."""
    dtype = torch.float16 if arithmetic == "fixed" else getattr(torch, arithmetic)
    predictor = predictors.digits(3, dtype=dtype)
    grid = vsvf.Grid.from_schedule(predictor.schedule, steps, "trailing", "smallest")
    number: str | Fixed = (WIDE if method.startswith("edict") else Fixed()) if arithmetic == "fixed" else arithmetic
    try:
        start = vsvf.sample(predictor, x, grid, method, arithmetic=number, stop=steps, warn=False)
        trip = from_noise(predictor, start, grid, method, warn=False)
    except vsvf.NonFiniteError:
        return float("inf"), start.values.numel()
    except vsvf.FixedPointOverflowError:
        return float("nan"), -1
    assert trip.ended is not None
    back = trip.ended
    difference = (back.values.double() - start.values.double()).abs().max()
    scale = 2.0 ** -min(start.record.scales.exponents) if arithmetic == "fixed" else 1.0
    return float(difference) * scale, int((back.values != start.values).sum())


def main(out: Path) -> None:
    """Write exactness_*.csv and exactness_*.svg into `out`."""
    x = torch.randn(1, 1, 28, 28, generator=generator(3))
    jobs = [(m, a, n) for m in METHODS for a in ARITHMETICS for n in STEPS]
    trips = {job: round_trip(*job, x) for job in progress.steps(jobs, "round trips")}
    conclude(out, trips)
    save_table(
        out, "exactness_trips", "noise → image → noise, digits network: largest difference (number of entries that differ).",
        ["method", "arithmetic", *[f"N={n}" for n in STEPS]],
        [[m, a, *[_cell(*trips[m, a, n]) for n in STEPS]] for m in METHODS for a in ARITHMETICS],
    )  # fmt: skip
    largest = {job: trip[0] for job, trip in trips.items()}
    figure = style.error_panels(largest, METHODS, ARITHMETICS, STEPS, (FLOOR, 1e6), "largest difference")
    save_figure(out, "exactness_trips_plot", "The same as curves; zero differing bits are drawn at 1e-18.", figure)

    distances = _distances(x)
    save_table(
        out, "exactness_bits",
        f"Largest distance of the fixed-point sample to the float64 one, N = {SAMPLE_STEPS}, digits network in float64.",
        ["method", *[f"{b} bits" for b in BITS], "default"], [[m, *row] for m, row in distances.items()],
    )  # fmt: skip
    figure, axis = plt.subplots(figsize=(6.6, 4.2), constrained_layout=True)
    for n, (method, row) in enumerate(distances.items()):
        axis.semilogy(BITS, row[:-1], label=method, **style.line(n))
    axis.semilogy(BITS, [2.0**-b for b in BITS], "k--", lw=1, label="2^-bits")
    axis.axhline(1e-6, color="grey", lw=0.8)
    axis.set(xlabel="fractional bits", ylabel="largest distance to float64")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.2)
    axis.grid(alpha=0.3)
    save_figure(out, "exactness_bits_plot", "The same as curves; grey: 1e-6.", figure)

    save_table(
        out, "exactness_network",
        f"Ten samples of a float32 network, N = {SAMPLE_STEPS}: largest distance to the float64 run (samples beyond 1e-6) of fixed-"
        f"point runs, of the float64 run from noise times 1 + {LEAST_CHANGE:g}, and of the run with the network in float64.",
        ["method", *FIXED, "changed noise", "float64 network"], _float32_network(),
    )  # fmt: skip


def conclude(out: Path, trips: dict[tuple[str, str, int], tuple[float, int]]) -> None:
    """Fixed point against float64, over all methods and numbers of steps."""
    fixed = {job: differing for job, (_, differing) in trips.items() if job[1] == "fixed"}
    exact, refused = sum(n == 0 for n in fixed.values()), sum(n < 0 for n in fixed.values())
    double = sum(differing > 0 for job, (_, differing) in trips.items() if job[1] == "float64")
    save_answer(
        out, "exactness",
        f"In fixed point: {exact} of {len(fixed)} round trips return every bit ({refused} leave the range of 53 bits, which is an "
        f"error and never wrong bits). In float64, {double} of {len(fixed)} do not.",
    )  # fmt: skip
    changed = sum(n for n in fixed.values() if n > 0)
    meaning = f"numbers changed in the {exact} round trips that fixed point completed, with a float16 network."
    save_number(out, "exactness_changed", str(changed), meaning, "exactness_trips")


def _float32_network() -> list[list[str]]:
    """Per method, the distances as text."""
    labels = torch.arange(10)
    x = torch.randn(10, 1, 28, 28, generator=generator(4), dtype=torch.float64)
    network, double = (predictors.digits(labels, dtype=dtype) for dtype in (torch.float32, torch.float64))
    grid = vsvf.Grid.from_schedule(network.schedule, SAMPLE_STEPS, "trailing", "smallest")
    others = [
        *((network, x, fixed) for fixed in FIXED.values()),
        (network, x * (1.0 + LEAST_CHANGE), "float64"),
        (double, x, "float64"),
    ]
    rows = []
    for method in NETWORK_METHODS:
        exact = vsvf.sample(network, x, grid, method, arithmetic="float64", warn=False).x
        samples = [vsvf.sample(p, y, grid, method, arithmetic=a, warn=False).x for p, y, a in others]
        errors = [(sample - exact).abs().amax(dim=(1, 2, 3)) for sample in samples]
        rows.append([method, *(f"{float(e.max()):.1e} ({int((e > 1e-6).sum())})" for e in errors)])
    return rows


def _distances(x: torch.Tensor) -> dict[str, list[float]]:
    """Per method, for each number of fractional bits and the default: the distance to the float64 sample."""
    predictor = predictors.digits(3, dtype=torch.float64)
    grid = vsvf.Grid.from_schedule(predictor.schedule, SAMPLE_STEPS, "trailing", "smallest")
    found: dict[str, list[float]] = {}
    for method in METHODS:
        if method.startswith("edict"):  # its sample is no image on this grid
            continue
        exact = vsvf.sample(predictor, x, grid, method, arithmetic="float64", warn=False).x
        choices = [Fixed(fraction_bits=b) for b in BITS] + [Fixed()]
        samples = [vsvf.sample(predictor, x, grid, method, arithmetic=c, warn=False).x for c in choices]
        found[method] = [float((sample - exact).abs().max()) for sample in samples]
    return found


def _cell(error: float, differing: int) -> str:
    return "out of range" if differing < 0 else f"{error:.2g} ({differing})"
