"""The site: each public name has its place, and what docs/ adds to Sphinx does what it says."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lab.names import ROOT

import guestlist
import guestlist.fleet
import guestlist.nova
from guestlist.cli import exits

pytest.importorskip("sphinx")

DOCS = ROOT / "docs"
API = sorted(DOCS.glob("api*.md"))


@pytest.fixture(autouse=True)
def _extensions(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "extensions"))
    monkeypatch.syspath_prepend(str(DOCS))


def extension(name):
    return importlib.import_module(name)


def documented():
    """Return the names that the API's pages describe, with the module in which they are."""
    names = set()
    for page in API:
        module = ""
        for directive, about in re.findall(
            r"^\.\. (\w+)(?::data)?:: ([\w.]+)(?:\(.*\))?$", page.read_text(), re.M
        ):
            if directive == "currentmodule":
                module = about
            elif directive == "automodule":
                names |= public_of(about)
            else:
                names.add(f"{module}.{about}")
    return names


def public_of(module):
    """Return the classes and functions that a module defines and that are for others."""
    tree = ast.parse((ROOT / "src" / Path(*module.split("."))).with_suffix(".py").read_text())
    kinds = ast.ClassDef, ast.FunctionDef
    names = [node.name for node in tree.body if isinstance(node, kinds)]
    return {f"{module}.{name}" for name in names if not name.startswith("_")}


# The API


@pytest.mark.parametrize("package", [guestlist, guestlist.fleet])
def test_each_public_name_is_on_a_page_of_the_api(package):
    assert {f"{package.__name__}.{name}" for name in package.__all__} - documented() == set()


@pytest.mark.parametrize(
    "module",
    [
        *("guestlist.audit.findings", "guestlist.audit.rows", "guestlist.audit.rounds"),
        *("guestlist.audit.rule", "guestlist.exporter.scrape"),
    ],
)
def test_each_public_name_of_a_module_for_programs_is_on_a_page_of_the_api(module):
    assert public_of(module) - documented() == set()


def test_the_drop_in_is_on_a_page_of_the_api():
    assert guestlist.nova.__all__ == ["LibvirtDriver"]
    assert "guestlist.nova.driver.LibvirtDriver" in documented()


def test_each_name_on_the_pages_of_the_api_is_there():
    for name in documented() - {"guestlist.nova.driver.LibvirtDriver"}:  # it imports Nova
        module, _, attribute = name.rpartition(".")
        if module:
            assert getattr(importlib.import_module(module), attribute) is not None


# Docstrings


def test_costs_promises_and_terms_are_put_into_a_form_that_sphinx_renders():
    readable = extension("docstrings").readable
    assert readable(["Return it.", "", "Cost: 1 call,", "or 2.", "", "More."]) == [
        *("Return it.", "", ":Cost: 1 call,", "    or 2.", "", "More.")
    ]
    assert readable(["G1  The view", "    equals.", "G10 It ends."]) == [
        *("G1", "    The view", "    equals.", "G10", "    It ends.")
    ]
    assert readable(["Three:", "", "    also: those", ""]) == [
        *("Three:", "", "    also", "        those", "")
    ]


def test_a_section_is_left_to_napoleon():
    lines = ["Args:", "    uri: a URI.", "", "Raises:", "    ValueError: no."]
    assert extension("docstrings").readable(lines) == lines


# What the code tells


def test_each_exit_status_is_in_its_table():
    table = extension("from_code").exit_statuses()
    for status, meaning in exits.statuses().items():
        assert f"| {int(status)} | {meaning} |" in table


@pytest.mark.parametrize("path", sorted((DOCS / "schemas").glob("*.json")), ids=lambda it: it.name)
def test_each_schema_is_on_the_page_of_json_with_all_its_keys(path):
    command = path.name.partition(".")[0]
    assert f"{{from-code}} schema {command}\n" in (DOCS / "json.md").read_text()
    words = extension("from_code").schema(command)
    keys = {row.split("`")[1].rpartition(".")[2] for row in re.findall(r"^\| `.*", words, re.M)}
    assert set(keys_of(json.loads(path.read_text()))) == keys
    assert "$ref" not in words


