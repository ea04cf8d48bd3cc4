"""Records in the format asked for.

In: columns and records. Out: text. Tables, CSV, names and UUIDs show what a terminal would obey as
escapes (`terminal.escape`), so that no value passes for a line of its own; JSON and YAML carry the
exact value, in their own escapes and in ASCII.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guestlist.cli import table, terminal
from guestlist.cli.columns import Column, Record, Value


def rendered(
    form: str,
    columns: Sequence[Column[Any]],
    records: Sequence[Record],
    *,
    totals: Sequence[Record] = (),
    headers: bool = True,
) -> str:
    """The records as text. `form` is a format of `guestlist ls`: table, json, yaml, csv, or the
    name of a column, to have that alone. Only a table has totals: a program adds up for itself.
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
            return _as_csv(columns, records, headers=headers)
    return _joined(terminal.escape(str(record[form])) for record in records)


def as_json(records: Sequence[Mapping[str, object]]) -> str:
    """An array of objects."""
    return json.dumps(records, indent=2) + "\n"


def as_yaml(records: Sequence[Mapping[str, object]]) -> str:
    """A sequence of mappings."""
    import yaml  # noqa: PLC0415  not for the other formats

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(list(records), Dumper=dumper, sort_keys=False)
    return text


def _as_csv(columns: Sequence[Column[Any]], records: Sequence[Record], *, headers: bool) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    if headers:
        rows.writerow([column.name for column in columns])
    rows.writerows([_plain(value) for value in record.values()] for record in records)
    return text.getvalue()


def _plain(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return terminal.escape(",".join(value))
    return terminal.escape(str(value))


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
