"""The register that forms the rows' sums, alone."""

import numpy as np
import pytest
import strategies as own
import torch
from hypothesis import given
from hypothesis import strategies as st

from vsvf import Grid, formulas
from vsvf.engine.floating import FloatRegister, name_of
from vsvf.plan import Plan


@given(st.sampled_from(own.EXPLICIT), st.integers(0, 10**6))
def test_rows_of_given_slopes(name, seed):
    plan = formulas.by_name(name).plan(Grid.from_sigma_bar(np.linspace(0.5, 1.5, 11)))
    rng = np.random.default_rng(seed)
    slopes = rng.standard_normal((plan.rows + plan.steps, 5))
    z = list(rng.standard_normal((plan.steps, 5)))
    register = FloatRegister(plan, torch.as_tensor(np.array(z)), torch.float64)
    for m in range(plan.rows):
        s = plan.steps + m
        for j in range(plan.steps, 0, -1):
            if plan.c[m, j] != 0.0 and not register.has_slope(s - j):
                register.put_slope(s - j, torch.as_tensor(slopes[s - j]))
        register.advance(m)
        z.append(
            sum(plan.a[m, j - 1] * z[s - j] for j in range(1, plan.steps + 1))
            + sum(plan.c[m, j] * slopes[s - j] for j in range(1, plan.steps + 1))
        )
        size = np.abs(z).max()
        assert np.allclose(register.state(s).numpy(), z[-1], rtol=0.0, atol=1e-13 * size)
    assert np.allclose(register.window(plan.rows).numpy(), np.array(z[-plan.steps :]), rtol=0.0, atol=1e-13 * np.abs(z).max())


@pytest.mark.parametrize("name", own.METHODS)
def test_memory_does_not_grow_with_the_grid(name):
    held = []
    for steps in (10, 400):
        plan = formulas.by_name(name).plan(Grid.from_sigma_bar(np.linspace(0.5, 1.5, steps + 1)))
        register = FloatRegister(plan, torch.zeros(plan.steps, 7, 11), torch.float32)
        tensors = [v for v in vars(register).values() if isinstance(v, torch.Tensor) and v.shape[-1] == 77]
        held.append(sum(v.numel() for v in tensors) // 77)
    assert held[0] == held[1] <= 2 * plan.steps + 1
    if name in own.BIDIRECTIONAL:
        assert held[0] <= 2 * plan.steps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows_are_summed_in_float32(dtype):
    # 1 + 2^-12 - 1: gone if the partial sum is rounded to half precision
    plan = Plan("sum", np.array([[-1.0, 1.0, 1.0]]), np.zeros((1, 4)), np.ones(4), np.ones(4))
    first = torch.tensor([[2.0**-12], [1.0], [1.0]], dtype=dtype)
    register = FloatRegister(plan, first, dtype)
    register.advance(0)
    assert register.state(3).dtype == dtype
    assert float(register.state(3)) == 2.0**-12


def test_a_slope_is_forgotten_when_its_place_is_taken():
    plan = formulas.adams_bashforth(2).plan(Grid.from_sigma_bar(np.linspace(0.5, 1.5, 6)))
    register = FloatRegister(plan, torch.zeros(2, 1), torch.float64)
    register.put_slope(0, torch.ones(1))
    register.put_slope(1, torch.ones(1))
    assert register.has_slope(0) and register.has_slope(1)
    register.put_slope(2, torch.ones(1))
    assert not register.has_slope(0) and register.has_slope(2)


@pytest.mark.parametrize("name", own.DTYPES)
def test_names_of_dtypes(name):
    assert name_of(getattr(torch, name)) == name
