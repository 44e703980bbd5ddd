"""`vsvf fid`: samples that neither kills nor the number of processes change, and what is made of them."""

import errno
import json
import os
import signal
import socket
import time

import numpy as np
import pytest
import torch

from vsvf.apps import model_names, models
from vsvf.apps.frechet import Moments, frechet
from vsvf.apps.generate import FAILED, Samples
from vsvf.apps.images import load_image
from vsvf.cli import main
from vsvf.predictors import Predictor
from vsvf.schedule import Schedule

SMALL = ("--count", 20, "--batch", 8, "--steps", 2, "--formula", "ddim")
KILLS = int(os.environ.get("VSVF_KILLS", "6"))  # 30 for the long test
TINY = ["fid", "--model", "tiny", "--features", "digits", "--count", "22", "--batch", "4", "--steps", "3", "4"]
TINY += ["--formula", "ddim", "belm(2)"]


@pytest.fixture
def tiny(monkeypatch):
    """A model of a few multiplications whose last bits depend on the batch, slow enough to be killed."""
    mix = torch.randn(784, 784, generator=torch.Generator().manual_seed(1)) / 28.0

    def network(x, t):
        time.sleep(0.002)
        return torch.tanh(x.flatten(1) @ mix).reshape(x.shape)

    def make(dtype, device):
        digits = models.digits(dtype, device)
        fields = {**vars(digits), "name": "tiny", "fingerprint": "tiny"}
        fields["predict"] = lambda conditions, guidance: Predictor(network, Schedule.linear(), dtype=dtype)
        return models.Model(**fields)

    monkeypatch.setitem(model_names.MODELS, "tiny", make)


