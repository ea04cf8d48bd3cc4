"""What the benchmarks' pages have in common, and how they are published.

In: a page, a plot and results. Out: files of one name, and the page on standard output.
Progress messages go to standard error.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def report(text: str) -> None:
    """Print how far the benchmark is."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def publish(
    output: Path | None, name: str, page: str, plot: str | None, results: DataclassInstance
) -> None:
    """Print the page; write it, its plot if it has one, and every single time to `output`.

    `output` None: only print.
    """
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / f"{name}.md").write_text(page)
        (output / f"{name}.json").write_text(_written(results))
        if plot is not None:
            (output / f"{name}.svg").write_text(plot)
    print(page, end="")


def paragraphs(*parts: str) -> str:
    """Return the page of these paragraphs; empty ones are left out."""
    return "\n\n".join(part for part in parts if part) + "\n"


def prose(template: str, **values: object) -> str:
    """Return a text with these values in it; each paragraph is wrapped again."""
    return "\n\n".join(
        textwrap.fill(paragraph, 100, break_long_words=False, break_on_hyphens=False)
        for paragraph in template.format(**values).split("\n\n")
    )


def setting_list(setting: Mapping[str, str]) -> str:
    """Return the machine and the versions, as a list."""
    return "\n".join(
        f"- {name}: `{text}`" if name == "Command" else f"- {name}: {text}"
        for name, text in setting.items()
    )


def yes(met: bool) -> str:
    """Return whether a goal is met, as a word."""
    return "yes" if met else "no"


def _written(results: DataclassInstance) -> str:
    """Return results as JSON, each list of times on one line."""
    text = json.dumps(asdict(results), indent=2)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text) + "\n"
