"""The version is written once, in `guestlist.__version__`; all that tells it tells the same."""

from __future__ import annotations

import re
import tomllib

from lab.names import ROOT

import guestlist


def test_the_project_takes_it_from_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/guestlist/__init__.py"


def test_the_newest_debian_package_is_of_this_version():
    changelog = (ROOT / "debian" / "changelog").read_text()
    newest = re.match(r"guestlist \(([^)]+)-[^-)]+\) ", changelog)
    assert newest is not None
    assert newest[1].replace("~", "") == guestlist.__version__  # dpkg's 1.0~rc1


def test_a_page_that_names_the_wheel_names_this_one():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    named = {
        (page.name, told)
        for page in pages
        if page.name != "CHANGELOG.md"
        for told in re.findall(r"guestlist-([0-9][\w.]*?)(?:-py3|\.tar)", page.read_text())
    }
    assert {told for _, told in named} <= {guestlist.__version__}
