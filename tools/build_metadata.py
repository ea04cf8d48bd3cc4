"""The metadata of wheel and sdist that pyproject.toml cannot write down. hatchling calls it.

In: README.md, whose links are relative, and `[project]`. Out: the description that a package index
shows, where each link leads to a file of the release; and classifiers that an older hatchling does
not know. It needs nothing but hatchling, of 1.12 (Debian 12) or later: distributions build
guestlist with the hatchling that they have, and no plugin of it.

Source: https://hatch.pypa.io/latest/plugins/metadata-hook/custom/
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_BLOCK = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_RELATIVE = r"(?![a-z]+:|#)"
_PICTURE = re.compile(rf"""(!\[[^]]*\]\(|<img\s[^>]*?src="|\ssrcset="){_RELATIVE}""")
_LINK = re.compile(rf"""(\]\(|\shref="|^\[[^]]+\]: ){_RELATIVE}""", re.MULTILINE)
_PLACE_IN_THE_PAGE = re.compile(r"""(\]\(|\shref=")#""")


class BuildMetadata(MetadataHookInterface):
    """Set `readme`, which pyproject.toml calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Write the description into the metadata."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository, revision = metadata["urls"]["Source"], f"v{metadata['version']}"
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, repository, revision),
        }

    def get_known_classifiers(self) -> list[str]:
        """Return the Pythons: a hatchling that is older than one of them would refuse it."""
        pyproject = tomllib.loads(Path(self.root, "pyproject.toml").read_text(encoding="utf-8"))
        classifiers: list[str] = pyproject["project"]["classifiers"]
        return [each for each in classifiers if each.startswith("Programming Language :: Python")]


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
