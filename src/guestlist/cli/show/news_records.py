"""News of a live view for programs: one record each.

In: what a view told, and the name of its host. Out: a mapping with the keys of watch.schema.json in
docs/schemas; the keys are promises. Text is carried exactly; times are ISO 8601, UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from guestlist.cli.show import words
from guestlist.cli.show.differences import differences, shown
from guestlist.inventory.changes import Change, News, Resynced, Stale
from guestlist.records import Instance


def news_record(host: str, news: News) -> dict[str, Any]:
    """Return the record. Its kind, `change`, tells which keys it has."""
    common = {
        "change": type(news).__name__.lower(),
        "host": host,
        "learned_at": _instant(news.learned_at),
    }
    match news:
        case Resynced():
            instances = [shown(instance) for instance in news.snapshot.instances]
            return {**common, "missed": news.missed, "instances": instances}
        case Stale():
            return {**common, "since": _instant(news.since), "error": str(news.error)}
    return {**common, **of_domain(news)}


def of_domain(change: Change) -> dict[str, Any]:
    """Return what a change tells of its domain."""
    return {
        "told_at": None if change.told_at is None else _instant(change.told_at),
        "uuid": str(change.uuid),
        "name": change.instance.name,
        "before": _shown(change.before),
        "after": _shown(change.after),
        "differs": _differs(change),
        "why": change.why,
        "events": [{"event": str(event), "at": _instant(event.at)} for event in change.events],
    }


def _differs(change: Change) -> list[str]:
    """Return the keys of `before` and `after` that differ; `details` if the difference has none."""
    if change.before is None or change.after is None:
        return []
    found = differences(change.before, change.after)
    return list(dict.fromkeys(each.name if each.column else "details" for each in found))


def _shown(instance: Instance | None) -> dict[str, Any] | None:
    return None if instance is None else shown(instance)


def _instant(at: datetime) -> str:
    return words.instant(at, "microseconds")
