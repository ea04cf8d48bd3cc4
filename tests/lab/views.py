"""Checks of a live view: against a fresh list, and against its own changes.

In: an `Inventory`. Out: whether it equals what libvirt has; and a `Replica`, which builds the view
from the changes alone, and notes each change that cannot be.
"""

from __future__ import annotations

import itertools
from uuid import UUID

from lab.waiting import LONG, wait_until

from guestlist import (
    Change,
    Changes,
    Gone,
    Host,
    Instance,
    Inventory,
    Resynced,
    Snapshot,
    Stale,
    Started,
    Stopped,
    Undefined,
)

SCOPES = tuple(
    dict(zip(("include_inactive", "include_foreign", "include_dom0"), options, strict=True))
    for options in itertools.product((False, True), repeat=3)
)
"""The eight combinations of options of a snapshot."""

EVERYBODY = SCOPES[-1]
"""The options of a snapshot of all domains."""

_ENDS = Gone, Stopped, Undefined


def truth(uri: str, *, details: bool = True) -> Snapshot:
    """Return all domains, as a new connection sees them."""
    with Host(uri) as host:
        return host.snapshot(
            include_inactive=True, include_foreign=True, include_dom0=True, details=details
        )


def wait_equal(inventory: Inventory, expected: Snapshot, timeout: float = LONG) -> None:
    """Wait until the view is in step and equals this snapshot of all domains.

    Raises:
        AssertionError: it does not; the message has the differences.
    """

    def equal() -> bool:
        seen = inventory.snapshot(**EVERYBODY)
        return seen.stale_for == 0.0 and seen == expected

    try:
        wait_until(equal, timeout)
    except TimeoutError:
        seen = inventory.snapshot(**EVERYBODY)
        raise AssertionError("\n".join([repr(seen), *differences(seen, expected)])) from None


def differences(seen: Snapshot, expected: Snapshot) -> list[str]:
    """Return what differs, a line for each domain."""
    return [
        f"{uuid}: seen {seen.get(uuid)}, expected {expected.get(uuid)}"
        for uuid in {*seen, *expected}
        if seen.get(uuid) != expected.get(uuid)
    ]


class Replica:
    """A view made of `Changes.snapshot` and the changes after it, as G3 promises.

    `wrong` has a line for each change that breaks a guarantee: its `before` is not the last `after`
    of that domain (G3), a domain runs again under an id that is over (G2: ids only grow while a
    daemon lives), a domain ends that did not exist (G4), `told_at` is after `learned_at` (G7).
    """

    def __init__(self, changes: Changes) -> None:
        self.changes = changes
        self.view: dict[UUID, Instance] = dict(changes.snapshot or {})
        self.synced = changes.snapshot is not None
        self.stale = bool(changes.snapshot is not None and changes.snapshot.stale_for)
        self.seen = self.missed = self.resyncs = self.stales = 0
        self.wrong: list[str] = []
        self._over: dict[UUID, int] = {}

    def take(self, timeout: float = LONG) -> bool:
        """Take the next news in; False if none comes within `timeout`, or there will be no more."""
        try:
            news = self.changes.get(timeout=timeout)
        except TimeoutError:
            return False
        if news is None:
            return False
        self.hear(news)
        return True

    def caught_up(self) -> dict[UUID, Instance]:
        """Take in all news so far, and return the view."""
        while self.take(timeout=0):
            pass
        return self.view

    def hear(self, news: Change | Resynced | Stale) -> None:
        """Take one piece of news in."""
        self.seen += 1
        if isinstance(news, Resynced):
            self._resynced(news)
        elif isinstance(news, Stale):
            self.stales += 1
            self._expect(not self.stale, "stale twice", news)
            self._expect(news.since <= news.learned_at, "stale since later than now", news)
            self.stale = True
        else:
            self._changed(news)

    def _resynced(self, news: Resynced) -> None:
        self.resyncs += 1
        self.missed += news.missed
        if self.synced and not news.missed:
            before = Snapshot(self.view.values())
            differ = differences(before, news.snapshot)
            self._expect(not differ, "changes did not lead to the Resynced after them", *differ)
        self.view, self.synced = dict(news.snapshot), True
        self.stale = False  # if the view is stale, a `Stale` comes next
        self._over.clear()  # a daemon that was restarted counts its ids from 1 again

    def _changed(self, change: Change) -> None:
        known = self.view.get(change.uuid)
        self._expect(self.synced, "a change before there is a view", change)
        self._expect(change.before == known, "begins elsewhere: known", known, change)
        self._expect(
            change.before != change.after or bool(change.events), "nothing has changed", change
        )
        for earlier, later in itertools.pairwise(change.events):
            self._expect(earlier.at <= later.at, "events out of order", change)
        if change.told_at is not None:
            self._expect(change.told_at <= change.learned_at, "told after learned", change)
        if change.after is None:
            self._expect(known is not None, "ends and never was there", change)
            self._expect(isinstance(change, _ENDS), "a strange end", change)
            self.view.pop(change.uuid, None)
        else:
            self.view[change.uuid] = change.after
            if isinstance(change, Started):
                self._expect(change.after.active, "started and not active", change)
        if not self.stale:
            self._follow_id(change)

    def _follow_id(self, change: Change) -> None:
        was, now = (each.id if each else None for each in (change.before, change.after))
        if now is not None:
            over = self._over.get(change.uuid, -1)
            self._expect(now > over, "runs again under an id not above", over, change)
        if was is not None and was != now:
            self._over[change.uuid] = was

    def _expect(self, holds: bool, what: str, *facts: object) -> None:
        if not holds:  # a message is made only then: a change may have thousands of events
            self.wrong.append(": ".join([what, *map(str, facts)]))
