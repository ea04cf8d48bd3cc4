"""Lines of Prometheus's text format, read back."""

from __future__ import annotations

from collections.abc import Mapping


def samples(lines: Mapping[str, str]) -> dict[str, float]:
    """Return the value of each sample, by its name and labels as they are written.

    Raises:
        AssertionError: a line is in the wrong family, is not finished, or is there twice.
    """
    found: dict[str, float] = {}
    for family, text in lines.items():
        assert text == "" or text.endswith("\n"), family
        for line in text.splitlines():
            assert line.startswith(family), (family, line)
            series, _, value = line.rpartition(" ")
            assert series not in found, f"{series} is there twice"
            found[series] = float(value)
    return found
