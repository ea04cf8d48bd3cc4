"""Records in the format asked for.

In: columns and records. Out: text. Tables, CSV, names and UUIDs show as escapes what a terminal
would obey (`terminal.escape`), so no value can look like a line of its own; in CSV no text looks
like a formula (`as_cell`). JSON and YAML carry the exact value, in their own escapes and in ASCII.

Each format imports what it needs: a list of names waits for none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guestlist.cli.show import terminal
from guestlist.cli.show.terminal import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from guestlist.cli.show.columns import Column, Record, Value


def rendered(
    form: str,
    columns: Sequence[Column[Any]],
    records: Sequence[Record],
    *,
    totals: Sequence[Record] = (),
    headers: bool = True,
    exact: bool = False,
) -> str:
    """Return the records as text.

    Args:
        form: a format of `guestlist ls`: table, json, yaml, csv; or the name of a column, to show
            that column alone.
        columns: the columns of a table or of CSV.
        records: the rows, by column.
        totals: rows below a table's rule. Other formats have none: a program can add up itself.
        headers: whether a table or CSV has a header.
        exact: for a program: CSV without escapes, apart from its own quotes; values of one column
            that end with NUL instead of a line's end, which a name could contain.
    """
    match form:
        case "table":
            from guestlist.cli.show import table  # noqa: PLC0415

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


def as_json(document: Sequence[Mapping[str, object]] | Mapping[str, object]) -> str:
    """Return an array of objects, or one object."""
    import json  # noqa: PLC0415

    return json.dumps(document, indent=2) + "\n"


def as_yaml(document: Sequence[Mapping[str, object]] | Mapping[str, object]) -> str:
    """Return a sequence of mappings, or one mapping."""
    import yaml  # noqa: PLC0415

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(document, Dumper=dumper, sort_keys=False)
    return text


_WOULD_COMPUTE = "(^|;)(?= *[-=+@'\uff0b\uff0d\uff1d\uff20])"


def as_cell(text: str) -> str:
    """Return the text as a cell of CSV that a spreadsheet takes for text.

    Has the escapes of a table. An apostrophe stands before the cell if its first character that is
    not a blank is an apostrophe or begins a formula (= + - @, full-width ones too). The same after
    each semicolon: where people write 0,5 a spreadsheet takes it for the end of a cell. To undo it,
    remove the apostrophe at the beginning and after each semicolon, if there is one, and then the
    escapes.

    Source: OWASP, CSV Injection.
    """
    import re  # noqa: PLC0415

    return re.sub(_WOULD_COMPUTE, r"\1'", escape(text))


def _as_csv(
    columns: Sequence[Column[Any]], records: Sequence[Record], *, headers: bool, exact: bool
) -> str:
    import csv  # noqa: PLC0415
    import io  # noqa: PLC0415

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
