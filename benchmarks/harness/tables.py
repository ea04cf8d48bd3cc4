"""Figures as Markdown: tables that are readable in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column aligned left, the others right."""
    widths = [max(3, *map(len, column)) for column in zip(heads, *rows, strict=True)]
    rule = [f":{'-' * (widths[0] - 1)}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in (heads, rule, *rows)
    )


def milliseconds(seconds: float) -> str:
    """Return a duration in ms, with three significant digits or more."""
    duration = seconds * 1e3
    digits = 2 if duration < 10 else 1 if duration < 100 else 0
    return f"{duration:,.{digits}f}"
