"""The house's docstrings, as reStructuredText that reads well.

In: lines of a docstring. Out: the same lines, with habits of this project put into a form that
Sphinx renders: a paragraph "Cost: …" becomes a field beside Args and Raises, "Returns:" takes no
type before a colon, numbered promises ("G1  …") become a list of terms, and indented lines
"name: text" become such a list too.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_is_promise = re.compile(r"([A-Z]\d+) +(\S.*)").fullmatch
_is_term = re.compile(r"( {4,})(\w+): (\S.*)").fullmatch
_is_section = re.compile(r" *(Args|Raises|Returns|Yields):").fullmatch


def readable(lines: list[str]) -> list[str]:
    """Return the lines of a docstring in a form that Sphinx renders."""
    told: list[str] = []
    in_field = in_section = False
    for line in lines:
        if not line.strip():
            in_field = False
        elif not line.startswith(" "):
            in_section = _is_section(line) is not None
        if line == "Returns:":
            told.append(":returns:")
        elif line.startswith("Cost: "):
            told.append(f":Cost: {line.removeprefix('Cost: ')}")
            in_field = True
        elif in_field:
            told.append(f"    {line}")
        elif promise := _is_promise(line):
            told += [promise[1], f"    {promise[2]}"]
        elif not in_section and (term := _is_term(line)):
            told += [f"{term[1]}{term[2]}", f"{term[1]}    {term[3]}"]
        else:
            told.append(line)
    return told


def _process(
    _app: Sphinx, what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    lines[:] = readable(lines)
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # a comment: napoleon takes words before a first colon for a type


def setup(app: Sphinx) -> dict[str, bool]:
    """Join Sphinx, before napoleon reads the docstrings."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True}
