"""Rounds: all active guests asked once, within a deadline, also while some of them are stuck.

In: groups, and a deadline. Out: what each guest answered; which guests did not answer. A round asks
all guests in one call. A call that meets a stuck guest hangs there until that guest goes on, and
occupies a connection and one of the daemon's workers. Such a call is left alone, and the next call
goes on with the other guests: libvirt passes over a guest in which a call waits (NOWAIT).

**How long a call may take** depends on how many guests it asks, and on how long each of them took
before. After that the call counts as hanging.

**How many calls may hang** is bounded. So after the first one a round asks the guests in groups,
which get smaller with each call that hangs, down to one guest a call: then most guests have
answered before the bound is reached. A guest that was not asked for that reason is *suspect*. The
next rounds first ask those that are not suspect, in one call, and then the suspects with the calls
that are left. The last call is never spent on a suspect.

**Numbers never go back.** A round takes the first full answer of each guest, and an answer that
comes after its round is dropped. So each number was read after those of the round before.

**A busy guest** is passed over as well, for example while another program asks it: two programs
that poll one host do that to each other in most of their calls. Such a guest is asked again a few
times within 0.03 s, unless it was passed over in several rounds in a row.

**Without NOWAIT** (libvirt before 4.5.0) a call waits for a guest in which another call waits.
There a guest at which a call of its own hangs is left out, until that call returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from guestlist.errors import ConnectionFailed, GuestlistError, LibvirtFailure, without_frames
from guestlist.peer import Peer
from guestlist.statistics.calls import Answer, Call, Guests, active, ask_all, ask_some
from guestlist.statistics.groups import Group
from guestlist.unpatched import time

if TYPE_CHECKING:
    from guestlist.statistics.rounds import Rounds

LEAST_PATIENCE = 0.5
"""Seconds that a call may take at least, before it counts as hanging."""

_TIMES_AS_LONG = 3
"""A call may take this many times as long as the guests took before."""

_LEAST_SHARE = 0.25
"""Seconds of a deadline's last third that a call may take in any case, if they are left."""

_PAUSES = 0.002, 0.004, 0.008, 0.016
"""Seconds before each time that guests which were passed over are asked again. Another program's
statistics keep a guest busy for a few thousandths of a second.
"""

_MOST_MISSED = 3
"""Rounds in a row that pass over a guest; after that it counts as stuck, and is not asked again
within a round until it has answered."""


class Outcome(NamedTuple):
    """What a round brought: the answers by UUID, and the active guests that did not answer.

    `failure` says why no guest could be asked.
    """

    by_uuid: Mapping[bytes, Answer] = MappingProxyType({})
    unanswered: frozenset[bytes] = frozenset()
    failure: GuestlistError | None = None


