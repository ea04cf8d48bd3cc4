"""Parts of pages that the code itself tells: statuses, options of nova.conf, the keys of JSON.

In: the name of a part, and what it is about. Out: that part as Markdown, which the directive puts
into the page:

    ```{from-code} exit_statuses
    ```
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from docutils import nodes
from oslo_config import cfg
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from guestlist.cli import exits
from guestlist.nova.options import OPTIONS

Kind = Mapping[str, Any]
"""A schema, or a part of one."""

SCHEMAS = Path(__file__).parents[1] / "schemas"


def exit_statuses() -> str:
    """Return a table of the command's exit statuses."""
    return _table(("status", "meaning"), ((str(n), text) for n, text in exits.statuses().items()))


def nova_options() -> str:
    """Return the options of [guestlist] in nova.conf, each with its default and its help."""
    return "\n\n".join(_option(each) for each in OPTIONS)


def _option(option: cfg.Opt) -> str:
    default = str(option.default).lower()
    least = "" if (least := getattr(option.type, "min", None)) is None else f", at least {least:g}"
    about = str(option.help).strip().replace("\n", "\n  ")
    return f"`{option.name}` (default: `{default}`{least})\n: {about}"


def schema(command: str) -> str:
    """Return what a command's JSON holds: a table of its keys, and one for each kind of object."""
    name = f"{command}.schema.json"
    told = _read(name)
    parts = [f"{told['description']}\n\nThe schema: [{name}](schemas/{name}).", *_keys(told)]
    for of, kind in told.get("$defs", {}).items():
        if "properties" in kind:
            parts += [f"**{of}**: {kind.get('description', 'an object.')}", *_keys(kind)]
    return "\n\n".join(parts)


def _keys(kind: Kind) -> list[str]:
    rows = list(_rows(kind, ""))
    return [_table(("key", "value", "meaning"), rows)] if rows else []


def _rows(kind: Kind, above: str) -> Iterator[tuple[str, str, str]]:
    """Yield the keys of an object, and below each key those of the objects in it."""
    inner = kind.get("items", kind) if kind.get("type") == "array" else kind
    for name, value in inner.get("properties", {}).items():
        about = value.get("description") or _meant(value).get("description", "")
        yield f"`{above}{name}`", _value(value), about
        yield from _rows(value, f"{above}{name}.")


def _value(value: Kind) -> str:
    """Return in words which values a key may have."""
    meant = _meant(value)
    if "properties" in meant and "$ref" in value:
        return f"object: {value['$ref'].rpartition('/')[2]}"
    if "const" in meant:
        return f"`{json.dumps(meant['const'])}`"
    if "enum" in meant:
        return ", ".join(f"`{each}`" for each in meant["enum"])
    if "anyOf" in meant:
        return " or ".join(_value(each) for each in meant["anyOf"])
    if meant.get("type") == "array":
        return f"array: {_value(meant['items'])}" if "items" in meant else "array"
    types = meant.get("type", "any")
    words = types if isinstance(types, str) else " or ".join(types)
    return f"{words} ({meant['format']})" if "format" in meant else words


def _meant(value: Kind) -> Kind:
    """Return what a reference leads to; without a reference the value itself."""
    while "$ref" in value:
        name, _, pointer = value["$ref"].partition("#/")
        value = reduce(getitem, pointer.split("/"), _read(name))
    return value


def _read(name: str) -> Kind:
    """Return a schema, with the file's name in each reference."""
    text = (SCHEMAS / name).read_text().replace('"$ref": "#/', f'"$ref": "{name}#/')
    told: Kind = json.loads(text)
    return told


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in cells)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", r"\|")


PARTS: Mapping[str, Callable[..., str]] = {
    "exit_statuses": exit_statuses,
    "nova_options": nova_options,
    "schema": schema,
}


class FromCode(SphinxDirective):
    """Put a part that the code tells into a page."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the part, parsed as the rest of the page is."""
        name, *about = self.arguments
        return self.parse_text_to_nodes(PARTS[name](*about))


def setup(app: Sphinx) -> dict[str, bool]:
    """Join Sphinx."""
    app.add_directive("from-code", FromCode)
    return {"parallel_read_safe": True}
