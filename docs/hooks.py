"""What the site's pages need besides Markdown: mathematics as MathML, and the report where one has been made.

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


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace LaTeX by MathML."""

    def replaced(match: re.Match[str]) -> str:
        if match["code"] is not None:
            return match["code"]
        if match["block"] is not None:
            return f'\n<div class="equation">{convert(match["block"].strip(), display="block")}</div>\n'
        return str(convert(match["span"]))

    return PATTERN.sub(replaced, markdown)


def on_post_build(config: Any) -> None:
    """Put the pages of `make report` into the site, under report/, where `results` holds them."""
    if (REPORT / "index.html").exists():
        shutil.copytree(REPORT, Path(config["site_dir"]) / "report", dirs_exist_ok=True)
