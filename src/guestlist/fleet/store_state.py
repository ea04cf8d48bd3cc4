"""What a watch keeps of a fleet in the store, and what changes of the rows. Pure.

In: a list, and then the events of one revision after the other. Out: news. Work grows with what
changes: only the guests that an event touches are judged again, and those of a host that falls
silent, or is heard again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from guestlist.fleet.content import KINDS, Content, Place
from guestlist.fleet.etcd.messages import EventType
from guestlist.fleet.etcd.watch_stream import Event
from guestlist.fleet.folded import row_change
from guestlist.fleet.rows import FleetNews, FleetRow, FleetSnapshot, HostChange, HostState
from guestlist.fleet.stored import number_of


class StoreState:
    """A fleet in the store as it is at a revision. One thread at a time."""

    def __init__(self, content: Content, revision: int) -> None:
        self.revision = revision
        self._content = content
        self._states = content.states()
        self._guests: defaultdict[str, set[int]] = defaultdict(set)
        """The guests of which a host publishes something."""
        for host, number in content.claims.by_host():
            self._guests[host].add(number)

    def snapshot(self) -> FleetSnapshot:
        """Return the fleet as it is."""
        hosts = self._states.copy()
        rows = self._content.claims.copy().rows(hosts)
        return FleetSnapshot.over(rows, hosts.values(), self.revision)

    @property
    def size(self) -> tuple[int, int]:
        """How many hosts it knows, and how many guests of hosts."""
        return len(self._states), sum(map(len, self._guests.values()))

    def take(self, events: Sequence[Event], at: datetime) -> list[FleetNews]:
        """Take all events of one revision; return what they change: hosts first, then guests.

        Args:
            events: the events, with the same revision.
            at: when they came, by this machine's clock.
        """
        places = [self._content.place(each.kv.key) for each in events]
        guests = [(each.host, number) for each in places if (number := _number(each)) is not None]
        before = {number: self._row(number) for _, number in guests}
        for event in events:
            if event.type == EventType.DELETE:
                self._content.delete(event.kv.key)
            else:
                self._content.put(event.kv, is_new=event.kv.version == 1)
        for host, number in guests:
            if self._content.claims.publishes(host, number):
                self._guests[host].add(number)
            else:
                self._guests[host].discard(number)
        self.revision = max(self.revision, int(events[-1].kv.mod_revision))
        changed = list(self._changed_hosts({each.host for each in places if each.kind in KINDS}))
        for host, _, _ in changed:
            for number in self._guests[host]:
                if number not in before:
                    before[number] = self._row(number)
        self._see(changed)
        news: list[FleetNews] = [HostChange(was, now) for _, was, now in changed]
        for number, row in before.items():
            after = self._row(number)
            if row != after:
                news.append(row_change(row, after, at))
        return news

    def _row(self, number: int) -> FleetRow | None:
        return self._content.claims.row(number, self._states)

    def _changed_hosts(
        self, hosts: Iterable[str]
    ) -> Iterator[tuple[str, HostState | None, HostState | None]]:
        """Yield the hosts whose states differ from what is known, with both."""
        for host in sorted(hosts):
            was, now = self._states.get(host), self._content.state(host)
            if was != now:
                yield host, was, now

    def _see(self, changed: Iterable[tuple[str, HostState | None, HostState | None]]) -> None:
        for host, _, now in changed:
            if now is None:
                del self._states[host], self._guests[host]
            else:
                self._states[host] = now


def _number(place: Place) -> int | None:
    """Return the number of the guest that a key is about, if it is about one."""
    if place.kind not in (b"dom", b"gone"):
        return None
    try:
        return number_of(place.rest)
    except ValueError:
        return None
