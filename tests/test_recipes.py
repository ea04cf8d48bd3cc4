"""docs/beside.md: each recipe is run as it stands there, and prints what stands there."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from lab.names import ROOT
from lab.programs import run

PAGE = (ROOT / "docs" / "beside.md").read_text()
MODULES = {"asyncio": "asyncio", "gevent": "gevent", "eventlet": "eventlet", "fork": "os"}


class Recipe(NamedTuple):
    """A program of the page, and what it prints there."""

    about: str
    program: str
    prints: str


RECIPES = [
    Recipe(section.partition("\n")[0], program, prints)
    for section in PAGE.split("\n## ")[1:]
    for program, prints in re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", section, re.S)
]


def test_the_page_has_a_recipe_for_each():
    assert {recipe.about for recipe in RECIPES} == set(MODULES)
    assert len(RECIPES) == PAGE.count("```python\n")


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.about for recipe in RECIPES])
def test_a_recipe_works_as_it_stands_on_the_page(recipe, tmp_path):
    pytest.importorskip(MODULES[recipe.about])
    program = tmp_path / "recipe.py"
    program.write_text(recipe.program)
    ended = run(program, environment={"LIBVIRT_DEFAULT_URI": "test:///default"})
    assert "Traceback" not in ended.stderr  # libvirt and eventlet print what concerns neither
    assert (ended.returncode, ended.stdout) == (0, recipe.prints)
