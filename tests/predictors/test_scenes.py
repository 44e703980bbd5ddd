"""The embedded text-to-image model: its ways in, its words, and that it draws what is asked for."""

import subprocess
import sys

import pytest
import torch

import vsvf
from vsvf import predictors
from vsvf.formulas import by_name
from vsvf.scenes import WORDS, Digit, Scene, load_glyphs, render

diffusers = pytest.importorskip("diffusers")

from vsvf.apps.scenes import scenes_codec  # noqa: E402
from vsvf.integrations.diffusers import VSVFScheduler  # noqa: E402
from vsvf.integrations.diffusers.pipelines import load_pipeline  # noqa: E402
from vsvf.predictors.scenes import LATENTS, load_scenes  # noqa: E402

PROMPT = "a red three on a blue background"


@pytest.fixture(scope="module")
def pipeline():
    return load_scenes()


def noise(count, seed=0, dtype=torch.float32):
    return torch.randn(count, *LATENTS, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- what is asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"prompt": []}, ValueError, "prompt must be a text or a list of texts, got an empty list"),
        ({"prompt": "a purple three"}, ValueError, "the word 'purple' is not in the vocabulary: a an and background black"),
        ({"prompt": [PROMPT, 3]}, TypeError, "prompt must be a text or a list of texts, got int 3"),
        ({"prompt": PROMPT, "negative": "ugly"}, ValueError, "the word 'ugly' is not in the vocabulary"),
        ({"prompt": [PROMPT] * 3, "negative": [""] * 2}, ValueError, "negative must be one text or as many as prompts: 2 for 3"),
        ({"prompt": "a " * 23}, ValueError, "a prompt may have 22 words, commas counted, got 23"),
    ],
)
def test_what_is_wanted_instead_is_said(arguments, error, words):
    with pytest.raises(error, match=words):
        predictors.scenes(**arguments)


def test_labels_are_for_the_digits():
    with pytest.raises(TypeError, match="prompt must be a text or a list of texts"):
        predictors.scenes(torch.tensor([3]))


def test_every_word_is_one_token(pipeline):
    tokens = [pipeline.tokenizer(word).input_ids for word in WORDS]
    assert all(len(row) == 3 for row in tokens)
    assert len({row[1] for row in tokens}) == len(WORDS)


def test_the_predictor_is_the_pipelines_own_step(pipeline):
    """eps of guidance 3 with a negative prompt, from the parts by hand."""
    x, t = noise(2), torch.tensor(500)

    def embed(texts):
        rows = pipeline.tokenizer(texts, padding="max_length", max_length=pipeline.tokenizer.model_max_length, return_tensors="pt")
        return pipeline.text_encoder(rows.input_ids)[0]

    with torch.no_grad():
        asked = pipeline.unet(x, t, embed([PROMPT, "a green one on yellow stripes"])).sample
        avoided = pipeline.unet(x, t, embed(["a red eight on white"] * 2)).sample
    eps = predictors.scenes([PROMPT, "a green one on yellow stripes"], 3.0, negative="a red eight on white")
    with torch.no_grad():
        found = eps.epsilon(x, float(eps.schedule.sigma_bar(500.0)), t=500.0)
    assert torch.allclose(found, avoided + 3.0 * (asked - avoided), atol=1e-5)


def test_loading_says_nothing_and_draws_nothing(capfd):
    before = torch.random.get_rng_state()
    predictors.scenes(PROMPT)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_a_fresh_interpreter_says_nothing_either():
    code = "from vsvf import predictors; predictors.scenes('a red three on blue')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_diffusers_the_extra_is_named():
    code = "import sys; sys.modules['diffusers'] = None\nfrom vsvf import predictors\n"
    code += "try: predictors.scenes('a red three on blue')\nexcept ImportError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "the scenes model is made of diffusers' parts: pip install 'vsvf[diffusers]'\n"


# ---- a folder like any other -----------------------------------------------------------------------------------


def test_a_saved_pipeline_is_loaded_and_what_is_no_pipeline_is_named(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "mine")
    again = load_pipeline(tmp_path / "mine")
    for name in ("unet", "vae", "text_encoder"):
        ours, theirs = getattr(pipeline, name).state_dict(), getattr(again, name).state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(FileNotFoundError, match=r"has no model_index.json; it is one model's folder, use load_model"):
        load_pipeline(tmp_path / "mine" / "unet")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_pipeline(tmp_path / "nothing")
    (tmp_path / "mine" / "vae").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match=r"is incomplete: the folder vae of its model_index\.json is missing"):
        load_pipeline(tmp_path / "mine")
    (tmp_path / "mine" / "model_index.json").write_text("[]")
    with pytest.raises(ValueError, match=r"is not a pipeline's index"):
        load_pipeline(tmp_path / "mine")


