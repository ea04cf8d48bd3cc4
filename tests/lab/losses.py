"""A count of what listings and snapshots get wrong while another process changes the domains.

In: a function that makes a `Host`, and domains that exist all the time. Out: a `Tally`. A listing
under churn is wrong if it lacks one of those domains or shows one twice; a snapshot also if it
contradicts itself about a domain. One that raises `ListingUnstable` is refused, not wrong.
"""

from __future__ import annotations

import collections
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from guestlist import DomainState, Host, Instance, ListingUnstable


@dataclass
class Tally:
    """How many of `listings` listings lacked a domain, showed one twice, or gave up.

    For snapshots also: how many contradicted themselves, and the `calls` of all together.
    """

    listings: int = 0
    lost: int = 0
    doubled: int = 0
    unstable: int = 0
    contradicted: int = 0
    calls: int = 0
    missing: collections.Counter[str] = field(default_factory=collections.Counter)

    def miss(self, lost: Collection[uuid.UUID]) -> None:
        """Count a listing that lacked these domains."""
        self.lost += bool(lost)
        self.missing.update(map(str, lost))

    @property
    def right(self) -> bool:
        """Return whether every listing was complete and none gave up."""
        return self.listings > 0 and not (
            self.lost or self.doubled or self.unstable or self.contradicted
        )


def count_losses(
    make_host: Callable[[], Host],
    expected: Collection[uuid.UUID],
    listings: int,
    *,
    cold: bool = False,
    include_inactive: bool = True,
) -> Tally:
    """List `times` times, and compare each list with the domains that existed all the time.

    Args:
        cold: each listing is the first of a new connection.
        include_inactive: as in `Host.list_instance_domains`; without it the expected domains must
            be active all the time.
    """
    wanted = set(expected)

    def judge(host: Host, tally: Tally) -> None:
        domains = host.list_instance_domains(
            include_inactive=include_inactive, include_foreign=True
        )
        found = [uuid.UUID(bytes=domain.UUID()) for domain in domains]
        tally.miss(wanted.difference(found))
        tally.doubled += len(found) != len(set(found))

    return _tallied(make_host, listings, judge, cold=cold)


def count_contradictions(
    make_host: Callable[[], Host],
    expected: Collection[uuid.UUID],
    snapshots: int,
    *,
    cold: bool = False,
    include_inactive: bool = True,
) -> Tally:
    """Take `times` snapshots, with details; see `count_losses`."""
    wanted = set(expected)

    def judge(host: Host, tally: Tally) -> None:
        snapshot = host.snapshot(include_inactive=include_inactive, include_foreign=True)
        tally.miss(wanted - set(snapshot))
        tally.contradicted += any(map(_contradicts_itself, snapshot.values()))
        tally.calls += snapshot.cost

    return _tallied(make_host, snapshots, judge, cold=cold)


def _tallied(
    make_host: Callable[[], Host],
    times: int,
    judge: Callable[[Host, Tally], None],
    *,
    cold: bool,
) -> Tally:
    tally = Tally()
    with make_host() as host:
        for _ in range(times):
            if cold:
                host.close()
            tally.listings += 1
            try:
                judge(host, tally)
            except ListingUnstable:
                tally.unstable += 1
    return tally


def _contradicts_itself(instance: Instance) -> bool:
    """Return whether id and state, or a record and its details, contradict each other."""
    if instance.active != (instance.state is not DomainState.SHUTOFF):
        return True
    return instance.details is not None and instance.details.uuid != instance.uuid
