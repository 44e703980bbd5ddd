import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import strategies as own
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from vsvf import State, StateFileError, invert, sample

GRID = own.sd_grid(6)


def make(name="belm(2)", arithmetic="float32"):
    x = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).reshape(2, 6)
    return sample(own.tanh_network(), x, own.sd_grid(6, own.final(name)), name, arithmetic=arithmetic, starter="ddim")


@pytest.fixture
def state():
    return make()


@pytest.fixture
def path(tmp_path, state):
    state.save(tmp_path / "a.state")
    return tmp_path / "a.state"


@pytest.mark.parametrize("name", own.METHODS)
def test_a_file_gives_back_every_bit(name, tmp_path):
    if name in own.IMPLICIT:
        pytest.skip("too coarse a grid for the fixed-point iteration")
    state = make(name)
    state.save(tmp_path / "s")
    loaded = State.load(str(tmp_path / "s"))
    assert torch.equal(loaded.values, state.values)
    assert loaded.record == state.record
    assert loaded.nfe == state.nfe


@pytest.mark.parametrize("arithmetic", own.DTYPES)
def test_every_dtype_is_kept(arithmetic, tmp_path):
    state = make(arithmetic=arithmetic)
    state.save(tmp_path / "s")
    assert State.load(tmp_path / "s").values.dtype == getattr(torch, arithmetic)


def test_a_loaded_state_goes_on_as_if_it_had_never_stopped(path, state):
    there = invert(own.tanh_network(), state, GRID, "belm(2)")
    assert torch.equal(invert(own.tanh_network(), State.load(path), GRID, "belm(2)").values, there.values)


def test_a_loaded_state_belongs_to_its_grid_and_formula(path):
    for grid, name in ((own.sd_grid(7), "belm(2)"), (GRID, "bdia(1)")):
        with pytest.raises(StateFileError, match="belongs to belm"):
            invert(own.tanh_network(), State.load(path), grid, name)


def test_a_state_whose_window_of_values_does_not_fit_is_refused(state):
    short = replace(state, values=state.values[:1])
    with pytest.raises((StateFileError, ValueError)):
        invert(own.tanh_network(), short, GRID, "belm(2)")


def test_a_truncated_file_is_refused(path, tmp_path):
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        cut = tmp_path / "cut"
        cut.write_bytes(content[:length])
        with pytest.raises(StateFileError):
            State.load(cut)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.data())
def test_a_flipped_bit_is_noticed(path, state, data):
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << (bit % 8)
    broken = path.with_name("broken")
    broken.write_bytes(bytes(content))
    try:
        loaded = State.load(broken)
    except StateFileError:
        return
    # a flip that the format does not care about (padding of the header) must change nothing
    assert torch.equal(loaded.values, state.values) and loaded.record == state.record


def test_every_flip_in_the_values_is_noticed(path, state):
    content = path.read_bytes()
    size = state.values.numel() * state.values.element_size()
    for place in range(len(content) - size, len(content)):
        broken = bytearray(content)
        broken[place] ^= 1
        path.with_name("broken").write_bytes(bytes(broken))
        with pytest.raises(StateFileError, match="damaged"):
            State.load(path.with_name("broken"))


def test_appended_bytes_are_noticed(path):
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(StateFileError):
        State.load(path)


def test_an_edited_record_is_noticed(path):
    content = path.read_bytes()
    edited = content.replace(b"sampling", b"SAMPLING")
    assert edited != content
    path.write_bytes(edited)
    with pytest.raises(StateFileError, match="damaged"):
        State.load(path)


SAVES = """
import sys, torch, vsvf
from vsvf.predictors import ideal_denoiser
noise = torch.ones(1, 2, dtype=torch.float64)
grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), 8)
vsvf.sample(ideal_denoiser(torch.zeros(1, 2), std=1.0), noise, grid, "edict(0.6)", arithmetic="fixed", warn=False).save(sys.argv[1])
"""


def test_equal_states_are_equal_files_in_any_process(tmp_path):
    contents = []
    for seed in ("1", "2", "3"):
        path = tmp_path / f"state{seed}"
        subprocess.run([sys.executable, "-c", SAVES, str(path)], check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] == contents[2]


def test_a_file_of_an_older_format_is_refused_by_name(path, state, tmp_path):
    save_file({"values": state.values}, tmp_path / "older", metadata={"format": "vsvf-state-2", "record": "{}", "sha256": "0"})
    with pytest.raises(StateFileError, match="not a vsvf-state-3 file but vsvf-state-2"):
        State.load(tmp_path / "older")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("not a state")
    (tmp_path / "empty").write_bytes(b"")
    save_file({"values": torch.ones(2)}, tmp_path / "tensors")
    save_file({"other": torch.ones(2)}, tmp_path / "other")
    (tmp_path / "json").write_text(json.dumps({"a": 1}))
    for name in ("text", "empty", "tensors", "other", "json"):
        with pytest.raises(StateFileError, match=name):
            State.load(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        State.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        State.load(tmp_path)


def test_a_missing_folder_is_named(state, tmp_path):
    with pytest.raises(FileNotFoundError, match="folder"):
        state.save(tmp_path / "no" / "where")


def test_saving_replaces_the_old_file(path, tmp_path):
    new = make("bdia(1)")
    new.save(path)
    assert State.load(path).record.formula == "bdia(1)"
    assert os.listdir(tmp_path) == ["a.state"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(path, state, tmp_path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        make("bdia(1)").save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.state"]


def test_a_write_that_fails_half_way_leaves_nothing(state, tmp_path, monkeypatch):
    fdopen = os.fdopen

    class Full:
        def __init__(self, *arguments):
            self.file = fdopen(*arguments)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[:10])
            raise OSError("no space left on device")

    monkeypatch.setattr(os, "fdopen", Full)
    with pytest.raises(OSError, match="no space"):
        state.save(tmp_path / "new")
    assert os.listdir(tmp_path) == []


def test_saved_files_have_ordinary_permissions(path):
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_state_from_a_strided_tensor_is_saved_whole(tmp_path, state):
    strided = replace(state, values=state.values.transpose(1, 2))
    strided.save(tmp_path / "s")
    assert torch.equal(State.load(tmp_path / "s").values, strided.values)
