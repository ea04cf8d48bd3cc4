"""The news that the filters of `guestlist watch` let through.

In: what the live views of hosts tell. Out: the news of the domains that match, in order. A change
is one of them if the domain matches before it or after it. Asks no host.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from functools import partial
from typing import cast
from uuid import UUID

from guestlist.cli.filters import Filter
from guestlist.cli.waiting_changes import WaitingChanges
from guestlist.inventory.changes import Change, News, Resynced, Stale
from guestlist.records import Snapshot


class ChosenNews:
    """Lets the news of several hosts through a filter; `complain` as for `WaitingChanges`."""

    def __init__(self, chosen: Filter, complain: Callable[[str], object]) -> None:
        self._chosen = chosen
        self._waiting = WaitingChanges[Change](complain)

    def of(self, host: str, news: News) -> Iterator[News]:
        """Yield the news that the filter lets through; a `Resynced` with fewer domains."""
        if not self._chosen.is_given or isinstance(news, Stale):
            yield news
        elif isinstance(news, Resynced):
            yield from self._waiting.passed_by_list(partial(self._judge, host, news.snapshot))
            matching = filter(self._chosen.matches, news.snapshot.instances)
            snapshot = Snapshot(matching, stale_for=news.snapshot.stale_for)
            yield replace(news, snapshot=snapshot)
        else:
            known = [each for each in (news.before, news.after) if each is not None]
            yield from self._waiting.passed(
                news,
                (host, news.uuid),
                news.instance,
                matches=any(map(self._chosen.matches, known)),
                is_unjudged=self._chosen.is_unjudged(news.instance),
                is_there=news.after is not None,
            )

    def _judge(self, host: str, snapshot: Snapshot, domain: Hashable) -> bool | None:
        """Return whether a domain whose changes wait matches; None: its host has not told yet."""
        of, uuid = cast("tuple[str, UUID]", domain)
        if of != host:
            return None
        one = snapshot.get(uuid)
        if one is None or self._chosen.matches(one):  # if it is gone, nothing of it is lost
            return True
        return None if one.details is None and self._chosen.is_unjudged(one) else False
