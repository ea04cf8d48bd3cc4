"""The lane: statistics that only the guests themselves can tell, asked in the background.

In: a connection, and groups. Out: the newest reading of each guest, and which guests do not answer.
A thread asks all guests every `interval` seconds, one round at a time, over connections of its own
(`guestlist.statistics`). So a stuck guest delays no reader, and silences no other guest.

A reading is of one id of a domain. It is full: a guest that was passed over has none of that round.
It is gone when it is older than two intervals. Where libvirt cannot be asked the readings so vanish
by themselves; the lane goes on, and has new ones as soon as libvirt is back.

A number never falls while the id stays: each reading was read after the one before it. Keys that
guestlist does not know stay in the values as libvirt told them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from guestlist import threads
from guestlist.connection import Connection
from guestlist.errors import GuestlistError
from guestlist.statistics.calls import Answer
from guestlist.statistics.groups import chosen
from guestlist.statistics.reading import Values
from guestlist.statistics.rounds import Rounds
from guestlist.unpatched import threading, time

log = logging.getLogger(__name__)

INTERVAL = 15.0
"""Seconds from the beginning of a round to that of the next one."""

MOST_CALLS = 11
"""Calls of a lane that may be under way at a time; each occupies one of the daemon's workers, of
which libvirtd has 20. Nine stuck guests harm no other guest: nine calls hang, one goes on with the
others, and the last is never spent on a guest that may be stuck. A `Host` beside the exporter, such
as that of the drop-in for Nova, makes seven: so two workers are left whatever happens."""

_SHARE = 4
"""The lane rests until it has asked for a quarter of the time at most."""

_LIFETIME = 2
"""Intervals after which a reading is gone."""

_LONGEST_CLOSE = 1.0
"""Seconds that `close` waits for the thread."""


class Reading(NamedTuple):
    """What one guest told under this id. `asked_at`: when the call began, in monotonic seconds."""

    id: int
    values: Values
    asked_at: float


class Lane:
    """Asks the guests of one host, in a thread of its own. Any thread may read it at any moment.

    Args:
        connection: the host; the lane asks over others like it.
        groups: names of `statistics.GROUPS`.
        interval: seconds from one round to the next. After a round the lane rests at least three
            times as long as guests that answer kept libvirt busy.
        deadline: seconds for one round; None: as long as the interval.
        most_calls: see `MOST_CALLS`. Raise it where the daemon has more workers (`max_workers`).

    Raises:
        ValueError: there is no such group, or a number makes no sense.

    Cost: 1 call a round while no guest is stuck, and 1 more the first time; see `Rounds.run`.
    """

    def __init__(
        self,
        connection: Connection,
        groups: Iterable[str],
        interval: float = INTERVAL,
        deadline: float | None = None,
        *,
        most_calls: int = MOST_CALLS,
    ) -> None:
        self._groups = chosen(groups)
        self.interval = _seconds("interval", interval)
        self._deadline = _seconds("deadline", interval if deadline is None else deadline)
        if most_calls < 2:
            raise ValueError(f"most_calls is {most_calls!r}: it must be 2 or more")
        self._rounds = Rounds(connection, most_calls)
        self._readings: dict[bytes, Reading] = {}
        self._closing = False
        self._is_over = True
        self._began: float | None = None
        self._ended = 0
        self._silent: frozenset[bytes] = frozenset()
        """UUIDs of the active guests that did not answer in the last complete round."""
        self._oldest = 0.0
        """When (monotonic) the oldest call began whose answer is shown; it never goes back."""
        self.duration: float | None = None
        """Seconds that the last complete round took; None before the first."""
        self.rounds = 0
        """Complete rounds so far: libvirt was asked, whether each guest answered or not."""
        self.failures = 0
        """Rounds so far in which libvirt could not be asked."""
        self.failure: GuestlistError | None = None
        """Why libvirt could not be asked in the last round; None: it was."""

    def start(self) -> None:
        """Start the thread; the first round begins at once.

        Raises:
            ThreadUnavailable: see `threads.start`.
        """
        self._closing = self._is_over = False
        threads.start(self._run, "guestlist-lane")

    def close(self) -> None:
        """End the thread. Waits a second at most; a thread that has to wait longer goes on alone.

        A call that hangs closes its connection when it returns.
        """
        self._closing = True
        self._rounds.changed.ring()
        self._rounds.changed.wait_for(lambda: self._is_over, _LONGEST_CLOSE)

    @property
    def age(self) -> float | None:
        """Seconds since the last complete round began; None before the first."""
        began = self._began
        return None if began is None else time.monotonic() - began

    @property
    def hanging(self) -> int:
        """How many calls hang at stuck guests now; each occupies one of the daemon's workers."""
        return self._rounds.hanging

    @property
    def unanswered(self) -> frozenset[bytes]:
        """UUIDs of the active guests that do not answer: in the last complete round, or now."""
        return self._silent.union(self._rounds.alone) - self.not_asked

    @property
    def not_asked(self) -> frozenset[bytes]:
        """UUIDs of active guests that the last round could not ask, because too many calls hang."""
        return self._rounds.suspects

    @property
    def effective_interval(self) -> float:
        """Seconds from round to round: the interval, or longer where the lane has to rest."""
        return max(self.interval, _SHARE * self._work)

    @property
    def _work(self) -> float:
        """Seconds for which guests that answer keep libvirt busy in a round."""
        return min(self.duration or 0.0, self._rounds.pace * (self._rounds.count or 0))

    def readings(self) -> Mapping[bytes, Reading]:
        """Return the newest reading of each guest, by UUID, without those that are too old.

        Cost: none.
        """
        oldest = time.monotonic() - _LIFETIME * self.effective_interval
        oldest = self._oldest = max(self._oldest, oldest)
        # To copy is one call of C, while the thread puts in others.
        return {uuid: one for uuid, one in self._readings.copy().items() if one.asked_at >= oldest}

    def wait_round(self, timeout: float | None = None) -> bool:
        """Wait until the first round has ended, complete or not; return whether it has."""
        self._rounds.changed.wait_for(lambda: self._ended or self._closing, timeout)
        return self._ended > 0

    # On the lane's thread

    def _run(self) -> None:
        try:
            while not self._is_closing():
                late = self._rounds.late
                began = time.monotonic()
                self._round(began)
                self._rest(began, late)
        finally:
            self._rounds.close()
            self._is_over = True
            self._rounds.changed.ring()

    def _round(self, began: float) -> None:
        outcome = self._rounds.run(
            self._groups,
            self._deadline,
            lingers=False,
            take=self._take,
            is_ended=self._is_closing,
        )
        if self._is_closing():
            return
        self._note(outcome.failure)
        if outcome.failure is None:
            self.duration = time.monotonic() - began
            self._silent = outcome.unanswered
            self.rounds += 1
            self._began = began
        else:
            self.failures += 1
        self._readings = dict(self.readings())
        self._ended += 1
        self._rounds.changed.ring()

    def _take(self, uuid: bytes, answer: Answer) -> None:
        self._readings[uuid] = Reading(answer.id, answer.values, answer.asked_at)

    def _note(self, failure: GuestlistError | None) -> None:
        """Keep why a round failed, and log it once until another reason comes."""
        if str(failure) != str(self.failure):
            if failure is None:
                log.info("%s: the guests are asked for statistics again", self._rounds.label)
            else:
                log.warning("no statistics: %s", failure)
        self.failure = failure

    def _rest(self, began: float, late: int) -> None:
        """Wait for the next round; it comes earlier when a call that hung has returned."""
        changed = self._rounds.changed
        if not changed.wait_for(self._is_closing, (_SHARE - 1) * self._work):
            changed.wait_for(
                lambda: self._is_closing() or self._rounds.late != late,
                began + self.interval - time.monotonic(),
            )

    def _is_closing(self) -> bool:
        return self._closing or threads.is_ending()


def _seconds(name: str, seconds: float) -> float:
    """Return a number of seconds, at most those that a thread can wait."""
    if not seconds > 0:
        raise ValueError(f"{name} is {seconds!r}: it must be a number of seconds above 0")
    return min(seconds, threading.TIMEOUT_MAX / _SHARE)
