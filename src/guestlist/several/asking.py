"""One question to many hosts, a bounded number of them at a time.

In: hosts, and a function that asks one of them. Out: for each host an answer or a failure, as they
come or in the order of the hosts. Closes no host: the question does that, where it should be done.

**What the bound counts.** Threads ask the hosts, `at_once` of them; each takes the next host when
its host has answered. A host that hangs would keep its thread, and as many of them as there are
threads would delay all others. So a host that has not answered within `patience` seconds no longer
counts, and another thread goes on with the rest. The bound therefore limits the work that is done
at the same time: connections that are opened, programs that are started (ssh), answers that are
read. It does not limit waiting. If all of n hosts hang, n threads wait, each for as long as libvirt
or the host's own `open_timeout` lets it; they are daemon threads and do not delay the end of the
process. The alternative, a place that is freed only after the host's whole timeout, bounds the
threads as well, but 64 dead hosts would then delay every other host by 30 s.

**What the timeouts count.** `timeout` counts for each host from the moment when it is asked.
`deadline` counts for all of them together, from the start.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from guestlist import threads
from guestlist.errors import ConnectionLost, GuestlistError
from guestlist.unpatched import threading
from guestlist.waiting import Bell

if TYPE_CHECKING:
    from guestlist.host import Host

AT_ONCE = 64
"""Hosts that are asked at a time, those that are slow not counted."""

PATIENCE = 1.0
"""Seconds after which a host counts as slow, and another one is asked beside it."""

GRACE = 1.0
"""Seconds past a host's timeout in which its own, more exact error may still arrive."""

T = TypeVar("T")


class HostAnswer(NamedTuple, Generic[T]):
    """What the question returned for one host."""

    host: Host
    value: T


class HostFailure(NamedTuple):
    """The error that the question raised for one host; `ConnectionLost` if it did not answer."""

    host: Host
    error: Exception


def ask_in_order(
    hosts: Sequence[Host],
    question: Callable[[Host], T],
    *,
    timeout: float,
    at_once: int = AT_ONCE,
    deadline: float | None = None,
    tell: Callable[[int, int], object] = lambda _outcomes, _hosts: None,
) -> list[HostAnswer[T] | HostFailure]:
    """Return the outcome of each host, in the order of the hosts. As `ask_each` otherwise.

    `tell` is called before the first outcome and after each: with the number of outcomes so far,
    and that of the hosts.
    """
    asking = _Asking(hosts, question, timeout=timeout, at_once=at_once, deadline=deadline)
    outcomes: dict[int, HostAnswer[T] | HostFailure] = {}
    tell(0, len(hosts))
    for place, outcome in asking.outcomes():
        outcomes[place] = outcome
        tell(len(outcomes), len(hosts))
    return [outcomes[place] for place in range(len(hosts))]


def ask_each(
    hosts: Iterable[Host],
    question: Callable[[Host], T],
    *,
    timeout: float,
    at_once: int = AT_ONCE,
    deadline: float | None = None,
) -> Iterator[HostAnswer[T] | HostFailure]:
    """Yield the outcome of each host exactly once, as it comes.

    The threads start with the first `next`. They go on while the caller uses an outcome, except
    that no thread is added then. A caller that closes the iterator early waits for nothing, and no
    further host is asked.

    Args:
        hosts: the hosts to ask. A host that stands there twice is asked twice.
        question: asks one host, on another thread. What it raises is that host's failure.
        timeout: seconds that one host has, from the moment when it is asked. A host that has not
            answered `GRACE` seconds later fails with `ConnectionLost`; what it answers after that
            is dropped.
        at_once: hosts that are asked at a time, slow ones not counted; see this module's header.
        deadline: seconds for all hosts together. Those that have not answered by then fail. None:
            no bound but the timeout of each.

    Raises:
        ValueError: `at_once` is less than 1.

    Cost: what the question costs, for each host.
    """
    asking = _Asking(list(hosts), question, timeout=timeout, at_once=at_once, deadline=deadline)
    for _, outcome in asking.outcomes():
        yield outcome


def no_answer(label: str, timeout: float) -> ConnectionLost:
    """Return the error of a host that has not answered in time and whose libvirt raised nothing."""
    return ConnectionLost(
        f"no answer from {label} within {timeout:g} s: its daemon accepts calls and does not "
        "finish them; ask again with a longer timeout"
    )


def _not_asked(label: str, deadline: float) -> ConnectionLost:
    return ConnectionLost(
        f"{label} was not asked: the {deadline:g} s for all hosts together were over; ask again "
        "with a longer deadline, or fewer hosts"
    )


