"""The pictures of the documentation: each is what its script draws today, and can be read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pictures import house, terminal  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"


def drawn(name: str, folder: Path) -> str:
    """Return what a script draws."""
    script = ROOT / "pictures" / f"{name}.py"
    subprocess.run([sys.executable, script, "--output", folder], check=True, stdout=subprocess.PIPE)
    return (folder / f"{name}.svg").read_text()


@pytest.mark.usefixtures("needs_libvirtd")
def test_the_picture_of_the_command_is_what_the_command_prints(tmp_path: Path) -> None:
    today = drawn("command", tmp_path)
    assert terminal.words(today) == terminal.words((PICTURES / "command.svg").read_text())
    assert today == (PICTURES / "command.svg").read_text(), "./dev pictures draws it"


def test_the_picture_of_the_house_is_the_contract() -> None:
    assert house.drawn() == (PICTURES / "house.svg").read_text(), "./dev pictures draws it"
    names = re.findall(r"class='name'[^>]*>(\w+)<", house.drawn())
    contract = house.layers((ROOT / "pyproject.toml").read_text())
    assert names == [module for layer in contract for module in layer]


def test_a_layer_without_a_group_is_found() -> None:
    pyproject = (
        '[[tool.importlinter.contracts]]\ntype = "layers"\nlayers = ["guestlist.a | guestlist.b"]'
    )
    told = "## The map of the code\n```\nfaces     a/     one\n{}  b.py   two\n```"
    assert house.groups(pyproject, told.format("        ")) == [("faces", [["a", "b"]])]
    for wrong in ("base    ", "        x"):
        with pytest.raises(ValueError, match="no one group for"):
            house.groups(pyproject, told.format(wrong))


@pytest.mark.parametrize("name", ["command", "house"])
def test_a_picture_is_small_has_words_for_a_screen_reader_and_no_colour_of_its_own(
    name: str,
) -> None:
    text = (PICTURES / f"{name}.svg").read_text()
    assert len(text.encode()) < 40_000
    root = ElementTree.fromstring(text)
    named = root.attrib["aria-labelledby"].split()
    told = {each.get("id"): each.text for each in root if each.tag in (f"{SVG}title", f"{SVG}desc")}
    assert root.attrib["role"] == "img"
    assert all(told[each] for each in named)
    assert "prefers-color-scheme: dark" in text
    drawings = [each for each in root.iter() if each.tag != f"{SVG}style"]
    assert not [each for each in drawings if {"fill", "stroke", "style"} & set(each.attrib)]
    assert not [each for each in drawings if each.tag in (f"{SVG}image", f"{SVG}script")]


def test_a_terminal_keeps_text_and_colours_and_refuses_what_it_cannot_draw() -> None:
    def draw(text: str) -> str:
        return terminal.picture(text, title="t", description="d", width=20)

    svg = draw("$ ls <a>\n\x1b[1mNAME\x1b[0m  \x1b[32mup\x1b[0m\n\nlast & least\n")
    assert terminal.words(svg) == ["$ ls <a>", "NAME  up", "last & least"]
    assert "<tspan class='green'>up</tspan>" in svg
    for wrong in ("\x1b[2Jx", "\x1b[35;7mx", "x" * 21):
        with pytest.raises((ValueError, KeyError)):
            draw(wrong)
