"""The commands of `guestlist` as pages: one walk over the parser, for the manual and for the site.

In: the parser of the command line. Out: a `Page` for each command, with all that a reader is told:
options, examples, notes. `generate_man` and `generate_commands` write pages, each in its own form.
Asks no host, and imports neither libvirt nor lxml.

The text after the options (argparse's epilog) has three parts, and `--help` shows it as it is.
First the examples: a command in each line, and what it does in the next one, deeper; a line that
ends with `|` or a backslash is continued. Then notes, in paragraphs. Last the exit statuses, which
are the same for all commands and are taken from `guestlist.cli.exits` instead.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from guestlist.cli.arguments import parser

_Commands = argparse._SubParsersAction  # how argparse keeps what add_subparsers made

_EVERY_PAGE_HAS_IT = "\nexit status:"
_EXAMPLES = "examples:\n"
_CONTINUED = ("|", "\\")

_is_literal = re.compile(
    r"""(?<![\w'])'(?P<quoted>[^'\n]+)'(?!\w)      # 'guestlist check'
    | (?<![\w'/.-])(?P<option>--?[A-Za-z0-9][\w.-]*(?:=[\w/:.-]*\w)?)""",
    re.X,
)


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command, or an argument that has no name but its place."""

    names: tuple[str, ...]
    """`-c`, `--connect`; empty for an argument."""
    value: str
    """What follows the names, `URI`; empty if nothing does."""
    is_optional: bool
    """Whether the value may be left out, or the argument."""
    is_repeated: bool
    """Whether more than one argument may stand there."""
    about: str

    @property
    def shown_value(self) -> str:
        """The value as a reader sees it: `[SECONDS]`, `[HOST …]`."""
        several = f"{self.value} …" if self.is_repeated else self.value
        return f"[{several}]" if self.is_optional and self.value else several


@dataclass(frozen=True, slots=True)
class Group:
    """Options under one title."""

    title: str
    about: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A command line and what it does."""

    lines: tuple[str, ...]
    """The line; several if it is continued."""
    about: str
    """Empty if the line says it."""


@dataclass(frozen=True)
class Page:
    """A command with all that its help says."""

    words: tuple[str, ...]
    """`guestlist`, `fleet`, `ls`."""
    about: str
    """One line, without a full stop."""
    synopsis: tuple[str, ...]
    """What follows the words on a command line."""
    groups: tuple[Group, ...]
    examples: tuple[Example, ...]
    notes: tuple[str, ...]
    """Paragraphs."""
    columns: tuple[tuple[str, str], ...]
    """Names and meanings of what `--columns` takes; empty without that option."""
    commands: tuple[Page, ...]

    @cached_property
    def name(self) -> str:
        """The name of the page: `guestlist-fleet-ls`."""
        return "-".join(self.words)

    @cached_property
    def options(self) -> frozenset[str]:
        """All names of options on the page."""
        return frozenset(
            name for group in self.groups for option in group.options for name in option.names
        )


def pages() -> Page:
    """Return the page of `guestlist`, which holds those of its commands."""
    top = parser()
    about = (top.description or "").removeprefix(f"{top.prog}: ").rstrip(".")
    return _page(top, (top.prog,), about)


def every(page: Page) -> Iterator[Page]:
    """Yield the page, then those of its commands and of theirs."""
    yield page
    for command in page.commands:
        yield from every(command)


def literals(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of a text, each with whether a reader may type or see it exactly so.

    Literal are options, and what stands between apostrophes; those are not part of the piece.
    """
    end = 0
    for found in _is_literal.finditer(text):
        if found.start() > end:
            yield text[end : found.start()], False
        yield found["quoted"] or found["option"].rstrip(".,"), True
        end = found.end()
        if found["option"] and found["option"] != found["option"].rstrip(".,"):
            end -= len(found["option"]) - len(found["option"].rstrip(".,"))
    if end < len(text):
        yield text[end:], False


def _page(of: argparse.ArgumentParser, words: tuple[str, ...], about: str) -> Page:
    examples, notes = _epilog(of.epilog or "")
    known = [action for action in of._actions if hasattr(action, "_known")]
    return Page(
        words=words,
        about=about,
        synopsis=tuple(_synopsis(of)),
        groups=tuple(_groups(of)),
        examples=examples,
        notes=notes,
        columns=tuple(
            (column.name, column.about) for action in known for column in action._known.values()
        ),
        commands=tuple(
            _page(action.choices[choice.dest], (*words, choice.dest), choice.help or "")
            for action in of._actions
            if isinstance(action, _Commands)
            for choice in action._choices_actions
        ),
    )


def _groups(of: argparse.ArgumentParser) -> Iterator[Group]:
    for group in of._action_groups:
        actions = [each for each in group._group_actions if not isinstance(each, _Commands)]
        options = tuple(_options(of, actions))
        if options:
            title = "options" if group is of._optionals else (group.title or "")
            title = "arguments" if group is of._positionals else title
            yield Group(title, group.description or "", options)


def _options(of: argparse.ArgumentParser, actions: Sequence[argparse.Action]) -> Iterator[Option]:
    """Yield the options. One that --help hides is named beside the one with its `dest`."""
    hidden = [action for action in actions if action.help == argparse.SUPPRESS]
    for action in actions:
        if action in hidden:
            continue
        opposites = [each for each in hidden if each.dest == action.dest]
        yield Option(
            names=tuple(name for each in (action, *opposites) for name in each.option_strings),
            value=_value(action),
            is_optional=action.nargs in ("?", "*"),
            is_repeated=action.nargs in ("*", "+"),
            about=_about(of, action),
        )


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.metavar is not None:
        return str(action.metavar)
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _about(of: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return what --help says of the action, and what else there is to say: values, the default."""
    about = of._get_formatter()._expand_help(action) if action.help else ""
    said = [about] if about else []
    if action.choices and action.metavar and not all(each in about for each in action.choices):
        said.append(f"one of: {', '.join(action.choices)}")
    if action.default not in (None, False, True, [], argparse.SUPPRESS) and (
        action.nargs != 0 and "default" not in about.lower()
    ):
        said.append(f"default: {action.default}")
    for group in of._mutually_exclusive_groups:
        if action in group._group_actions:
            others = [each.option_strings[-1] for each in group._group_actions if each != action]
            said.append(f"not together with {', '.join(others)}")
    return "; ".join(said)


def _synopsis(of: argparse.ArgumentParser) -> Iterator[str]:
    """Yield what must be given, and `[OPTION …]` for what may be."""
    for group in of._mutually_exclusive_groups:
        if group.required:
            yield " | ".join(_as_typed(each) for each in group._group_actions)
    for action in of._actions:
        if action.option_strings and action.required:
            yield _as_typed(action)
    yield "[OPTION …]"
    for action in of._get_positional_actions():
        if isinstance(action, _Commands):
            yield str(action.metavar)
        else:
            yield next(_options(of, [action])).shown_value


def _as_typed(action: argparse.Action) -> str:
    return f"{action.option_strings[-1]} {_value(action)}".rstrip()


def _epilog(text: str) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """Return the examples of an epilog, and the paragraphs after them."""
    own = text.partition(_EVERY_PAGE_HAS_IT)[0]
    before, _, after = own.partition(_EXAMPLES)
    lines = after.splitlines()
    end = next(
        (number for number, line in enumerate(lines) if line and not line.startswith("  ")),
        len(lines),
    )
    rest = "\n".join((before, *lines[end:]))
    paragraphs = (each.strip() for each in re.split(r"\n\s*\n", rest))
    return (
        tuple(_examples(line for line in lines[:end] if line)),
        tuple(" ".join(each.split()) for each in paragraphs if each),
    )


def _examples(lines: Iterable[str]) -> Iterator[Example]:
    command: list[str] = []
    about: list[str] = []
    for line in lines:
        if command and command[-1].endswith(_CONTINUED) and not about:
            command.append(line[2:])
        elif line.startswith("   "):
            about.append(line.strip())
        else:
            if command:
                yield Example(tuple(command), " ".join(about))
            first, _, same_line = line.strip().partition("  ")
            command, about = [first], [same_line.strip()] if same_line else []
    if command:
        yield Example(tuple(command), " ".join(about))
