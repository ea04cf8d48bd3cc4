"""The calls: statistics of all active guests, of some by name, and of one disk after the other.

In: an open connection, and groups. Out: what each guest answered. A call returns when each guest
has answered: it waits for a stuck guest until that guest goes on. With the flag NOWAIT it passes
over a guest in which another call already waits; libvirt before 4.5.0 does not know the flag. Knows
no deadline, and asks no guest a second time: see `rounds`.

Source: libvirt src/qemu/qemu_driver.c (qemuConnectGetAllDomainStats).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import libvirt

from guestlist.capabilities import BULK_STATS, lacking
from guestlist.connection import known_versions
from guestlist.errors import Code, GuestlistError
from guestlist.lookup import ask_about, look_up
from guestlist.peer import Peer, unsupported
from guestlist.statistics.groups import Group, bits_of, is_complete, is_passed_over
from guestlist.statistics.reading import Counters, Values
from guestlist.unpatched import time

T = TypeVar("T")

_ACTIVE = 1
_NOWAIT = 1 << 29


@dataclass(frozen=True, slots=True)
class Answer:
    """What one domain answered under this id.

    `complete` unless something is missing that only the guest can tell. `passed_over`: the guest
    was busy or stuck. `asked_at`: when the call began, in monotonic seconds.
    """

    id: int
    values: Values
    complete: bool
    passed_over: bool = False
    asked_at: float = 0.0


Guests = tuple[bytes, ...] | None
"""The guests that a call asks, by UUID; None: all active ones."""


@dataclass(eq=False, slots=True)
class Call:
    """A call under way, or one that has returned. Its thread writes it; times are monotonic."""

    guests: Guests
    reached_at: float | None = None
    """When its connection was there."""
    ended_at: float = 0.0
    answers: dict[bytes, Answer] | None = None
    """None: it has not returned, or has failed."""
    active: tuple[bytes, ...] | None = None
    """The UUIDs of the active guests, if the call was for these."""
    is_refused: bool = False
    """Whether this libvirt does not know NOWAIT."""
    failure: GuestlistError | None = None
    is_over: bool = False
    is_late: bool = False
    """Whether its round ended before it returned."""
    is_taken: bool = False


def active(peer: Peer) -> tuple[bytes, ...]:
    """Return the UUIDs of the active guests, and keep their handles. Enters no guest's monitor.

    Cost: 1 call.
    """
    domains = _supported(peer, lambda: peer.connection.listAllDomains(_ACTIVE))
    peer.handles.clear()
    peer.handles.update((domain.UUID(), domain) for domain in domains)
    return tuple(peer.handles)


def ask_all(peer: Peer, groups: tuple[Group, ...], *, nowait: bool) -> dict[bytes, Answer] | None:
    """Return what all active guests answer; None: this libvirt does not know the flag NOWAIT.

    The handles of guests that were passed over are kept, so that they can be asked by name.

    Cost: 1 call.
    """
    bits, flags = bits_of(groups), _ACTIVE | (_NOWAIT if nowait else 0)
    return _answers(
        peer, groups, lambda: peer.connection.getAllDomainStats(bits, flags), nowait=nowait
    )


def ask_some(
    peer: Peer, groups: tuple[Group, ...], uuids: Iterable[bytes], *, nowait: bool
) -> dict[bytes, Answer] | None:
    """Return what these guests answer, without those that are gone; None as `ask_all`.

    Cost: 1 call, and 1 more where this connection has no handle of one of them. More only where
    the call fails, see `lookup.ask_about`.
    """
    wanted = tuple(uuids)
    if any(uuid not in peer.handles for uuid in wanted):
        active(peer)
    domains = [peer.handles[uuid] for uuid in wanted if uuid in peer.handles]
    bits, flags = bits_of(groups), _NOWAIT if nowait else 0

    def ask() -> Iterable[tuple[libvirt.virDomain, Values]]:
        return ask_about(
            peer, domains, lambda left: peer.connection.domainListGetStats(left, bits, flags)
        )

    return _answers(peer, groups, ask, nowait=nowait)


def disk_counters(peer: Peer, uuid: bytes, targets: Iterable[str]) -> dict[str, Counters]:
    """Return what a domain read from and wrote to these disks; a disk that it lacks is left out.

    Cost: 1 call, and 1 for each disk.
    """
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


def _answers(
    peer: Peer,
    groups: tuple[Group, ...],
    ask: Callable[[], Iterable[tuple[libvirt.virDomain, Values]]],
    *,
    nowait: bool,
) -> dict[bytes, Answer] | None:
    began = time.monotonic()
    try:
        records = _supported(peer, ask)
    except libvirt.libvirtError as error:
        if nowait and error.get_error_code() == Code.INVALID_ARG:
            return None
        raise
    answers: dict[bytes, Answer] = {}
    for domain, values in records:
        complete, passed_over = is_complete(values, groups), is_passed_over(values, groups)
        uuid = domain.UUID()
        answers[uuid] = Answer(domain.ID(), values, complete, passed_over, began)
        if passed_over:
            peer.handles[uuid] = domain
    return answers


def _supported(peer: Peer, ask: Callable[[], T]) -> T:
    """Return what a call answers.

    Raises:
        NotSupported: this libvirt, or its hypervisor driver, has no such call.
    """
    try:
        return ask()
    except (AttributeError, libvirt.libvirtError) as error:
        if unsupported(error):
            raise lacking(
                BULK_STATS, "read statistics", peer.label, known_versions(peer), error
            ) from error
        raise
