"""Write the manual: guestlist(1), and a page for each command.

    python3 docs/generate_man.py DIRECTORY

In: the parser of the command (`command_pages`), and a directory, which is made if it is not there.
Out: `guestlist.1`, `guestlist-ls.1` … in it. Needs the package `guestlist` on Python's path and
nothing else; no network. The date of the pages is SOURCE_DATE_EPOCH, or today: with it the same
source makes the same bytes, on every machine.

The pages use man(7)'s macros, which man-db and mandoc both know. argparse-manpage writes a line
that begins with an apostrophe as it is, and troff drops such a line; it has no section for examples
and no page for each command.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import guestlist
import surroundings
from command_pages import Example, Group, Option, Page, every, literals, pages
from guestlist.cli import exits

_WIDTH = 78
"""Characters in a line of the source of a page."""

_GLYPHS = str.maketrans(
    {
        "\\": r"\(rs",
        "'": r"\(aq",
        "`": r"\(ga",
        "^": r"\(ha",
        "~": r"\(ti",
        "-": r"\-",
        '"': r"\(dq",
    }
)
_IN_PROSE = str.maketrans({"\\": r"\(rs", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})

_PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def write(directory: Path) -> list[Path]:
    """Write the pages into a directory, and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    top = pages()
    written = []
    for page in every(top):
        path = directory / f"{page.name}.1"
        path.write_text(text(page, top), encoding="ascii")
        written.append(path)
    return written


def text(page: Page, top: Page) -> str:
    """Return a page of the manual; `top` is the page that holds all of them."""
    return "".join(f"{line}\n" for line in _lines(page, top))


def _lines(page: Page, top: Page) -> Iterator[str]:
    yield (
        f".TH {page.name.upper().replace('-', chr(92) + '-')} 1 {_date()} "
        f'"guestlist {guestlist.__version__}" "User Commands"'
    )
    yield from (".nh", ".ad l")  # an option or a value is not cut at the end of a line
    yield ".SH NAME"
    yield from _filled(f"{_literal(page.name)} \\- {_prose(page.about)}")
    yield ".SH SYNOPSIS"
    yield rf".B {_literal(' '.join(page.words))}"
    yield from _filled(" ".join(_placeholder(part) for part in page.synopsis))
    yield ".SH DESCRIPTION"
    yield from _paragraphs((f"{page.about[0].upper()}{page.about[1:]}.", *page.notes))
    if page.commands:
        yield ".SH COMMANDS"
        for command in page.commands:
            yield from _entry(rf"\fB{_literal(command.name)}\fR(1)", _prose(command.about))
    for group in page.groups:
        yield from _group(group)
    if page.columns:
        yield ".SH COLUMNS"
        for name, about in page.columns:
            yield from _entry(_bold(name), _prose(about))
    if page.examples:
        yield ".SH EXAMPLES"
        for number, example in enumerate(page.examples):
            if number:
                yield ".PP"
            yield from _example(example)
    yield ".SH EXIT STATUS"
    for status, meaning in exits.statuses().items():
        yield from _entry(_bold(f"{status:d}"), _prose(meaning))
    for title, found in (
        ("ENVIRONMENT", surroundings.variables(page)),
        ("FILES", surroundings.files(page)),
    ):
        entries = [line for each in found for line in _entry(_bold(each.name), _prose(each.about))]
        if entries:
            yield f".SH {title}"
            yield from entries
    yield ".SH SEE ALSO"
    yield from _filled(", ".join(_see_also(page, top)))
    documentation = _documentation()
    if documentation:
        yield ".PP"
        yield f".UR {documentation}"
        yield "The documentation"
        yield ".UE"


def _group(group: Group) -> Iterator[str]:
    """Yield the options; those of a group with a title of its own are a part of OPTIONS."""
    if group.title in ("options", "arguments"):
        yield f".SH {group.title.upper()}"
    else:
        yield f".SS {_prose(group.title[0].upper() + group.title[1:])}"
    if group.about:
        yield from _filled(_prose(group.about))
    for option in group.options:
        yield from _entry(_heading(option), _prose(option.about))


def _heading(option: Option) -> str:
    """Return the names, with the value after the last of them."""
    names = ", ".join(_bold(name) for name in option.names)
    value = _placeholder(option.shown_value) if option.value else ""
    return f"{names} {value}".strip()


def _entry(heading: str, about: str) -> Iterator[str]:
    yield ".TP"
    yield heading
    yield from _filled(about)


def _example(example: Example) -> Iterator[str]:
    yield ".EX"
    for line in example.lines:
        yield rf"\fB{_literal(line)}\fR"
    yield ".EE"
    yield ".nh"  # groff's .EE turns it on again
    if example.about:
        yield ".RS"
        yield from _filled(_prose(example.about))
        yield ".RE"


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for number, each in enumerate(texts):
        if number:
            yield ".PP"
        yield from _filled(_prose(each))


def _see_also(page: Page, top: Page) -> Iterator[str]:
    """Yield the references to the command above, to those beside, and to libvirt's own."""
    all_pages = {each.words: each for each in every(top)}
    above = all_pages.get(page.words[:-1])
    beside = page.commands or (above.commands if above else ())
    for each in (*((above,) if above else ()), *beside):
        if each is not page:
            yield rf"\fB{_literal(each.name)}\fR(1)"
    if {"--connect", "--libvirt.uri"} & page.options or page is top:
        yield r"\fBvirsh\fR(1)"
        yield r"\fBlibvirtd\fR(8)"


def _filled(roff: str) -> Iterator[str]:
    """Yield lines of troff that fill a paragraph; none of them is taken for a request."""
    for line in textwrap.wrap(roff, _WIDTH, break_on_hyphens=False, break_long_words=False):
        yield rf"\&{line}" if line.startswith((".", "'")) else line


def _prose(text: str) -> str:
    return "".join(
        _bold(piece) if is_literal else _ascii(piece.translate(_IN_PROSE))
        for piece, is_literal in literals(text)
    )


def _bold(text: str) -> str:
    return rf"\fB{_literal(text)}\fR"


def _placeholder(text: str) -> str:
    """Return the words that a reader replaces, which are in capitals, in italics."""
    return "".join(
        rf"\fI{_literal(piece)}\fR" if re.fullmatch(r"[A-Z]+", piece) else _literal(piece)
        for piece in re.split(r"([A-Z]{2,})", text)
        if piece
    )


def _literal(text: str) -> str:
    return _ascii(text.translate(_GLYPHS))


def _ascii(text: str) -> str:
    return "".join(char if char.isascii() else rf"\[u{ord(char):04X}]" for char in text)


def _date() -> str:
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _documentation() -> str:
    """Return the address of the documentation, as the project has it; "" if it has none."""
    if not _PROJECT.is_file():
        return ""
    urls: dict[str, str] = tomllib.loads(_PROJECT.read_text())["project"].get("urls", {})
    return urls.get("Documentation", "")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: generate_man.py DIRECTORY")
    for path in write(Path(sys.argv[1])):
        print(path)
