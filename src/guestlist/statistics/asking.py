"""Statistics of one host's domains: asked for on request, within a deadline.

In: the names of groups. Out: what libvirt knows of each active domain, and whether all of it came.
Most groups enter each guest's QEMU monitor, and a call waits for a stuck guest until that guest
goes on. So these calls have connections of their own, never that of the listing; `one_round`
says how.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from guestlist import threads
from guestlist.connection import Connection
from guestlist.errors import GuestlistError, ThreadUnavailable, without_frames
from guestlist.peer import Peer
from guestlist.side_calls import MOST_HANGING, PerDomainCalls, SideCalls
from guestlist.statistics.calls import Answer, disk_counters
from guestlist.statistics.groups import chosen
from guestlist.statistics.reading import Counters
from guestlist.statistics.rounds import Rounds
from guestlist.unpatched import threading

log = logging.getLogger(__name__)

MOST_CALLS = 7
"""Calls of one Host that may be under way at a time. Two fewer may hang without a harm to the
others: one goes on with the other guests, and the last is never spent on a guest that may be stuck.
libvirtd has 20 workers for such calls."""


class Answers(NamedTuple):
    """What the domains answered, by UUID; or why none could be asked."""

    by_uuid: Mapping[bytes, Answer] = MappingProxyType({})
    failure: GuestlistError | None = None


class Statistics:
    """Asks for the statistics of one host's domains. Threads may share it."""

    def __init__(self, connection: Connection) -> None:
        self._rounds = Rounds(connection, MOST_CALLS)
        self._side_calls = SideCalls(connection, MOST_HANGING)
        self._each = PerDomainCalls(self._side_calls)

    @property
    def is_open(self) -> bool:
        """Whether a question was asked since the last `close`."""
        return self._rounds.is_open or self._side_calls.is_open

    def ask(self, groups: Iterable[str], deadline: float) -> Answers:
        """Return what the active domains answer within `deadline` seconds.

        Where libvirt cannot be asked the answer is a failure, and the log says so. That includes a
        connection that does not open within a third of the deadline: its opening goes on, and
        until that has ended each further answer is a failure at once.

        Raises:
            ValueError: there is no such group, or the deadline is not a number of seconds.

        Cost: 1 call, for which libvirtd asks each guest, and 1 more the first time; more while a
        guest is stuck or busy, see `Rounds.run`.
        """
        asked = chosen(groups)
        deadline = _bounded(deadline)
        try:
            outcome = threads.run_uninterrupted(
                lambda: self._rounds.run(asked, deadline, lingers=True), "guestlist-statistics-wait"
            )
        except ThreadUnavailable as error:
            log.warning("no statistics: %s", error)
            return Answers(failure=without_frames(error))
        if outcome.failure is not None:
            log.warning("no statistics: %s", outcome.failure)
        elif outcome.unanswered and not outcome.by_uuid:
            log.warning("%s: guests did not answer within %g s", self._rounds.label, deadline)
        return Answers(outcome.by_uuid, outcome.failure)

    def close(self) -> None:
        """Close idle connections; a call under way closes its own when it returns.

        To be called on a thread that no signal handler interrupts.
        """
        self._rounds.close()
        self._side_calls.close()

    def disk_counters(
        self, disks: Mapping[bytes, Iterable[str]], deadline: float
    ) -> dict[bytes, dict[str, Counters]]:
        """Return what domains read from and wrote to these disks, asked disk by disk.

        For a libvirt without bulk statistics (before 1.2.8). A domain that is gone, or does not
        answer within `deadline` seconds, is left out; so is a disk that its domain does not have.
        The log counts the domains that did not answer.

        Args:
            disks: targets ("vda") by UUID.
            deadline: seconds for all of them.

        Raises:
            GuestlistError: libvirt could not be asked.

        Cost: 1 call for each domain and 1 for each disk.
        """
        deadline = _bounded(deadline)

        def ask_one(peer: Peer, uuid: bytes) -> dict[str, Counters]:
            return disk_counters(peer, uuid, disks[uuid])

        found = threads.run_uninterrupted(
            lambda: self._each.ask("read statistics", disks, ask_one, deadline),
            "guestlist-statistics-wait",
        )
        if found.unasked and found.failure is not None:
            raise found.failure
        silent = len(found.silent) + len(found.unasked)
        if silent:
            log.warning(
                "%s: %d guests did not answer within %g s", self._side_calls.label, silent, deadline
            )
        return found.answers


def _bounded(deadline: float) -> float:
    """Return the deadline, at most the seconds that a thread can wait.

    Raises:
        ValueError: it is negative, or not a number.
    """
    if not deadline >= 0:
        raise ValueError(f"deadline is {deadline!r}: it must be a number of seconds from 0 on")
    return min(deadline, threading.TIMEOUT_MAX)
