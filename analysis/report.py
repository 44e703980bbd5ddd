"""The report: a summary of key numbers, and a page per study with its question, its answer, its figures and its tables.

Pages are plain files beside the figures that they show: they work without a server and ask nothing of other hosts.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from string import ascii_lowercase
from types import ModuleType
from typing import Any

Entry = dict[str, Any]

LONG = 30  # rows beyond which a table is folded
PAGE = 400  # letters of a cell beyond which it is folded too
LINE = 40  # letters beyond which a cell asks for a wide column


def write_report(out: Path, studies: Sequence[ModuleType]) -> Path:
    """Write out/index.html and out/<study>.html for every study that left a manifest in `out`; returns the former."""
    found: dict[str, tuple[str, str, list[Entry]]] = {}
    for study in studies:
        key = study.__name__.rsplit(".", 1)[-1]
        manifest = out / f"{key}.json"
        if manifest.exists():
            question, _, text = (study.__doc__ or key).strip().partition("\n")
            found[key] = (question, text, json.loads(manifest.read_text(encoding="utf-8")))
    for key, (question, text, entries) in found.items():
        (out / f"{key}.html").write_text(_page(question, _study(key, question, text, entries), list(found), key), encoding="utf-8")
    path = out / "index.html"
    path.write_text(_page("vsvf: what the samplers do, measured", _summary(found), list(found), "index"), encoding="utf-8")
    return path


def _page(title: str, body: str, keys: list[str], here: str) -> str:
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    links = "".join(
        f'<a href="{key}.html"{" aria-current=page" if key == here else ""}>{"summary" if key == "index" else key}</a>'
        for key in ("index", *keys)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{html.escape(title)}</title><link rel="icon" href="data:,"><style>\n{style}</style></head>\n'
        f"<body><header><nav>{links}</nav></header>\n<main>{body}</main></body></html>\n"
    )


def _summary(found: dict[str, tuple[str, str, list[Entry]]]) -> str:
    numbers = [(key, entry) for key, (_, _, entries) in found.items() for entry in entries if entry["kind"] == "number"]
    cards = "".join(
        f"<li><b>{_scientific(entry['value'])}</b>{_scientific(entry['caption'])} "
        f'<a href="{key}.html#{entry["see"]}">{key}</a></li>'
        for key, entry in numbers
    )
    pages = ""
    for key, (question, _, entries) in found.items():
        answer = "".join(entry["caption"] for entry in entries if entry["kind"] == "answer")
        pages += f'<li><a href="{key}.html">{html.escape(question)}</a><br>{_scientific(answer)}</li>'
    return (
        "<h1>vsvf: what the samplers do, measured</h1>"
        "<p>Diffusion sampling solves an ordinary differential equation; exact inversion retraces the solver's steps from an image "
        "back to its noise. Every number below was computed by the studies of this report, on a trained network of handwritten "
        "digits, on ideal denoisers, or from the formulas themselves. Each links to where it comes from.</p>"
        f'<ul class="numbers">{cards}</ul><h2>Questions and answers</h2><ul class="pages">{pages}</ul>'
    )


def _study(key: str, question: str, text: str, entries: list[Entry]) -> str:
    answers = "".join(f'<p class="answer">{_scientific(e["caption"])}</p>' for e in entries if e["kind"] == "answer")
    paragraphs = "".join(f"<p>{html.escape(' '.join(p.split()))}</p>" for p in text.split("\n\n") if p.strip())
    closed = any(entry["kind"] == "view" for entry in entries)  # what can be tried stands on the first screen
    method = (
        f"<details{'' if closed else ' open'}><summary>How it was measured</summary>{paragraphs}</details>" if paragraphs else ""
    )
    shown = {"figure": _figure, "table": _table, "formula": _formula, "view": _view}
    body = "".join(shown[entry["kind"]](entry) for entry in entries if entry["kind"] in shown)
    return f'<p class="study">{key}</p><h1>{html.escape(question)}</h1>{answers}{method}{body}'


def _figure(entry: Entry) -> str:
    caption = html.escape(entry["caption"])
    return (
        f'<figure id="{entry["name"]}"><figcaption>{caption}</figcaption>'
        f'<a href="{entry["file"]}"><img alt="{caption}" src="{entry["file"]}"></a></figure>'
    )


def _formula(entry: Entry) -> str:
    return (
        f'<figure id="{entry["name"]}"><figcaption>{html.escape(entry["caption"])}</figcaption>'
        f'<div class="equations">{"".join(entry["equations"])}</div></figure>'
    )


def _view(entry: Entry) -> str:
    data = json.dumps(entry["data"], ensure_ascii=False).replace("<", "\\u003c")
    scripts = "\n".join(entry["scripts"])
    return (
        f'<figure id="{entry["name"]}"><figcaption>{html.escape(entry["caption"])}</figcaption>{entry["form"]}'
        f"<script>\n{scripts}\nview({data});\n</script></figure>"
    )


def _table(entry: Entry) -> str:
    columns = list(zip(*entry["rows"])) if entry["rows"] else [()] * len(entry["header"])
    words = [n > 0 and any(isinstance(cell, str) and not _compact(cell) for cell in column) for n, column in enumerate(columns)]
    notes: list[str] = []
    body = "".join(
        f"<tr>{_breakable(_cell(row[0], words[0], notes))}"
        + "".join(_cell(cell, wordy, notes) for cell, wordy in zip(row[1:], words[1:]))
        + "</tr>"
        for row in entry["rows"]
    )
    listed = "".join(f"<li>{_scientific(note)}</li>" for note in notes)
    below = f'<ol class="notes">{listed}</ol>' if notes else ""
    name = entry["name"]
    table = f'<div class="wide"><table><thead>{_head(entry["header"], words)}</thead><tbody>{body}</tbody></table></div>{below}'
    if len(entry["rows"]) > LONG or any(len(cell) > PAGE for row in entry["rows"] for cell in row):
        table = f'<details class="fold"><summary>{len(entry["rows"])} rows</summary>{table}</details>'
    return (
        f'<figure id="{name}"><figcaption>{html.escape(entry["caption"])} <small><a href="{name}.csv">{name}.csv</a></small>'
        f"</figcaption>{table}</figure>"
    )


def _head(header: list[str], words: list[bool]) -> str:
    """One line of titles, or two where neighbouring titles "group | column" share a group."""
    split = [title.split(" | ", 1) if " | " in title else ["", title] for title in header]
    titles = "".join(f"<th{' class=words' if wordy else ''}>{html.escape(title)}</th>" for (_, title), wordy in zip(split, words))
    if not any(group for group, _ in split):
        return f"<tr>{titles}</tr>"
    groups = [(group, len(list(run))) for group, run in groupby(split, key=lambda part: part[0])]
    above = "".join(f"<th colspan={n}>{html.escape(g)}</th>" if g else "<th></th>" * n for g, n in groups)
    return f"<tr>{above}</tr><tr>{titles}</tr>"


def _cell(cell: str | list[str], wordy: bool, notes: list[str]) -> str:
    if isinstance(cell, list):
        symbol, note = cell
        if not note:
            return f'<td class="mark">{_scientific(symbol)}</td>'
        if note not in notes:
            notes.append(note)
        return f'<td class="mark">{_scientific(symbol)}<sup class="note">{ascii_lowercase[notes.index(note)]}</sup></td>'
    if wordy:
        return f'<td class="words{" long" if len(cell) > LINE else ""}">{_scientific(cell)}</td>'
    large = " class=large" if re.fullmatch(r"inf|[\d.]+e\+?\d+", cell) else ""
    return f"<td{large}>{_scientific(cell)}</td>"


def _breakable(cell: str) -> str:
    """A cell whose names of formulas may go on in a next line after an underscore and before a parenthesis."""
    return re.sub(r"_(?=\w)|(?<=\w)(?=\()", r"\g<0><wbr>", cell)


def _compact(cell: str) -> bool:
    """A number, or a few letters that stand well in a right-aligned column."""
    return len(cell) <= 12 or bool(re.fullmatch(r"[\d.+\-e% ()]{1,24}", cell))


def _scientific(text: str) -> str:
    """HTML of a text, with 1.5e+90 set as a power of ten and inf as its sign."""
    escaped = re.sub(r"\binf\b", "∞", html.escape(text))

    def power(match: re.Match[str]) -> str:
        mantissa, exponent = match[1], int(match[2])
        digits = f"10<sup>{str(exponent).replace('-', '−')}</sup>"
        return digits if mantissa in ("1", "1.0") else f"{mantissa}·{digits}"

    escaped = re.sub(r"\b(\d+(?:\.\d+)?)e([+-]?\d+)\b", power, escaped)
    return re.sub(r"\b([\w.]+)\^(-?[\w.]*\w)", r"\1<sup>\2</sup>", escaped)
