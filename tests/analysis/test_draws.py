"""Members drawn at random: the same for the same seed, judged as the zoo judges them, and taken up again."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import draws
from vsvf import formulas


def test_the_recommended_members_are_among_the_draws():
    chance = np.random.default_rng(7)
    members = [draws.draw_log_snr(number, chance) for number in range(60)]
    assert members[23] == "power_fitted_belm(0.7, (0.29, 0.86), 1.43, 1.06)"
    assert members[53] == "power_fitted_belm(0.9, (0.423, 0.79), 0.65, 1.09)"  # used with 0.42
    chance = np.random.default_rng(3)
    members = [draws.draw_leading(number, chance) for number in range(40)]
    assert members[30] == "corrected(power_fitted_belm(0.95, 0.877, 0.94, 0.52), 0.6, 2.0)"


@pytest.mark.parametrize("spacing", draws.DRAWS)
def test_every_draw_is_a_formula(spacing):
    chance = np.random.default_rng(0)
    for number in range(30):
        assert formulas.by_name(draws.DRAWS[spacing](number, chance)).steps >= 3


def test_a_member_is_judged_by_ratios_and_a_bad_one_is_left(monkeypatch):
    among = draws.cases("log_snr", ("mixture",), (10,))
    assert [case.schedule for case in among] == ["DDPM", "Stable Diffusion"]
    own = draws.judged("belm(2)", "log_snr", among)
    assert own is not None and own[-2:] == pytest.approx([1.0, 1.0])  # O-BELM's inversion over its own
    assert own[0] <= own[1] and own[2] == pytest.approx(own[0])  # one number of evaluations: its mean is the mean
    monkeypatch.setattr(draws, "FIRST", 2)
    monkeypatch.setattr(draws, "BAD", {"log_snr": 0.5 * own[0]})
    assert draws.judged("belm(2)", "log_snr", among) is None


def test_a_run_goes_on_and_judges_nothing_twice(tmp_path, monkeypatch):
    first = draws.main(tmp_path, "leading", 5, 2, ("mixture",), (10,))
    assert len(first) == 2

    def never(*args):
        raise AssertionError("judged again")

    monkeypatch.setattr(draws, "judged", never)
    again = draws.main(tmp_path, "leading", 5, 2, ("mixture",), (10,))
    assert again.keys() == first.keys()
    for member, numbers in first.items():
        assert again[member] == pytest.approx(numbers, rel=1e-3)  # as the file has them
