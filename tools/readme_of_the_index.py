"""README.md as a package index shows it: each link leads to a file of the release.

In: README.md, whose links are relative, and `[project.urls]`. Out: the description in the metadata
of wheel and sdist. hatchling calls it (`[tool.hatch.metadata.hooks.custom]`). It needs nothing but
hatchling: distributions build guestlist with the hatchling that they have, and no plugin of it.

Source: https://hatch.pypa.io/latest/plugins/metadata-hook/custom/
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_BLOCK = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_RELATIVE = r"(?![a-z]+:|#)"
_PICTURE = re.compile(rf"""(!\[[^]]*\]\(|<img\s[^>]*?src="|\ssrcset="){_RELATIVE}""")
_LINK = re.compile(rf"""(\]\(|\shref="|^\[[^]]+\]: ){_RELATIVE}""", re.MULTILINE)
_PLACE_IN_THE_PAGE = re.compile(r"""(\]\(|\shref=")#""")


class ReadmeOfTheIndex(MetadataHookInterface):
    """Set `readme`, which pyproject.toml calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Write the description into the metadata."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        version = metadata.get("version")  # hatchling before 1.22 does not tell it
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(
                text, metadata["urls"]["Source"], f"v{version}" if version else "main"
            ),
        }


def absolute(text: str, repository: str, revision: str) -> str:
    """Return Markdown whose links lead to files of the repository at that revision.

    Blocks of code stay as they are.
    """
    pieces = _BLOCK.split(text)
    pieces[::2] = [_absolute(piece, repository, revision) for piece in pieces[::2]]
    return "".join(pieces)


def _absolute(text: str, repository: str, revision: str) -> str:
    pages = f"{repository}/blob/{revision}"
    text = _PICTURE.sub(rf"\g<1>{repository}/raw/{revision}/", text)
    text = _PLACE_IN_THE_PAGE.sub(rf"\g<1>{pages}/README.md#", text)
    return _LINK.sub(rf"\g<1>{pages}/", text)
