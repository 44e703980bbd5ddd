"""What a damaged or hostile folder of weights can make load_model do: nothing but refuse."""

import json
import pickle

import pytest
from diffusers_models import small_unet

from vsvf.integrations.diffusers import load_model

NAME = "diffusion_pytorch_model"


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.fixture
def folder(tmp_path):
    """A folder whose weights are in shards: this one, and an index of it."""
    small_unet().save_pretrained(tmp_path / "unet")
    whole = tmp_path / "unet" / f"{NAME}.safetensors"
    shard = whole.rename(tmp_path / "unet" / f"{NAME}-00001-of-00001.safetensors")
    names = {key: shard.name for key in small_unet().state_dict()}
    index = tmp_path / "unet" / f"{NAME}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return tmp_path / "unet"


def point_to(folder, name):
    index = folder / f"{NAME}.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], name)
    index.write_text(json.dumps(content))


def test_shards_are_read(folder):
    assert not load_model(folder).training


@pytest.mark.parametrize("name", [f"{NAME}.bin", "weights.pt", "x.safetensors.pkl"])
def test_a_pickle_that_an_index_names_is_not_opened(folder, tmp_path, name):
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    point_to(folder, name)
    with pytest.raises(ValueError, match=r"only \.safetensors files of its own folder"):
        load_model(folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["../other.safetensors", "/tmp/other.safetensors", 3, None])
def test_files_elsewhere_are_not_read(folder, name):
    point_to(folder, name)
    with pytest.raises(ValueError, match=r"names the shard|not an index of shards"):
        load_model(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}', '{"weight_map": ["x"]}', "\0"])
def test_a_damaged_index_is_named(folder, content):
    (folder / f"{NAME}.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json (is not an index of shards|names no shards)"):
        load_model(folder)


def test_a_missing_shard_is_named(folder):
    point_to(folder, "gone.safetensors")
    with pytest.raises(FileNotFoundError, match=r"1 of 1 shards are missing, the first is gone\.safetensors"):
        load_model(folder)
