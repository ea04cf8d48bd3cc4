"""Counting what listings lose while somebody else changes the domains.

In: a way to make a `Host`, and domains that exist throughout. Out: a `Tally`. A listing under churn
is wrong if it lacks one of those domains or shows one twice; it is refused, not wrong, if it raises
`ListingUnstable`.
"""

from __future__ import annotations

import collections
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from guestlist import Host, ListingUnstable


@dataclass
class Tally:
    """Of `listings` listings: how many lacked a domain, doubled one, or gave up."""

    listings: int = 0
    lost: int = 0
    doubled: int = 0
    unstable: int = 0
    missing: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def right(self) -> bool:
        """Whether every listing was complete and none gave up."""
        return self.listings > 0 and not (self.lost or self.doubled or self.unstable)


def count_losses(
    make_host: Callable[[], Host],
    expected: Collection[uuid.UUID],
    listings: int,
    *,
    cold: bool = False,
    include_inactive: bool = True,
) -> Tally:
    """List so many times, and hold each list against what was there throughout.

    Args:
        cold: each listing is the first of a new connection.
        include_inactive: as in `Host.list_instance_domains`; without it the expected ones must be
            active throughout.
    """
    tally = Tally()
    wanted = {str(identity) for identity in expected}
    host = make_host()
    try:
        for _ in range(listings):
            if cold:
                host.close()
            tally.listings += 1
            try:
                domains = host.list_instance_domains(
                    include_inactive=include_inactive, include_foreign=True
                )
            except ListingUnstable:
                tally.unstable += 1
                continue
            found = [domain.UUIDString() for domain in domains]
            lost = wanted.difference(found)
            tally.lost += bool(lost)
            tally.missing.update(lost)
            tally.doubled += len(found) != len(set(found))
    finally:
        host.close()
    return tally
