"""The XML of many domains within a deadline, where reading it may wait for a guest.

In: handles of one connection. Out: what was read of each domain over other connections; where a
guest did not answer, the domain's name and the reason. The connection of the handles is not used.

Source: libvirt src/qemu/qemu_driver.c, 0.9.12 and later (qemuDomainGetXMLDesc, the balloon).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from guestlist.connection import Connection
from guestlist.details import reader
from guestlist.errors import GuestlistError
from guestlist.handle import Handle
from guestlist.lookup import look_up
from guestlist.peer import Peer, unless_unsupported
from guestlist.records import Details
from guestlist.side_calls import MOST_HANGING, PerDomainCalls, SideCalls

log = logging.getLogger(__name__)

_BALLOON_EVENT, _BALLOON_EVENT_IN_QEMU = 10_000, 1_002_000
"""The releases of libvirt and of QEMU that brought BALLOON_CHANGE: 0.10.0 and 1.2.0."""

_NEW_QEMU_ONLY = 5_000_000
"""The libvirt (5.0.0) that runs no QEMU older than 1.2.0, and no later libvirt does."""

_NOT_ASKED = "not asked"


def is_needed(peer: Peer) -> bool:
    """Return whether XMLDesc may enter a guest's monitor, and so wait for a guest that is stuck.

    QEMU's driver asks the guest for its balloon where no event tells it: in libvirt before 0.10.0,
    and in later ones with a QEMU before 1.2. Listing and states enter no monitor in any release.

    Raises:
        libvirt.libvirtError: the connection is lost.

    Cost: none from libvirt 5.0.0 on; else 2 calls, which are not in `Peer.calls`.
    """
    asked = peer.connection
    if not 0 < peer.release < _NEW_QEMU_ONLY or not peer.location().same_domains_again:
        return False
    if unless_unsupported(asked.getType) != "QEMU":
        return False
    if peer.release < _BALLOON_EVENT:
        return True
    qemu = unless_unsupported(asked.getVersion)
    return qemu is not None and qemu < _BALLOON_EVENT_IN_QEMU


def was_not_asked(details: Details) -> bool:
    """Return whether a domain was left out because other guests hang."""
    return any(what.startswith(f"xml: {_NOT_ASKED}") for what in details.unknown)


@dataclass(frozen=True, slots=True)
class BoundedOutcome:
    """What was read of each domain, None if it is gone; and why a connection failed, if one did."""

    read: list[tuple[Handle, reader.ReadDetails | None]]
    calls: int
    failure: GuestlistError | None


class BoundedReader:
    """Reads the XML of one host's domains within a deadline. Threads may share it."""

    def __init__(self, connection: Connection, deadline: float) -> None:
        self._deadline = deadline
        self._side_calls = SideCalls(connection, MOST_HANGING + 1)
        self._each = PerDomainCalls(self._side_calls)

    def read(
        self,
        handles: Iterable[Handle],
        xml_reader: reader.XmlReader,
        returned: Callable[[bytes], object],
    ) -> BoundedOutcome:
        """Read each domain's XML.

        Takes as long as the deadline where a guest hangs that did not hang before.

        Args:
            handles: the domains.
            xml_reader: reads the XML of one domain.
            returned: is called, on another thread, with the UUID of a domain whose guest answers
                again.

        Cost: 2 calls per domain, over other connections.
        """
        by_uuid = {handle.uuid: handle for handle in handles}

        def ask_one(peer: Peer, uuid: bytes) -> reader.ReadDetails | None:
            domain = look_up(peer, uuid)
            return None if domain is None else xml_reader.read(by_uuid[uuid].over(domain), peer)

        found = self._each.ask(
            "read the XML of the domains", by_uuid, ask_one, self._deadline, returned=returned
        )
        read = [(by_uuid[uuid], one) for uuid, one in found.answers.items()]
        within = f"no answer within {self._deadline:g} s"
        read += [(by_uuid[uuid], reader.unread(by_uuid[uuid], within)) for uuid in found.silent]
        why = f"{_NOT_ASKED}, " + (
            "other guests do not answer" if found.silent else "no second connection"
        )
        read += [(by_uuid[uuid], reader.unread(by_uuid[uuid], why)) for uuid in found.unasked]
        if found.failure is not None:
            log.warning("the XML of %d domains was not read: %s", len(found.unasked), found.failure)
        return BoundedOutcome(read, found.calls, found.failure)

    def close(self) -> None:
        """Close what is idle; a call under way closes its own connection when it returns."""
        self._side_calls.close()
