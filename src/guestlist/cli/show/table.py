"""A table: text in columns, for people.

In: columns and records. Out: lines, each row's cells under its header. In a pipe every cell is
whole and nothing is coloured. On a terminal the table fits: first the columns that may be cut get
narrower, the widest of them first; then those that identify the domain, which continue on the next
line.

guestlist lays the table out itself: rich takes 60 ms to import, of the 150 ms in which the command
should start, and 2.4 s to lay out 10,000 domains, a hundred times what libvirt takes to list them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from guestlist.cli.show.columns import Column, Record, Value
from guestlist.cli.show.terminal import ellipsis, escape

_GAP = "  "


def lines(
    columns: Sequence[Column[Any]],
    records: Sequence[Record],
    *,
    notes: Sequence[Sequence[str]] = (),
    totals: Sequence[Record] = (),
    headers: bool = True,
    width: int | None = None,
    colours: bool = False,
) -> Iterator[str]:
    """Yield the table's lines.

    Args:
        columns: the columns, in order.
        records: the rows, by column.
        notes: lines below each row, as they are.
        totals: rows below a rule.
        headers: whether the first line names the columns.
        width: cells of a line at most, as far as the columns can get narrower; None: no bound.
        colours: whether texts are coloured.
    """
    header = [(column.title or column.name).upper() for column in columns]
    rows, sums = (
        [[text(column, record[column.name]) for column in columns] for record in some]
        for some in (records, totals)
    )
    shown = [*([header] if headers else []), *rows, *sums]
    if not shown:
        return
    widths = [max(map(cells, texts)) for texts in zip(*shown, strict=True)]
    if width is not None:
        widths = _fitted(columns, widths, width)
    for place, row in enumerate(shown):
        if sums and place == len(shown) - len(sums):
            yield _GAP.join("-" * width for width in widths)
        paint = _attributes(columns, row, is_header=row is header) if colours else [""] * len(row)
        yield from _row_lines(columns, row, widths, paint)
        if notes and row is not header:
            yield from notes[place - headers]


def text(column: Column[Any], value: Value) -> str:
    """Return a value of the column for people, escaped."""
    if value is not None and column.shown is not None:
        return column.shown(value)
    match value:
        case None | []:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return escape(",".join(value))
    return escape(str(value))


def cells(text: str) -> int:
    """Return how many cells of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def cut(text: str, width: int) -> str:
    """Return the text, cut to at most `width` cells."""
    if cells(text) <= width:
        return text
    dots = ellipsis()
    return folded(text, width - len(dots))[0] + dots


def _cells_of(char: str) -> int:
    """Return the cells of a character. Source: glibc's wcwidth, which terminals follow."""
    if unicodedata.category(char) in ("Mn", "Me") or _completes_a_syllable(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


_is_jamo = re.compile("[\u1160-\u11ff\ud7b0-\ud7fb]").match


def _completes_a_syllable(char: str) -> bool:
    """Return whether a terminal draws it into the character before: a Hangul vowel or final."""
    return _is_jamo(char) is not None


def _fitted(columns: Sequence[Column[Any]], widths: Sequence[int], room: int) -> list[int]:
    """Return the widths, reduced to fit the room as far as the columns allow."""
    fitted = list(widths)
    excess = sum(fitted) + len(_GAP) * (len(fitted) - 1) - room
    for folds in (False, True):
        givers = [i for i, column in enumerate(columns) if column.least and column.folds == folds]
        while excess > 0 and givers:
            widest = max(reversed(givers), key=fitted.__getitem__)
            if fitted[widest] <= (columns[widest].least or 0):
                givers.remove(widest)
                continue
            fitted[widest] -= 1
            excess -= 1
    return fitted


def _attributes(
    columns: Sequence[Column[Any]], texts: Sequence[str], *, is_header: bool
) -> list[str]:
    if is_header:
        return ["1"] * len(texts)
    return [column.colours.get(text, "") for column, text in zip(columns, texts, strict=True)]


def _row_lines(
    columns: Sequence[Column[Any]],
    texts: Sequence[str],
    widths: Sequence[int],
    paint: Sequence[str],
) -> Iterator[str]:
    """Yield one row, in as many lines as its tallest cell has."""
    stacks = [
        folded(text, width) if column.folds else [cut(text, width)]
        for column, text, width in zip(columns, texts, widths, strict=True)
    ]
    for parts in zip_longest(*stacks, fillvalue=""):
        yield _GAP.join(map(_cell, columns, parts, widths, paint)).rstrip(" ")


def _cell(column: Column[Any], text: str, width: int, attributes: str) -> str:
    padding = " " * (width - cells(text))
    painted = _painted(text, attributes)
    return padding + painted if column.number else painted + padding


def _painted(text: str, attributes: str) -> str:
    return f"\x1b[{attributes}m{text}\x1b[0m" if attributes and text else text


def folded(text: str, width: int) -> list[str]:
    """Return the text in pieces of at most `width` cells; a wide character takes two cells."""
    if cells(text) <= width:
        return [text]
    pieces, room = [""], width
    for char in text:
        taken = _cells_of(char)
        if taken > room:
            pieces.append("")
            room = width
        pieces[-1] += char
        room -= taken
    return pieces
