"""Random grids, formulas, tensors and predictors for property tests."""

import itertools

import numpy as np
import torch
from hypothesis import strategies as st

from vsvf import Grid, Schedule, formulas
from vsvf.predictors import Predictor, from_ode, gaussian_mixture

METHODS = formulas.METHODS
MULTISTEP = tuple(name for name in METHODS if isinstance(formulas.by_name(name), formulas.belm(2).__class__))
CORRECTED = tuple(name for name in METHODS if name.startswith("corrected"))  # one row more, at the last node
PAIRED = tuple(name for name in METHODS if name.startswith("unipc"))  # predictor and corrector, two rows to an evaluation
TWOFOLD = tuple(name for name in METHODS if name.startswith("pec_belm"))  # a predicted and a corrected state to a node
COUPLED = tuple(name for name in METHODS if name not in MULTISTEP + CORRECTED + PAIRED + TWOFOLD)
SELF_STARTING = COUPLED + PAIRED


def _flags(name):
    return formulas.by_name(name).plan(Grid.from_sigma_bar(np.linspace(0.5, 1.5, 13)))


EXPLICIT = tuple(name for name in METHODS if _flags(name).explicit)
IMPLICIT = tuple(name for name in METHODS if name not in EXPLICIT)
BIDIRECTIONAL = tuple(name for name in METHODS if _flags(name).bidirectionally_explicit)
BACKWARD_EXPLICIT = tuple(name for name in METHODS if _flags(name).backward_explicit)


def _takes_zero(name):
    try:
        formulas.by_name(name).plan(Grid.from_sigma_bar(np.linspace(0.0, 1.0, 13)))
    except ValueError:
        return False
    return True


POSITIVE = tuple(name for name in METHODS if not _takes_zero(name))  # formulas that need sigma_bar > 0 at the data end


def final(name):
    return "smallest" if name in POSITIVE else "zero"


SHAPES = ((1, 1), (2, 3), (3, 2, 4, 4), (1, 5, 1, 2))
DTYPES = ("float16", "bfloat16", "float32", "float64")


@st.composite
def grids(draw, min_steps=1, max_steps=14, ratio=2.0, zero=None, name=None):
    """Grids whose neighbouring steps differ by a factor of at most `ratio`; from sigma_bar = 0 or above it (None: either, above it
    where the formula `name` needs that)."""
    zero = False if name in POSITIVE else zero
    n = draw(st.integers(min_steps, max_steps))
    exponents = draw(st.lists(st.floats(-1.0, 1.0, width=32), min_size=n - 1, max_size=n - 1))
    steps = ratio ** np.concatenate([[0.0], np.cumsum(exponents)])
    span = draw(st.sampled_from([0.3, 1.0, 3.0]))
    from_zero = draw(st.booleans()) if zero is None else zero
    start = 0.0 if from_zero else draw(st.sampled_from([0.01, 0.2, 1.0]))
    nodes = start + np.concatenate([[0.0], np.cumsum(steps / steps.sum() * span)])
    return Grid.from_sigma_bar(nodes)


@st.composite
def rational_windows(draw, k):
    """k + 1 increasing nodes that floats hold exactly: multiples of 1/64."""
    steps = draw(st.lists(st.integers(1, 48), min_size=k, max_size=k))
    start = draw(st.integers(1, 128))
    return np.array(list(itertools.accumulate(steps, initial=start)), dtype=np.float64) / 64.0


@st.composite
def tensors(draw, shapes=SHAPES, dtype=torch.float64):
    shape = draw(st.sampled_from(shapes))
    seed = draw(st.integers(0, 2**31 - 1))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def linear_ode():
    """dx/ds = s x / (s^2 + 1/4), the diffusion ODE of Gaussian data."""
    return from_ode(lambda x, s: s * x / (s * s + 0.25))


def tanh_network():
    """A smooth network that acts on every sample alone, under the DDPM-linear schedule."""
    return Predictor(
        lambda x, t: torch.tanh(x) * (1.0 + 0.1 * torch.sin(t / 200.0)).reshape(-1, *[1] * (x.ndim - 1)).to(x),
        Schedule.linear(),
    )


def v_network():
    return Predictor(lambda x, t: 0.3 * torch.cos(x), Schedule.scaled_linear(), kind="v")


def mixture(dimension):
    means = torch.linspace(-1.0, 1.0, 3 * dimension, dtype=torch.float64).reshape(3, dimension)
    return gaussian_mixture(means, 0.6, schedule=Schedule.linear())


def predictors():
    """Predictors that take samples of any shape."""
    return st.sampled_from([linear_ode, tanh_network, v_network]).map(lambda make: make())


def sd_grid(steps, final="zero"):
    return Grid.from_schedule(Schedule.scaled_linear(), steps, "leading", final, steps_offset=1)


def ddpm_grid(steps, final="zero"):
    return Grid.from_schedule(Schedule.linear(), steps, "trailing", final)


def fine_grid(steps):
    """Any number of steps: nodes between a network's timesteps."""
    return Grid.from_schedule(Schedule.linear(), steps, "log_snr", "smallest")


class Counting:
    """A network of any precision that mixes nothing, and counts."""

    def __init__(self, dtype=torch.float32, rough=False):
        self.dtype, self.rough, self.calls = dtype, rough, 0

    def __call__(self, x, t):
        self.calls += 1
        x = x.to(self.dtype)
        # rough: no digit of the output is predictable; clamped, as 57 x may overflow float16 where an inverse explodes
        wave = torch.sin(57.0 * x.clamp(-1e3, 1e3)) if self.rough else torch.tanh(x)
        return wave * (1.0 + 0.1 * torch.sin(t / 200.0)).reshape(-1, *[1] * (x.ndim - 1)).to(x)


def counting_network(dtype="float32", rough=False):
    return Predictor(Counting(getattr(torch, dtype), rough), Schedule.linear())
