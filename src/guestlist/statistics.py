"""Statistics that libvirt may have to ask of the guests themselves: aside, and under a deadline.

In: the names of groups. Out: what libvirt knows of each active domain, and whether all of it came.
Most groups enter each guest's QEMU monitor, and one stuck guest holds up the call for as long as it
is stuck. So they are asked on a connection of their own, never that of the listing, and with
NOWAIT: a guest on which a call hangs already is passed over. The first call to meet a stuck guest
hangs there all the same; it is left to itself, and another one then gets past. As long as the
guest is stuck that call stays, and with it one connection and one of the daemon's workers: one for
each stuck guest, `MOST_HANGING` at most. Listing and states never come here.

NOWAIT passes over a guest that is merely busy as well, as with the statistics that somebody else
asks for at that instant: two who poll a host side by side do that to each other in most of their
calls. So whoever was passed over is asked again, a few times within some 0.03 s.

Source: libvirt src/qemu/qemu_driver.c (qemuConnectGetAllDomainStats, qemuDomainGetStats*); which
keys a guest leaves out while its monitor cannot be had: measured on libvirt 9.0.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

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
from guestlist.unpatched import queue, threading, time

log = logging.getLogger(__name__)

Values = Mapping[str, Any]
"""libvirt's names ("balloon.current", "block.0.rd.bytes") and values: int, bool, float or str."""

Counters = tuple[int, int, int, int]
"""Of a disk: requests and bytes read, requests and bytes written, as `virDomain.blockStats`."""

_COUNTERS = "rd.reqs", "rd.bytes", "wr.reqs", "wr.bytes"

_ATTEMPTS = 3
_PAUSES = 0.002, 0.004, 0.008, 0.016
"""Seconds before each time that guests which were passed over are asked again. One is busy with
somebody else's statistics for a few thousandths of a second.
"""

_ACTIVE = 1
_NOWAIT = 1 << 29


@dataclass(frozen=True, slots=True)
class _Group:
    """A group: libvirt's bit, and whether a record holds what only the guest can tell.

    `at_least` is the key that the record of a guest which was passed over holds all the same. Where
    that is missing too, this libvirt does not have the group.
    """

    bit: int
    is_there: Callable[[Values], bool]
    at_least: str | None = None


def blocks(values: Values) -> list[str]:
    """What the keys of each disk begin with ("block.0"), of the disks that have a name.

    Looked for rather than counted by `block.count`, which a daemon may say what it likes of.
    """
    return [key.removesuffix(".name") for key in values if _is_block_name(key)]


_is_block_name = re.compile(r"block\.[0-9]+\.name").fullmatch


def _has(key: str) -> Callable[[Values], bool]:
    return lambda values: key in values


def _has_blocks(values: Values) -> bool:
    """A guest answers for all its disks at once; names and paths libvirt tells by itself."""
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
"""By the name that `virsh domstats` has for it (`--block`)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one domain answered while it had this id; `complete` unless it was passed over."""

    id: int
    values: Values
    complete: bool


class Answers(NamedTuple):
    """What the domains answered, by UUID; nothing, where none did, or why none could be asked."""

    by_uuid: Mapping[bytes, Answer] = MappingProxyType({})
    failure: GuestlistError | None = None


class Statistics:
    """The statistics of one host's domains. Threads may share it."""

    def __init__(self, connection: Connection) -> None:
        self._side_calls = SideCalls(connection, MOST_HANGING)
        self._each = PerDomainCalls(self._side_calls)
        self._unreached: set[threading.Event] = set()
        self._reaching = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether it was asked since it was last closed."""
        return self._side_calls.is_open

    def ask(self, groups: Iterable[str], deadline: float) -> Answers:
        """What the active domains answer within `deadline` seconds.

        Where libvirt cannot be asked the log says so, too. A connection that does not open within a
        third of the deadline is one that cannot be had: its opening goes on aside, and until that
        has ended the answer is a failure at once.

        Raises:
            ValueError: there is no such group, or the deadline is no number of seconds.

        Cost: 1 call, of which libvirtd makes some for each guest; up to 3 while one hangs, and 4
        more for those alone that were passed over.
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
        """On a thread that no signal handler interrupts: it waits on queues and conditions."""
        outcomes: queue.Queue[Answers] = queue.Queue()
        if self._unreached:
            return self._no_connection()
        reached = threading.Event()
        end = time.monotonic() + deadline
        for left in range(_ATTEMPTS, 0, -1):
            patience = deadline if left == _ATTEMPTS else 0
            if not self._attempt(chosen, outcomes, reached, patience) and patience:
                break  # the later ones are only to get past the first, which may yet return
            try:
                answers = outcomes.get(timeout=max(end - time.monotonic(), 0) / left)
            except queue.Empty:
                with self._reaching:
                    if reached.is_set():
                        continue
                    self._unreached.add(reached)
                return self._no_connection()
            if left != _ATTEMPTS and answers.failure:
                break  # but the first one could be made, and hangs
            return answers
        log.warning("%s: guests did not answer within %g s", self._side_calls.label, deadline)
        return Answers()

    def close(self) -> None:
        """Close what is idle; a call under way closes its own connection when it returns.

        On a thread that no signal handler interrupts.
        """
        self._side_calls.close()

    def disk_counters(
        self, disks: Mapping[bytes, Iterable[str]], deadline: float
    ) -> dict[bytes, dict[str, Counters]]:
        """What domains read from and wrote to these disks, asked disk by disk.

        For a libvirt without bulk statistics (before 1.2.8). Without those that do not answer
        within `deadline` seconds, are gone, or do not have the disk; the log names the first.

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
        """Have a thread ask; whether one could be had within so many seconds."""

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
        """A connection is open, or will not be."""
        with self._reaching:
            reached.set()
            self._unreached.discard(reached)

    def _no_connection(self) -> Answers:
        return Answers(
            failure=ConnectionFailed(
                f"no connection to {self._side_calls.label} for statistics within the deadline"
            )
        )


def counters_in(values: Values) -> dict[str, Counters]:
    """The counters of the disks in a record of the group "block", by target.

    Without those of a disk that did not answer, and without what is no number. Cost: none.
    """
    return {
        values[f"{prefix}.name"]: tuple(values[f"{prefix}.{name}"] for name in _COUNTERS)
        for prefix in blocks(values)
        if all(isinstance(values.get(f"{prefix}.{name}"), int) for name in _COUNTERS)
    }


def _bounded(deadline: float) -> float:
    """The deadline, at most the seconds that a thread can wait.

    Raises:
        ValueError: it is negative, or no number.
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
        nowait = 0  # it is of 4.5.0
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
        except libvirt.libvirtError as error:  # it has stopped, or has no such disk
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
