"""Numbers and times for people and programs.

In: a value, in the unit that its name tells. Out: a few characters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sized
    from datetime import datetime

_SIZES = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_AGES = ((86_400, "d"), (3_600, "h"), (60, "m"))


def size(count: int) -> str:
    """Return bytes in the largest unit that is full: 0 B, 512.0 MiB, 10.0 TiB, -4.0 KiB."""
    if abs(count) < 1024:
        return f"{count} B"
    place = sum(abs(count) >= 1023.95 * 1024**n for n in range(1, len(_SIZES)))  # 1024.0 is 1.0
    return f"{count / 1024 ** (place + 1):.1f} {_SIZES[place]}"


def age(seconds: int) -> str:
    """Return seconds in the largest unit that is full: 59s, 2m, 5h, 3d.

    Negative ones, from a clock that is ahead, keep their sign: -5s.
    """
    for length, unit in _AGES:
        if abs(seconds) >= length:
            return f"{int(seconds / length)}{unit}"
    return f"{seconds}s"


def count(things: Sized) -> str:
    """Return how many there are."""
    return str(len(things))


def number(count: int, thing: str) -> str:
    """Return a number with its noun: 1 domain, 1,000 domains."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def instant(at: datetime, timespec: str = "seconds") -> str:
    """Return a time for programs: ISO 8601, UTC."""
    from datetime import UTC  # noqa: PLC0415  numbers do without

    return at.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
