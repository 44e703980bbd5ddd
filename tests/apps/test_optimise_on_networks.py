"""Optimisation through a whole sampling of the embedded networks: towards a class that a judge reads, and of null conditions."""

import pytest
import torch

import vsvf
from vsvf import predictors
from vsvf.apps.classifier import load_digits_classifier
from vsvf.apps.optimise import NullPath, null_conditions, optimise_noise
from vsvf.predictors import Predictor
from vsvf.predictors.guidance import Guided
from vsvf.predictors.scenes import load_scenes
from vsvf.scenes.judge import load_judge
from vsvf.scenes.scene import COLOURS


def test_a_digit_is_led_to_another_class_by_the_judge(generator):
    eps, judge, label = predictors.digits(), load_digits_classifier(), torch.tensor([8])
    grid = vsvf.Grid.from_schedule(eps.schedule, 4, "log_snr", "smallest")
    noise = predictors.noise((1, 1, 28, 28), eps, grid, generator=generator)

    def loss(image):
        return torch.nn.functional.cross_entropy(judge(image), label)

    found = optimise_noise(eps, noise, grid, "stable_belm(2)", loss, steps=8, learning_rate=0.1)
    assert found.losses[0] > 1.0 and min(found.losses) < 0.5 * found.losses[0]
    assert float(loss(found.state.x)) == pytest.approx(min(found.losses), rel=1e-4)
    assert int(judge(vsvf.sample(eps, found.x, grid, "stable_belm(2)", warn=False).x).argmax()) == 8


def scenes_model():
    pytest.importorskip("diffusers")
    eps = predictors.scenes("a red three on a blue background", guidance=3.0)
    return eps, vsvf.Grid.from_schedule(eps.schedule, 3, "trailing", "smallest")


def test_null_embeddings_of_the_scenes_model_have_a_gradient_over_the_whole_path(generator):
    eps, grid = scenes_model()
    pipeline = load_scenes()
    with torch.no_grad():
        condition, null = pipeline.encode_prompt("a red three on a blue background", "cpu", 1, True, "")

    def network(x, t, embedding):
        return pipeline.unet(x, t, encoder_hidden_states=embedding).sample

    noise = predictors.noise((1, 4, 16, 16), eps, grid, generator=generator)
    options = {"dtype": torch.float32}
    alone = Predictor(Guided(network, condition), eps.schedule, **options)
    image = vsvf.sample(alone, noise, grid, "stable_belm(2)", warn=False).x  # what guidance moves away from
    times = eps.time(grid.sigma_bar).tolist()
    path = Predictor(NullPath(network, condition, null, 3.0, times), eps.schedule, **options)
    found = null_conditions(path, noise, image, grid, "stable_belm(2)", steps=4, learning_rate=0.02, warn=False)
    assert min(found.losses[1:]) < 0.9 * found.losses[0]
    moved = [float((tensor - null).abs().max()) for tensor in found.tensors]
    assert sum(change > 0.0 for change in moved) >= 2  # a null condition of its own at each of several times


def test_a_scene_is_led_to_another_background_by_the_judge(generator):
    eps, grid = scenes_model()
    vae, judge = load_scenes().vae.requires_grad_(False), load_judge()
    wanted = torch.tensor([list(COLOURS).index("yellow")])
    noise = predictors.noise((1, 4, 16, 16), eps, grid, generator=generator)

    def loss(latent):
        picture = vae.decode(latent / vae.config.scaling_factor).sample
        return torch.nn.functional.cross_entropy(judge.overview(picture).background, wanted)

    found = optimise_noise(eps, noise, grid, "stable_belm(2)", loss, steps=3, learning_rate=0.1, warn=False)
    assert min(found.losses) < 0.9 * found.losses[0]
