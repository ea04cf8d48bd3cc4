"""The domains of this moment: one call at each scrape, which no guest can delay.

In: a connection. Out: name, id, state and network counters of every domain, at one instant; or why
libvirt did not answer in time. The call enters no guest's monitor. It has a connection and a thread
of its own, so a daemon that hangs delays a scrape by a bounded time.

Source: libvirt src/qemu/qemu_driver.c (qemuDomainGetStatsState, qemuDomainGetStatsInterface take no
job); measured with a QEMU stopped by SIGSTOP: 0.6 ms for 100 domains.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import libvirt

from guestlist import threads
from guestlist.capabilities import BULK_STATS, Versions, lacking
from guestlist.connection import Connection, known_versions
from guestlist.errors import ConnectionLost, GuestlistError
from guestlist.handle import INACTIVE_ID, Stated
from guestlist.peer import Peer, unsupported
from guestlist.side_calls import SideCalls
from guestlist.states import DomainState
from guestlist.statistics.reading import Values
from guestlist.unpatched import time
from guestlist.waiting import Outcome

_STATE, _INTERFACE = 1, 1 << 4

DEADLINE = 1.5
"""Seconds that libvirt has to answer a scrape: while a QEMU that died is taken away, libvirt 9.0
needs 1.4. Probes give the whole scrape 5."""


class CurrentDomain(NamedTuple):
    """One domain at the instant of the call. `id` is None while it is inactive."""

    uuid: UUID
    name: str
    id: int | None
    state: DomainState
    reason: int
    values: Values
    """libvirt's statistics: the groups "state" and "interface"."""


class CurrentDomains(NamedTuple):
    """Every domain of the host at one instant, and the versions of this libvirt."""

    domains: Sequence[CurrentDomain]
    versions: Versions


class CurrentCalls:
    """The calls of one host's scrapes. Threads may share it."""

    def __init__(self, connection: Connection, deadline: float = DEADLINE) -> None:
        self._side_calls = SideCalls(connection, 1)
        self._deadline = deadline
        self._versions: weakref.WeakKeyDictionary[Peer, Versions] = weakref.WeakKeyDictionary()

    def ask(self) -> CurrentDomains:
        """Return the domains of this moment.

        Raises:
            NotSupported: this libvirt has no bulk statistics (before 1.2.8).
            GuestlistError: libvirt could not be asked; `ConnectionLost` if it did not answer within
                the deadline. A call that hangs is left alone, and until it returns each further
                question fails at once.

        Cost: 1 call; 3 more, once per connection, for the versions.
        """
        return threads.run_uninterrupted(self._ask, "guestlist-exporter-current")

    def _ask(self) -> CurrentDomains:
        answered: Outcome[CurrentDomains | GuestlistError | None] = Outcome()
        end = time.monotonic() + self._deadline
        is_free = self._side_calls.start(
            "read the states",
            self._question,
            lambda outcome: answered.of(lambda: outcome),
        )
        if not is_free or not answered.wait(max(0.0, end - time.monotonic())):
            raise ConnectionLost(
                f"no answer from {self._side_calls.label} within {self._deadline:g} s: its daemon "
                "accepts calls and does not finish them"
            )
        outcome = answered.get()
        if isinstance(outcome, CurrentDomains):
            return outcome
        raise outcome or ConnectionLost(f"the question to {self._side_calls.label} failed")

    def _question(self, peer: Peer) -> CurrentDomains:
        try:
            records = peer.connection.getAllDomainStats(_STATE | _INTERFACE, 0)
        except (libvirt.libvirtError, AttributeError) as error:
            if unsupported(error):
                raise lacking(
                    BULK_STATS, "read the states", peer.label, known_versions(peer), error
                ) from error
            raise
        return CurrentDomains(
            [each for domain, values in records if (each := _read(domain, values)) is not None],
            self._versions_of(peer),
        )

    def _versions_of(self, peer: Peer) -> Versions:
        found = self._versions.get(peer)
        if found is None:
            found = self._versions[peer] = peer.versions()
        return found

    def close(self) -> None:
        """Close the idle connection; a call that hangs closes its own when it returns."""
        threads.run_uninterrupted(self._side_calls.close, "guestlist-exporter-close")


def _read(domain: libvirt.virDomain, values: Values) -> CurrentDomain | None:
    state, reason = values.get("state.state"), values.get("state.reason")
    if type(state) is not int or type(reason) is not int:
        return None
    stated = Stated(domain, state, reason)
    number = None if stated.id == INACTIVE_ID else stated.id
    uuid = UUID(bytes=stated.uuid)
    return CurrentDomain(uuid, stated.name, number, DomainState.of(state), reason, values)
