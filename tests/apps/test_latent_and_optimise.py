"""Single-latent inversion, and optimisation through a whole sampling, on toys whose answers are known."""

import numpy as np
import pytest
import torch

import vsvf
from vsvf import formulas
from vsvf.apps.latent import AMPLIFIED, equations_of, single_latent
from vsvf.apps.latent_equations import Ends, Path, gmres
from vsvf.apps.optimise import NullPath, null_conditions, optimise_noise
from vsvf.predictors import ClosedForm, Predictor
from vsvf.state import State

SCHEDULE = vsvf.Schedule.linear()


def uneven(count):
    return vsvf.Grid.from_schedule(SCHEDULE, count, "log_snr", "smallest")


@pytest.fixture
def smooth(generator):
    weights = 0.5 * torch.randn((6, 6), generator=generator, dtype=torch.float64)
    return Predictor(lambda x, t: 0.8 * x + 0.2 * torch.tanh(x @ weights), SCHEDULE)


def draw(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_gmres_solves_linear_systems(generator):
    matrices = torch.eye(8, dtype=torch.float64) + 0.3 * draw(generator, 3, 8, 8)
    right = draw(generator, 3, 8)
    right[2] = 0.0
    wanted = torch.linalg.solve(matrices, right)

    def forward(v):
        return torch.einsum("bij,bj->bi", matrices, v)

    assert torch.allclose(gmres(forward, right, 8, 1e-13), wanted, atol=1e-9)
    few = gmres(forward, right, 3, 1e-13)
    assert float((forward(few) - right).norm()) < float(right.norm()) and not bool(few[2].any())


ONE_LATENT = ["ddim", "dpm_solver_pp(2)", "dpm_solver_pp(3)", "deis(2)", "belm(2)", "stable_belm(2)", "stable_belm(3)", "bdia(1)"]


@pytest.mark.parametrize("formula", [*ONE_LATENT, "edict(0.93)", "mccallum_foster(0.999)"])
@pytest.mark.parametrize("starter", ["ddim", "rk4"])
def test_one_noise_gives_the_image_back(smooth, generator, formula, starter):
    grid, image = uneven(12), draw(generator, 2, 6)
    found = single_latent(smooth, image, grid, formula, starter=starter, tolerance=1e-8)
    assert found.converged and float(found.error.max()) <= 1e-8
    assert float(found.first_error.min()) > 1e-6  # the inversion alone does not
    again = vsvf.sample(smooth, found.x, grid, formula, starter=starter)
    assert torch.equal((again.x - image).abs().flatten(1).amax(1), found.error)


def test_the_equations_suit_what_spurious_modes_do_off_the_data(smooth, generator):
    grid, image = uneven(20), draw(generator, 1, 6)
    alone = ClosedForm(lambda x_bar, s: x_bar / s, SCHEDULE)  # of a single point: nothing but what is off the data
    for formula, equations in (("ddim", Path), ("belm(2)", Path), ("stable_belm(2)", Ends)):
        chosen = formulas.by_name(formula)
        assert type(equations_of(smooth, image, grid, chosen, "ddim")) is equations
        found = Path(smooth, image, grid, chosen, "ddim").amplification
        if chosen.steps == 1:
            assert found == pytest.approx(1.0)
            continue
        # by marches: what x_N must be for the image 0 when the starter's state is off by its own size
        high, low = (float(alone.alpha(s) * s) for s in grid.sigma_bar[[-1, -2]])
        states = torch.tensor(
            [[[high, 0.0]], [[low, low]]], dtype=torch.float64
        )  # (K, B, entries): a solution, the starter's error
        solution, error = vsvf.sample(alone, State.at("noise", states, chosen, grid), grid, chosen, warn=False).x[0].tolist()
        assert found >= abs(error / solution) * (1.0 - 1e-9) and (abs(error / solution) > AMPLIFIED) == (equations is Ends)


def test_the_evaluations_are_counted_and_implicit_formulas_refused(generator):
    asked = []

    def network(x, t):
        asked.append(len(x))
        return 0.8 * x + 0.1 * torch.sin(x)

    image = draw(generator, 3, 6)
    found = single_latent(Predictor(network, SCHEDULE), image, uneven(8), "dpm_solver_pp(2)")
    assert found.converged and sum(asked) == 3 * found.nfe
    with pytest.raises(ValueError, match="is implicit: its sampling is no function of x_N alone"):
        single_latent(Predictor(network, SCHEDULE), image, uneven(8), "adams_moulton(2)")


def test_each_solution_is_where_the_next_predictors_iteration_begins(generator):
    weights = torch.randn((6, 6), generator=generator, dtype=torch.float64)
    image, grid = draw(generator, 2, 6), uneven(12)

    def bent(strength):
        return Predictor(lambda x, t: 0.8 * x + strength * torch.sin(3.0 * x @ weights), SCHEDULE)

    alone = single_latent(bent(0.15), image, grid, "belm(2)", tolerance=1e-8)
    by = [bent(strength) for strength in (0.025, 0.05, 0.075, 0.1, 0.125)]
    found = single_latent(bent(0.15), image, grid, "belm(2)", by=by, tolerance=1e-8)
    assert not alone.converged and found.converged
    again = vsvf.sample(bent(0.15), found.x, grid, "belm(2)").x
    assert torch.equal((again - image).abs().amax(1), found.error)
    assert torch.equal(found.first_error, single_latent(by[0], image, grid, "belm(2)").first_error)


def test_a_cap_is_reported_and_not_hidden(smooth, generator):
    found = single_latent(smooth, draw(generator, 2, 6), uneven(12), "belm(2)", tolerance=1e-8, iterations=1, directions=1)
    assert not found.converged and found.iterations == 1
    assert bool((found.error <= found.first_error).all())


def test_a_noise_is_found_for_a_target_and_keeps_its_norm(smooth, generator):
    grid, x = uneven(8), draw(generator, 2, 6)
    target = vsvf.sample(smooth, x, grid, "stable_belm(2)").x
    begun = draw(generator, 2, 6)
    begun = begun * (x.norm(dim=1) / begun.norm(dim=1))[:, None]
    found = optimise_noise(
        smooth, begun, grid, "stable_belm(2)", lambda image: (image - target).square().mean(), steps=150, learning_rate=0.1
    )
    assert min(found.losses) < 1e-2 * found.losses[0]
    assert torch.allclose(found.x.norm(dim=1), begun.norm(dim=1))
    assert not found.state.x.requires_grad


def test_null_conditions_over_the_whole_path_bring_an_image_back(generator):
    weights = 0.3 * draw(generator, 6, 6)

    def network(x, t, condition):
        return 0.8 * x + 0.2 * torch.tanh(x @ weights + condition)

    grid, condition, null = uneven(6), draw(generator, 1, 6), torch.zeros((1, 6), dtype=torch.float64)
    alone = Predictor(lambda x, t: network(x, t, condition), SCHEDULE)
    image = draw(generator, 1, 6)
    noise = vsvf.invert(alone, image, grid, "stable_belm(2)")
    times = SCHEDULE.timestep(np.asarray(grid.sigma_bar)).tolist()
    guided = Predictor(NullPath(network, condition, null, 3.0, times), SCHEDULE)
    found = null_conditions(guided, noise, image, grid, "stable_belm(2)", steps=100, learning_rate=0.05)
    assert found.losses[0] > 1e-4 and min(found.losses) < 1e-2 * found.losses[0]
    again = vsvf.sample(guided, noise, grid, "stable_belm(2)")
    assert float((again.x - image).square().mean()) == pytest.approx(min(found.losses), rel=1e-9)
    with pytest.raises(TypeError, match="must be a NullPath"):
        null_conditions(alone, noise, image, grid, "stable_belm(2)")
