"""What the store has of one host, and what of it must be written next. Pure.

In: what the store has, the domains that changed, and a function that says what the store should
have of one domain. Out: batches of writes, of bounded length, in the order in which the domains
changed. Knows neither etcd nor libvirt, and reads no clock: times are given.

A domain has two keys, its own and its tombstone; both are written in one batch, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from uuid import UUID


class Entry(NamedTuple):
    """What the store has of one domain, or should have: the values of its two keys; None: none."""

    domain: bytes | None = None
    tombstone: bytes | None = None


NOTHING = Entry()

MOST_BYTES = 1 << 20
"""Bytes of the values in one batch, unless the first domain alone has more. etcd takes no request
of more than 1.5 MiB (`--max-request-bytes`)."""


class Batch(NamedTuple):
    """The next writes: for each domain what the store has, and what it should have.

    `is_last`: nothing waits behind it. `operations` is the number of keys that it writes.
    """

    changes: Mapping[UUID, tuple[Entry, Entry]]
    is_last: bool
    operations: int

    @property
    def more_domains(self) -> int:
        """By how many the number of domain keys grows."""
        return sum(
            (new.domain is not None) - (old.domain is not None)
            for old, new in self.changes.values()
        )


class Publishing:
    """What the store has of one host, and the domains that wait to be written.

    Args:
        wanted: returns what the store should have of a domain.
    """

    def __init__(self, wanted: Callable[[UUID], Entry]) -> None:
        self._wanted = wanted
        self._stored: dict[UUID, Entry] = {}
        self._born: dict[UUID, int] = {}
        self._waiting: dict[UUID, float] = {}

    @property
    def domains(self) -> int:
        """The number of domain keys that the store has."""
        return len(self._born)

    @property
    def waiting(self) -> int:
        """The number of domains that wait to be written."""
        return len(self._waiting)

    @property
    def waiting_since(self) -> float | None:
        """When the domain changed that has waited longest; None: none waits."""
        return next(iter(self._waiting.values()), None)

    def born(self, uuid: UUID) -> int:
        """Return the revision at which the key of a domain was created; 0: it has none."""
        return self._born.get(uuid, 0)

    def touch(self, uuids: Iterable[UUID], now: float) -> None:
        """Note that domains have changed. One that waits already keeps its place."""
        for uuid in uuids:
            self._waiting.setdefault(uuid, now)

    def found(self, stored: Mapping[UUID, Entry], born: Mapping[UUID, int], now: float) -> None:
        """Take what was read of the store in place of what was known of it.

        Every domain in it is compared; the caller touches those that it has besides.
        """
        self._stored = dict(stored)
        self._born = {uuid: at for uuid, at in born.items() if stored[uuid].domain is not None}
        self.touch(stored, now)

    def batch(self, most: int) -> Batch:
        """Return the next writes: `most` keys, and `MOST_BYTES`. The same again until `written`.

        Domains that need no write any more are in it, without a change, or wait no longer.
        """
        changes: dict[UUID, tuple[Entry, Entry]] = {}
        operations = size = 0
        for uuid in list(self._waiting):
            old, new = self._stored.get(uuid, NOTHING), self._wanted(uuid)
            written = [b or b"" for a, b in zip(old, new, strict=True) if a != b]
            if not written:
                del self._waiting[uuid]
                continue
            size += sum(map(len, written))
            if operations + len(written) > most or (changes and size > MOST_BYTES):
                break
            operations += len(written)
            changes[uuid] = old, new
        return Batch(changes, len(changes) == len(self._waiting), operations)

    def written(self, batch: Batch, revision: int) -> None:
        """Note that the store has taken a batch, at a revision."""
        for uuid, (old, new) in batch.changes.items():
            self._waiting.pop(uuid, None)
            if new == NOTHING:
                self._stored.pop(uuid, None)
            else:
                self._stored[uuid] = new
            if new.domain is None:
                self._born.pop(uuid, None)
            elif old.domain is None:
                self._born[uuid] = revision
