"""The content of the configuration file: parsed, and checked key by key.

In: the path of a file in TOML. Out: settings, or one line that says what is wrong: the line for a
text that is no TOML, else the key. Imported only where there is such a file. Asks no host.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from guestlist import uris
from guestlist.cli.settings import Settings
from guestlist.cli.show.columns import COLUMNS
from guestlist.errors import InvalidNameTemplate, one_line, short
from guestlist.launcher import NameTemplate
from guestlist.settings_file import BadSettings, Files

T = TypeVar("T")

_URI = "qemu+ssh://root@node1/system"

_LONGEST_LINE = 10_000
"""Bytes. tomllib takes minutes for a line of 100,000 dots."""

_EXAMPLES = {
    "name_template": 'name_template = "instance-%08x"',
    "verify": "verify = true",
    "columns": 'columns = ["name", "state"]',
    "hosts": f'[hosts] and, below it, node1 = "{_URI}"',
}
"""By key: how to write it."""

_is_alias = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*").fullmatch


def settings_in(file: str) -> Settings:
    """Return the settings of a file.

    Raises:
        BadSettings: it cannot be read, is no TOML, or says what has no meaning. The message is one
            line and begins with the path of the file.
    """
    content = Files().read(Path(file), "the configuration file")
    try:
        return _checked(_parsed(content))
    except _Mistake as mistake:
        raise BadSettings(f"{file}: {mistake}") from None


class _Mistake(Exception):
    """A mistake in the file, in words."""


def _parsed(content: bytes) -> dict[str, Any]:
    for number, text in enumerate(content.split(b"\n"), 1):
        if len(text) > _LONGEST_LINE:
            raise _Mistake(f"line {number} has more than {_LONGEST_LINE:,} bytes")
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _Mistake(f"line {line} is no text in UTF-8") from None
    except RecursionError:
        raise _Mistake("it is no TOML text: too many brackets within brackets") from None
    except tomllib.TOMLDecodeError as error:
        raise _Mistake(f"it is no TOML text: {one_line(error)}") from None
    except ValueError:  # Python's own limit for the digits of a number
        raise _Mistake("it has a number that is too long") from None


def _checked(document: Mapping[str, Any]) -> Settings:
    for key in document:
        if key not in _EXAMPLES:
            raise _Mistake(f"there is no key {_quoted(key)}; {_nearest(key, _EXAMPLES)}")
    return Settings(
        hosts=_hosts(_value(document, "hosts", dict) or {}),
        name_template=_name_template(_value(document, "name_template", str)),
        verify=_value(document, "verify", bool),
        columns=_columns(_value(document, "columns", list)),
    )


def _value(document: Mapping[str, Any], key: str, kind: type[T]) -> T | None:
    found = document.get(key)
    if key in document and not isinstance(found, kind):
        raise _Mistake(f"{key} has a value of another kind; write {_EXAMPLES[key]}")
    return found


def _hosts(found: Mapping[str, Any]) -> Mapping[str, str]:
    for alias, uri in found.items():
        if alias in _EXAMPLES:
            raise _Mistake(f"[hosts] has {_quoted(alias)}, a key that stands above [hosts]")
        if not _is_alias(alias):
            raise _Mistake(
                f"[hosts]: {_quoted(alias)} is no alias: it has letters, digits, '.', '_' and '-' "
                f'only, as in node1 = "{_URI}"'
            )
        _check_uri(alias, uri)
    return found


def _check_uri(alias: str, uri: object) -> None:
    where = f"[hosts]: {_quoted(alias)}"
    match uri:
        case dict():
            raise _Mistake(
                f"{where} is a table; put a name that has a dot between quotes, as in "
                f'"node1.example.org" = "{_URI}"'
            )
        case "":
            raise _Mistake(f'{where} has an empty URI; write, for example, {alias} = "{_URI}"')
        case str():
            if not uri.isprintable():
                raise _Mistake(f"{where} has a control character in its URI")
            if not uris.parts(uri).scheme:
                raise _Mistake(f"{where} has {_quoted(uri)}, which is no libvirt URI as {_URI} is")
        case _:
            raise _Mistake(f'{where} has no text; write, for example, {alias} = "{_URI}"')


def _name_template(found: str | None) -> str | None:
    if found is not None:
        try:
            NameTemplate(found)
        except InvalidNameTemplate as error:
            raise _Mistake(f"name_template: {error}") from None
    return found


def _columns(found: list[object] | None) -> tuple[str, ...] | None:
    if found is None:
        return None
    names = [name.strip().lower() for name in found if isinstance(name, str)]
    if not names or len(names) != len(found):
        raise _Mistake(f"columns is no list of names; write {_EXAMPLES['columns']}")
    for name in names:
        if name not in COLUMNS:
            raise _Mistake(
                f"columns: there is no column {_quoted(name)}; {_nearest(name, COLUMNS)}"
            )
    return tuple(names)


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415  for a message only

    near = difflib.get_close_matches(name[:100], list(known), n=1)
    return f"is it {_quoted(near[0])}?" if near else f"there are: {', '.join(known)}"


def _quoted(text: str) -> str:
    return f"'{short(text)}'"
