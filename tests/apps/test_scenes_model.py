import pytest
import torch

from vsvf.apps.model_names import embedded, model_by_name

pytest.importorskip("diffusers")
if "scenes" not in embedded():
    pytest.skip("the package was built without the text-to-image model", allow_module_level=True)


@pytest.fixture(scope="module")
def model():
    return model_by_name("scenes")


def test_its_pictures_are_rendered_scenes_with_captions(model):
    from vsvf.scenes import parse

    pictures, captions = model.own()
    assert pictures.shape == (100, 3, 64, 64) and model.pictures == (3, 64, 64) and model.latents == (4, 16, 16)
    assert len(set(captions)) > 90 and all(parse(text) for text in captions)
    assert model.usual(20)[:10] == model.usual(10) and model.usual(10) != captions[:10]


def test_its_autoencoder_is_the_codec(model):
    pictures = model.own()[0][:4]
    latents = model.codec.encode(pictures)
    assert latents.shape == (4, 4, 16, 16)
    assert float((model.codec.decode(latents) - pictures).square().mean()) < 0.02  # 0.013 over many scenes, of a variance of 0.5


def test_unknown_words_are_named(model):
    with pytest.raises(ValueError, match="zebra"):
        model.predict(["a red zebra on a blue background"], 1.0)


def test_prompts_decide(model):
    x = torch.randn(1, *model.latents, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    red, blue = (model.predict([f"a {c} three on a white background"], 3.0).epsilon(x, 1.0) for c in ("red", "blue"))
    assert float((red - blue).abs().max()) > 1e-3
