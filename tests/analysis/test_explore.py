"""The view of roots, exponent and grid: its script's numbers are the package's, it follows its controls by keyboard, it fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import PROGRAM, Browser

explore = pytest.importorskip("analysis.explore", reason="run from the repository")
from analysis.report import write_report  # noqa: E402
from vsvf import formulas  # noqa: E402
from vsvf.formulas.root_placed import root_placed_belm, roots_at  # noqa: E402

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")

OTHERS = (
    explore.settings((10 / 60,), 0.0, 1.7, 2),
    explore.settings((20 / 60, 1.0), 2.5, 1.0, 3, modulus=0.7),
    explore.settings((6 / 60, 59 / 60), 1.35, 3.0, 1, modulus=0.93),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explore")
    explore.main(folder)
    write_report(folder, [explore])
    return folder / "explore.html"


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def shown(browser: Browser) -> dict[str, dict[str, float]]:
    """The numbers on the page, with all their digits."""
    ids = [(what, way) for what in ("K", "E", "reaction") for way in ("sampling", "inversion")]
    found: dict[str, dict[str, float]] = {"sampling": {}, "inversion": {}}
    for what, way in ids:
        found[way][what] = float(browser.value(f"document.getElementById('{what}_{way}').value"))
    return found


def press(browser: Browser, control: str, key: str, times: int = 1) -> None:
    """Keys on a control, as somebody without a mouse presses them."""
    browser.value(f"document.getElementById('{control}').focus()")
    code = {"ArrowLeft": 37, "ArrowRight": 39, "ArrowUp": 38, "ArrowDown": 40, "Home": 36, "End": 35}[key]
    for _ in range(times):
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


def test_named_members_are_the_formulas_of_their_names() -> None:
    for name, chosen in explore.MEMBERS.items():
        grid = explore.grid_of(next(iter(explore.GRIDS)), 20)
        plan, own = formulas.by_name(name.split(",")[0]).plan(grid), explore.formula_of(chosen).plan(grid)
        assert own.a == pytest.approx(plan.a, rel=1e-9) and own.c == pytest.approx(plan.c, rel=1e-9, abs=1e-12), name


def test_the_script_computes_what_the_package_computes(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), 1280)
    stds = json.dumps(explore.DATA_STDS.tolist())
    for name in explore.GRIDS:
        for steps in (10, 50):
            grid = explore.grid_of(name, steps)
            for chosen in (*explore.MEMBERS.values(), *OTHERS):
                expression = f"rootPlaced.study({json.dumps(grid.sigma_bar.tolist())}, {json.dumps(chosen)}, {stds})"
                found, expected = browser.value(expression), explore.study(explore.formula_of(chosen), grid)
                for way in ("sampling", "inversion"):
                    assert found[way] == pytest.approx(expected[way], rel=1e-6), (name, steps, chosen, way)


def test_a_control_moved_by_keyboard_changes_the_numbers_to_those_of_python(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), 400)
    grid = explore.grid_of(next(iter(explore.GRIDS)), explore.SHOWN)
    before = shown(browser)
    assert before["inversion"] == pytest.approx(explore.study(formulas.stable_belm(3), grid)["inversion"], rel=1e-6)
    press(browser, "exponent", "ArrowRight", 4)  # 1.00 to 1.20
    press(browser, "angle1", "ArrowLeft", 5)  # 45/60 to 40/60
    after = shown(browser)
    expected = explore.study(root_placed_belm(roots_at((40 / 60,)), 1.2, 1.0, 3), grid)
    for way in ("sampling", "inversion"):
        assert after[way] == pytest.approx(expected[way], rel=1e-6)
        assert after[way]["K"] != pytest.approx(before[way]["K"], rel=1e-3)
    assert browser.value("document.getElementById('member').value") == "own"
    text = browser.value("document.getElementById('python').textContent")
    formula = eval(text, {"root_placed_belm": root_placed_belm, "roots_at": roots_at})
    assert explore.study(formula, grid) == {way: pytest.approx(after[way], rel=1e-6) for way in after}


def test_the_grid_and_its_steps_are_chosen_by_keyboard_too(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), 1280)
    press(browser, "grid", "ArrowDown", 2)
    press(browser, "count", "ArrowDown", 1)
    chosen = list(explore.GRIDS)[2]
    assert browser.value("document.getElementById('grid').value") == chosen
    grid = explore.grid_of(chosen, explore.STEPS[explore.STEPS.index(explore.SHOWN) + 1])
    expected = explore.study(formulas.stable_belm(3), grid)
    assert shown(browser)["sampling"] == pytest.approx(expected["sampling"], rel=1e-6)


def test_two_pairs_at_one_place_are_refused_in_words_and_every_setting_fits_a_phone(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), 400)
    press(browser, "steps_k", "ArrowDown", 2)
    assert browser.value("document.getElementById('steps_k').value") == "5"
    assert browser.value("document.getElementById('K_sampling') !== null")
    for control in ("angle1", "angle2"):
        press(browser, control, "Home")
    assert "Two roots at one place" in browser.value("document.getElementById('said').textContent")
    assert browser.value("document.getElementById('K_sampling') === null")
    press(browser, "modulus", "Home")
    press(browser, "angle2", "End")
    assert browser.value("document.getElementById('K_sampling') !== null")
    assert browser.value("document.documentElement.scrollWidth") <= 400
    assert browser.complaints() == []
    assert [address for address in browser.requests() if not address.startswith(("file:", "data:", "about:"))] == []


def test_every_control_has_a_label(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), 1280)
    unlabelled = "[...document.querySelectorAll('form input, form select')].filter(c => !c.labels.length).map(c => c.id)"
    assert browser.value(unlabelled) == []
