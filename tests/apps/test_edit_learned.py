"""PIE-Bench's learned measures on small networks of random weights, against the networks asked by hand."""

import math
import sys

import pytest
import torch
import torch.nn.functional as F

transformers = pytest.importorskip("transformers")
from diffusers_models import small_stable_diffusion  # noqa: E402

from vsvf.apps.edit.cases import Case  # noqa: E402
from vsvf.apps.edit.learned import MEAN, Learned, eight_bits  # noqa: E402
from vsvf.apps.edit.pie import measures  # noqa: E402


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = small_stable_diffusion(folder).tokenizer
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 16, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    sight = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32,
        "patch_size": 8,
    }  # fmt: skip
    torch.manual_seed(0)
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=sight, projection_dim=8))
    model.save_pretrained(folder / "model")
    pictures = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.CLIPProcessor(pictures, tokenizer).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    torch.manual_seed(1)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, image_size=64, patch_size=16
    )
    folder = tmp_path_factory.mktemp("dino")
    transformers.ViTModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(2)
    picture = torch.rand(3, 48, 48, generator=generator) * 2 - 1
    mask = torch.zeros(48, 48, dtype=torch.bool)
    mask[10:30, 5:20] = True
    return Case("one", "random", picture, "a cat", "a cat by zoo", mask)


@pytest.fixture
def found(case):
    return (case.picture + 0.3 * torch.randn(3, 48, 48, generator=torch.Generator().manual_seed(3))).clamp(-1, 1)


def test_the_structure_distance_is_that_of_the_last_layers_keys(dino, case, found):
    """By hand: the last layer's keys are its projection of the normed states before it; pictures go in 255 times too large."""
    model = transformers.ViTModel.from_pretrained(dino).eval()
    matrices = []
    for picture in (found, case.picture):
        x = F.interpolate(eight_bits(picture)[None], (224, 224), mode="bilinear")
        x = torch.stack([(x[0, c] - mean) / std for c, (mean, std) in enumerate(zip(MEAN, (0.229, 0.224, 0.225)))])[None]
        with torch.no_grad():
            before = model(x, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states[-2]
            last = [module for name, module in model.named_modules() if name.endswith("layernorm_before")][-1]
            keys = [module for name, module in model.named_modules() if name.endswith(("k_proj", ".key"))][-1](last(before))[0]
        matrices.append(torch.stack([F.cosine_similarity(key[None], keys) for key in keys]))
    expected = float((matrices[0] - matrices[1]).square().mean())
    measure = Learned(dino=dino)
    assert measure.names == ["pie_structure"]
    assert expected > 1e-5
    assert measure(found, case)["pie_structure"] == pytest.approx(expected, rel=1e-4)
    assert measure(case.picture, case)["pie_structure"] == 0.0


def test_likeness_to_the_prompt_is_clips_own_logit(clip, case, found):
    model, processor = (getattr(transformers, kind).from_pretrained(clip) for kind in ("CLIPModel", "CLIPProcessor"))

    def asked(picture, prompt):
        given = processor(text=[prompt], images=[picture.to(torch.uint8).permute(1, 2, 0).numpy()], return_tensors="pt")
        with torch.no_grad():
            return max(0.0, 100.0 * float(model(**given).logits_per_image / model.logit_scale.exp()))

    values = Learned(clip=clip)(found, case)
    assert values["pie_clip"] == pytest.approx(asked(eight_bits(found), case.target), abs=1e-3)
    assert values["pie_clip_edited"] == pytest.approx(asked(eight_bits(found) * case.mask, case.target), abs=1e-3)
    assert values["pie_clip"] != values["pie_clip_edited"]


def test_they_stand_beside_the_background_measures_and_a_whole_mask_leaves_them(clip, dino, case, found):
    row = measures(found, case, Learned(clip, dino))
    assert list(row) == ["pie_mse", "pie_psnr", "pie_ssim", "pie_structure", "pie_clip", "pie_clip_edited"]
    assert all(math.isfinite(value) for value in row.values())
    case.mask.fill_(True)
    row = measures(found, case, Learned(clip, dino))
    assert math.isnan(row["pie_mse"]) and math.isfinite(row["pie_structure"])
    case.mask.fill_(False)
    assert math.isnan(Learned(clip)(found, case)["pie_clip_edited"])


@pytest.fixture
def squeeze(tmp_path, monkeypatch):
    """torch.hub's folder with SqueezeNet's weights, which are random."""
    models = torchvision_models()
    torch.manual_seed(4)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / models.SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]
    torch.save(models.squeezenet1_1(weights=None).state_dict(), file)
    return file


def torchvision_models():
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        pytest.skip(f"torchvision: {error}")
    return models


def test_lpips_sees_what_the_mask_leaves(squeeze, case, found):
    features = torchvision_models().squeezenet1_1().eval()
    features.load_state_dict(torch.load(squeeze, weights_only=True))
    lpips = Learned(lpips=True)
    value = lpips(found, case)["pie_lpips"]
    kept = ~case.mask
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])  # LPIPS's own normalisation
    pair = []
    for picture in (found, case.picture):
        x = 2 * (eight_bits(picture) / 255 * kept) - 1
        x = ((x - shift[:, None, None]) / scale[:, None, None])[None]
        layers = []
        for index, layer in enumerate(features.features):
            x = layer(x)
            if index in (1, 4, 7, 9, 10, 11, 12):  # the seven layers that LPIPS reads
                layers.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-8))
        pair.append(layers)
    heads = [head.model[-1] for head in lpips.lpips.net.lins]
    wanted = sum(float(head((a - b).square()).detach().mean()) for head, a, b in zip(heads, *pair, strict=True))
    assert value == pytest.approx(wanted, rel=1e-4) and value > 0
    inside = torch.where(case.mask, torch.ones(()), case.picture)  # what changes under the mask alone is not seen
    assert lpips(inside, case)["pie_lpips"] == pytest.approx(0, abs=1e-7)
    case.mask.fill_(True)
    assert math.isnan(lpips(found, case)["pie_lpips"])


def test_lpips_fetches_nothing(squeeze):
    squeeze.unlink()
    with pytest.raises(FileNotFoundError, match=f"from {squeeze}"):
        Learned(lpips=True)


def test_what_is_missing_is_named(clip, dino, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder: it should hold a CLIPModel"):
        Learned(clip="nowhere")
    with pytest.raises(ValueError, match="holds no ViTModel"):
        Learned(dino=tmp_path)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ImportError, match="LPIPS is torchvision's SqueezeNet"):
        Learned(lpips=True)