@dataclass(eq=False, slots=True)
class Round:
    """One round, on the thread that waits for it."""

    host: Rounds
    groups: tuple[Group, ...]
    deadline: float
    lingers: bool
    take: Callable[[bytes, Answer], object]
    is_ended: Callable[[], bool]
    end: float = 0.0
    answers: dict[bytes, Answer] = field(default_factory=dict)
    active: tuple[bytes, ...] | None = None
    """The active guests, where they were asked for or all have answered."""
    calls: list[Call] = field(default_factory=list)
    todo: deque[Guests] = field(default_factory=deque)

    def run(self) -> Outcome:
        """Ask, note what is known of the guests for the next round, and return the outcome."""
        self.end = time.monotonic() + self.deadline
        failure = None
        try:
            if self.host.has_no_connection:
                raise self._no_connection()
            self._ask_all()
            if self.lingers:
                self._linger()
            self._ask_busy()
        except GuestlistError as error:
            failure = without_frames(error)
            self.host.nowait = True  # the next connection may lead to a newer libvirt
        finally:
            self.host.end_round(self.calls)
            self._collect()
        if failure is not None and not self.answers:
            return Outcome(failure=failure)
        return Outcome(self.answers, self._note_silence())

    def _ask_all(self) -> None:
        """Ask all guests at once where no call would hang again for it; else in groups."""
        host = self.host
        if host.count is None or host.suspects or (host.alone and not host.nowait):
            self._list()
        self.todo.extend(self._first_groups())
        is_risky = False
        while self.todo and not self._is_over():
            guests = self.todo.popleft()
            if guests is not None:
                guests = self._without_answer(guests)
                is_risky = is_risky or not host.suspects.isdisjoint(guests)
                if not guests:
                    continue
            call = self._start(guests, is_risky=is_risky)
            if call is None:
                break
            if not self._waited(call):
                is_risky = True
                self._divide(guests)
            elif call.is_refused:
                host.nowait = False
                self.todo.clear()
                self._ask_all()
            elif guests is None and call.answers is not None:
                self.active = tuple(call.answers)

    def _first_groups(self) -> list[Guests]:
        host = self.host
        if self.active is None:
            return [None]
        suspects = [uuid for uuid in self.active if uuid in host.suspects]
        out = set(suspects) if host.nowait else host.alone.union(suspects)
        if not out:
            return [None]
        return [tuple(uuid for uuid in self.active if uuid not in out), *self._chunks(suspects)]

    def _divide(self, guests: Guests) -> None:
        """Put the guests of a call that hangs, and those that were not asked yet, in groups."""
        if self.active is None:
            self._list()
        left = list(self.active or ()) if guests is None else list(guests if guests[1:] else ())
        left += [uuid for group in self.todo for uuid in group or ()]
        self.todo = deque(self._chunks(list(self._without_answer(tuple(left)))))

    def _chunks(self, uuids: list[bytes]) -> list[Guests]:
        """Return groups of half as many guests for each call that hangs; 1 at least."""
        size = max(1, len(self.active or ()) >> self.host.hanging)
        return [tuple(uuids[at : at + size]) for at in range(0, len(uuids), size)]

    def _linger(self) -> None:
        """Wait for calls of this round that hang: the guest may only be slow."""
        left = self.end - time.monotonic() - self.deadline * 2 / 3
        self.host.changed.wait_for(lambda: all(call.is_over for call in self.calls), left)
        self._collect()

    def _ask_busy(self) -> None:
        """Ask guests again that were passed over, unless they have been for several rounds."""
        for pause in _PAUSES if self.host.nowait else ():
            missed = self.host.missed
            busy = tuple(
                uuid
                for uuid, answer in self.answers.items()
                if answer.passed_over and missed.get(uuid, 0) < _MOST_MISSED
            )
            if not busy or self.host.changed.wait_for(self._is_over, pause):
                break
            call = self._start(busy, is_risky=True)
            if call is None or not self._waited(call):
                break

    # One call

    def _start(self, guests: Guests, *, is_risky: bool) -> Call | None:
        """Start a call; None: too many hang, or the guests have answered meanwhile."""
        call = Call(guests)

        def ask(peer: Peer) -> None:
            nowait = self.host.nowait
            if guests is None:
                call.answers = ask_all(peer, self.groups, nowait=nowait)
            else:
                call.answers = ask_some(peer, self.groups, guests, nowait=nowait)
            call.is_refused = call.answers is None

        return self._started(call, ask, is_risky=is_risky)

    def _list(self) -> None:
        """Ask which guests are active. This enters no guest's monitor."""
        call = Call(())

        def ask(peer: Peer) -> None:
            call.active = active(peer)

        started = self._started(call, ask, is_risky=False)
        if started is None or not self._waited(started):
            raise LibvirtFailure(
                f"cannot list the active domains of {self.host.label} for statistics: libvirtd "
                "does not answer"
                if started
                else f"cannot ask {self.host.label} for statistics: {self.host.hanging} calls "
                "wait for guests that do not answer, and no further call is made"
            )
        self.active = call.active
        self.host.count = len(call.active or ())

    def _started(self, call: Call, ask: Callable[[Peer], object], *, is_risky: bool) -> Call | None:
        host = self.host
        while not self._is_over():
            seen = host.returned
            most = host.most_calls - is_risky
            if host.hanging < most and host.start(call, ask):
                self.calls.append(call)
                return call
            if not self.lingers:
                break
            left = self.end - time.monotonic()
            host.changed.wait_for(partial(self._has_news, seen), left)
            self._collect()
            if call.guests and not self._without_answer(call.guests):
                break
        return None

    def _waited(self, call: Call) -> bool:
        """Wait for a call; return False if it hangs.

        Raises:
            GuestlistError: it failed, or has no connection within a third of the deadline.
        """
        changed = self.host.changed
        left = self.end - time.monotonic()
        changed.wait_for(
            lambda: call.reached_at is not None or call.is_over or self.is_ended(),
            self.deadline / 3 if left > 0 else 0,
        )
        if not self.is_ended() and self.host.give_up_reaching(call):
            raise self._no_connection()
        changed.wait_for(lambda: call.is_over or self.is_ended(), self._patience(call.guests))
        hangs = self.host.leave_hanging(call)
        self._collect()
        if call.failure is not None:
            raise call.failure
        return not hangs

    def _patience(self, guests: Guests) -> float:
        """Return for how many seconds to wait for a call."""
        left = max(self.end - time.monotonic(), 0)
        count = (self.host.count or 0) if guests is None else len(guests)
        patience = max(LEAST_PATIENCE, _TIMES_AS_LONG * self.host.pace * count)
        if guests == ():  # a list waits for a guest that starts or stops, up to 0.7 s
            patience = left
        return min(left, max(_LEAST_SHARE, min(patience, left / 3)))

    def _collect(self) -> None:
        """Take what calls of this round have answered, the first full answer of each guest."""
        for call in self.calls:
            if not call.is_over or call.is_taken or call.is_late:
                continue
            call.is_taken = True
            for uuid, answer in (call.answers or {}).items():
                last = self.answers.get(uuid)
                if last is None or (last.passed_over and not answer.passed_over):
                    self.answers[uuid] = answer
                    if not answer.passed_over:
                        self.take(uuid, answer)
            count = len(call.answers or ())
            if count and 2 * count >= (self.host.count or 0) and call.reached_at is not None:
                self.host.pace = (call.ended_at - call.reached_at) / count

    def _note_silence(self) -> frozenset[bytes]:
        """Note which guests were passed over, or not asked; return those without an answer."""
        host = self.host
        everybody = self.answers if self.active is None else self.active
        silent = {uuid for uuid, answer in self.answers.items() if answer.passed_over}
        missing = {uuid for uuid in everybody if uuid not in self.answers}
        host.missed = {uuid: host.missed.get(uuid, 0) + 1 for uuid in silent}
        host.suspects = frozenset(missing - host.alone)
        host.count = len(everybody)
        return frozenset(silent | missing)

    def _without_answer(self, guests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(uuid for uuid in guests if uuid not in self.answers)

    def _has_news(self, seen: int) -> bool:
        return self.host.returned != seen or self._is_over()

    def _is_over(self) -> bool:
        return self.is_ended() or time.monotonic() >= self.end

    def _no_connection(self) -> ConnectionFailed:
        return ConnectionFailed(
            f"no connection to {self.host.label} for statistics within the deadline"
        )
