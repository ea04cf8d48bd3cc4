"""One instant of a host: who is here and in what state, in one call; the details once per domain.

In: a listing. Out: a `Snapshot`. State, reason and id of every domain come from one
`virConnectGetAllDomainStats(STATE)`, whose records never contradict themselves and which enters no
QEMU monitor: a stuck guest holds nothing up. Where libvirt (before 1.2.8) lacks it: the listing,
and then the state of each.

Source: libvirt src/qemu/qemu_driver.c (qemuDomainGetStatsState).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

import libvirt

from guestlist.errors import LibvirtFailure, ListingUnstable, short
from guestlist.handle import INACTIVE_ID, Stated
from guestlist.listing import ACTIVE, ALL, Listing
from guestlist.lookup import ask_about, find_again, look_up
from guestlist.peer import Peer, unsupported
from guestlist.records import Details, DomainState, Instance, Snapshot
from guestlist.statistics import Answers

_STATE_GROUP = 1
"""VIR_DOMAIN_STATS_STATE; older bindings lack the name."""

_TRIES = 100

States = list[Stated]
Record = tuple[libvirt.virDomain, dict[str, Any]]


def take(
    listing: Listing,
    *,
    include_inactive: bool,
    include_foreign: bool,
    include_dom0: bool,
    details: bool,
) -> Snapshot:
    """The instances that match, at one instant; see `Host.snapshot`."""
    peer, memory = listing.peer, listing.details
    before = peer.calls
    if details:
        memory.watch()
    stated = states(listing, include_inactive=include_inactive)
    if details:
        memory.catch_up()
    if memory:
        listed = {one.uuid for one in stated}
        memory.discard_absent(listed, include_inactive=include_inactive)
    matching, unclear = listing.sorted_out(
        ((one, one.id, one.name) for one in stated),
        include_foreign=include_foreign,
        include_dom0=include_dom0,
    )
    matching += listing.ours_by_metadata(unclear)
    known = memory.read(matching) if details else {}
    instances = {
        one.uuid: made
        for one in matching
        if (made := instance(listing, one, known.get(one.uuid))) is not None
    }
    if details:
        listing.last = instances
    return Snapshot(instances.values(), cost=peer.calls - before)


def with_statistics(snapshot: Snapshot, answers: Answers) -> Snapshot:
    """The same instant, with what each active instance answered since, and who did not."""
    instances, unanswered = [], []
    for instance in snapshot.values():
        answer = answers.by_uuid.get(instance.uuid.bytes)
        if answer is None or answer.id != instance.id:  # none, or of another start
            values, complete = None, not instance.active
        else:
            values, complete = answer.values, answer.complete
        if not complete:
            unanswered.append(instance.uuid)
        instances.append(replace(instance, statistics=values))
    return Snapshot(
        instances,
        cost=snapshot.cost,
        unanswered=unanswered,
        statistics_failure=answers.failure,
    )


def one(listing: Listing, uuid: UUID) -> Instance | None:
    """The domain with this UUID, whoever launched it, without details; None if there is none.

    Cost: 2 calls, and 1 more, once, if its name does not tell who launched it. Without the bulk
    statistics 2 more for each time that it starts or stops meanwhile.
    """
    domain = look_up(listing.peer, uuid.bytes)
    if domain is None:
        return None
    for stated in states_of(listing, [domain]):
        return instance(listing, stated, None)
    return None


def states(listing: Listing, *, include_inactive: bool) -> States:
    """State and reason of each domain, or of each that is active.

    Cost: 1 call; without that call the listing's and n.
    """
    flags = ALL if include_inactive else ACTIVE
    stated = _bulk_states(listing, lambda: _all_stats(listing.peer, flags))
    if stated is None:
        domains = listing.domains(include_inactive=include_inactive)
        stated = _states_one_by_one(domains, listing.peer)
    return stated if include_inactive else [one for one in stated if one.id != INACTIVE_ID]


def states_of(listing: Listing, domains: list[libvirt.virDomain]) -> States:
    """State and reason of each of these domains; of those that are gone, none.

    Cost: 1 call; without that call 1 per domain, and 2 more for each that started or stopped. More
    only where the call fails, see `lookup.ask_about`.
    """
    peer = listing.peer
    connection = peer.connection
    stated = _bulk_states(
        listing,
        lambda: ask_about(
            peer, domains, lambda left: connection.domainListGetStats(left, _STATE_GROUP)
        ),
    )
    return _states_one_by_one(domains, peer) if stated is None else stated


def _all_stats(peer: Peer, flags: int) -> list[Record]:
    peer.calls += 1
    return peer.connection.getAllDomainStats(_STATE_GROUP, flags)


def _bulk_states(listing: Listing, ask: Callable[[], Iterable[Record]]) -> States | None:
    """The states in one call; None where there is no such call."""
    if listing.bulk_stats is False:
        return None
    try:
        records = ask()
    except (libvirt.libvirtError, AttributeError) as error:
        if not unsupported(error):
            listing.raise_if_too_many(error)
            raise
        listing.bulk_stats = False
        return None
    listing.bulk_stats = True
    return [_stated(domain, record, listing.peer) for domain, record in records]


def _stated(domain: libvirt.virDomain, record: dict[str, Any], peer: Peer) -> Stated:
    """The state that a record tells.

    Raises:
        LibvirtFailure: it tells none. No libvirt leaves it out.
    """
    state, reason = record.get("state.state"), record.get("state.reason")
    if isinstance(state, int) and isinstance(reason, int):
        return Stated(domain, state, reason)
    raise LibvirtFailure(
        f"cannot tell the state of domain {short(domain.name())!r} of {peer.label}: the answer "
        "has none in it; is it libvirt that answers there?"
    )


def _states_one_by_one(domains: Iterable[libvirt.virDomain], peer: Peer) -> States:
    """State and reason of each, which agree with the id of its handle; of those gone, none.

    Raises:
        ListingUnstable: a domain started and stopped between every two calls.

    Cost: 1 call per domain, and 2 more for each that started or stopped meanwhile.
    """
    stated = (_settled_or_gone(domain, peer) for domain in domains)
    return [one for one in stated if one is not None]


def _settled_or_gone(domain: libvirt.virDomain, peer: Peer) -> Stated | None:
    """As `_settled`; one that is back under its UUID after a failure is asked again."""
    try:
        return _settled(domain, peer)
    except libvirt.libvirtError as error:
        found = find_again(peer, error, domain.UUID())
    if found is None:
        return None
    try:
        return _settled(found, peer)
    except libvirt.libvirtError as error:
        if find_again(peer, error, found.UUID()) is not None:
            raise
        return None


def _settled(domain: libvirt.virDomain, peer: Peer) -> Stated | None:
    """A handle of the domain with the state that it has under the handle's id; None if gone."""
    for _ in range(_TRIES):
        peer.calls += 1
        state, reason = domain.state()
        if (state == DomainState.SHUTOFF) == (domain.ID() == INACTIVE_ID):
            return Stated(domain, state, reason)
        again = look_up(peer, domain.UUID())
        if again is None:
            return None
        domain = again
    raise ListingUnstable(
        f"cannot tell the state of domain {short(domain.name())!r} of {peer.label}: it starts and "
        "stops between every two calls; ask again, or upgrade libvirt to 1.2.8 or newer"
    )


def instance(listing: Listing, stated: Stated, details: Details | None) -> Instance | None:
    """The record; None where only the metadata could tell whose it is, and it is gone.

    Where nothing has changed it is the last snapshot's: making one costs more than looking.
    """
    id = None if stated.id == INACTIVE_ID else stated.id
    last = listing.last.get(stated.uuid)
    if (
        last is not None
        and last.details is details
        and last.id == id
        and last.state == stated.state
        and last.reason == stated.reason
        and last.name == stated.name
    ):
        return last
    launcher = listing.launcher(stated)
    if launcher is None:
        return None
    return Instance(
        uuid=UUID(bytes=stated.uuid),
        name=stated.name,
        id=id,
        state=DomainState(stated.state),
        reason=stated.reason,
        launcher=launcher,
        details=details,
        ours=listing.is_ours(stated),
    )
