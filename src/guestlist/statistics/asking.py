"""The calls: on a separate connection, within a deadline, also while a guest is stuck.

In: the names of groups. Out: what libvirt knows of each active domain, and whether all of it came.
Most groups enter each guest's QEMU monitor, and the call waits for a stuck guest until that guest
goes on. So these calls have a connection of their own, never that of the listing, and the flag
NOWAIT: libvirt then passes over a guest in which a call already waits. The first call that meets a
stuck guest still waits there; it is left behind, and the next call passes over that guest. While
the guest is stuck that call occupies one connection and one of the daemon's workers: one for each
stuck guest, `MOST_HANGING` at most.

NOWAIT also passes over a guest that is only busy, for example with statistics that another program
asks for at the same instant: two programs that poll one host do that to each other in most of their
calls. So guests that were passed over are asked again, a few times within some 0.03 s.

Source: libvirt src/qemu/qemu_driver.c (qemuConnectGetAllDomainStats, qemuDomainGetStats*); which
keys a guest leaves out while its monitor is not available: measured on libvirt 9.0.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import libvirt

from guestlist import threads
from guestlist.capabilities import BULK_STATS, lacking
from guestlist.connection import Connection, known_versions
from guestlist.errors import (
    Code,
    ConnectionFailed,
    GuestlistError,
    ThreadUnavailable,
    without_frames,
)
from guestlist.lookup import ask_about, look_up
from guestlist.peer import Peer, unsupported
from guestlist.side_calls import MOST_HANGING, PerDomainCalls, SideCalls
from guestlist.statistics.reading import Counters, Values
from guestlist.unpatched import queue, threading, time

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_PAUSES = 0.002, 0.004, 0.008, 0.016
"""Seconds before each time that guests which were passed over are asked again. Another program's
statistics keep a guest busy for a few thousandths of a second.
"""

_ACTIVE = 1
_NOWAIT = 1 << 29


@dataclass(frozen=True, slots=True)
class _Group:
    """A group: libvirt's bit, and whether a record holds what only the guest can tell.

    `at_least` is a key that is in the record also where the guest was passed over. Where that key
    is missing too, this libvirt does not have the group.
    """

    bit: int
    is_there: Callable[[Values], bool]
    at_least: str | None = None


def _has(key: str) -> Callable[[Values], bool]:
    return lambda values: key in values


def _has_blocks(values: Values) -> bool:
    """A guest answers for all its disks at once; libvirt itself tells their names and paths."""
    return values.get("block.count") == 0 or any(key.endswith(".rd.reqs") for key in values)


def _anything(_values: Values) -> bool:
    return True


GROUPS: dict[str, _Group] = {
    "cpu-total": _Group(1 << 1, _has("cpu.time")),
    "balloon": _Group(1 << 2, _has("balloon.rss"), "balloon.current"),
    "vcpu": _Group(1 << 3, _has("vcpu.current")),
    "interface": _Group(1 << 4, _anything),
    "block": _Group(1 << 5, _has_blocks, "block.count"),
    "perf": _Group(1 << 6, _anything),
    "iothread": _Group(1 << 7, _anything),
    "memory": _Group(1 << 8, _anything),
    "dirtyrate": _Group(1 << 9, _has("dirtyrate.calc_status")),
    "vm": _Group(1 << 10, _anything),
}
"""The groups, by their names in `virsh domstats` (`--block`)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one domain answered under this id; `complete` unless its guest was passed over."""

    id: int
    values: Values
    complete: bool


class Answers(NamedTuple):
    """What the domains answered, by UUID; or why none could be asked."""

    by_uuid: Mapping[bytes, Answer] = MappingProxyType({})
    failure: GuestlistError | None = None


class Statistics:
    """Asks for the statistics of one host's domains. Threads may share it."""

    def __init__(self, connection: Connection) -> None:
        self._side_calls = SideCalls(connection, MOST_HANGING)
        self._each = PerDomainCalls(self._side_calls)
        self._unreached: set[threading.Event] = set()
        self._reaching = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether a question was asked since the last `close`."""
        return self._side_calls.is_open

    def ask(self, groups: Iterable[str], deadline: float) -> Answers:
        """Return what the active domains answer within `deadline` seconds.

        Where libvirt cannot be asked the answer is a failure, and the log says so. That includes a
        connection that does not open within a third of the deadline: its opening goes on, and
        until that has ended each further answer is a failure at once.

        Raises:
            ValueError: there is no such group, or the deadline is not a number of seconds.

        Cost: 1 call, for which libvirtd asks each guest; up to 3 while a guest is stuck, and up to
        4 more for the guests that were passed over.
        """
        chosen = _chosen(groups)
        deadline = _bounded(deadline)
        try:
            return threads.run_uninterrupted(
                lambda: self._ask(chosen, deadline), "guestlist-statistics-wait"
            )
        except ThreadUnavailable as error:
            log.warning("no statistics: %s", error)
            return Answers(failure=without_frames(error))

    def _ask(self, chosen: tuple[_Group, ...], deadline: float) -> Answers:
        """Ask, on a thread that no signal handler interrupts: it waits on queues and conditions."""
        outcomes: queue.Queue[Answers] = queue.Queue()
        if self._unreached:
            return self._no_connection()
        reached = threading.Event()
        end = time.monotonic() + deadline
        for left in range(_ATTEMPTS, 0, -1):
            patience = deadline if left == _ATTEMPTS else 0
            if not self._attempt(chosen, outcomes, reached, patience) and patience:
                break  # a later attempt only passes the guest at which the first one may yet return
            try:
                answers = outcomes.get(timeout=max(end - time.monotonic(), 0) / left)
            except queue.Empty:
                with self._reaching:
                    if reached.is_set():
                        continue
                    self._unreached.add(reached)
                return self._no_connection()
            if left != _ATTEMPTS and answers.failure:
                break  # the first attempt could be made, and waits
            return answers
        log.warning("%s: guests did not answer within %g s", self._side_calls.label, deadline)
        return Answers()

    def close(self) -> None:
        """Close idle connections; a call under way closes its own when it returns.

        To be called on a thread that no signal handler interrupts.
        """
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
            return _disk_counters(peer, uuid, disks[uuid])

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

    def _attempt(
        self,
        groups: tuple[_Group, ...],
        outcomes: queue.Queue[Answers],
        reached: threading.Event,
        patience: float,
    ) -> bool:
        """Start a thread that asks; return whether one was free within `patience` seconds."""

        def ask(peer: Peer) -> dict[bytes, Answer]:
            self._reach(reached)
            return _answers(peer, groups)

        def done(outcome: dict[bytes, Answer] | GuestlistError | None) -> None:
            self._reach(reached)
            if isinstance(outcome, GuestlistError):
                log.warning("no statistics: %s", outcome)
                outcomes.put(Answers(failure=outcome))
            else:
                outcomes.put(Answers(outcome or {}))

        return self._side_calls.start("read statistics", ask, done, patience=patience)

    def _reach(self, reached: threading.Event) -> None:
        """Note that a connection is open, or will not be."""
        with self._reaching:
            reached.set()
            self._unreached.discard(reached)

    def _no_connection(self) -> Answers:
        return Answers(
            failure=ConnectionFailed(
                f"no connection to {self._side_calls.label} for statistics within the deadline"
            )
        )


def _bounded(deadline: float) -> float:
    """Return the deadline, at most the seconds that a thread can wait.

    Raises:
        ValueError: it is negative, or not a number.
    """
    if not deadline >= 0:
        raise ValueError(f"deadline is {deadline!r}: it must be a number of seconds from 0 on")
    return min(deadline, threading.TIMEOUT_MAX)


def _chosen(groups: Iterable[str]) -> tuple[_Group, ...]:
    names = tuple(groups)
    for name in names:
        if name not in GROUPS:
            raise ValueError(
                f"there is no statistics group {name!r}; there are {', '.join(GROUPS)}"
            )
    return tuple(GROUPS[name] for name in names)


def _answers(peer: Peer, groups: tuple[_Group, ...]) -> dict[bytes, Answer]:
    bits = 0
    for group in groups:
        bits |= group.bit
    nowait = _NOWAIT
    try:
        records = peer.connection.getAllDomainStats(bits, _ACTIVE | nowait)
    except (AttributeError, libvirt.libvirtError) as error:
        if unsupported(error):
            raise lacking(
                BULK_STATS, "read statistics", peer.label, known_versions(peer), error
            ) from error
        if not isinstance(error, libvirt.libvirtError) or (
            error.get_error_code() != Code.INVALID_ARG
        ):
            raise
        nowait = 0  # the flag is of 4.5.0
        records = peer.connection.getAllDomainStats(bits, _ACTIVE)
    answers: dict[bytes, Answer] = {}
    _take(records, groups, answers)
    for pause in _PAUSES if nowait else ():
        passed_over = [domain for domain, values in records if _passed_over(values, groups)]
        if not passed_over:
            break
        time.sleep(pause)
        records = ask_about(
            peer, passed_over, lambda left: peer.connection.domainListGetStats(left, bits, _NOWAIT)
        )
        _take(records, groups, answers)
    return answers


def _disk_counters(peer: Peer, uuid: bytes, targets: Iterable[str]) -> dict[str, Counters]:
    counted: dict[str, Counters] = {}
    domain = look_up(peer, uuid)
    if domain is None:
        return counted
    for target in targets:
        try:
            reads, read, writes, written, *_ = peer.call(domain.blockStats, target)
        except libvirt.libvirtError as error:  # the domain has stopped, or has no such disk
            if peer.lost(error):
                raise
        else:
            counted[target] = reads, read, writes, written
    return counted


def _take(
    records: Iterable[tuple[libvirt.virDomain, Values]],
    groups: tuple[_Group, ...],
    answers: dict[bytes, Answer],
) -> None:
    for domain, values in records:
        complete = all(group.is_there(values) for group in groups)
        answers[domain.UUID()] = Answer(domain.ID(), values, complete)


def _passed_over(values: Values, groups: tuple[_Group, ...]) -> bool:
    return any(group.at_least in values and not group.is_there(values) for group in groups)
