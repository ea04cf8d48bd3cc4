"""docs/metrics.md read back: the families that it describes.

In: the page. Out: a row for each family.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from lab.names import ROOT

_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) \| .+ \| .+ \|$", re.M)


class Described(NamedTuple):
    """A family, as the page has it."""

    name: str
    kind: str
    labels: frozenset[str]


def described() -> list[Described]:
    """Return the families of the page, in its order."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return [
        Described(name, kind, frozenset(re.findall(r"\w+", labels)))
        for name, kind, labels in _ROW.findall(text)
    ]
