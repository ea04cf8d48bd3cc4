"""The hosts of a fleet in an etcd, as an audit looks at them: all of them at one revision.

In: a fleet. Out: a look at each host. A silent host is a look without domains. What a
host has published lags a little; so a finding needs a second look, at a later revision.

A guest that migrates is a domain of the host that its row has, and in a conflict of both hosts.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from guestlist.audit.rows import HostLook
from guestlist.errors import GuestlistError
from guestlist.fleet.rows import FleetSnapshot, Standing

if TYPE_CHECKING:
    from guestlist.fleet.reading import Fleet
    from guestlist.records import Instance


class NotTold(GuestlistError):
    """A host of the fleet is silent, or has not published all its domains."""


class FleetLooks:
    """The hosts of a fleet; `audit.rounds.Hosts`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.failures: Mapping[str, Exception] = {}
        """By host: why it failed in the last look."""

    def look(self, names: Collection[str] | None = None) -> tuple[HostLook, ...]:
        """Return a look at all hosts, or at those of these names.

        The whole fleet is read for that: which host has a guest depends on what the others publish
        of it. The keys of a few hosts would show a guest that has moved on where it was.

        Raises:
            EtcdError: the etcd cannot be asked, or refuses.
        """
        began = time.monotonic()
        snapshot = self._fleet.snapshot()
        ended = time.monotonic()
        lines = {
            each.host: f"{each.host}: {each.failure or 'it is silent'}"
            for each in snapshot.incomplete
        }
        domains = _domains(snapshot)
        wanted = [each.host for each in snapshot.hosts if names is None or each.host in names]
        self.failures = {host: NotTold(lines[host]) for host in wanted if host in lines}
        return tuple(
            HostLook(
                host,
                began,
                ended,
                None if host in lines else tuple(domains[host]),
                names=(host,),
                failure=lines.get(host),
            )
            for host in wanted
        )


def _domains(snapshot: FleetSnapshot) -> Mapping[str, list[Instance]]:
    """Return the domains of each host."""
    found: defaultdict[str, list[Instance]] = defaultdict(list)
    for row in snapshot.values():
        found[row.host].append(row.instance)
        if row.standing is Standing.CONFLICT:
            for host in row.others:
                found[host].append(row.instance)
    return found
