"""Changes from a revision on, over as many streams as it takes.

In: a span and the revision that the reader has. Out: batches of events, in order, each event once.

**After a lost stream** the next one begins after the last event that was delivered (or the last
progress that etcd told by itself), at the next member. Before each stream a read that the whole
cluster answers makes sure that a member is there and still has what the reader has. A store that
was restored from an older snapshot would wait in silence until it has counted up to the reader's
revision; or it has done so already, by other changes. So a second read asks for the newest of some
keys, the witnesses, as it was then: another history has another one.

A stream begins at the reader's revision, and what it tells of that revision is dropped: etcd 3.5.30
answers no progress request of a watch that begins after the store's present revision, so a member
of a quiet store would seem silent.

**When none is reached** the iterator raises `Unreachable`, so that the reader knows that it may
lag. Ask it again: it waits a little, longer each time, and goes on where it was.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Self

from guestlist.fleet.etcd import kv
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import LoginExpired, StoreReplaced, Unreachable
from guestlist.fleet.etcd.kv import KeyValue
from guestlist.fleet.etcd.messages import EventType
from guestlist.fleet.etcd.span import Span, shown
from guestlist.fleet.etcd.watch_stream import Batch, Event, WatchStream
from guestlist.waiting import Bell

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before another attempt: after the second failure in a row, and at most."""


class Watch:
    """The changes of a span after a revision: an endless iterator of batches, for one thread.

    Args:
        etcd: the connection.
        span: the keys.
        after: the revision that the reader has: that of its list. Changes after it are delivered.
        previous: also asks for what was there before each event.
        witnesses: keys of the span, of which each of its writes writes one; None: all its keys. All
            of them are looked at before each stream, so they should be few.
        witness: the newest of these, as that list has it; None: it is not known.

    The iterator raises, and may be asked again:
        Unreachable: no member answered.
        Compacted: the store no longer has the last event, or what came after it: list again.
        StoreReplaced: the store does not have the reader's revision (any more): list again.
        Denied: the user may not read the span.
    """

    def __init__(
        self,
        etcd: Etcd,
        span: Span,
        after: int,
        *,
        previous: bool = False,
        witnesses: Span | None = None,
        witness: KeyValue | None = None,
    ) -> None:
        self.streams = 0
        """Streams that were opened so far; 2 or more: it has resumed."""
        self._etcd = etcd
        self._span = span
        self._after = after
        self._previous = previous
        self._cluster: int | None = None
        self._witnesses = witnesses or span
        self._witness = witness
        self._stream: WatchStream | None = None
        self._failures = 0
        self._is_closed = False
        self._bell = Bell()

    @property
    def revision(self) -> int:
        """The revision up to which every event has been delivered."""
        return self._after

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while not self._is_closed:
            try:
                stream = self._stream or self._opened()
                batch = next(stream)
            except (Unreachable, LoginExpired):
                self._failures += 1
                stream_lost, self._stream = self._stream, None
                if self._is_closed:
                    break
                if stream_lost is None:
                    raise
                self._etcd.next_member(stream_lost.member, is_silent=True)
            except BaseException:
                self._failures += 1
                self._leave()
                raise
            else:
                self._failures = 0
                new = self._news_of(batch)
                if batch.is_complete:
                    self._after = max(self._after, batch.revision)
                for event in new.events if new else ():
                    self._see(event)
                if new is not None:
                    return new
        raise StopIteration

    def ask_progress(self) -> None:
        """Ask the open stream for a batch without events; see `watch_stream` on what it proves."""
        if (stream := self._stream) is not None:
            stream.ask_progress()

    def close(self) -> None:
        """End it: the iterator stops, also where another thread waits in it."""
        self._is_closed = True
        self._leave()
        self._bell.ring()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _news_of(self, batch: Batch) -> Batch | None:
        """Return what the reader does not have yet; None if that is nothing."""
        if not batch.events or batch.events[0].kv.mod_revision > self._after:
            return batch
        events = [each for each in batch.events if each.kv.mod_revision > self._after]
        return batch._replace(events=events) if events else None

    def _see(self, event: Event) -> None:
        """Note which witness is the newest; a deletion leaves that as it is, unless it is of it."""
        key = event.kv.key
        if event.type == EventType.PUT:
            if self._witnesses.has(key):
                self._witness = event.kv
        elif self._witness is not None and self._witness.key == key:
            self._witness = None

    def _leave(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _opened(self) -> WatchStream:
        """Open a stream where the store still has what the reader has."""
        self._pause()
        self._check_store()
        begin = max(self._after, 1)
        stream = WatchStream(self._etcd, self._span, begin, previous=self._previous)
        self.streams += 1
        self._stream = stream
        if self._is_closed:  # meanwhile, and `close` found no stream
            stream.close()
        return stream

    def _pause(self) -> None:
        """Wait before another attempt, unless the first one just failed; `close` ends the wait."""
        if self._failures > 1:
            longest = min(FIRST_PAUSE * 2.0 ** min(self._failures - 2, 10), LONGEST_PAUSE)
            self._bell.wait_for(lambda: self._is_closed, longest * random.uniform(0.5, 1.0))

    def _check_store(self) -> None:
        """Read one key, which needs a majority; compare the store with the one of before."""
        asked = f"watch {shown(self._span.start)}"
        header = self._etcd.call(
            "Range", asked, key=self._span.start, keys_only=True, limit=1
        ).header
        is_other = self._cluster not in (None, header.cluster_id)
        if not is_other and header.revision >= self._after:
            is_other = not self._has_witness()
        if is_other or header.revision < self._after:
            raise StoreReplaced(
                f"cannot watch {shown(self._span.start)} after revision {self._after}: etcd "
                f"{self._etcd.label} is at revision {header.revision}"
                f"{' of another history' if is_other else ''}; it was restored: list again",
                revision=int(header.revision),
            )
        self._cluster = header.cluster_id

    def _has_witness(self) -> bool:
        """Return whether the store has the history that the reader has, as far as it tells."""
        known = self._witness
        if known is None:
            return True
        return kv.is_newest(self._etcd, self._witnesses, known, revision=self._after)
