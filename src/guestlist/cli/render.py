"""Records in the format asked for.

In: columns and records. Out: text. Tables, CSV, names and UUIDs show what a terminal would obey as
escapes (`terminal.escape`), so that no value passes for a line of its own; in CSV no text passes
for a formula (`as_cell`). JSON and YAML carry the exact value, in their own escapes and in ASCII.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from guestlist.cli import table, terminal
from guestlist.cli.columns import Column, Record, Value
from guestlist.cli.terminal import escape


def rendered(
    form: str,
    columns: Sequence[Column[Any]],
    records: Sequence[Record],
    *,
    totals: Sequence[Record] = (),
    headers: bool = True,
    exact: bool = False,
) -> str:
    """The records as text. `form` is a format of `guestlist ls`: table, json, yaml, csv, or the
    name of a column, to have that alone. Only a table has totals: a program adds up for itself.

    `exact` is for a program: CSV without any escape but its own quotes, and in place of lines that
    a name could forge values that end with NUL.
    """
    match form:
        case "table":
            return _joined(
                table.lines(
                    columns,
                    records,
                    totals=totals,
                    headers=headers,
                    width=terminal.width(),
                    colours=terminal.has_colours(),
                )
            )
        case "json":
            return as_json(records)
        case "yaml":
            return as_yaml(records)
        case "csv":
            return _as_csv(columns, records, headers=headers, exact=exact)
    values = (str(record[form]) for record in records)
    return "".join(f"{value}\0" for value in values) if exact else _joined(map(escape, values))


def as_json(records: Sequence[Mapping[str, object]]) -> str:
    """An array of objects."""
    return json.dumps(records, indent=2) + "\n"


def as_yaml(records: Sequence[Mapping[str, object]]) -> str:
    """A sequence of mappings."""
    import yaml  # noqa: PLC0415  not for the other formats

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(list(records), Dumper=dumper, sort_keys=False)
    return text


_would_compute = re.compile("(^|;)(?= *[-=+@'\uff0b\uff0d\uff1d\uff20])")


def as_cell(text: str) -> str:
    """The text as a cell of CSV that a spreadsheet takes for text.

    Escapes as in a table, and an apostrophe before the cell if a formula's first character (= + -
    @, full-width ones too) or an apostrophe begins it, after blanks or not. The same after each
    semicolon: where people write 0,5 a spreadsheet takes it for the end of a cell. To undo it take
    an apostrophe away at the beginning and after each semicolon, where there is one, and then the
    escapes.

    Source: OWASP, CSV Injection.
    """
    return _would_compute.sub(r"\1'", escape(text))


def _as_csv(
    columns: Sequence[Column[Any]], records: Sequence[Record], *, headers: bool, exact: bool
) -> str:
    in_words = str if exact else as_cell
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    if headers:
        rows.writerow([column.name for column in columns])
    rows.writerows([_plain(value, in_words) for value in record.values()] for record in records)
    return text.getvalue()


def _plain(value: Value, in_words: Callable[[str], str]) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case list():
            return in_words(",".join(value))
    return in_words(value)


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