class _Asking(Generic[T]):
    """One question under way: the hosts still to ask, those being asked, and the outcomes."""

    def __init__(
        self,
        hosts: Sequence[Host],
        question: Callable[[Host], T],
        *,
        timeout: float,
        at_once: int,
        deadline: float | None,
    ) -> None:
        if at_once < 1:
            raise ValueError(f"at_once is {at_once!r}: it must be at least 1")
        self._hosts = hosts
        self._question = question
        self._timeout = timeout
        self._patience = min(PATIENCE, timeout)
        self._at_once = at_once
        self._deadline = deadline
        self._todo = deque(range(len(hosts)))
        self._outcomes: deque[tuple[int, HostAnswer[T] | HostFailure]] = deque()
        self._since: dict[int, float] = {}
        """By place: when (monotonic) the host was asked that has no outcome yet."""
        self._starting = 0
        """Threads that were started and have not taken a host yet."""
        self._lock = threading.Lock()
        self._bell = Bell()

    def outcomes(self) -> Iterator[tuple[int, HostAnswer[T] | HostFailure]]:
        """Yield each outcome with the place of its host, as it comes."""
        end = None if self._deadline is None else time.monotonic() + self._deadline
        left = len(self._hosts)
        try:
            while left:
                self._give_up(end)
                self._add_threads()
                while self._outcomes:
                    left -= 1
                    yield self._outcomes.popleft()
                if left:
                    self._bell.wait_for(lambda: self._outcomes, self._until_next_step(end))
        finally:
            self._todo.clear()

    def _add_threads(self) -> None:
        """Start the threads that the bound allows and the hosts still to ask need."""
        while self._wants_thread():
            try:
                threads.start(self._work, "guestlist-ask")
            except GuestlistError as error:
                with self._lock:
                    self._starting -= 1
                    is_alone = not self._starting and not self._since
                if not is_alone:  # the threads that work ask the rest, one after the other
                    return
                for place in self._taken_back():
                    self._fail(place, error)

    def _wants_thread(self) -> bool:
        """Count one more thread as starting, if it may start; return whether it may."""
        slow = time.monotonic() - self._patience
        with self._lock:
            prompt = self._starting + sum(since > slow for since in self._since.values())
            wanted = prompt < self._at_once and self._starting < len(self._todo)
            self._starting += wanted
        return wanted

    def _work(self) -> None:
        """Ask one host after the other, until none is left or another thread has the place."""
        place = self._next(is_first=True)
        while place is not None:
            host = self._hosts[place]
            outcome: HostAnswer[T] | HostFailure
            try:
                outcome = HostAnswer(host, self._question(host))
            except Exception as error:
                outcome = HostFailure(host, error)
            with self._lock:
                since = self._since.pop(place, None)  # None: it was given up
                if since is not None:
                    self._outcomes.append((place, outcome))
            self._bell.ring()
            if since is None or time.monotonic() >= since + self._patience:
                return
            place = self._next()

    def _next(self, *, is_first: bool = False) -> int | None:
        with self._lock:
            self._starting -= is_first
            if not self._todo:
                return None
            place = self._todo.popleft()
            self._since[place] = time.monotonic()
            return place

    def _give_up(self, end: float | None) -> None:
        """Make failures of the hosts whose time is over."""
        now = time.monotonic()
        is_over = end is not None and now >= end
        with self._lock:
            for place, since in list(self._since.items()):
                if is_over or now >= since + self._timeout + GRACE:
                    del self._since[place]
                    within = round(now - since, 1) if is_over else self._timeout
                    self._fail(place, no_answer(self._hosts[place].label, within))
        if is_over and self._deadline is not None:
            for place in self._taken_back():
                self._fail(place, _not_asked(self._hosts[place].label, self._deadline))

    def _fail(self, place: int, error: Exception) -> None:
        self._outcomes.append((place, HostFailure(self._hosts[place], error)))

    def _taken_back(self) -> list[int]:
        """Take all hosts that are still to be asked; return their places."""
        with self._lock:
            taken = list(self._todo)
            self._todo.clear()
        return taken

    def _until_next_step(self, end: float | None) -> float:
        """Return the seconds until a host is given up or a thread may be added."""
        now = time.monotonic()
        with self._lock:
            asked_at = list(self._since.values())
            steps = [since + self._timeout + GRACE for since in asked_at]
            if self._todo:
                steps += [now + self._patience]
                steps += [slow for since in asked_at if (slow := since + self._patience) > now]
        if end is not None:
            steps.append(end)
        return max(0.0, min(steps, default=now + self._patience) - now)
