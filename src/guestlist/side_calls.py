"""Side calls: calls that may hang, each on a thread and a connection of its own.

In: a connection, and a question. Out: the answer, over another connection to the same libvirt. A
call that hangs is left alone, with its connection and one of the daemon's workers, until it
returns. The number of calls under way is bounded. One idle connection is kept for the next call.

    SideCalls        one question at a time, answered on the thread that asked
    PerDomainCalls   the same question about each of many domains, within one deadline
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from guestlist import threads
from guestlist.connection import Connection
from guestlist.errors import ConnectionFailed, GuestlistError, ThreadUnavailable, without_frames
from guestlist.peer import Peer
from guestlist.unpatched import threading

MOST_HANGING = 4
"""Calls that may hang at a time; further calls wait until one of them returns. Each occupies one of
the daemon's workers, and one of the clients that the daemon serves (20 in old releases)."""

PROMPT = 0.25
"""Seconds after which a domain counts as slow, and another connection asks about the others."""

_MOST_FAILURES = 2
"""Connections that may fail or be lost; after that the remaining domains are not asked about."""

T = TypeVar("T")


class SideCalls:
    """Calls beside those of one connection, `most` at a time.

    Only guestlist's own threads may use and share it: on a caller's thread an exception from a
    signal handler could leave it locked.
    """

    def __init__(self, connection: Connection, most: int) -> None:
        self._like = connection
        self._most = most
        self._idle: list[Connection] = []
        self._under_way = 0
        self._closed = 0
        self.is_open = False
        """Whether a call was started since the last `close`."""
        self._changed = threading.Condition()

    @property
    def label(self) -> str:
        """The host's name in messages."""
        return self._like.label

    def start(
        self,
        what: str,
        ask: Callable[[Peer], T],
        done: Callable[[T | GuestlistError | None], object],
        *,
        patience: float = 0.0,
    ) -> bool:
        """Start a thread that asks; return False if none is free within `patience` seconds.

        Args:
            what: completes "cannot …" in an error.
            ask: makes the calls, on that thread.
            done: is called on that thread with the result of `ask`, or with guestlist's error; with
                None if `ask` raised any other exception, which then leaves the thread.
            patience: seconds to wait until one of the calls under way returns.

        Raises:
            ThreadUnavailable: see `threads.start`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._under_way < self._most, patience):
                return False
            self._under_way += 1
            self.is_open = True
            connection = self._idle.pop() if self._idle else self._like.like_this()
            closed = self._closed
        try:
            threads.start(
                partial(self._run, connection, closed, what, ask, done), "guestlist-side-call"
            )
        except ThreadUnavailable:
            self._give_back()
            connection.close()
            raise
        return True

    def close(self) -> None:
        """Close the idle connection; a call under way closes its connection when it returns."""
        with self._changed:
            idle, self._idle = self._idle, []
            self.is_open = False
            self._closed += 1
        for connection in idle:
            connection.close()

    def _give_back(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify()

    def _run(
        self,
        connection: Connection,
        closed: int,
        what: str,
        ask: Callable[[Peer], T],
        done: Callable[[T | GuestlistError | None], object],
    ) -> None:
        """Ask, then keep the connection for the next call unless `close` was called meanwhile."""
        outcome: T | GuestlistError | None = None
        is_well = False
        try:
            outcome = connection.ask(what, ask)
            is_well = True
        except GuestlistError as error:
            outcome = without_frames(error)
            is_well = isinstance(error, ConnectionFailed)  # it waits longer before each attempt
        finally:
            self._give_back()
            with self._changed:
                kept = is_well and not self._idle and closed == self._closed
                if kept:
                    self._idle.append(connection)
            done(outcome)
            if not kept:
                connection.close()


@dataclass(slots=True)
class PerDomainOutcome(Generic[T]):
    """The answers about many domains, and the domains without an answer. Keys are UUIDs."""

    answers: dict[bytes, T] = field(default_factory=dict)
    silent: list[bytes] = field(default_factory=list)
    """Domains whose call did not return in time."""

    unasked: list[bytes] = field(default_factory=list)
    """Domains that were not asked about: calls about others hang, or `failure` is the reason."""

    calls: int = 0
    failure: GuestlistError | None = None


class PerDomainCalls:
    """Calls about many domains, one by one, within a deadline. Threads share it as `SideCalls`.

    One connection asks about one domain after the other. If a call does not return promptly,
    another connection goes on with the remaining domains. While a call about a domain hangs, that
    domain is not asked about again.
    """

    def __init__(self, side_calls: SideCalls) -> None:
        self._side_calls = side_calls
        self._hanging: set[bytes] = set()

    def ask(
        self,
        what: str,
        uuids: Iterable[bytes],
        ask_one: Callable[[Peer, bytes], T],
        deadline: float,
        *,
        returned: Callable[[bytes], object] = bool,
    ) -> PerDomainOutcome[T]:
        """Return what `ask_one` answers about each domain.

        Args:
            what: completes "cannot …" in an error.
            uuids: the domains.
            ask_one: makes the calls about one domain, on another thread.
            deadline: seconds for all domains together.
            returned: is called on another thread with the UUID of a domain whose call returned
                after the deadline.

        Cost: the calls of `ask_one`, over other connections.
        """
        work = _Work(ask_one, returned, self._hanging)
        for uuid in uuids:
            work.put(uuid)
        end = time.monotonic() + deadline
        with work.changed:
            while work.is_unfinished() and (now := time.monotonic()) < end:
                if work.wants_help(now):
                    self._help(what, work)
                work.changed.wait(min(end - now, PROMPT))
            return work.end()

    def _help(self, what: str, work: _Work[T]) -> None:
        helper = _Helper()
        if self._side_calls.start(
            what,
            lambda peer: work.go_through(peer, helper),
            lambda failure: work.ended_with(helper, failure),
        ):
            work.helpers.append(helper)


@dataclass(eq=False, slots=True)
class _Helper:
    """A connection that asks: the domain that it asks about, and since when (monotonic seconds)."""

    uuid: bytes | None = None
    """None: it connects, or is between two domains."""

    since: float = 0.0


class _Work(Generic[T]):
    """The domains that are not asked about yet, the helpers that ask, and the answers."""

    def __init__(
        self,
        ask_one: Callable[[Peer, bytes], T],
        returned: Callable[[bytes], object],
        hanging: set[bytes],
    ) -> None:
        self.changed = threading.Condition()
        self.helpers: list[_Helper] = []
        self._todo: deque[bytes] = deque()
        self._outcome: PerDomainOutcome[T] = PerDomainOutcome()
        self._ask_one = ask_one
        self._returned = returned
        self._hanging = hanging
        self._failures = 0
        self._ended = False

    # On the thread that wants the answers, under the lock

    def put(self, uuid: bytes) -> None:
        """Add a domain; it is silent at once if an earlier call about it still hangs."""
        (self._outcome.silent if uuid in self._hanging else self._todo).append(uuid)

    def is_unfinished(self) -> bool:
        """Return whether to wait on: a helper asks, or domains are left and helpers may succeed."""
        return any(helper.uuid for helper in self.helpers) or (
            bool(self._todo) and (bool(self.helpers) or self._failures < _MOST_FAILURES)
        )

    def wants_help(self, now: float) -> bool:
        """Return whether domains are left and every helper waits for a slow domain."""
        return bool(self._todo) and all(
            helper.uuid is not None and now >= helper.since + PROMPT for helper in self.helpers
        )

    def end(self) -> PerDomainOutcome[T]:
        """Stop the work, and return the outcome."""
        self._ended = True
        asked = [helper.uuid for helper in self.helpers if helper.uuid is not None]
        self._hanging.update(asked)
        self._outcome.silent += asked
        self._outcome.unasked += self._todo
        return self._outcome

    # On a helper's thread

    def go_through(self, peer: Peer, helper: _Helper) -> None:
        """Ask about one domain after the other until none is left or the deadline has passed."""
        while (uuid := self._next(helper)) is not None:
            before = peer.calls
            self._done(helper, uuid, self._ask_one(peer, uuid), peer.calls - before)

    def ended_with(self, helper: _Helper, failure: GuestlistError | None) -> None:
        """Record that a helper has ended; another helper takes the domain that it asked about."""
        with self.changed:
            self.helpers.remove(helper)
            self._failures += failure is not None or helper.uuid is not None
            if helper.uuid is not None:
                self._hanging.discard(helper.uuid)
                self._todo.append(helper.uuid)
            if not self._ended:
                self._outcome.failure = failure or self._outcome.failure
            self.changed.notify()

    def _next(self, helper: _Helper) -> bytes | None:
        with self.changed:
            if self._ended or not self._todo:
                return None
            helper.uuid, helper.since = self._todo.popleft(), time.monotonic()
            return helper.uuid

    def _done(self, helper: _Helper, uuid: bytes, answer: T, calls: int) -> None:
        with self.changed:
            helper.uuid = None
            self._hanging.discard(uuid)
            is_late = self._ended
            if not is_late:
                self._outcome.answers[uuid] = answer
                self._outcome.calls += calls
                self.changed.notify()
        if is_late:
            self._returned(uuid)