def start(folder, world):
    """The command in `world` forked processes, as torchrun starts them; their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ids = []
    for rank in range(world):
        child = os.fork()
        if child:
            ids.append(child)
            continue
        try:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            os._exit(main([*TINY, "--out", str(folder)]))
        finally:
            os._exit(77)
    return ids


def finish(ids):
    for child in ids:
        assert os.waitpid(child, 0)[1] == 0


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "run.json"}


@pytest.fixture
def undisturbed(tiny, tmp_path):
    """The files of a run that nothing disturbed, and the seconds it took."""
    began = time.monotonic()
    finish(start(tmp_path / "whole", 1))
    return content(tmp_path / "whole"), time.monotonic() - began


def test_the_number_of_processes_does_not_change_a_bit(undisturbed, tmp_path):
    assert sum(name.endswith(".png") for name in undisturbed[0]) == 4 * 22
    for world in (2, 3):
        finish(start(tmp_path / f"run{world}", world))
        assert content(tmp_path / f"run{world}") == undisturbed[0]


@pytest.mark.parametrize("world", [1, 2])
def test_killed_at_random_moments_and_resumed_the_files_are_the_same(undisturbed, tmp_path, world):
    whole, seconds = undisturbed
    rng = np.random.default_rng(world)
    kills = rounds = 0
    while kills < KILLS:
        folder = tmp_path / f"round{rounds}"
        ids = start(folder, world)
        time.sleep(rng.uniform(0.0, 0.7 * seconds))
        alive = [child for child in ids if os.waitpid(child, os.WNOHANG) == (0, 0)]
        for child in alive:
            os.kill(child, signal.SIGKILL)
        for child in alive:
            os.waitpid(child, 0)
        kills += bool(alive)
        if not alive:
            assert content(folder) == whole
            rounds += 1
    finish(start(tmp_path / f"round{rounds}", world))
    assert content(tmp_path / f"round{rounds}") == whole


# ---- in one process --------------------------------------------------------------------------------------------


def test_the_pictures_are_samples_of_their_seeds_and_labels(vsvf, tmp_path):
    import vsvf as package

    result = vsvf("fid", *SMALL, "--seed", 100, "--json")
    assert result.code == 0, result.err
    model = models.digits()
    grid = package.Grid.from_schedule(model.schedule, 2, "leading", "smallest")
    noise = models.noise_of_seeds(model, range(108, 116), float(grid.sigma_bar[-1]))
    by_hand = package.sample(model.predict([i % 10 for i in range(8, 16)], 1.0), noise, grid, "ddim", arithmetic="float32").x
    kept = torch.cat([load_image(f"quality/ddim-2/{i:06d}.png", mode="L") for i in range(8, 16)])
    assert float((kept - by_hand.clamp(-1, 1)).abs().max()) <= 1 / 255 + 1e-6


def test_the_distance_is_of_the_files_from_the_reference(vsvf, tmp_path):
    result = vsvf("fid", *SMALL, "--json")
    assert result.code == 0, result.err
    document = result.json
    assert document["title"].startswith("Fréchet distance") and document["reference_n"] == 10_000
    assert document["reference_to_itself"] < 1e-6
    (found,) = document["results"]
    from vsvf.apps.features import digits_features

    pictures = torch.cat([load_image(path, mode="L") for path in sorted((tmp_path / "quality" / "ddim-2").glob("*.png"))])
    reference = Moments.load(models.digits().reference)
    assert found["value"] == pytest.approx(frechet(Moments.of(digits_features().of([pictures])), reference), rel=1e-6)
    assert found["error"] > 0.0 and found["nfe"] == 2 and found["n"] == 20
    table = (tmp_path / "quality" / "table.md").read_text()
    assert "| 10 | 17.45 | 87.11 | 12.27 | 10.98 | 18.82 |" in table


def test_a_folder_of_pictures_is_a_reference(vsvf, tmp_path):
    assert vsvf("fid", *SMALL, "--out", "one").code == 0
    result = vsvf("fid", *SMALL, "--out", "two", "--reference", "one/ddim-2", "--json")
    assert result.code == 0, result.err
    assert result.json["results"][0]["value"] < 1e-6 and result.json["reference_n"] == 20
    again = vsvf("rerun", "two", "--json")
    assert again.code == 0 and again.json["differing"] == []


def test_a_damaged_reference_is_refused_before_a_folder_is_made(fails, tmp_path):
    (tmp_path / "reference.safetensors").write_bytes(b"not moments")
    fails(1, "reference.safetensors", "fid", *SMALL, "--reference", "reference.safetensors")
    fails(1, "no-such-file", "fid", *SMALL, "--reference", "no-such-file")
    assert not (tmp_path / "quality").exists()


def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(vsvf, tiny, tmp_path, monkeypatch):
    from vsvf.apps import generate

    original, written = generate.save_image, []

    def full(picture, path):
        if len(written) == 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        original(picture, path)

    with monkeypatch.context() as patch:
        patch.setattr(generate, "save_image", full)
        result = vsvf(*TINY, "--out", "run")
    assert result.code == 1
    assert "the disk is full; every picture so far is whole" in result.err.splitlines()[-1]
    assert len(list((tmp_path / "run").rglob("*.png"))) == 7
    assert vsvf(*TINY, "--out", "run").code == 0
    assert vsvf(*TINY, "--out", "other").code == 0
    assert content(tmp_path / "run") == content(tmp_path / "other")


def test_a_changed_model_in_a_resumed_folder_is_refused(vsvf, fails, tmp_path):
    assert vsvf("fid", *SMALL, "--out", "run").code == 0
    head = json.loads((tmp_path / "run" / "run.json").read_text())
    head["settings"]["weights"] = "others"
    (tmp_path / "run" / "run.json").write_text(json.dumps(head))
    fails(1, 'weights "others" then', "fid", *SMALL, "--out", "run")


def test_a_march_that_overflows_has_no_pictures_and_an_infinite_distance(tmp_path, tiny):
    model = model_names.MODELS["tiny"](torch.float32, "cpu")
    lost = Predictor(lambda x, t: 1e30 * x, Schedule.linear())
    model = models.Model(**{**vars(model), "predict": lambda conditions, guidance: lost})
    from vsvf.grid import Grid

    grid = Grid.from_schedule(model.schedule, 5, "leading", "smallest")
    job = Samples(model, grid, "ddim", range(4), None, 1.0, 2, tmp_path / "x")
    job.generate()
    assert job.failed and [path.name for path in (tmp_path / "x").iterdir()] == [FAILED]


def test_bad_input_is_one_clear_line(fails, tmp_path):
    fails(2, "--count 10 is too few", "fid", "--count", 10)
    fails(2, "--beside nonsense is not known", "fid", "--beside", "nonsense")
    fails(1, "features='resnet' is not known", "fid", *SMALL, "--features", "resnet")
    fails(1, "no such file", "fid", *SMALL, "--features", "inception:none.pth")
    fails(1, "digits' own reference has the features digits-classifier", "fid", *SMALL, "--features", "scenes")
    assert not (tmp_path / "quality").exists()
    (tmp_path / "captions.txt").write_text("one\ntwo\n")
    fails(1, "holds 2 captions for --count 20 pictures", "fid", *SMALL, "--captions", "captions.txt")
