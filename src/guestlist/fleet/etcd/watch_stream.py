"""One stream of changes, at one member, until it ends.

In: a span and a revision. Out: batches of events, each with whole revisions; an `EtcdError` at the
end. Does not resume: `watch` does.

**Fragments.** etcd may send the events of one revision in several messages; this joins them, so a
stream that is cut between them has delivered none of them.

**Silence.** A member that is frozen, or behind a network that drops packets, keeps its connection
open. So the reader asks it for its progress after a while of silence, and gives it up if no answer
comes. (gRPC's own keepalive did not notice a frozen member in 25 s; measured with 1.85.)

**Progress.** A message without events says that the reader has all events up to its revision. etcd
sends one by itself when a watch has been quiet for ten minutes, and one on request. Before 3.4.25
and 3.5.8 etcd answers a request also while events are still to come. So only what etcd sends by
itself counts (`Batch.is_complete`).

Source: etcd server/etcdserver/api/v3rpc/watch.go (`sendLoop`, `sendFragments`), issue 15220.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, Self

from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.failures import cancelled
from guestlist.fleet.etcd.kv import KeyValue
from guestlist.fleet.etcd.messages import EventType
from guestlist.fleet.etcd.span import Span, shown
from guestlist.fleet.etcd.stream import Stream

__all__ = ["Batch", "Event", "EventType", "WatchStream"]

HEARTBEAT = 2.0
"""Seconds of silence after which the member is asked for a sign of life: its progress."""

_ON_REQUEST = -1
"""The number of the watch in an answer to a progress request."""


class Event(Protocol):
    """One change of one key; mvccpb.Event.

    `type` is an `EventType`. After DELETE `kv` has only the key and, as `mod_revision`, when it was
    deleted. `prev_kv` is what was there before, where the watch asked for it.
    """

    type: int
    kv: KeyValue
    prev_kv: KeyValue


class Batch(NamedTuple):
    """Events in order, each revision whole; no events: progress.

    `revision` is that of the last event, or of the progress. `is_complete` says that every event up
    to that revision has been delivered: not so for an answer to `ask_progress`.
    """

    revision: int
    events: Sequence[Event]
    is_complete: bool = True


class WatchStream:
    """The changes of a span from a revision on, until the stream ends: an iterator of batches.

    One thread iterates;
    any thread may call `close` and `ask_progress`.

    Args:
        etcd: the connection. The member that it asks at present serves the stream.
        span: the keys.
        revision: the first revision whose changes are wanted, at least 1.
        previous: also asks for what was there before each event.

    The iterator raises:
        Compacted: the store no longer has that revision.
        Denied: the user may not read the span.
        Unreachable: the stream was lost, or the member answers nothing.
    """

    def __init__(self, etcd: Etcd, span: Span, revision: int, *, previous: bool = False) -> None:
        if revision < 1:
            raise ValueError(f"a watch begins at a revision of 1 or more, not at {revision}")
        self._timeout = etcd.timeout
        self._wanted = 0
        asked = f"watch {shown(span.start)} from revision {revision}"
        self._stream = Stream(etcd, "Watch", asked)
        self.member = self._stream.member
        self._stream.send(
            create_request={
                "key": span.start,
                "range_end": span.end,
                "start_revision": revision,
                "progress_notify": True,
                "fragment": True,
                "prev_kv": previous,
            }
        )

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        parts: list[Event] = []
        while True:
            answer = self._next_answer()
            if answer.canceled:
                self.close()
                raise cancelled(
                    answer.cancel_reason, answer.compact_revision, self._stream.asked, self.member
                )
            if answer.created:
                continue
            if not answer.events:
                if answer.watch_id != _ON_REQUEST:
                    return Batch(int(answer.header.revision), ())
                if self._wanted:
                    self._wanted -= 1
                    return Batch(int(answer.header.revision), (), is_complete=False)
                continue  # a heartbeat
            if answer.fragment:
                parts += answer.events
                continue
            events = [*parts, *answer.events] if parts else answer.events
            return Batch(int(events[-1].kv.mod_revision), events)

    def ask_progress(self) -> None:
        """Ask for a batch without events, that tells the revision of the member."""
        self._wanted += 1
        self._stream.send(progress_request={})

    def close(self) -> None:
        """End the stream. A thread that waits in it gets `Unreachable`."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_answer(self) -> Any:
        """Return the next message; ask for a sign of life where none comes."""
        answer = self._stream.receive(HEARTBEAT)
        if answer is None:
            self._stream.send(progress_request={})
            answer = self._stream.receive(self._timeout)
        if answer is None:
            raise self._stream.silent(self._timeout)
        return answer