def keys_of(schema):
    """Yield the keys of all objects of a schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}) if isinstance(schema.get("type"), str) else {}
        for part in schema.values():
            yield from keys_of(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from keys_of(part)


# Links


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        "<a href='b.html#here'>1</a> <a href='b.html#there'>2</a> <a href='c.html'>3</a>"
        "<a href='https://example.org/x'>4</a> <img src='d.svg'> <a id='top' href='#top'>5</a>"
    )
    (tmp_path / "b.html").write_text("<p id='here'></p>")
    assert list(extension("links").broken(tmp_path)) == [
        "a.html: b.html#there: there is no such place on that page",
        "a.html: c.html: there is no such page",
        "a.html: d.svg: there is no such page",
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a function that builds a site of one page with the project's extensions."""

    def build(text):
        place = tmp_path_factory.mktemp("site")
        (place / "README.md").write_text("# Read me\n")
        (place / "docs").mkdir()
        (place / "docs" / "conf.py").write_text(
            f"import sys\nsys.path.insert(0, {str(DOCS / 'extensions')!r})\n"
            "extensions = ['myst_parser', 'sphinxcontrib.svgbob', 'drawings', 'name_links',"
            " 'repository_links']\n"
            "repository = 'https://forge.example/x'\n"
        )
        (place / "docs" / "index.md").write_text(text)
        words = ["-W", "--keep-going", "-q", "-n", "-b", "html", "docs", "out"]
        said = subprocess.run(
            [sys.executable, "-m", "sphinx", *words],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        page = place / "out" / "index.html"
        return page.read_text() if page.exists() else "", said.stderr

    return build


def test_a_link_to_a_file_of_the_repository_leads_to_the_forge(site):
    page, said = site("# Page\n\n[the file](../README.md), [the folder](../docs)\n")
    assert said == ""
    assert 'href="https://forge.example/x/blob/main/README.md"' in page
    assert 'href="https://forge.example/x/tree/main/docs"' in page


def test_a_link_to_a_file_that_is_not_there_fails_the_build(site):
    _, said = site("# Page\n\n[the file](../NOTHING.md)\n")
    assert "NOTHING.md" in said


def test_a_name_of_the_api_in_code_font_is_a_link_to_its_place(site):
    page, said = site(
        "# Page with `Drift`\n\nSee `Drift`, `guestlist.Drift` and `whatever`.\n\n"
        "```{eval-rst}\n.. currentmodule:: guestlist\n.. py:class:: Drift\n\n   Has ``found``.\n\n"
        "   .. py:attribute:: found\n```\n"
    )
    assert said == ""
    assert page.count('href="#guestlist.Drift"><code') == 2
    assert page.count('href="#guestlist.Drift.found"><code') == 1
    assert "whatever</span></code>" in page


# Drawings


def test_a_drawing_is_a_part_of_its_page_in_the_colours_of_the_page(site):
    page, said = site("# Page\n\n```{svgbob}\n.---.\n| a |\n'---'\n```\n")
    assert said == ""
    assert 'role="img" aria-label="Page"><svg' in page
    assert "stroke: var(--color-foreground-primary)" in page
    assert "black" not in re.search(r"<svg.*?</svg>", page, re.S)[0]


def test_no_drawing_is_narrower_than_its_text():
    """svgbob counts no text in quotes when it measures a drawing."""
    to_svg = importlib.import_module("sphinxcontrib.svgbob._svgbob").to_svg
    drawings = re.findall(r"```{svgbob}\n(.*?)```", (DOCS / "why.md").read_text(), re.S)
    assert len(drawings) == 3
    for drawing in drawings:
        svg = to_svg(drawing)
        width = int(re.search(r'<svg[^>]* width="(\d+)"', svg)[1])
        texts = re.findall(r'<text x="(\d+)"[^>]*>([^<]*)', svg)
        assert texts
        assert all(int(x) + 8 * len(text) <= width for x, text in texts)
