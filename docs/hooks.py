"""What the site's pages need besides Markdown: mathematics as MathML, search without a server, the report if there is one.

$…$ and $$…$$ outside of code are LaTeX; the MathML that replaces them is set by the browser, without a script or a font of ours.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

# code blocks and code spans are matched first, so that a dollar in them is left alone
PATTERN = re.compile(r"(?P<code>^```.*?^```|`[^`\n]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<span>[^$\n]+?)\$", re.DOTALL | re.MULTILINE)
REPORT = Path("results")
SHIM = "https://unpkg.com/iframe-worker/shim"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace LaTeX by MathML."""

    def replaced(match: re.Match[str]) -> str:
        if match["code"] is not None:
            return match["code"]
        if match["block"] is not None:
            return f'\n<div class="equation">{convert(match["block"].strip(), display="block")}</div>\n'
        return f"<span>{convert(match['span'])}</span>"  # in a span, since a line may not begin with a block's name

    return PATTERN.sub(replaced, markdown)


def on_post_build(config: Any) -> None:
    """The theme's offline search would fetch a script from a host: ours stands beside the pages. The pages of `make report` become
    part of the site, under report/, where `results` holds them."""
    site = Path(config["site_dir"])
    for page in site.rglob("*.html"):
        ours = "../" * (len(page.relative_to(site).parts) - 1) + "search_in_frame.js"
        page.write_text(page.read_text(encoding="utf-8").replace(SHIM, ours), encoding="utf-8")
    if (REPORT / "index.html").exists():
        shutil.copytree(REPORT, site / "report", dirs_exist_ok=True)
