"""Write the site's pages of the commands: one for `guestlist`, and one for each command.

    python3 docs/generate_commands.py DIRECTORY

In: the parser of the command (`command_pages`), and a directory, which is made if it is not there.
Out: `guestlist.md`, `guestlist-ls.md` … in it, in MyST Markdown. A page lists those of its commands
in a toctree; so `guestlist` is the only one that another page has to list. The site has a page
`exit-status` in its first directory. Each option is an `option` of Sphinx: it has an anchor, an
entry in the index, and can be linked to, as {option}`guestlist ls --all`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import surroundings
from command_pages import Example, Group, Option, Page, every, literals, pages

_is_markup = re.compile(r"([\\`*_{}\[\]<>#|$~&])")


def write(directory: Path) -> None:
    """Write the pages into a directory. What is there under another name stays."""
    directory.mkdir(parents=True, exist_ok=True)
    top = pages()
    for page in every(top):
        (directory / f"{page.name}.md").write_text(text(page), encoding="utf-8")


def text(page: Page) -> str:
    """Return the page in Markdown."""
    return "\n\n".join(_blocks(page)) + "\n"


def _blocks(page: Page) -> Iterator[str]:
    command = " ".join(page.words)
    yield f"({page.name})=\n# {command}"
    yield _prose(f"{page.about[0].upper()}{page.about[1:]}.")
    yield _fenced("text", " ".join((command, *page.synopsis)))
    yield from map(_prose, page.notes)
    if page.commands:
        yield "## Commands"
        yield "\n".join(
            f"- [{' '.join(each.words)}]({each.name}.md): {_prose(each.about)}"
            for each in page.commands
        )
        yield _fenced("{toctree}", ":hidden:", "", *(each.name for each in page.commands))
    yield _fenced(f"{{program}} {command}")
    for group in page.groups:
        yield from _group(group)
    if page.columns:
        yield "## Columns"
        yield _items(page.columns)
    if page.examples:
        yield "## Examples"
        for example in page.examples:
            yield from _example(example)
    for title, found in (
        ("Environment", surroundings.variables(page)),
        ("Files", surroundings.files(page)),
    ):
        entries = [(each.name, each.about) for each in found]
        if entries:
            yield f"## {title}"
            yield _items(entries)
    yield "## Exit status"
    yield "See {doc}`the exit statuses </exit-status>`, which are the same for all commands."


def _group(group: Group) -> Iterator[str]:
    yield f"## {group.title[0].upper()}{group.title[1:]}"
    if group.about:
        yield _prose(group.about)
    for option in group.options:
        yield _fenced(f"{{option}} {_heading(option)}", _prose(option.about))


def _heading(option: Option) -> str:
    """Return the names as Sphinx's `option` takes them, each with the value."""
    if not option.names:
        return option.shown_value
    return ", ".join(f"{name} {option.shown_value}".rstrip() for name in option.names)


def _example(example: Example) -> Iterator[str]:
    if example.about:
        yield f"{_prose(example.about[0].upper() + example.about[1:])}:"
    yield _fenced("console", *example.lines)


def _items(entries: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {_code(name)}: {_prose(about)}" for name, about in entries)


def _fenced(what: str, *lines: str) -> str:
    return "\n".join((f"```{what}", *lines, "```"))


def _prose(text: str) -> str:
    return "".join(
        _code(piece) if is_literal else _is_markup.sub(r"\\\1", piece)
        for piece, is_literal in literals(text)
    )


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: generate_commands.py DIRECTORY")
    write(Path(sys.argv[1]))
