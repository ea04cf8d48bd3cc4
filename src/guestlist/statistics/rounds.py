"""The rounds of one host: the calls under way, and what is known of its guests between rounds.

In: groups, and a deadline. Out: what each guest answered, from `one_round`. Counts the calls that
hang, and notes which guests were passed over, so that the next round asks them in their turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from guestlist.connection import Connection
from guestlist.errors import GuestlistError
from guestlist.peer import Peer
from guestlist.side_calls import SideCalls
from guestlist.statistics.calls import Answer, Call
from guestlist.statistics.groups import Group
from guestlist.statistics.one_round import Outcome, Round
from guestlist.unpatched import threading, time
from guestlist.waiting import Bell

_WHAT = "read statistics"

_FIRST_PACE = 0.05
"""Seconds that a guest is taken to need before one has answered. 80 guests with two disks each took
0.6 s for all groups together, with libvirt 9.0 on two cores. On a busy machine the first answer of
a guest took far longer."""


class Rounds:
    """The rounds of one host, and what they know of its guests. Threads may share it.

    Only guestlist's own threads may call it; any thread may read its attributes.
    """

    def __init__(self, connection: Connection, most_calls: int) -> None:
        self._side_calls = SideCalls(connection, most_calls)
        self.most_calls = most_calls
        self.changed = Bell()
        """Rings when a call has returned."""
        self.late = 0
        """How many calls have returned after their round: guests may answer again."""
        self.returned = 0
        """How many calls have returned."""
        self.nowait = True
        self.pace = _FIRST_PACE
        """Seconds for each guest in the last call to most of them."""
        self.count: int | None = None
        """How many guests were active in the last round; None before the first."""
        self.missed: dict[bytes, int] = {}
        """Rounds in a row that passed over a guest."""
        self.suspects: frozenset[bytes] = frozenset()
        """Guests that the last round could not ask, because too many calls hang."""
        self.alone: set[bytes] = set()
        """Guests at which a call hangs that asks that guest alone."""
        self._hanging: set[Call] = set()
        self._unreached: set[Call] = set()
        self._lock = threading.Lock()

    @property
    def label(self) -> str:
        """The host's name in messages."""
        return self._side_calls.label

    @property
    def is_open(self) -> bool:
        """Whether a call was started since the last `close`."""
        return self._side_calls.is_open

    @property
    def hanging(self) -> int:
        """How many calls hang: they were given up, and have not returned."""
        return len(self._hanging)

    @property
    def has_no_connection(self) -> bool:
        """Whether a call was given up that still waits for its connection."""
        return bool(self._unreached)

    def close(self) -> None:
        """Close the idle connection; a call under way closes its own when it returns."""
        self._side_calls.close()

    def run(
        self,
        groups: tuple[Group, ...],
        deadline: float,
        *,
        lingers: bool,
        take: Callable[[bytes, Answer], object] = lambda _uuid, _answer: None,
        is_ended: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Ask all active guests once, and return what they answered.

        A connection that does not open within a third of the deadline is a failure; its opening
        goes on, and until that has ended each further round is a failure at once.

        Args:
            groups: what is asked for.
            deadline: seconds for the round.
            lingers: whether to wait for calls that hang, in case they return: a third of the
                deadline, and longer where too many hang to ask any other guest.
            take: is called on this thread with each answer of a guest that was not passed over.
            is_ended: ends the round early; ring `changed` after its answer has changed.

        Cost: 1 call while no guest is stuck, and 1 more the first time. For each guest that is
        found stuck 1 call that hangs, 2 or 3 to the others, and up to 5 for those that were passed
        over. If there are suspects, 1 call for each of them at most.
        """
        return Round(self, groups, deadline, lingers, take, is_ended).run()

    def start(self, call: Call, ask: Callable[[Peer], object]) -> bool:
        """Start a call; return False if too many are under way."""

        def asked(peer: Peer) -> None:
            call.reached_at = time.monotonic()
            with self._lock:
                self._unreached.discard(call)
            self.changed.ring()
            ask(peer)

        return self._side_calls.start(_WHAT, asked, partial(self._returned, call))

    def give_up_reaching(self, call: Call) -> bool:
        """Note that a call still has no connection; return False if it has one now."""
        with self._lock:
            if call.reached_at is not None or call.is_over:
                return False
            self._unreached.add(call)
            return True

    def leave_hanging(self, call: Call) -> bool:
        """Note that a call hangs; return False if it has returned."""
        with self._lock:
            if call.is_over:
                return False
            self._hanging.add(call)
            if call.guests is not None and len(call.guests) == 1:
                self.alone.update(call.guests)
            return True

    def end_round(self, calls: list[Call]) -> None:
        """Note that a round has ended: what these calls answer from now on is late."""
        with self._lock:
            for call in calls:
                call.is_late = not call.is_over

    def note_answered(self, uuid: bytes) -> None:
        """Note that a guest has answered: it is not stuck."""
        self.missed.pop(uuid, None)
        self.alone.discard(uuid)

    def _returned(self, call: Call, failure: GuestlistError | None) -> None:
        """Note, on the call's thread, that it has returned."""
        with self._lock:
            call.failure = failure
            call.ended_at = time.monotonic()
            call.is_over = True
            self._unreached.discard(call)
            self._hanging.discard(call)
            self.late += call.is_late
            for uuid, answer in (call.answers or {}).items():
                if not answer.passed_over:
                    self.note_answered(uuid)
            if not self._hanging:
                self.alone.clear()
            self.returned += 1
        self.changed.ring()
