"""The board of the fleet, which readers read: the rows, the hosts, and who is told of changes.

In: what hosts publish, in the order in which this process learns of it. Out: snapshots, and news
for each reader. What a store does elsewhere is done here: each piece that is learned gets a number,
so that a number is a revision. Everything happens under one lock that is held for a short time
only. Makes no call of libvirt's.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from guestlist.fleet.folded import Folded
from guestlist.fleet.phases import Phases, Update
from guestlist.fleet.readers import FleetChanges
from guestlist.fleet.rows import FleetNews, FleetSnapshot, HostState, RowChange
from guestlist.unpatched import threading


class Board:
    """The fleet, as its readers see it. Threads may share it."""

    def __init__(self, hosts: Iterable[HostState]) -> None:
        self._folded = Folded(hosts=hosts)
        self._revision = 0
        self._readers: tuple[FleetChanges, ...] = ()
        self._shared: set[str] = set()
        self._is_ended = False
        self._lock = threading.RLock()

    # For readers

    def snapshot(self) -> FleetSnapshot:
        """Return the fleet as it is. The same object again while nothing changes."""
        with self._lock:
            return self._folded.snapshot()

    def subscribe(self, longest_queue: int) -> FleetChanges:
        """Return a new reader of the news."""
        with self._lock:
            changes = FleetChanges(self._lock, self._folded.snapshot, self._forget, longest_queue)
            if self._is_ended:
                changes.end()
            else:
                self._readers = (*self._readers, changes)
        return changes

    def end(self) -> None:
        """Tell the readers that nothing more will come. Harmless twice."""
        with self._lock:
            self._is_ended = True
            for reader in self._readers:
                reader.end()
            self._readers = ()

    # For the threads that follow the hosts

    def publish(self, host: str, phases: Phases, updates: Iterable[Update]) -> None:
        """Take what a host publishes, and tell `phases` the revisions."""
        for update in updates:
            change = update.change
            with self._lock:
                self._revision += 1
                moved = self._folded.publish(
                    host,
                    update.uuid,
                    update.publication,
                    update.tombstone,
                    revision=self._revision,
                    learned_at=change.learned_at if change else datetime.now(UTC),
                    events=change.events if change else (),
                )
                kept = self._folded.publication(host, update.uuid)
                self._tell([moved] if moved else [])
            if kept is not None:
                phases.published(update.uuid, kept.born)

    def see(self, state: HostState) -> None:
        """Take the state of a host."""
        with self._lock:
            self._revision += 1
            at = datetime.now(UTC)
            self._tell(self._folded.see(state, revision=self._revision, learned_at=at))

    def withdraw(self, host: str) -> None:
        """Drop all that a host has published. It stays in the fleet, and `see` says why."""
        with self._lock:
            self._revision += 1
            at = datetime.now(UTC)
            news = self._folded.forget(host, revision=self._revision, learned_at=at)
            self._tell([each for each in news if isinstance(each, RowChange)])

    @property
    def has_shared(self) -> bool:
        """Whether `take_shared` would return a host."""
        return bool(self._shared)

    def take_shared(self) -> set[str]:
        """Return the hosts that publish a guest which another host publishes, since the last call.

        Only guests whose rows have changed since are looked at.
        """
        with self._lock:
            shared, self._shared = self._shared, set()
        return shared

    def _tell(self, news: Iterable[FleetNews]) -> None:
        for each in news:
            if isinstance(each, RowChange) and each.after is not None and each.after.others:
                self._shared |= {each.after.host, *each.after.others}
            for reader in self._readers:
                reader.put([each])

    def _forget(self, reader: FleetChanges) -> None:
        with self._lock:
            self._readers = tuple(each for each in self._readers if each is not reader)
