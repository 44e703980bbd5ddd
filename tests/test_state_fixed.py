"""States of fixed-point marches: on and off disk, up and down, always the same bits; wrong use fails."""

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import strategies as own
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import vsvf
from vsvf import Fixed, FixedPointOverflowError, Grid, State, StateFileError, invert, sample
from vsvf.predictors import Predictor, from_ode

GRID = own.sd_grid(60)
DAMPING = "bdia(0.5)"  # sets bits aside


def network(dtype=torch.float64):
    def eps(x, t):
        return torch.tanh(x.to(dtype)) * (1.0 + 0.1 * torch.sin(t / 200.0)).reshape(-1, 1).to(dtype)

    return Predictor(eps, own.Schedule.linear())


@pytest.fixture(scope="module")
def state():
    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3)
    made = sample(network(), x, GRID, DAMPING, arithmetic=Fixed(fraction_bits=30, data_range=10.0))
    assert any(cell.any() for cell in made.tape.values())
    return made


def same(one, other):
    cells = [{row: cell.tolist() for row, cell in s.tape.items() if cell.any()} for s in (one, other)]
    return torch.equal(one.values, other.values) and cells[0] == cells[1]


# ---- files ---------------------------------------------------------------------------------------------------


def test_a_file_keeps_integers_tape_and_record(state, tmp_path):
    state.save(tmp_path / "s")
    loaded = State.load(tmp_path / "s")
    assert same(loaded, state) and loaded.values.dtype == torch.int64 and loaded.record == state.record
    assert set(loaded.tape) == set(state.tape)
    assert all(loaded.tape[row].dtype == state.tape[row].dtype for row in state.tape)


def test_another_process_inverts_to_the_same_bits(state, tmp_path):
    state.save(tmp_path / "s")
    here = invert(network(), state, GRID, DAMPING)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import torch; torch.set_num_threads(1)\n"
        "import vsvf, test_state_fixed as t\n"
        "vsvf.invert(t.network(), vsvf.State.load(sys.argv[2]), t.GRID, t.DAMPING).save(sys.argv[3])\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "s"), str(tmp_path / "there")]
    subprocess.run(command, check=True, timeout=120)
    there = State.load(tmp_path / "there")
    assert same(there, here) and there.record == here.record


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed(state, tmp_path, data):
    path = tmp_path / "s"
    state.save(path)
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    limit = data.draw(st.sampled_from([8, header, len(content)]))  # the length, the header, anywhere
    bit = data.draw(st.integers(0, 8 * limit - 1))
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(bytes(content))
    try:
        loaded = State.load(path)
    except StateFileError:
        return
    assert same(loaded, state) and loaded.record == state.record, "only a flip that changes no content may pass"


def test_every_byte_of_the_integers_and_the_tape_counts(state, tmp_path):
    path = tmp_path / "s"
    state.save(path)
    content = path.read_bytes()
    body = sum(t.nbytes for t in (state.values, *state.tape.values()))
    for place in range(len(content) - body, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(StateFileError, match="damaged"):
            State.load(path)


def test_a_file_cut_short_anywhere_is_refused(state, tmp_path):
    state.save(tmp_path / "s")
    content = (tmp_path / "s").read_bytes()
    for length in range(0, len(content), 13):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(StateFileError):
            State.load(tmp_path / "cut")


@pytest.mark.parametrize(
    ("grid", "formula", "options", "error"),
    [
        (own.sd_grid(59), DAMPING, {}, StateFileError),
        (own.ddpm_grid(60, "smallest"), DAMPING, {}, StateFileError),
        (GRID, "bdia(0.6)", {}, StateFileError),
        (GRID, "belm(2)", {}, StateFileError),
        (GRID, DAMPING, {"arithmetic": "float64"}, ValueError),
        (GRID, DAMPING, {"arithmetic": Fixed(fraction_bits=37, data_range=10.0)}, ValueError),
        (GRID, DAMPING, {"arithmetic": Fixed(fraction_bits=38)}, ValueError),
    ],
)
def test_wrong_use_of_a_state_fails_loudly(state, grid, formula, options, error):
    with pytest.raises(error, match="state"):
        invert(network(), state, grid, formula, **options)


def test_a_state_whose_record_was_changed_is_refused(state):
    for change in ({"exponents": (1.0, 2.0)}, {"key": "0"}):
        record = replace(state.record, scales=replace(state.record.scales, **change))
        with pytest.raises(StateFileError, match="another scale"):
            invert(network(), replace(state, record=record), GRID, DAMPING)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.float64])
