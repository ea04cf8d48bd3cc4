"""The manual and the site's pages of the commands: every option is there, and nothing is lost."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.command import environment
from lab.needs import require

import command_pages
import generate_commands
import generate_man
import surroundings
from guestlist.cli import arguments
from guestlist.cli.exits import Exit

ROOT = Path(__file__).parents[1]
TOP = command_pages.pages()
PAGES = {page.name: page for page in command_pages.every(TOP)}


def parsers(
    parser: argparse.ArgumentParser, name: str = "guestlist"
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the parser of each command, with the name of the command's page."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, each in action.choices.items():
                yield from parsers(each, f"{name}-{word}")


OPTIONS = {name: set(parser._option_string_actions) for name, parser in parsers(arguments.parser())}


def made(directory: Path, **changes: str) -> dict[str, bytes]:
    """Return the manual that the script makes, by file."""
    subprocess.run(
        [sys.executable, ROOT / "docs" / "generate_man.py", directory],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment(SOURCE_DATE_EPOCH="1000000000", **changes),
    )
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    made(directory)
    return directory


# The pages


def test_each_command_has_a_page_with_its_options():
    assert {name: set(page.options) for name, page in PAGES.items()} == OPTIONS
    assert sum(map(len, OPTIONS.values())) > 200


def test_each_argument_that_has_no_name_is_on_its_page():
    shown = {
        name: [option.shown_value for option in group.options]
        for name, page in PAGES.items()
        for group in page.groups
        if group.title == "arguments"
    }
    assert shown["guestlist-fleet-forget"] == ["HOST"]
    assert shown["guestlist-fleet-setup"] == ["[HOST …]"]
    assert shown["guestlist-completion"] == ["bash|zsh|fish"]


def test_an_option_says_its_values_its_default_and_what_it_excludes():
    about = {
        (name, option): each.about
        for name, page in PAGES.items()
        for group in page.groups
        for each in group.options
        for option in each.names
    }
    assert about["guestlist-exporter", "--log.level"] == "default: info"
    assert "one of: host, id, name" in about["guestlist-ls", "--sort"]
    assert "not together with --long" in about["guestlist-ls", "--columns"]
    assert about["guestlist-ls", "--timeout"].endswith("(default: 30)")
    assert "%(" not in "".join(about.values())


def test_a_command_says_what_it_must_be_given():
    synopsis = PAGES["guestlist-audit"].synopsis
    assert synopsis == ("--servers FILE | --os-cloud NAME", "[OPTION …]")
    assert PAGES["guestlist-fleet-forget"].synopsis == ("[OPTION …]", "HOST")


def test_each_word_of_the_help_text_after_the_options_is_on_the_page():
    for name, parser in parsers(arguments.parser()):
        own = (parser.epilog or "").partition("\nexit status:")[0].replace("examples:", "")
        page = PAGES[name]
        examples = (text for each in page.examples for text in (*each.lines, each.about))
        shown = [word for text in (*examples, *page.notes) for word in text.split()]
        assert sorted(shown) == sorted(own.split()), name
        assert page.examples, name


def test_a_continued_line_is_part_of_its_example():
    lines = [example.lines for example in PAGES["guestlist-audit"].examples]
    first = (
        "openstack server list --all-projects --long -f json |",
        "    guestlist audit --servers -",
    )
    assert lines[0] == first


def test_literal_pieces_are_told_from_prose():
    text = "Nova's 'guestlist ls' goes with -f csv, --raw and a read-only view; hosts' names"
    literal = [piece for piece, is_literal in command_pages.literals(text) if is_literal]
    assert literal == ["guestlist ls", "-f", "--raw"]
    shown = "".join(piece for piece, _ in command_pages.literals(text))
    assert shown == text.replace("'guestlist ls'", "guestlist ls")


def test_a_variable_of_the_environment_has_a_meaning_here():
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    theirs = {"OS_CLIENT_CONFIG_FILE", "TZ"}  # openstacksdk's, the C library's
    names = {name for each in surroundings.VARIABLES for name in each.name.split(", ")}
    assert {name for name in names - theirs if name not in source} == set()


def test_a_page_has_the_variables_and_files_of_the_commands_below_it():
    fleet, top = (
        {each.name for each in surroundings.files(PAGES[name])}
        for name in ("guestlist-fleet", "guestlist")
    )
    assert "hosts.yml" in fleet
    assert fleet < top
    assert "hosts.yml" not in {each.name for each in surroundings.files(PAGES["guestlist-watch"])}


# The manual


def test_each_option_is_on_its_page_of_the_manual(manual: Path):
    for name, options in OPTIONS.items():
        text = (manual / f"{name}.1").read_text().replace("\\-", "-")
        shown = set(re.findall(r"\\fB(-[^\\ ]+)\\fR", text))
        assert options - shown == set(), name


def test_each_exit_status_is_on_each_page(manual: Path):
    for path in manual.iterdir():
        statuses = path.read_text().partition(".SH EXIT STATUS")[2]
        for status in Exit:
            assert f".TP\n\\fB{status:d}\\fR\n" in statuses


def test_the_manual_is_the_same_bytes_on_every_machine(manual: Path, tmp_path: Path):
    changes = {"LC_ALL": "C", "COLUMNS": "40", "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    assert made(tmp_path / "new", **changes) == {
        path.name: path.read_bytes() for path in manual.iterdir()
    }
    assert b"2001-09-09" in (manual / "guestlist.1").read_bytes()


@pytest.fixture
def man() -> str:
    """The path of man-db's `man`."""
    path = shutil.which("man")
    require(None if path else "man is not installed")
    assert path is not None
    return path


