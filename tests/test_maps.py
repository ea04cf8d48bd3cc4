"""The maps of the code: each names every module that there is, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import guestlist

SOURCE = Path(guestlist.__file__).parent
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"

ENTRY = re.compile(r"(?m)^    (\w+)(?:\.py)? +\S")
"""The first word of a line in the map of a package's header."""


def modules_of(package: Path) -> set[str]:
    """Return the names of the modules and packages in a package."""
    return {
        path.stem
        for path in package.iterdir()
        if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }


def map_of(package: Path) -> str:
    """Return the map in a package's header: its indented lines; "" if it has none."""
    header = ast.get_docstring(ast.parse((package / "__init__.py").read_text()), clean=False) or ""
    lines = [line for line in header.splitlines() if line.startswith("    ")]
    found = "\n".join(lines)
    return found if modules_of(package) & set(ENTRY.findall(found)) else ""


MAPS = {
    str(path.parent.relative_to(SOURCE)): map_of(path.parent)
    for path in SOURCE.rglob("__init__.py")
    if path.parent != SOURCE and map_of(path.parent)
}


@pytest.mark.parametrize("package", sorted(MAPS))
def test_a_packages_header_lists_all_of_its_files(package):
    modules = modules_of(SOURCE / package)
    assert modules - set(re.findall(r"\w+", MAPS[package])) == set()
    assert set(ENTRY.findall(MAPS[package])) - {"__init__"} - modules == set()


def test_packages_of_many_files_have_a_map():
    assert {"inventory", "nova"} <= set(MAPS)