def test_diffusers_own_loading_gives_float32(pipeline):
    """The UNet is stored in half precision; it must be computed with in single."""
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    assert pipeline.safety_checker is None and pipeline.feature_extractor is None
    assert {type(m).__name__ for m in pipeline.unet.modules() if "act" in type(m).__name__.lower()} <= {"SiLU", "GEGLU"}


# ---- numbers ---------------------------------------------------------------------------------------------------


def test_latents_of_scenes_have_unit_variance_and_come_back():
    glyphs, codec = load_glyphs(), scenes_codec()
    pictures = torch.stack(
        [
            render(Scene((Digit(value, "white", glyph=90),), ground, texture), glyphs).picture
            for value, (ground, texture) in enumerate(
                (ground, texture) for ground in ("red", "green", "black") for texture in ("plain", "dots", "checks")
            )
        ]
    )
    latents = codec.encode(pictures)
    assert latents.shape == (len(pictures), *LATENTS)
    assert 0.7 < latents.std() < 1.3
    error = (codec.decode(latents) - pictures).pow(2).mean()
    assert error < 0.1 * pictures.var()


def test_slopes_are_smooth_in_time():
    """Neither the ripple of a fast embedding of time nor jumps of a saturated attention: second differences over half a timestep.

    Of the network as it was trained their median here was 4e-3 and the largest 1e-2.
    """
    eps = predictors.scenes(PROMPT, 1.0, dtype=torch.float64)
    x, found = noise(1, 3, torch.float64), []
    for t in range(300, 990, 15):
        near = [eps.epsilon(x, float(eps.schedule.sigma_bar(t + d))) for d in (-0.5, 0.0, 0.5)]
        found.append(float((near[0] - 2.0 * near[1] + near[2]).abs().max()) / 0.25)
    assert max(found) < 2e-3
    assert sorted(found)[len(found) // 2] < 1e-4


@pytest.mark.parametrize("guidance", [1.0, 3.0, 7.5])
def test_a_round_trip_through_the_pipeline_returns_every_bit(pipeline, guidance):
    config, images = pipeline.scheduler.config, []
    scheduler, latents = VSVFScheduler.from_config(config, formula="belm(2)", arithmetic="fixed"), noise(1)
    try:
        for _ in range(3):  # to the picture, to the noise, to the picture
            pipeline.scheduler = scheduler
            run = dict(guidance_scale=guidance, num_inference_steps=10, output_type="latent")
            images.append(pipeline(PROMPT, latents=latents, **run).images)
            states, scheduler = pipeline.scheduler.state(), pipeline.scheduler.inverse()
            latents = scheduler.start_from(states)
    finally:
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(config)
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


def test_the_pipeline_samples_what_sample_does(pipeline):
    """DDIM with diffusers' own scheduler and with the package's, on the same nodes."""
    theirs = pipeline(PROMPT, latents=noise(1), guidance_scale=3.0, num_inference_steps=10, output_type="latent").images
    scheduler = VSVFScheduler.from_config(pipeline.scheduler.config, formula="ddim")
    scheduler.set_timesteps(10)
    ours = vsvf.sample(predictors.scenes(PROMPT, 3.0), noise(1), scheduler.grid, by_name("ddim"), arithmetic="float64").x
    assert torch.allclose(ours.float(), theirs, atol=2e-3)


def test_the_first_tokens_reach_the_picture():
    """Other words give another eps: the text is heard, at the noise levels where a picture's plan is made."""
    x = noise(1, dtype=torch.float64)
    values = []
    for prompt in (
        PROMPT,
        "a red three on a yellow background",
        "a red three on blue stripes",
        "a green three on a blue background",
    ):
        eps = predictors.scenes(prompt, 1.0, dtype=torch.float64)
        with torch.no_grad():
            values.append(eps.network(x, torch.tensor([800.0], dtype=torch.float64)))
    for other in values[1:]:
        assert (other - values[0]).norm() > 1e-3 * values[0].norm()
