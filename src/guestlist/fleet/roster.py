"""The hosts of a fleet as the store has them: who is silent, and what is wrong with the keys. Pure.

In: the keys of each host: its lease, its record, how many domains it has there. Out: the state of
each host. The roster is each host that has a lease or a record; it leaves only by `forget`.

A host is live while its lease is held. It is synced once its record, written under that lease, says
so; and if as many of its domains are in the store as the record counts, and each can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from guestlist.errors import short
from guestlist.fleet.rows import HostState
from guestlist.fleet.rule import stranger
from guestlist.fleet.summary import HostSummary
from guestlist.fleet.values import HostRecord

NO_LEASE = "its agent holds no lease: it was stopped or cut off, or the host is down"
NO_RECORD = "its agent has begun and published nothing yet"
SYNCING = "its agent publishes all its domains again, and has not finished"


class StoredHost:
    """One host, and what the store has of it. `term` is None without a lease."""

    __slots__ = ("_unreadable", "domains", "host", "record", "term", "tombstones")

    def __init__(self, host: str) -> None:
        self.host = host
        self.term: int | None = None
        self.record: HostRecord | None = None
        self.domains = 0
        self.tombstones = 0
        self._unreadable: dict[bytes, str] = {}

    @property
    def is_on_roster(self) -> bool:
        """Whether it has a lease or a record."""
        return self.term is not None or self.record is not None or bool(self._unreadable)

    @property
    def is_empty(self) -> bool:
        """Whether the store has nothing of it."""
        return not (self.is_on_roster or self.domains or self.tombstones)

    def cannot_read(self, key: bytes, why: str) -> None:
        """Note that the value of a key cannot be read; it is no longer what it was before."""
        self._unreadable[key] = why

    def can_read(self, key: bytes) -> None:
        """Note that the value of a key can be read, or that the key is gone."""
        if self._unreadable:
            self._unreadable.pop(key, None)

    def state(self, *, counted: bool = True) -> HostState:
        """Return its state. `counted`: its domains were read, so that they can be compared."""
        if not self.is_on_roster:
            return stranger(self.host)
        wrong = self._wrong(counted=counted)
        if self.term is not None:
            return HostState(self.host, live=True, synced=wrong is None, failure=wrong)
        record = self.record
        return HostState(
            self.host,
            live=False,
            synced=wrong is None,
            failure=(record.failure or NO_LEASE) if record else wrong,
            since=_instant(record.written) if record else None,
        )

    def summary(self) -> HostSummary:
        """Return its state, and what its agent has told of itself."""
        known = self.record
        return HostSummary(
            self.state(counted=False),
            known.count if known else None,
            known.agent if known else None,
        )

    def _wrong(self, *, counted: bool) -> str | None:
        """Return the first thing because of which some of its domains may be missing."""
        record = self.record
        if self._unreadable:
            key, why = next(iter(self._unreadable.items()))
            many = len(self._unreadable)
            more = f", and {many - 1:,} more" if many > 1 else ""
            return f"cannot read {short(key.decode(errors='backslashreplace'))}: {why}{more}"
        if record is None:
            return NO_RECORD
        if not record.synced or self.term not in (None, record.term):
            return record.failure or SYNCING
        if counted and record.count != self.domains:
            return (
                f"the store has {self.domains:,} of the {record.count:,} domains that its agent "
                "has published: another program wrote there"
            )
        return None


def _instant(written: str) -> datetime | None:
    """Return a host's own time; None if it is none, or has no time zone."""
    try:
        found = datetime.fromisoformat(written)
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (ValueError, OverflowError):  # the year 10000 by UTC
        return None


class Roster:
    """All hosts of which the store has something, by name."""

    def __init__(self) -> None:
        self._hosts: dict[str, StoredHost] = {}

    def __getitem__(self, host: str) -> StoredHost:
        """Return a host; one of which nothing is known yet becomes known."""
        found = self._hosts.get(host)
        if found is None:
            found = self._hosts[host] = StoredHost(host)
        return found

    def __contains__(self, host: object) -> bool:
        return host in self._hosts

    def __iter__(self) -> Iterator[StoredHost]:
        return iter(self._hosts.values())

    def drop_if_empty(self, host: str) -> bool:
        """Forget a host of which the store has nothing more; return whether that is so."""
        if self[host].is_empty:
            del self._hosts[host]
            return True
        return False
