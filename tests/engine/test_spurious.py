"""The run-time watch: nothing on solutions, everything on spurious modes, and apart on marches that fail and that do not."""

from __future__ import annotations

import re
import warnings
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load

from vsvf import Grid, Schedule, SpuriousModeWarning, formulas, invert, sample, steps
from vsvf.convergence.problems import problems, smooth_grid
from vsvf.engine.spurious import Movement, unexplained_share
from vsvf.predictors import ideal_denoiser


@pytest.mark.parametrize("n", [2, 3, 4])
def test_polynomials_are_explained(n):
    s = np.array([0.3, 0.5, 0.9, 1.4])[:n]
    coefficient = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    states = [coefficient * (v**n + v) for v in s]
    slopes = [coefficient * (n * v ** (n - 1) + 1.0) for v in s]
    assert float(unexplained_share(s, states, slopes)) < 1e-14


def test_the_share_falls_with_the_step_on_solutions():
    problem = problems()[0]
    shares = []
    for count in (20, 40, 80):
        s = smooth_grid(count).sigma_bar[3:6]
        states = [problem.exact(float(v)) for v in s]
        shares.append(float(unexplained_share(s, states, [problem.predictor.epsilon(x, float(v)) for x, v in zip(states, s)])))
    assert shares[0] < 0.02 and shares[1] < shares[0] / 4 and shares[2] < shares[1] / 4


def test_a_spurious_mode_is_not_explained():
    s = [0.5, 0.6, 0.7]
    states = [torch.full((1, 2), value, dtype=torch.float64) for value in (0.1, -0.1, 0.1)]
    assert float(unexplained_share(s, states, [torch.zeros(1, 2, dtype=torch.float64)] * 3)) == pytest.approx(1.0)
    assert float(unexplained_share(s, [states[0]] * 3, [torch.zeros(1, 2, dtype=torch.float64)] * 3)) == 0.0


@pytest.mark.parametrize(("count", "slopes"), [(1, 1), (3, 2)])
def test_too_few_are_refused(count, slopes):
    one = torch.ones(1, 1)
    with pytest.raises(ValueError, match="one length"):
        unexplained_share(range(count), [one] * count, [one] * slopes)


# ---- the watch on a march


@pytest.fixture(scope="module")
def digits():
    data = load((resources.files("vsvf") / "assets" / "digits_test.safetensors").read_bytes())["images"].double()[:, None]
    return ideal_denoiser(data / 127.5 - 1.0, 0.05, Schedule.linear())


@pytest.fixture(scope="module")
def noise():
    return torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(301))


def leading(count):
    return Grid.from_schedule(Schedule.linear(), count, "leading", "smallest")