@pytest.mark.heavy
def test_man_has_no_warning_and_loses_no_word(man: str, manual: Path):
    for name, page in PAGES.items():
        ended = subprocess.run(
            [man, "--warnings", "-E", "UTF-8", "--nh", "--nj", "-l", manual / f"{name}.1"],
            capture_output=True,
            text=True,
            env={**os.environ, "MANWIDTH": "80", "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8"},
            check=True,
        )
        assert ended.stderr == "", name
        shown = ended.stdout.translate({0x2019: "'", 0x2010: "-"})
        shown = "".join(shown.split())
        lines = [line for example in page.examples for line in example.lines]
        told = "".join(
            piece
            for text in (*page.notes, *(each.about for each in page.examples))
            for piece, _ in command_pages.literals(f"{text} ")
        )
        words = {*" ".join(lines).split(), *told.split()}
        assert [word for word in words if word not in shown] == [], name


@pytest.mark.heavy
def test_mandoc_has_nothing_to_say(manual: Path):
    mandoc = shutil.which("mandoc")
    require(None if mandoc else "mandoc is not installed")
    ended = subprocess.run(
        [str(mandoc), "-Tlint", *sorted(manual.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == ""


# The site


def test_each_option_is_on_its_page_of_the_site(tmp_path: Path):
    generate_commands.write(tmp_path / "commands")
    assert {path.stem for path in (tmp_path / "commands").iterdir()} == set(PAGES)
    for name, options in OPTIONS.items():
        text = (tmp_path / "commands" / f"{name}.md").read_text()
        headings = re.findall(r"^```\{option\} (.*)$", text, re.M)
        names = {each.split()[0] for heading in headings for each in heading.split(", ")}
        assert options - names == set(), name
        assert f"```{{program}} {name.replace('-', ' ')}\n" in text


def test_markup_of_a_help_text_is_shown_and_not_obeyed():
    assert generate_commands._prose("* and ? stand for <a_b>") == r"\* and ? stand for \<a\_b\>"
    assert generate_man._prose(".TH 'x' \\n") == r".TH \fBx\fR \(rsn"
    assert next(generate_man._filled(".TH")) == r"\&.TH"
