"""An error budget: why a reconstruction is not exact, and why the inverted noise is not the right one, part by part.

Every part is the difference of two runs that differ in one thing, and the parts add up to what is observed (vectors, exactly).
Write u for the image, E and D for the codec's encode and decode, x_0 = E(u), w for the guidance scale, and

    F_w(x)       the noise at sigma_bar_N from x by RK4 on a fine grid: the ODE itself, at guidance w;
    I(s, A, w)   the noise that the method finds from x_0 with starter s, arithmetic A, guidance w;
    R(s, A, w)   the image that it samples back from all k states of that inversion;
    rk4:16       a starter so fine that its error is not seen; exact: an arithmetic without rounding (fixed point where the
                 method is bidirectionally explicit and in range, else float64).

Noise: I(s, A, w) - F_1(E(D(E(u)))), what was found minus the noise of the image, is the sum of

    image        F_1(E(u)) - F_1(E(D(E(u))))           encoding: what one more passage through the codec would move the noise
    guidance     F_w(x_0) - F_1(x_0)                   the guided network defines another ODE, another noise
    truncation   I(rk4:16, exact, w) - F_w(x_0)        N steps of the formula are not the ODE
    starter      I(s, exact, w) - I(rk4:16, exact, w)  an image is one state, a k-step method needs k
    rounding     I(s, A, w) - I(s, exact, w)           the arithmetic's digits

Reconstruction: D(R(s, A, w)) - u is the sum of

    image        D(E(u)) - u                                    encoding: as if diffusion did nothing
    truncation   D(R(rk4:16, exact, 1)) - D(E(u))               zero for an exactly invertible method
    starter      D(R(s, exact, 1)) - D(R(rk4:16, exact, 1))     zero for an exactly invertible method
    guidance     D(R(s, exact, w)) - D(R(s, exact, 1))          how far guidance drives an inexact inverse
    rounding     D(R(s, A, w)) - D(R(s, exact, w))              all that an exactly invertible method loses

The method "ddim_inversion" is equation (8) of the BELM paper (arXiv 2410.07273): the image is moved up with Euler steps whose
slope is taken at the wrong end, and down with DDIM; it needs no starter. The network's own precision is the same in all runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from vsvf import formulas
from vsvf.apps.roundtrip import DDIM_INVERSION, from_image
from vsvf.errors import FixedPointOverflowError
from vsvf.fixed import Fixed
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor
from vsvf.solve import integrate

FINE_STARTER = "rk4:16"
KEYS = ("image", "guidance", "truncation", "starter", "rounding")


@dataclass(frozen=True)
class Codec:
    """How an image becomes the x_0 of a diffusion model, and back.

    Attributes:
        name: for the report.
        encode: u, pixels in [-1, 1], to x_0 (both float64); decode: back. For a latent model, its autoencoder.
    """

    name: str
    encode: Callable[[torch.Tensor], torch.Tensor]
    decode: Callable[[torch.Tensor], torch.Tensor]


def tensor_codec(dtype: torch.dtype = torch.float32) -> Codec:
    """Pixels as a tensor of `dtype`: encode rounds to it, decode changes nothing."""
    return Codec(f"tensor of {str(dtype).removeprefix('torch.')}", lambda u: u.to(dtype).double(), lambda x: x)


def eight_bit_codec() -> Codec:
    """Pixels as an 8-bit file holds them: encode changes nothing, decode clips to [-1, 1] and rounds to the 256 levels."""
    from vsvf.apps.images import to_levels

    return Codec("8-bit file", lambda u: u, lambda x: levels_to_values(torch.from_numpy(to_levels(x))))


def levels_to_values(levels: torch.Tensor) -> torch.Tensor:
    """Level p of 0 … 255 as p / 127.5 - 1 in float64."""
    return levels.double() / 127.5 - 1.0


def unrounded(image: torch.Tensor) -> torch.Tensor:
    """The pixels of a float32 image as float64: the exact p / 127.5 - 1 where all of them are 8-bit levels."""
    from vsvf.apps.images import to_levels

    exact = levels_to_values(torch.from_numpy(to_levels(image)))
    given = image.detach().cpu().double()
    return (exact if float((exact - given).abs().max()) < 1e-6 else given).to(image.device)


@dataclass(frozen=True)
class Part:
    """One part of a difference.

    Attributes:
        key: one of `KEYS`. size: root mean square over all entries. share: <part, whole> / <whole, whole>; the shares of all
            parts add up to 1, a negative one cancels others. sentence: in words.
    """

    key: str
    size: float
    share: float
    sentence: str


@dataclass(frozen=True)
class Budget:
    """What `budget` found.

    Attributes:
        method, arithmetic, starter, codec: what was examined. exact: the arithmetic used as free of rounding.
        noise, image: root mean square of the differences of the noise and of the reconstruction; largest: of the latter.
        noise_parts, image_parts: their parts, in the order of `KEYS`.
        reference_error: estimated error of the fine reference noise (root mean square).
        nfe: evaluations of the network in all runs.
    """

    method: str
    arithmetic: str
    starter: str
    codec: str
    exact: str
    noise: float
    image: float
    largest: float
    noise_parts: tuple[Part, ...]
    image_parts: tuple[Part, ...]
    reference_error: float
    nfe: int


def fine_nodes(grid: Grid, count: int) -> np.ndarray:
    """`count` intervals from the grid's first node to its last, evenly spread in asinh(sigma_bar / 0.05)."""
    low, high = np.arcsinh(grid.sigma_bar[[0, -1]] / 0.05)
    nodes = 0.05 * np.sinh(np.linspace(low, high, count + 1))
    nodes[[0, -1]] = grid.sigma_bar[[0, -1]]
    return nodes


