"""The report's pages: what a study saves is on them, tables fit, nothing is fetched; and the one line of progress."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import pytest

common = pytest.importorskip("analysis.common", reason="run from the repository")
from browser import PROGRAM, Browser  # noqa: E402

from analysis import mathml, progress  # noqa: E402
from analysis.report import write_report  # noqa: E402
from vsvf.symbolic import derive  # noqa: E402


class Links(HTMLParser):
    """All addresses that a page refers to, and its elements in order."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        self.ids |= {value or "" for name, value in attrs if name == "id"}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A report of one study that saves one thing of every kind; returns its folder."""
    figure, axis = plt.subplots()
    axis.plot([1, 2], [1, 2])
    common.save_figure(tmp_path, "probe_lines", "Lines & dots.", figure)
    figure, axis = plt.subplots()
    axis.imshow([[0.0, 1.0]])
    common.save_figure(tmp_path, "probe_pixels", "Pixels.", figure)
    yes, no = common.Mark("✓"), common.Mark("✗", "K grows like 9.9^N")
    header = ["method", "K | sampling", "K | inversion", "stable"]
    common.save_table(tmp_path, "probe_table", "A table.", header, [["a<b", 1.5, 1.5e90, yes], ["c", float("nan"), 2.0, no]])
    common.save_formula(tmp_path, "probe_formula", "A formula.", mathml.equations(derive(steps=2)))
    common.save_answer(tmp_path, "probe", "It is 2e-13.")
    common.save_number(tmp_path, "probe_number", "9.9", "is a number.", "probe_table")
    module = ModuleType("analysis.probe", "What is it?\n\nFirst part.\n\nSecond part.\n")
    write_report(tmp_path, [module, ModuleType("analysis.absent", "Not run.")])
    return tmp_path


def test_pages_refer_to_files_beside_them_and_to_no_host(study: Path) -> None:
    for page in ("index.html", "probe.html"):
        for address in Links(study / page).addresses:
            if address == "data:,":
                continue
            file, _, anchor = address.partition("#")
            assert (study / file).is_file(), address
            assert not anchor or anchor in Links(study / file).ids, address


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
def test_pages_open_without_a_complaint_and_fit_a_phone(study: Path) -> None:
    with Browser() as browser:
        for page in ("index.html", "probe.html"):
            for width in (1280, 400):
                browser.open((study / page).as_uri(), width)
                assert browser.complaints() == []
                assert browser.value("document.documentElement.scrollWidth") <= width


def test_the_summary_has_the_number_the_question_and_the_answer_and_leads_to_the_table(study: Path) -> None:
    page = (study / "index.html").read_text(encoding="utf-8")
    assert '<b>9.9</b>is a number. <a href="probe.html#probe_table">' in page
    assert "What is it?" in page and "It is 2·10<sup>−13</sup>." in page
    assert "absent" not in page


def test_a_study_page_has_its_answer_first_then_what_was_saved_in_order(study: Path) -> None:
    page = (study / "probe.html").read_text(encoding="utf-8")
    order = [
        page.index(text) for text in ("What is it?", "It is 2·10", "First part.", "Lines &amp; dots.", "A table.", "A formula.")
    ]
    assert order == sorted(order)
    assert page.count("<math") == 4


def test_lines_are_svg_and_pictures_png(study: Path) -> None:
    assert ElementTree.parse(study / "probe_lines.svg").getroot().tag.endswith("svg")
    assert (study / "probe_pixels.png").read_bytes()[1:4] == b"PNG"


def test_tables_group_columns_number_their_notes_and_keep_words_in_the_csv(study: Path) -> None:
    page = (study / "probe.html").read_text(encoding="utf-8")
    assert "<th></th><th colspan=2>K</th><th></th>" in page
    assert "<td>a&lt;b</td><td>1.5</td><td class=large>1.5·10<sup>90</sup></td>" in page
    assert '<td class="mark">✗<sup class="note">a</sup></td>' in page and "<li>K grows like 9.9<sup>N</sup></li>" in page
    header, *rows = csv.reader((study / "probe_table.csv").open(encoding="utf-8"))
    assert header == ["method", "K, sampling", "K, inversion", "stable"]
    assert rows[1] == ["c", "-", "2", "✗ (K grows like 9.9^N)"]


def test_long_names_break_where_they_are_joined_and_not_over_the_next_column(tmp_path: Path) -> None:
    rows = [["mccallum_foster(0.999)", 1.0], ["edict(0.93), state X", 2.0]]
    common.save_table(tmp_path, "probe_names", "Names.", ["method", "K"], rows)
    write_report(tmp_path, [ModuleType("analysis.probe", "What?")])
    page = (tmp_path / "probe.html").read_text(encoding="utf-8")
    assert "mccallum_<wbr>foster<wbr>(0.999)" in page and "edict<wbr>(0.93), state X" in page


def test_saving_again_replaces_and_moves_to_the_end(study: Path) -> None:
    common.save_answer(study, "probe", "It is 3.")
    entries = json.loads((study / "probe.json").read_text(encoding="utf-8"))
    assert [entry["caption"] for entry in entries if entry["kind"] == "answer"] == ["It is 3."]


@pytest.mark.parametrize("k", [2, 3, 4])
def test_formulas_in_distances_are_well_formed_and_those_derived(k: int) -> None:
    lines = mathml.in_distances(derive(steps=k))
    assert len(lines) == k + (k - 1) + 1
    for line in lines:
        assert ElementTree.fromstring(line.replace("&InvisibleTimes;", "")).tag == "math"
        assert len(line) < 2000


def test_the_display_draws_one_line_and_forgets_what_is_finished() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    channel, stream = multiprocessing.Queue(), Terminal()
    display = progress.Display(channel, 2, stream)
    channel.put(("order", "toy problems", 3, 29))
    while channel.empty():
        pass
    display.draw()
    assert "0/2 done" in stream.getvalue() and "order: toy problems 3/29" in stream.getvalue()
    display.done("order", 12.3, 6.6)
    channel.put(("order", "late", 4, 29))
    while channel.empty():
        pass
    stream.truncate(0)
    display.draw()
    assert "1/2 done" in stream.getvalue() and "order" not in stream.getvalue()


def test_without_a_terminal_only_finished_studies_are_printed() -> None:
    stream = io.StringIO()
    with progress.Display(multiprocessing.Queue(), 1, stream) as display:
        display.done("order", 12.3, 6.6)
    assert stream.getvalue() == "[1/1] order: 12 s (7 s of a core)\n"


def test_steps_hands_on_every_item_and_reports_through_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    channel: multiprocessing.Queue = multiprocessing.Queue()
    monkeypatch.setattr(progress, "_channel", channel)
    monkeypatch.setattr(progress, "_study", "order")
    assert list(progress.steps("ab", "letters")) == ["a", "b"]
    assert channel.get(timeout=5) == ("order", "letters", 0, 2)
    assert channel.get(timeout=5) == ("order", "letters", 1, 2)
