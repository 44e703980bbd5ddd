"""Grid families N -> grid, on which stability is judged as N grows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vsvf.grid import Grid
from vsvf.schedule import Schedule

GridFamily = Callable[[int], Grid]


def uniform_time(schedule: Schedule) -> GridFamily:
    """N steps uniform in the model's time t, from its last timestep to t = 0 (the schedule's smallest sigma_bar).

    The same nodes as "leading" or "linspace" timesteps up to their rounding to integers, for any N.
    """
    if schedule.table is None:
        raise ValueError(f"uniform_time needs a schedule with a table of timesteps; {schedule.name} has none")
    last = schedule.table - 1.0

    def grid(steps: int) -> Grid:
        times = np.linspace(0.0, last, steps + 1)
        nodes = schedule.sigma_bar(times)
        return Grid(nodes, schedule.alpha_at(nodes), times, f"{schedule.name}, uniform in t")

    return grid


def karras(schedule: Schedule | None = None, rho: float = 7.0) -> GridFamily:
    """Karras spacing, N steps uniform in sigma_bar^(1/rho); from EDM's 0.002 … 80 unless a schedule is given."""
    schedule = Schedule.edm() if schedule is None else schedule
    return lambda steps: Grid.from_schedule(schedule, steps, "karras", "smallest", rho=rho)


def uniform(low: float = 0.02, high: float = 20.0) -> GridFamily:
    """N equal steps in sigma_bar."""
    return lambda steps: Grid.from_sigma_bar(np.linspace(low, high, steps + 1))


def random_smooth(seed: int, low: float = 0.02, high: float = 80.0, spread: float = 1.0) -> GridFamily:
    """sigma_bar = g(i/N) for a random smooth increasing g, the same for every N: log g' is a random trigonometric
    polynomial (standard deviation about `spread`), so that step sizes rise and fall by factors of 3 to 1000."""
    draw = np.random.default_rng(seed)
    waves = np.arange(1, 5)
    amplitude, phase = draw.normal(size=4) * spread / waves, draw.uniform(0.0, 2.0 * np.pi, 4)
    fine = np.linspace(0.0, 1.0, 20001)
    density = np.exp(np.sum(amplitude * np.cos(np.pi * waves * fine[:, None] + phase), axis=-1))
    integral = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2.0)])
    g = low + (high - low) * integral / integral[-1]

    def grid(steps: int) -> Grid:
        nodes = np.interp(np.linspace(0.0, 1.0, steps + 1), fine, g)
        return Grid(nodes, 1.0 / np.sqrt(1.0 + nodes**2), None, f"random smooth ({seed})")

    return grid


def alternating(low: float = 0.02, high: float = 20.0, ratio: float = 2.0) -> GridFamily:
    """Steps that alternate between h and `ratio` h: quasi-uniform, but the step sizes' variation grows like N."""

    def grid(steps: int) -> Grid:
        h = np.where(np.arange(steps) % 2 == 0, 1.0, ratio)
        nodes = np.concatenate([[0.0], np.cumsum(h)])
        return Grid.from_sigma_bar(low + (high - low) * nodes / nodes[-1])

    return grid


def families() -> dict[str, GridFamily]:
    """The families that the tests and tables run over, by name."""
    return {
        "Stable Diffusion": uniform_time(Schedule.scaled_linear()),
        "DDPM": uniform_time(Schedule.linear()),
        "Karras": karras(),
        "random smooth": random_smooth(1),
    }