def told(march, *arguments, **options):
    """The spurious modes that a march warned of, and what it returned."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = march(*arguments, **options)
    return [warning for warning in said if warning.category is SpuriousModeWarning], result


def holding(x):
    """A register that has one state."""
    return SimpleNamespace(state=lambda s: x)


def test_a_move_without_a_slope_is_measured():
    """A zigzag of height d on x_bar = 1 moves by 2 d where its slope is 0."""
    grid = Grid.from_sigma_bar(np.geomspace(0.1, 0.1 * 1.1**9, 10))
    rows = formulas.stable_belm(3).plan(grid)
    for height, expected in ((0.004, None), (0.02, 0.04 / 0.98)):
        movement = Movement(rows, np.full(10, 0.5))
        for s in range(9):
            movement.see(s, holding(0.5 * torch.tensor([[1.0 + height * (-1) ** s]])), torch.zeros(1, 1))
        found = movement.first()
        if expected is None:
            assert found is None
        else:
            assert (found.s, found.sigma_bar) == (1, rows.position[1])
            assert found.size == pytest.approx(expected, rel=1e-6)
            assert found.limit == pytest.approx(0.01)


def test_of_a_predictor_corrector_the_predicted_states_are_looked_at():
    """Every second state has a slope; a zigzag of these by as much as the state itself is told, half as much is not."""
    rows = formulas.pec_belm().plan(Grid.from_sigma_bar(np.geomspace(0.1, 0.1 * 1.1**9, 10)))
    for height, told_of in ((0.2, False), (0.5, True)):
        movement = Movement(rows, np.ones(20))
        assert movement.apart == 2 and all(s % 2 == 0 for s in movement.wanted)
        for s in sorted(movement.wanted):
            movement.see(s, holding(torch.tensor([[1.0 + height * (-1) ** (s // 2)]])), torch.zeros(1, 1))
        assert (movement.first() is not None) == told_of


@pytest.mark.parametrize("count", [10, 20])
@pytest.mark.parametrize("name", ["stable_belm(4)", "stable_belm(5)"])
def test_marches_that_fail_say_so_with_the_step(digits, noise, count, name):
    said, _ = told(sample, digits, noise, leading(count), name)
    assert len(said) == 1 and said[0].filename == __file__
    message = str(said[0].message)
    row = int(re.search(r"at row (\d+) of", message).group(1))
    assert message.startswith(name) and 1 <= row < count and "sigma_bar = " in message
    assert told(sample, digits, noise, leading(count), name, warn=False)[0] == []


@pytest.mark.parametrize("count", [10, 20, 50])
@pytest.mark.parametrize("name", ["ddim", "deis(3)", "unipc(3)", "belm(2)", "stable_belm(3)", "corrected(coarse_belm, 0.7, 4)"])
def test_marches_that_hold_say_nothing(digits, noise, count, name):
    assert told(sample, digits, noise, leading(count), name)[0] == []


@pytest.mark.parametrize("kind", ["epsilon", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "log_snr", "karras"])
def test_what_is_recommended_says_nothing(digits, noise, spacing, kind):
    grid = Grid.from_schedule(Schedule.linear(), 20, spacing, "smallest")
    for direction in ("sampling", "both"):
        assert told(sample, digits, noise, grid, formulas.recommended(grid, kind, direction))[0] == []


def test_looking_changes_no_bit_and_sees_the_same_in_every_arithmetic(digits, noise):
    grid, rows = leading(20), set()
    for arithmetic in ("float32", "float64", "fixed"):
        for name in ("stable_belm(3)", "stable_belm(4)"):
            said, watched = told(sample, digits, noise, grid, name, arithmetic=arithmetic)
            other = sample(digits, noise, grid, name, arithmetic=arithmetic, warn=False)
            assert torch.equal(watched.values, other.values)
            assert len(said) == (name == "stable_belm(4)")
            rows |= {re.search(r"at row \d+ of 17", str(warning.message)).group() for warning in said}
    assert len(rows) == 1


def test_a_long_march_keeps_a_few_entries():
    movements = []
    for count in (60, 600):
        rows = formulas.stable_belm(3).plan(leading(count))
        movement = Movement(rows, np.ones(len(rows.node)))
        x = torch.ones(2, 40, 50)
        for s in range(len(rows.node)):
            if s in movement.wanted:
                movement.see(s, holding(x), x)
        movements.append(sum(part.numel() for pair in movement._seen.values() for part in pair))
    assert movements[1] <= movements[0] + 2 * 512 and movements[1] <= 2 * 512 * 30


def test_by_hand_and_side_by_side(digits, noise):
    grid = leading(20)

    def by_hand(names, **options):
        marches = [steps(digits, noise, grid, name, **options) for name in names]
        while not marches[0].done:
            both = digits.epsilon(torch.cat([march.x for march in marches]), marches[0].sigma_bar)
            for march, slope in zip(marches, both.chunk(len(marches))):
                march.give(slope)
        return [march.x for march in marches]

    said, (fine, _) = told(lambda: by_hand(["stable_belm(3)", "stable_belm(3)"]))
    assert said == [] and torch.equal(fine, sample(digits, noise, grid, "stable_belm(3)").x)
    said, _ = told(lambda: by_hand(["stable_belm(4)", "stable_belm(4)"]))
    assert len(said) == 2
    assert told(lambda: by_hand(["stable_belm(4)"], warn=False))[0] == []


@pytest.mark.parametrize("edit", ["none", "replace", "put"])
def test_an_edit_ends_the_watch(digits, noise, edit):
    """An edit moves a state without a slope, on purpose; without one the same formula is told of."""
    march = steps(digits, noise, leading(20), "stable_belm(4)")

    def edited():
        while not march.done:
            march.give(digits.epsilon(march.x, march.sigma_bar))
            if march.nfe == 8 and edit == "replace":
                march.replace(1.01 * march.x)
            if march.nfe == 8 and edit == "put":
                march.put([state._replace(x=1.01 * state.x) for state in march.held()])

    assert len(told(edited)[0]) == (edit == "none")


def test_what_an_inversion_found_goes_back_in_silence(digits, noise):
    """Its starter left spurious modes in the states, which sampling gives back."""
    grid = leading(20)
    image = sample(digits, noise, grid, "belm(2)").x
    back = invert(digits, image, grid, "belm(2)", arithmetic="float64")
    assert told(sample, digits, back, grid, "belm(2)")[0] == []


@pytest.mark.parametrize("gradient", ["reversible", "checkpoint", "stored"])
def test_a_gradient_warns_once(digits, noise, gradient):
    x = noise.double().requires_grad_()

    def there_and_back():
        state = sample(digits, x, leading(20), "stable_belm(4)", gradient=gradient)
        state.x.sum().backward()
        return x.grad.clone()

    said, found = told(there_and_back)
    assert len(said) == 1 and torch.isfinite(found).all()
