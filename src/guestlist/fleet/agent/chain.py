"""The writes of one host: each one fenced by the host's term, and chained to the write before it.

In: a term, writes, the host's record. Out: what the store has of this host; or that a write was
done, and at which revision. Every transaction compares two things before it does anything:

- the fence: the host's live key was created at this term. Else another agent may have the host.
- the chain: the host's record was last written by this agent's last write. Else the store was
  restored from an older state, a write whose answer was lost was done after all, or something else
  writes these keys: nothing that is remembered of the store is sure, and it must be read again.

Source: etcd's published API, api/etcdserverpb/rpc.proto (TxnRequest, Compare).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from guestlist.fleet.agent import term as terms
from guestlist.fleet.agent.keys import HostKeys
from guestlist.fleet.agent.term import Term, TermLost
from guestlist.fleet.etcd import kv
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.span import Span

MOST_OPERATIONS = 100
"""Keys that one transaction writes besides the host's record; etcd's default limit is 128."""


MOST_KEYS = 10_000
"""Keys in one answer, at most: some 3 MB. etcd counts the rest of the span for each further one."""


class ChainBroken(Exception):
    """The host's record is not what this agent wrote last: the store must be read again."""


class Contents(NamedTuple):
    """What the store has of one host, at one revision: its record, domains and tombstones."""

    record: kv.KeyValue | None
    domains: Sequence[kv.KeyValue]
    tombstones: Sequence[kv.KeyValue]


class Chain:
    """The writes of one host under one term."""

    def __init__(self, etcd: Etcd, keys: HostKeys, term: Term) -> None:
        self._etcd = etcd
        self._keys = keys
        self.term = term
        self.last: int = 0
        """The revision of the last write of the host's record, by this agent or before it."""

    def read(self) -> Contents:
        """Read all keys of this host, as they are at one revision, and go on from there.

        Where there are so many that the lease might expire meanwhile, it is kept.

        Raises:
            TermLost.
            Compacted: the store has no longer that revision.
            EtcdError.

        Cost: 1 call; 2 more for each further `MOST_KEYS` domains or tombstones.
        """
        spans = Span(self._keys.record), self._keys.domains, self._keys.tombstones
        gets = [kv.Get(each, limit=MOST_KEYS) for each in spans]
        done = kv.transact(self._etcd, [self._fence], gets)
        if not done.held:
            raise self._lost()
        record, domains, tombstones = (
            [*self._all(each, span)] if isinstance(each, kv.Page) else []
            for each, span in zip(done.answers, spans, strict=True)
        )
        self.last = record[0].mod_revision if record else 0
        return Contents(record[0] if record else None, domains, tombstones)

    def _all(self, page: kv.Page, span: Span) -> Iterator[kv.KeyValue]:
        """Yield the keys of a page, and those of its span that are behind it, at its revision."""
        yield from page.rows
        while page.more:
            terms.keep(self._etcd, self.term)
            rest = Span(page.rows[-1].key + b"\0", span.end)
            page = kv.read(self._etcd, rest, revision=page.revision, limit=MOST_KEYS)
            yield from page.rows

    def write(self, operations: Sequence[kv.Operation], record: bytes) -> int:
        """Write keys and the host's record at once; return the revision.

        Raises:
            TermLost, ChainBroken: nothing was written.
            EtcdError: `UnknownOutcome` where it may be written.

        Cost: 1 call.
        """
        self.last = self._do([*operations, kv.Put(self._keys.record, record)])
        return self.last

    def check(self) -> int:
        """Compare the fence and the chain; write nothing; return the revision of the store.

        Works also while the store is full.

        Raises:
            TermLost, ChainBroken.
            EtcdError.

        Cost: 1 call.
        """
        return self._do([])

    def end(self, record: bytes) -> None:
        """Write the host's record for the last time, and give up its live key.

        Raises:
            TermLost, ChainBroken: nothing was written.
            EtcdError.
        """
        self._do([kv.Put(self._keys.record, record), kv.Delete(Span(self._keys.live))])

    def _do(self, operations: Sequence[kv.Operation]) -> int:
        chain = kv.modified_at(self._keys.record, self.last)
        look = kv.Get(Span(self._keys.live), keys_only=True)  # in place of the writes: why not
        done = kv.transact(self._etcd, [self._fence, chain], operations, [look])
        if done.held:
            return done.revision
        match done.answers:
            case [kv.Page(rows=[live])] if live.create_revision == self.term.number:
                raise ChainBroken(
                    f"the record of the host was last written at another revision than {self.last}"
                )
        raise self._lost()

    @property
    def _fence(self) -> kv.Compare:
        return kv.created_at(self._keys.live, self.term.number)

    def _lost(self) -> TermLost:
        return TermLost(f"term {self.term.number} is over: its live key is gone, or another's")
