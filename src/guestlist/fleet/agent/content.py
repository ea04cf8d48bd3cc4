"""What the store should have of one host: its domains and tombstones, as the values of keys.

In: what the store had when this agent took the host over, and the news of the live view since. Out:
the values of each domain's two keys, and of the host's record. Makes no call.

What an earlier agent has published of the host counts as known: so a domain that was there before
and is gone now is told, as one of which no event says what became of it. After a doubt the agent
knows better than the store, and nothing that the store has is taken for news.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import guestlist
from guestlist.event import Event
from guestlist.fleet import layout, values
from guestlist.fleet.agent.chain import Contents
from guestlist.fleet.agent.keys import HostKeys
from guestlist.fleet.agent.publishing import NOTHING, Batch, Entry
from guestlist.fleet.etcd import kv
from guestlist.fleet.etcd.span import Span
from guestlist.fleet.phases import LATE, Phases, Update
from guestlist.fleet.rows import Fate
from guestlist.inventory.changes import News, Resynced
from guestlist.records import Snapshot
from guestlist.unpatched import time

MOST_STRAYS = 100
"""Spans of keys of this host that name no domain, and are deleted in one transaction."""


class Content:
    """What the store should have of one host. One thread at a time."""

    def __init__(self, keys: HostKeys) -> None:
        self._keys = keys
        self._phases: Phases | None = None
        self._last = self._term = self._sequence = 0
        self._strays: list[Span] = []
        self._began: dict[UUID, int] = {}
        """The revisions from which domains run whose keys are older."""
        self._unexplained_at = -math.inf

    @property
    def next_due(self) -> float | None:
        """When `expire` has something to return (monotonic); None: not without news."""
        return None if self._phases is None else self._phases.next_due

    @property
    def expects_event(self) -> bool:
        """Whether an event may be on its way that tells what became of a domain."""
        return time.monotonic() < self._unexplained_at + LATE

    @property
    def uuids(self) -> set[UUID]:
        """The domains of which the store should have something."""
        if self._phases is None:
            return set()
        return {*self._phases.publications, *self._phases.tombstones}

    def entry(self, uuid: UUID) -> Entry:
        """Return what the store should have of a domain."""
        if self._phases is None:
            return NOTHING
        publication = self._phases.publications.get(uuid)
        tombstone = self._phases.tombstones.get(uuid)
        return Entry(
            publication and values.publication_value(publication, self._began.get(uuid, 0)),
            tombstone and values.tombstone_value(tombstone),
        )

    # The view

    def take(self, news: News) -> list[UUID]:
        """Take news of the view; return the domains that it may change."""
        if self._phases is None:
            return []
        updates = self._phases.take(news)
        if any(each.tombstone and each.tombstone.fate is Fate.UNKNOWN for each in updates):
            self._unexplained_at = time.monotonic()
        return _uuids(updates)

    def hear(self, event: Event) -> list[UUID]:
        """Take an event of an end, which may explain a change; return the domains it may change."""
        return [] if self._phases is None else _uuids(self._phases.hear(event))

    def compare(self, snapshot: Snapshot) -> list[UUID]:
        """Take the whole view; return the domains that it may change."""
        return self.take(Resynced(snapshot, 0, datetime.now(UTC)))

    def expire(self) -> list[UUID]:
        """Take back what is told for a while only; return the domains that it changes."""
        return [] if self._phases is None else _uuids(self._phases.expire())

    # The store

    def is_of_another(self, contents: Contents) -> bool:
        """Return whether another agent wrote last: before this one, or in its place."""
        if self._phases is None:
            return True
        if contents.record is None or contents.record.mod_revision <= self._last:
            return False
        record = layout.host_record(contents.record)
        return isinstance(record, layout.BadRow) or record.term != self._term

    def begin(self, contents: Contents, hold: float) -> None:
        """Begin with what another agent has published; `hold` as for `Phases`.

        What of it this version cannot read is not known, and is written over.
        """
        read = self._keys.layout.read((*contents.domains, *contents.tombstones))
        self._phases = Phases(
            self._keys.host,
            publications=read.publications,
            tombstones=read.tombstones,
            hold=hold,
        )

    def found(self, contents: Contents, term: int) -> tuple[dict[UUID, Entry], dict[UUID, int]]:
        """Take what was read of the store; return it by domain, and when each key was created."""
        entries: dict[UUID, Entry] = {}
        born: dict[UUID, int] = {}
        self._strays, self._began = [], {}
        for uuid, each in self._by_uuid(contents.domains, self._keys.domains):
            entries[uuid] = Entry(domain=each.value)
            born[uuid] = each.create_revision
            if began := _run(each.value).began:
                self._began[uuid] = began
        for uuid, each in self._by_uuid(contents.tombstones, self._keys.tombstones):
            entries[uuid] = entries.get(uuid, NOTHING)._replace(tombstone=each.value)
        self._last, self._term, self._sequence = 0, term, 0
        if contents.record is not None:
            record = layout.host_record(contents.record)
            self._last = contents.record.mod_revision
            self._sequence = 0 if isinstance(record, layout.BadRow) else record.sequence
        return entries, born

    def runs_again(self, batch: Batch) -> list[UUID]:
        """Return the domains of a batch that run again, under keys that are older than that."""
        found = []
        for uuid, (old, new) in batch.changes.items():
            if old.domain is not None and new.domain is not None:
                number = _run(new.domain).id
                if number is not None and number != _run(old.domain).id:
                    found.append(uuid)
        return found

    def begin_runs(self, uuids: Iterable[UUID], revision: int) -> None:
        """Let domains run from this revision on."""
        self._began.update(dict.fromkeys(uuids, revision))

    @property
    def has_strays(self) -> bool:
        """Whether the store has keys that name no domain: `operations` of an empty batch, first.

        The key of a new domain may be between them, and etcd takes no transaction that does both.
        """
        return bool(self._strays)

    @property
    def has_more_strays(self) -> bool:
        """Whether one transaction is not enough for them."""
        return len(self._strays) > MOST_STRAYS

    def operations(self, batch: Batch) -> list[kv.Operation]:
        """Return the writes of a batch, which is empty while there are strays: then theirs."""
        found: list[kv.Operation] = [kv.Delete(each) for each in self._strays[:MOST_STRAYS]]
        for uuid, (old, new) in batch.changes.items():
            keys = self._keys.domain(uuid), self._keys.tombstone(uuid)
            for key, was, wanted in zip(keys, old, new, strict=True):
                if wanted is None and was is not None:
                    found.append(kv.Delete(Span(key)))
                elif wanted is not None and wanted != was:
                    found.append(kv.Put(key, wanted))
        return found

    def record(self, term: int, count: int, synced: bool, failure: str | None) -> bytes:
        """Return the next value of the host's record."""
        return values.record_value(
            values.HostRecord(
                term,
                synced,
                self._sequence + 1,
                count,
                f"guestlist {guestlist.__version__}",
                datetime.now(UTC).isoformat(timespec="milliseconds"),
                failure or "",
            )
        )

    def wrote(self, revision: int) -> None:
        """Note that the store has taken a batch, and the record with it."""
        del self._strays[:MOST_STRAYS]
        self._sequence += 1
        self._last = revision

    def note_born(self, uuids: Iterable[UUID], born: Callable[[UUID], int]) -> None:
        """Note when the keys of domains were created; 0: there is none."""
        if self._phases is not None:
            for uuid in uuids:
                if (revision := born(uuid)) > 0:
                    self._phases.published(uuid, max(revision, self._began.get(uuid, 0)))
                else:
                    self._began.pop(uuid, None)

    def _by_uuid(
        self, rows: Iterable[kv.KeyValue], span: Span
    ) -> Iterator[tuple[UUID, kv.KeyValue]]:
        """Yield the keys of a span with their domains; keep the spans of those that name none.

        The keys come in order: all strays between two domains are one span, however many they are.
        """
        was_stray = False
        for each in rows:
            uuid = _uuid_of(each.key[len(span.start) :])
            if uuid is not None:
                yield uuid, each
            elif was_stray:
                self._strays[-1] = Span(self._strays[-1].start, each.key + b"\0")
            else:
                self._strays.append(Span(each.key, each.key + b"\0"))
            was_stray = uuid is None


class _Run(NamedTuple):
    """Which run of a domain a value is about: the domain's id, and since when if that is told."""

    id: int | None = None
    began: int = 0


def _run(value: bytes) -> _Run:
    """Return which run a value is about; none, if it cannot be read."""
    try:
        found = values.domain(value)
    except ValueError:
        return _Run()
    return _Run(found.id, found.began)


def _uuid_of(end: bytes) -> UUID | None:
    """Return the domain that a key names by what stands behind the host; None: it names none."""
    text = end.decode(errors="replace")
    try:
        uuid = UUID(text)
    except ValueError:
        return None
    return uuid if str(uuid) == text else None


def _uuids(updates: Iterable[Update]) -> list[UUID]:
    return [each.uuid for each in updates]
