"""Names that the documentation gives: whether guestlist has them.

In: the text between two backticks. Out: whether it is a name of one kind. Asks no libvirt.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import shlex
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path

import guestlist
from guestlist.cli.arguments import parser

ROOT = Path(__file__).resolve().parents[2]

_is_identifiers = re.compile(r"\w+(\.\w+)*").fullmatch
_Commands = argparse._SubParsersAction  # how argparse keeps what add_subparsers made


def is_public_name(name: str) -> bool:
    """Return whether the public face has this class or function, or its class this attribute."""
    first, *rest = name.removeprefix("guestlist.").split(".")
    if first not in guestlist.__all__:
        return name == "guestlist"
    value: object = getattr(guestlist, first)
    for part in rest:
        if is_dataclass(value) and part in value.__dataclass_fields__:
            return part == rest[-1]
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


@cache
def _parameters() -> frozenset[str]:
    """Return the parameters of the methods of public classes, `__init__` included."""
    return frozenset(
        parameter
        for name in guestlist.__all__
        if inspect.isclass(public := getattr(guestlist, name))
        for member in (getattr(public, attribute) for attribute in dir(public))
        if inspect.isfunction(member)
        for parameter in inspect.signature(member).parameters
    )


def is_parameter(name: str) -> bool:
    """Return whether a public class, or one of its methods, takes a parameter of this name."""
    return name in _parameters()


@cache
def _nova_options() -> frozenset[str]:
    """Return the options of `[guestlist]` in nova.conf, read from the source: Nova is not here."""
    source = (ROOT / "src" / "guestlist" / "nova" / "options.py").read_text()
    return frozenset(
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.endswith("Opt")
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    )


def is_nova_option(name: str) -> bool:
    """Return whether nova.conf may have this option under `[guestlist]`."""
    return name in _nova_options()


def is_module(name: str) -> bool:
    """Return whether this is a module of guestlist, by its full dotted name. Imports no module."""
    if not _is_identifiers(name) or name.partition(".")[0] != "guestlist":
        return False
    path = (ROOT / "src").joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def is_command(line: str) -> bool:
    """Return whether this is a line that the command takes, as far as words and options go.

    Values of options, and what follows a `|`, `>` or `#`, are not looked at.
    """
    try:
        words = shlex.split(re.split(r" [|>#]", line)[0])
    except ValueError:
        return False
    if not words or Path(words[0]).name != "guestlist":
        return False
    here: argparse.ArgumentParser = parser()
    takes_value = False
    for word in words[1:]:
        if word == "--":  # no option follows
            break
        positional = [action for action in here._actions if not action.option_strings]
        if takes_value:
            takes_value = False
        elif word.startswith("-"):
            actions = _options(here, word)
            if actions is None:
                return False
            takes_value = actions[-1].nargs is None and "=" not in word
        elif positional and isinstance(positional[0], _Commands):
            if word not in positional[0].choices:
                return False
            here = positional[0].choices[word]
        elif not positional or word not in (positional[0].choices or (word,)):
            return False
    return True


def _options(here: argparse.ArgumentParser, word: str) -> list[argparse.Action] | None:
    """Return the actions of one word: an option, or short ones behind one dash. None: no such."""
    known = here._option_string_actions
    name = word.partition("=")[0]
    if name in known:
        return [known[name]]
    if word.startswith("--"):
        return None
    short = [known.get(f"-{letter}") for letter in word[1:]]
    found = [action for action in short if action is not None]
    return found if len(found) == len(short) and found else None


def dev_commands() -> frozenset[str]:
    """Return the commands of `./dev`: the labels of its `case`."""
    script = (ROOT / "dev").read_text().partition("\ncase $command in")[2]
    labels = re.findall(r"^([a-z| -]+)\)", script, re.M)
    return frozenset(label.strip() for group in labels for label in group.split("|"))
