"""The report: one self-contained HTML page of all studies' tables and figures."""

from __future__ import annotations

import base64
import csv
import html
import json
from pathlib import Path
from types import ModuleType

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-size: 13px; } th, td { border: 1px solid #ccc; padding: 3px 8px; text-align: right; }
th, td:first-child { text-align: left; } th { background: #f3f3f3; } img { max-width: 100%; }
figure { margin: 1.5em 0; } figcaption { color: #555; font-size: 14px; } .table { overflow-x: auto; }
.big { color: #b00; font-weight: 600; } nav a { margin-right: 1em; }
"""


def write_report(out: Path, studies: list[ModuleType]) -> Path:
    """Write out/index.html from the manifests that the studies left in `out`."""
    sections, links = [], []
    for study in studies:
        key = study.__name__.rsplit(".", 1)[-1]
        manifest = out / f"{key}.json"
        if not manifest.exists():
            continue
        title, _, text = (study.__doc__ or key).strip().partition("\n")
        links.append(f'<a href="#{key}">{key}</a>')
        paragraphs = "".join(f"<p>{html.escape(' '.join(p.split()))}</p>" for p in text.split("\n\n") if p.strip())
        body = "".join(_item(out, entry) for entry in json.loads(manifest.read_text()))
        sections.append(f'<section id="{key}"><h2>{html.escape(title)}</h2>{paragraphs}{body}</section>')
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>vsvf report</title>'
        f"<style>{STYLE}</style></head><body><h1>vsvf: what the samplers do, measured</h1><nav>{''.join(links)}</nav>"
        f"{''.join(sections)}</body></html>"
    )
    path = out / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _item(out: Path, entry: dict[str, str]) -> str:
    name, caption = entry["name"], html.escape(entry["caption"])
    if entry["kind"] == "figure":
        data = base64.b64encode((out / f"{name}.png").read_bytes()).decode()
        return f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    with open(out / f"{name}.csv", newline="") as file:
        header, *rows = list(csv.reader(file))
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return (
        f'<figure><figcaption>{caption} <small>({name}.csv)</small></figcaption><div class="table"><table><tr>{head}</tr>{body}'
        "</table></div></figure>"
    )


def _cell(cell: str) -> str:
    try:
        large = abs(float(cell)) > 1e3
    except ValueError:
        large = cell.startswith("grows")
    return f'<td class="big">{html.escape(cell)}</td>' if large else f"<td>{html.escape(cell)}</td>"
