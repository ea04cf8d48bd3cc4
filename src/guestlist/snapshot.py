"""One instant of a host: who is here and in what state, in one call.

In: a listing. Out: a `Snapshot`. State, reason and id of every domain come from one
`virConnectGetAllDomainStats(STATE)`, whose records never contradict themselves and which enters no
QEMU monitor: a stuck guest holds nothing up. Where libvirt (before 1.2.8) lacks it: the listing,
and then the state of each.

Source: libvirt src/qemu/qemu_driver.c (qemuDomainGetStatsState).
"""

from __future__ import annotations

from uuid import UUID

import libvirt

from guestlist.connection import unsupported
from guestlist.errors import Code
from guestlist.listing import ACTIVE, ALL, INACTIVE_ID, Listing
from guestlist.records import DomainState, Instance, Snapshot

_STATE_GROUP = 1
"""VIR_DOMAIN_STATS_STATE; older bindings lack the name."""

States = dict[libvirt.virDomain, tuple[int, int]]


def take(
    listing: Listing, *, include_inactive: bool, include_foreign: bool, include_dom0: bool
) -> Snapshot:
    """The instances that match, at one instant; see `Host.snapshot`."""
    state_of = states(listing, include_inactive=include_inactive)
    listing.forget_absent(state_of, include_inactive=include_inactive)
    instances = []
    for domain in listing.select(
        state_of, include_foreign=include_foreign, include_dom0=include_dom0
    ):
        try:
            launcher = listing.launcher(domain)
        except libvirt.libvirtError as error:
            if error.get_error_code() != Code.NO_DOMAIN:
                raise
            continue  # gone since it was listed
        state, reason = state_of[domain]
        id = domain.ID()
        instances.append(
            Instance(
                uuid=UUID(bytes=domain.UUID()),
                name=domain.name(),
                id=None if id == INACTIVE_ID else id,
                state=DomainState(state),
                reason=reason,
                launcher=launcher,
            )
        )
    return Snapshot(instances)


def states(listing: Listing, *, include_inactive: bool) -> States:
    """State and reason of each domain. Cost: 1 call; without that call the listing's and n."""
    if listing.bulk_stats is not False:
        try:
            records = listing.peer.connection.getAllDomainStats(
                _STATE_GROUP, ALL if include_inactive else ACTIVE
            )
        except (libvirt.libvirtError, AttributeError) as error:
            if not unsupported(error):
                listing.raise_if_too_many(error)
                raise
            listing.bulk_stats = False
        else:
            listing.bulk_stats = True
            return {
                domain: (record["state.state"], record["state.reason"])
                for domain, record in records
            }
    state_of = {}
    for domain in listing.domains(include_inactive=include_inactive):
        try:
            state, reason = domain.state()
        except libvirt.libvirtError as error:
            if error.get_error_code() != Code.NO_DOMAIN:
                raise
            continue
        state_of[domain] = (state, reason)
    return state_of
