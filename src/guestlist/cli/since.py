"""A time in the past, as people give it to `--since`, and the domains that were written since then.

In: text; a snapshot. Out: an instant; domains. libvirt keeps no history and does not tell when a
domain started. What a domain does tell is when Nova last wrote it: when the server was made,
rebuilt, resized, moved or hard-rebooted. Reads the clock; asks no host.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from guestlist.cli.show import words
from guestlist.records import Instance

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_is_length = re.compile(r"([0-9]{1,6})([smhd])").fullmatch
_is_time_of_day = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?").fullmatch
_is_instant = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
).fullmatch


def instant(text: str) -> datetime:
    """Return the instant that a text names: an option's value.

    It is a length before now (90s, 10m, 2h, 3d), a time of today (22:10), a date, or a date with a
    time, in ISO 8601. Without an offset it is in this machine's time zone.

    Raises:
        argparse.ArgumentTypeError: the text names no instant, or one in the future.
    """
    now = datetime.now(UTC)
    try:
        found = _instant(text, now)
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no time; write, for example, 10m, 2h, 3d, 22:10, 2026-03-01 or "
            "2026-03-01T22:10+01:00"
        )
    if found > now:
        raise argparse.ArgumentTypeError(
            f"'{text}' is in the future: it is now {now.astimezone().isoformat(timespec='seconds')}"
        )
    return found


def _instant(text: str, now: datetime) -> datetime | None:
    if length := _is_length(text):
        return now - timedelta(**{_UNITS[length[2]]: int(length[1])})
    if _is_time_of_day(text):
        hour, minute, second = (*map(int, text.split(":")), 0)[:3]
        today = now.astimezone().replace(tzinfo=None, microsecond=0)
        return today.replace(hour=hour, minute=minute, second=second).astimezone(UTC)
    if _is_instant(text):
        return datetime.fromisoformat(text).astimezone(UTC)
    return None


def written_since(
    instances: Iterable[Instance], since: datetime
) -> list[tuple[datetime, Instance]]:
    """Return the domains that Nova wrote since then, and when; the earliest first."""
    found = [(at, one) for one in instances if (at := _written_at(one)) and at >= since]
    return sorted(found, key=lambda pair: (pair[0], pair[1].name))


def unjudged(instances: Iterable[Instance]) -> str | None:
    """Return how many domains tell no time, in words; None if each does."""
    count = sum(_written_at(one) is None for one in instances)
    if not count:
        return None
    says, it = ("does", "it") if count == 1 else ("do", "them")
    domains = words.number(count, "domain")
    return f"{domains} {says} not tell when Nova wrote {it}: --since leaves {it} out"


def _written_at(instance: Instance) -> datetime | None:
    nova = instance.details and instance.details.nova
    return nova.created_at if nova else None