class _Runs:
    """The runs of one method, counted."""

    def __init__(self, grid: Grid, method: str, count: int) -> None:
        self.grid, self.method, self.nodes, self.nfe = grid, method, fine_nodes(grid, count), 0
        self.explicit = method != DDIM_INVERSION and formulas.by_name(method).plan(grid).bidirectionally_explicit

    def reference(self, predictor: Predictor, x: torch.Tensor, nodes: np.ndarray | None = None) -> torch.Tensor:
        found, nfe = integrate(predictor, x.double(), self.nodes if nodes is None else nodes, "rk4", arithmetic="float64")
        self.nfe += nfe
        return found

    def there_and_back(
        self, predictor: Predictor, x: torch.Tensor, starter: str, arithmetic: str | Fixed
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """I and R."""
        trip = from_image(predictor, x, self.grid, self.method, starter=starter, arithmetic=arithmetic, warn=False)
        self.nfe += sum(trip.nfe)
        return trip.turn.double(), trip.end.double()


def budget(
    predictor: Predictor,
    image: torch.Tensor,
    grid: Grid,
    method: str = "belm(2)",
    *,
    unguided: Predictor | None = None,
    starter: str = "ddim",
    arithmetic: str = "float32",
    codec: Codec | None = None,
    reference_steps: int = 128,
) -> Budget:
    """Take an image to noise and back and say what each cause contributes (equations above).

    Args:
        predictor: the network, at guidance w.
        image: u, (B, …), pixels in [-1, 1].
        grid: the nodes.
        method: a formula's name, or "ddim_inversion".
        unguided: the same network at guidance 1; None if the predictor is not guided.
        starter, arithmetic: those to be examined, as in `invert`; not "lower_order".
        codec: image to x_0 and back; default: a float32 tensor.
        reference_steps: RK4 steps of the reference, four evaluations each; even.

    Raises:
        ValueError: wrong arguments. VsvfError: a run that cannot be (see `invert`).
    """
    if reference_steps < 2 or reference_steps % 2:
        raise ValueError(f"reference_steps must be an even number from 2 on, got {reference_steps}")
    codec = tensor_codec() if codec is None else codec
    runs = _Runs(grid, method, reference_steps)
    plain = predictor if unguided is None else unguided
    u = image.detach().double()
    x = codec.encode(u).double()
    once = codec.decode(x).double()
    noise = [runs.reference(plain, x)]  # F_1(E(u)), then what each change adds
    coarse = runs.reference(plain, x, runs.nodes[::2])
    again = codec.encode(once).double()
    image_noise = torch.zeros_like(noise[0]) if torch.equal(again, x) else noise[0] - runs.reference(plain, again)
    guided = noise[0] if unguided is None else runs.reference(predictor, x)

    exact: str | Fixed = "fixed" if runs.explicit else "float64"
    try:
        fine_plain = runs.there_and_back(plain, x, FINE_STARTER, exact)
        own_plain = runs.there_and_back(plain, x, starter, exact)
        fine = fine_plain if unguided is None else runs.there_and_back(predictor, x, FINE_STARTER, exact)
        own = own_plain if unguided is None else runs.there_and_back(predictor, x, starter, exact)
    except FixedPointOverflowError:  # a method that explodes here
        exact = "float64"
        fine_plain = runs.there_and_back(plain, x, FINE_STARTER, exact)
        own_plain = runs.there_and_back(plain, x, starter, exact)
        fine = fine_plain if unguided is None else runs.there_and_back(predictor, x, FINE_STARTER, exact)
        own = own_plain if unguided is None else runs.there_and_back(predictor, x, starter, exact)
    real = own if arithmetic == exact else runs.there_and_back(predictor, x, starter, arithmetic)

    noise_parts = {
        "image": image_noise,
        "guidance": guided - noise[0],
        "truncation": fine[0] - guided,
        "starter": own[0] - fine[0],
        "rounding": real[0] - own[0],
    }
    pictures = [once, *(codec.decode(run[1]).double() for run in (fine_plain, own_plain, own, real))]
    image_parts = {
        "image": once - u,
        "truncation": pictures[1] - pictures[0],
        "starter": pictures[2] - pictures[1],
        "guidance": pictures[3] - pictures[2],
        "rounding": pictures[4] - pictures[3],
    }
    whole_noise, whole_image = sum(noise_parts.values()), pictures[4] - u
    assert isinstance(whole_noise, torch.Tensor)
    return Budget(
        method,
        arithmetic,
        starter,
        codec.name,
        str(exact),
        _size(whole_noise),
        _size(whole_image),
        float(whole_image.abs().max()),
        tuple(_part(key, noise_parts[key], whole_noise, NOISE, method) for key in KEYS),
        tuple(_part(key, image_parts[key], whole_image, IMAGE, method) for key in KEYS),
        _size(coarse - noise[0]) / 15.0,
        runs.nfe,
    )


NOISE = {
    "image": "storing the image once more (its {codec}) would move its noise by this much",
    "guidance": "the guided network defines another ODE, and with it another noise for the same image",
    "truncation": "N steps of {method} are not the ODE itself; more steps or a higher order make it smaller",
    "starter": "one image gives one state, and the starter guesses the others; a better starter (rk4) makes it smaller",
    "rounding": "the arithmetic has so many digits and the march amplifies what is lost; fixed loses nothing",
}
IMAGE = {
    "image": "what turning the image into x_0 and back changes without any diffusion",
    "guidance": "guidance drives an inexact inverse further off; an exactly invertible method returns from any guidance",
    "truncation": "the way back is not the inverse of the way there; zero for an exactly invertible method",
    "starter": "other first states, another inexact way; zero when all k states are kept by an exactly invertible method",
    "rounding": "digits that the arithmetic lost on the way; fixed returns every bit",
}


def _size(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())


def _part(key: str, part: torch.Tensor, whole: torch.Tensor, sentences: dict[str, str], method: str) -> Part:
    total = float(whole.square().sum())
    share = float((part * whole).sum()) / total if total > 0.0 else 0.0
    return Part(key, _size(part), share, sentences[key].format(method=method, codec="codec"))