def test_integers_of_another_type_are_refused_before_the_first_evaluation(state, dtype):
    def never(x, t):
        raise AssertionError("evaluated")

    converted = replace(state, values=(state.values >> 20).to(dtype))  # small enough for any of them
    with pytest.raises(ValueError, match=r"the state's values are \w+, but a state of fixed numbers holds int64"):
        invert(Predictor(never, own.Schedule.linear()), converted, GRID, DAMPING)


def test_a_float_state_cannot_be_converted_either():
    float_state = sample(network(), torch.ones(1, 2), GRID, "belm(2)")
    with pytest.raises(ValueError, match="the state's values are float16, but a state of float32 numbers holds float32"):
        invert(network(), replace(float_state, values=float_state.values.half()), GRID, "belm(2)")


def test_a_float_state_cannot_become_fixed():
    float_state = sample(network(), torch.ones(1, 2, dtype=torch.float64), GRID, "belm(2)")
    with pytest.raises(ValueError, match="holds float64"):
        invert(network(), float_state, GRID, "belm(2)", arithmetic="fixed")


def test_a_state_goes_on_with_its_own_configuration_only():
    grid, predictor = own.sd_grid(10), network()
    state = sample(predictor, torch.zeros(1, 2), grid, "belm(2)", arithmetic=Fixed(fraction_bits=30))
    for same in (None, "fixed", Fixed(), Fixed(fraction_bits=30)):
        invert(predictor, state, grid, "belm(2)", arithmetic=same)
    for other in (Fixed(fraction_bits=31), Fixed(data_range=2.0), "float64", "float32"):
        with pytest.raises(ValueError, match="the state"):
            invert(predictor, state, grid, "belm(2)", arithmetic=other)


def test_another_schedule_is_another_scale_and_refused():
    grid = Grid.from_sigma_bar(np.linspace(0.1, 2.0, 11))
    state = sample(network(), torch.zeros(1, 2), grid, "belm(2)", arithmetic="fixed")
    with pytest.raises(StateFileError, match="another schedule"):
        invert(from_ode(lambda x, s: x), state, grid, "belm(2)")


# ---- up and down ---------------------------------------------------------------------------------------------


class UpAndDown(RuleBasedStateMachine):
    """March to any node, save, load, go on: each node always shows the same bits."""

    @initialize(
        name=st.sampled_from(own.BIDIRECTIONAL),
        grid=own.grids(min_steps=6, max_steps=30, ratio=1.4, zero=False),
        dtype=st.sampled_from(own.DTYPES),
        x=own.tensors(shapes=((1, 2), (2, 3), (3, 7))),
        noise_first=st.booleans(),
    )
    def begin(self, name, grid, dtype, x, noise_first):
        self.name, self.grid, self.predictor = name, grid, network(getattr(torch, dtype))
        self.seen, self.state = {}, None
        march = sample if noise_first else invert
        try:
            self.state = march(self.predictor, x, grid, name, arithmetic="fixed", stop=grid.steps if noise_first else 0)
        except (ValueError, FixedPointOverflowError):  # scales that jump too far; the start itself out of range
            return
        self.look()

    def look(self):
        """Compare with what was seen at this window before."""
        place = self.state.record.window
        if place in self.seen:
            assert same(self.state, self.seen[place])
        self.seen[place] = self.state

    @precondition(lambda self: getattr(self, "state", None) is not None)
    @rule(data=st.data())
    def down(self, data):
        self.go(sample, data.draw(st.integers(0, self.state.record.node)))

    @precondition(lambda self: getattr(self, "state", None) is not None)
    @rule(data=st.data())
    def up(self, data):
        self.go(invert, data.draw(st.integers(self.state.record.node, self.grid.steps)))

    def go(self, march, stop):
        try:
            self.state = march(self.predictor, self.state, self.grid, self.name, stop=stop)
        except FixedPointOverflowError:
            return  # the state stays as it was, and is still good
        except ValueError as error:
            assert "lies behind the state" in str(error)
            return
        self.look()

    @precondition(lambda self: getattr(self, "state", None) is not None)
    @rule()
    def save_and_load(self):
        with tempfile.TemporaryDirectory() as folder:
            self.state.save(Path(folder) / "s")
            loaded = State.load(Path(folder) / "s")
        assert same(loaded, self.state) and loaded.record == self.state.record
        self.state = loaded


TestUpAndDown = UpAndDown.TestCase
TestUpAndDown.settings = settings(max_examples=100, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_public_names_are_there():
    assert vsvf.Fixed is Fixed and issubclass(FixedPointOverflowError, vsvf.VsvfError)
