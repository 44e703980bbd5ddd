"""The benchmark of flow inversion: its velocity, the published updates, and what it shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

flow = pytest.importorskip("benchmarks.flow", reason="run from the repository, with diffusers")


def test_the_velocity_carries_the_digits_to_noise() -> None:
    """Noise minus data, where one digit is all that x can come from."""
    velocity, images = flow.digits_flow()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 1, 28, 28, generator=generator, dtype=torch.float64)
    blurred = images[:2] + flow.STD * torch.randn(2, 1, 28, 28, generator=generator, dtype=torch.float64)
    u = 0.3
    x = (1.0 - u) * blurred + u * noise
    r2 = (1.0 - u) ** 2 * flow.STD**2 + u**2
    away = x - (1.0 - u) * images[:2]
    expected = u / r2 * away - (images[:2] + (1.0 - u) * flow.STD**2 / r2 * away)  # posterior means of noise and data
    torch.testing.assert_close(velocity(x, u), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("rf_solver", 2), ("fireflow", 2)])
def test_published_updates_have_their_order(name: str, order: int) -> None:
    """On v = -x u with the exact solution exp((1 - u^2)/2), down from 1."""
    run, _ = flow.PUBLISHED[name]
    x = torch.ones(1, 1, dtype=torch.float64)
    found = [float(run(lambda y, u: -y * u, x, np.linspace(1.0, 0.0, n + 1))) - np.exp(0.5) for n in (50, 100)]
    assert np.log2(found[0] / found[1]) == pytest.approx(order, abs=0.1)


def test_only_formulas_with_an_explicit_inverse_return_the_noise() -> None:
    rows = {row[1]: row[2:] for row in flow.measure([16], images=1, reference_steps=200)}
    assert set(rows) == set(flow.METHODS)
    for method, (sampling, inversion, round_trip) in rows.items():
        assert np.isfinite([sampling, inversion, round_trip]).all()
        if method in flow.PUBLISHED:
            assert round_trip > 1e-4, method
        else:
            assert round_trip < 1e-8, method
