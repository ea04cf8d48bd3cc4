"""A table: text in columns, for people.

In: columns and records. Out: lines, each row's cells under its header. Piped, every cell is whole
and nothing is coloured. On a terminal the table fits: first the columns that may be cut give way,
the widest of them first; then those that say which domain it is, which go on below.

Laid out here rather than by a library: rich takes 60 ms to import, of the 150 that the command has
to start in, and 2.4 s to lay out 10,000 domains, a hundred times what libvirt takes to list them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from guestlist.cli.columns import Column, Record, Value
from guestlist.cli.terminal import ellipsis, escape

_GAP = "  "


def lines(
    columns: Sequence[Column[Any]],
    records: Sequence[Record],
    *,
    totals: Sequence[Record] = (),
    headers: bool = True,
    width: int | None = None,
    colours: bool = False,
) -> Iterator[str]:
    """The table's lines, each of at most `width` cells where the columns can; None: no bound.

    The totals stand below a rule.
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


def text(column: Column[Any], value: Value) -> str:
    """A value of the column as people read it, harmless."""
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
    """How many cells of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells."""
    if cells(text) <= width:
        return text
    dots = ellipsis()
    return _folded(text, width - len(dots))[0] + dots


def _cells_of(char: str) -> int:
    """Source: glibc's wcwidth, which terminals go by."""
    if unicodedata.category(char) in ("Mn", "Me") or _completes_a_syllable(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


_is_jamo = re.compile("[\u1160-\u11ff\ud7b0-\ud7fb]").match


def _completes_a_syllable(char: str) -> bool:
    """Whether it is a vowel or a final of decomposed Hangul: drawn into the consonant before it."""
    return _is_jamo(char) is not None


def _fitted(columns: Sequence[Column[Any]], widths: Sequence[int], room: int) -> list[int]:
    """The widths, less what is too much for the room, as far as the columns give way."""
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
    """One row, in as many lines as its tallest cell."""
    stacks = [
        _folded(text, width) if column.folds else [cut(text, width)]
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


def _folded(text: str, width: int) -> list[str]:
    """The text in pieces of at most `width` cells; a wide character takes two of them."""
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
