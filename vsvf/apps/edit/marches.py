"""The marches of an edit: up to the latent and down again, by any formula, by DDIM inversion, or by a Runge-Kutta method.

All of them step by hand (`Steps`, `Walk`) and hold a window of states, so that the loop of an edit need not know which it drives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

import vsvf
from vsvf import formulas
from vsvf.engine.floating import FLOATS
from vsvf.engine.stepping import Steps
from vsvf.engine.walking import Walk
from vsvf.fixed import Fixed
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor
from vsvf.starter import TABLEAUS
from vsvf.state import State

DDIM = "ddim"
RUNGE_KUTTA = tuple(name for name in TABLEAUS if name != DDIM)  # their "inverse" is the step back
Latent = State | torch.Tensor


March = Steps | Walk


@dataclass(frozen=True)
class Sampler:
    """How an edit marches.

    Attributes:
        name: a formula that is explicit both ways; "ddim", which goes up by equation (8) of the BELM paper (DDIM inversion) and
            down by DDIM; or a Runge-Kutta method ("ees25", "heun", "rk4"), which goes up by the step back.
        grid: the nodes. node: m, where the latent stands; N for the whole way.
        starter: of the k - 1 states beside the image. arithmetic: of the source's states, as in `vsvf.sample`.
    """

    name: str
    grid: Grid
    node: int
    starter: str = "ddim"
    arithmetic: str | Fixed = "float64"

    def __post_init__(self) -> None:
        if self.walks and self.arithmetic not in FLOATS:
            raise ValueError(f"{self.name} takes arithmetic {', '.join(FLOATS)}, got {self.arithmetic!r}")
        if not self.walks and not 1 <= self.node <= self.grid.steps:
            raise ValueError(f"node must lie in 1 … {self.grid.steps}, got {self.node}")
        if not self.walks and self.steps > 1 and self.node < self.steps:
            raise ValueError(
                f"{self.name} carries {self.steps} states: the edit must begin at node {self.steps} or above, got {self.node}; "
                "raise strength or take more steps"
            )

    @property
    def walks(self) -> bool:
        """Whether it is no multistep formula."""
        return self.name == DDIM or self.name in RUNGE_KUTTA

    @property
    def steps(self) -> int:
        """k."""
        return 1 if self.walks else formulas.by_name(self.name).steps

    @property
    def exact(self) -> bool:
        """Whether the way down retraces the way up."""
        return not self.walks

    @property
    def floating(self) -> str:
        """The arithmetic of the target's states."""
        return self.arithmetic if self.arithmetic in FLOATS else "float64"

    def up(self, scale: Predictor, x: torch.Tensor) -> March:
        """From x_0 to the latent."""
        if self.walks:
            return Walk(scale, x, self.grid.sigma_bar[: self.node + 1], self.name, FLOATS[self.floating])
        options = {"starter": self.starter, "arithmetic": self.arithmetic, "stop": self.node}
        return vsvf.steps(scale, x.to(FLOATS[self.floating]), self.grid, self.name, direction="inversion", **options)  # type: ignore[arg-type]

    def latent(self, march: March) -> Latent:
        """Where a march that went up has arrived: k states, or the one state."""
        return march.state() if isinstance(march, Steps) else march.x

    def down(self, scale: Predictor, latent: Latent) -> March:
        """From the latent to x_0."""
        if isinstance(latent, State):
            return vsvf.steps(scale, latent, self.grid, self.name)
        return Walk(scale, latent, self.grid.sigma_bar[self.node :: -1], self.name, FLOATS[self.floating])

    def started(self, scale: Predictor, latent: State) -> Steps:
        """A march that makes the k states of the latent's window from the noisiest of them alone, by the starter."""
        part = Grid(self.grid.sigma_bar[: self.node + 1], self.grid.alpha[: self.node + 1], None, f"part of {self.grid.name}")
        first = latent.reals[0].to(FLOATS[self.floating])
        return vsvf.steps(scale, first, part, self.name, starter=self.starter, stop=part.steps)

    def floated(self, latent: Latent) -> Latent:
        """The same latent with floating states, for a branch that is not to be retraced."""
        if not isinstance(latent, State) or latent.record.scales is None:
            return latent
        record = replace(latent.record, arithmetic="float64", scales=None)
        return State(latent.reals, record)


class Path:
    """The states at which slopes were asked on the way up, to be met again in reverse on the way down."""

    def __init__(self, image: torch.Tensor) -> None:
        self.image = image
        self.states: dict[float, list[torch.Tensor]] = {}

    def add(self, sigma_bar: float, x: torch.Tensor) -> None:
        """The next state of the way up."""
        self.states.setdefault(sigma_bar, []).append(x)

    def pin(self, march: March) -> None:
        """Put the stored state in the place of the one that is asked about; at the end, the image."""
        if march.done:
            newest = march.held()[-1]
            march.put([newest._replace(x=self.image.to(newest.x))])
        elif self.states.get(march.sigma_bar):
            march.replace(self.states[march.sigma_bar].pop())
