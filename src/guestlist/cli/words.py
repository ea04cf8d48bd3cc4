"""Numbers and times as they are written. In: a value, in the unit its name tells. Out: a few
characters.
"""

from __future__ import annotations

from collections.abc import Sized
from datetime import UTC, datetime

_SIZES = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_AGES = ((86_400, "d"), (3_600, "h"), (60, "m"))


def size(count: int) -> str:
    """Bytes in the largest unit that leaves a whole: 0 B, 512.0 MiB, 10.0 TiB, -4.0 KiB."""
    if abs(count) < 1024:
        return f"{count} B"
    place = sum(abs(count) >= 1023.95 * 1024**n for n in range(1, len(_SIZES)))  # 1024.0 is 1.0
    return f"{count / 1024 ** (place + 1):.1f} {_SIZES[place]}"


def age(seconds: int) -> str:
    """Seconds in the largest unit of which one is full: 59s, 2m, 5h, 3d; -5s of a clock ahead."""
    for length, unit in _AGES:
        if abs(seconds) >= length:
            return f"{int(seconds / length)}{unit}"
    return f"{seconds}s"


def count(things: Sized) -> str:
    """How many there are."""
    return str(len(things))


def number(count: int, thing: str) -> str:
    """So many of them: 1 domain, 1,000 domains."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def instant(at: datetime, timespec: str = "seconds") -> str:
    """A time for programs: ISO 8601, UTC."""
    return at.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
