"""One instant of a host: the states of all domains in one call, and the details once per domain.

In: a session. Out: a `Snapshot`. State, reason and id of every domain come from one
`virConnectGetAllDomainStats(STATE)`, whose records never contradict themselves. It enters no QEMU
monitor, so a stuck guest delays nothing. Where libvirt lacks it (before 1.2.8), the domains are
listed first, and then each is asked for its state.

Source: libvirt src/qemu/qemu_driver.c (qemuDomainGetStatsState).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import libvirt

from guestlist.errors import LibvirtFailure, ListingUnstable, short
from guestlist.handle import INACTIVE_ID, Handle, Stated
from guestlist.listing import ACTIVE, ALL
from guestlist.lookup import ask_about, find_again, keep_known, look_up
from guestlist.ownership import Verdict
from guestlist.peer import Peer, unsupported
from guestlist.records import Details, Instance, Snapshot
from guestlist.session import Session
from guestlist.states import DomainState

if TYPE_CHECKING:
    from guestlist.statistics import Answers

_STATE_GROUP = 1
"""VIR_DOMAIN_STATS_STATE; older bindings lack the name."""

_TRIES = 100

States = list[Stated]
Record = tuple[libvirt.virDomain, dict[str, Any]]


def take(
    session: Session,
    *,
    include_inactive: bool,
    include_foreign: bool,
    include_dom0: bool,
    details: bool,
) -> Snapshot:
    """Return the instances that match, at one instant; see `Host.snapshot`."""
    before = session.peer.calls
    if details:
        session.details.watch()
    stated = states(session, include_inactive=include_inactive)
    if details:
        session.details.catch_up()
    session.discard_absent(stated, include_inactive=include_inactive)
    matching = session.ownership.matching_handles(
        stated, include_foreign=include_foreign, include_dom0=include_dom0
    )
    known = session.details.read(matching) if details else {}
    instances = {
        one.uuid: made
        for one in matching
        if (made := instance(session, one, known.get(one.uuid))) is not None
    }
    if details:
        session.instances = instances
    return Snapshot(instances.values(), cost=session.peer.calls - before)


def with_statistics(snapshot: Snapshot, answers: Answers) -> Snapshot:
    """Return the same instant with the statistics that each active instance answered since.

    Instances that did not answer in full are in `Snapshot.unanswered`.
    """
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


def one(session: Session, uuid: UUID) -> Instance | None:
    """Return the domain with this UUID, of any launcher, without details; None if there is none.

    The handle is kept: the statistics find a domain by its UUID and tell its id, so the next
    question about it needs no look-up. Only a look-up says that a domain is gone.

    Cost: 1 call, and 1 more the first time and for a domain that is gone; 1 more, once, if its name
    does not tell who launched it. Without the bulk statistics 2 calls, and 2 more for each time
    that it starts or stops meanwhile.
    """
    known = session.peer.handles.get(uuid.bytes)
    if known is not None and session.bulk_stats:
        for stated in states_of(session, [known]):
            return instance(session, stated, None)
    domain = look_up(session.peer, uuid.bytes)
    keep_known(session.peer, uuid.bytes, domain)
    if domain is None:
        return None
    for stated in states_of(session, [domain]):
        return instance(session, stated, None)
    return None


def find(session: Session, choose: Callable[[Sequence[Handle]], Container[bytes]]) -> Snapshot:
    """Return some of all domains, of any launcher and in any state, with details read now.

    `choose` gets all domains and returns the UUIDs of those that are wanted. Registers for no
    event: what was remembered of these domains is read again.

    Cost: 1 call, and 1 for each domain that is wanted. Without the bulk statistics: the calls of
    the listing, and 2 for each domain that is wanted.
    """
    before, peer = session.peer.calls, session.peer
    everything = _bulk_states(
        session, lambda: peer.call(peer.connection.getAllDomainStats, _STATE_GROUP, ALL)
    )
    if everything is None:
        listed = session.listing.domains(include_inactive=True)
        wanted = choose([Handle(domain) for domain in listed])
        found = _states_one_by_one((one for one in listed if one.UUID() in wanted), peer)
    else:
        wanted = choose(everything)
        found = [one for one in everything if one.uuid in wanted]
    for one in found:
        session.discard(one.uuid)
    known = session.details.read(found) if found else {}
    made = (instance(session, one, known.get(one.uuid)) for one in found)
    return Snapshot(filter(None, made), cost=peer.calls - before)


def states(session: Session, *, include_inactive: bool) -> States:
    """Return state and reason of each domain, or of each that is active.

    Cost: 1 call; without that call those of the list, and 1 per domain.
    """
    peer, flags = session.peer, ALL if include_inactive else ACTIVE
    stated = _bulk_states(
        session, lambda: peer.call(peer.connection.getAllDomainStats, _STATE_GROUP, flags)
    )
    if stated is None:
        domains = session.listing.domains(include_inactive=include_inactive)
        stated = _states_one_by_one(domains, peer)
    return stated if include_inactive else [one for one in stated if one.id != INACTIVE_ID]


def states_of(session: Session, domains: list[libvirt.virDomain]) -> States:
    """Return state and reason of each of these domains, without those that are gone.

    Cost: 1 call; without that call 1 per domain, and 2 more for each that started or stopped. More
    only where the call fails, see `lookup.ask_about`.
    """
    peer, connection = session.peer, session.peer.connection
    stated = _bulk_states(
        session,
        lambda: ask_about(
            peer, domains, lambda left: connection.domainListGetStats(left, _STATE_GROUP)
        ),
    )
    return _states_one_by_one(domains, peer) if stated is None else stated


def _bulk_states(session: Session, ask: Callable[[], Iterable[Record]]) -> States | None:
    """Return the states that one call tells; None where there is no such call."""
    if session.bulk_stats is False:
        return None
    try:
        records = ask()
    except (libvirt.libvirtError, AttributeError) as error:
        if not unsupported(error):
            session.listing.raise_if_too_many(error)
            raise
        session.bulk_stats = False
        return None
    session.bulk_stats = True
    return [_stated(domain, record, session.peer) for domain, record in records]


def _stated(domain: libvirt.virDomain, record: dict[str, Any], peer: Peer) -> Stated:
    """Return the state that a record tells.

    Raises:
        LibvirtFailure: the record tells none. No libvirt leaves it out.
    """
    state, reason = record.get("state.state"), record.get("state.reason")
    if isinstance(state, int) and isinstance(reason, int):
        return Stated(domain, state, reason)
    raise LibvirtFailure(
        f"cannot tell the state of domain {short(domain.name())!r} of {peer.label}: the answer "
        "has none in it; is it libvirt that answers there?"
    )


def _states_one_by_one(domains: Iterable[libvirt.virDomain], peer: Peer) -> States:
    """Return state and reason of each domain, without those that are gone.

    They agree with the id of the handle: the domain had both at one instant.

    Raises:
        ListingUnstable: a domain started and stopped between every two calls.

    Cost: 1 call per domain, and 2 more for each that started or stopped meanwhile.
    """
    stated = (_settled_or_gone(domain, peer) for domain in domains)
    return [one for one in stated if one is not None]


def _settled_or_gone(domain: libvirt.virDomain, peer: Peer) -> Stated | None:
    """Return what `_settled` does; ask again about a domain that is there after a failure."""
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
    """Return the domain's state under the id of its handle; None if the domain is gone."""
    for _ in range(_TRIES):
        state, reason = peer.call(domain.state)
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


def instance(session: Session, stated: Stated, details: Details | None) -> Instance | None:
    """Return the record of a domain that was found in this state, with these details.

    Where nothing has changed it is the record of the last snapshot. None if only the metadata could
    tell who launched the domain, and it is gone.
    """
    last = session.instances.get(stated.uuid)
    if last is not None and _is_still(last, stated, details):
        return last
    verdict = session.ownership.of(stated)
    return None if verdict is None else _record(UUID(bytes=stated.uuid), stated, details, verdict)


def renewed(last: Instance, stated: Stated, details: Details | None) -> Instance:
    """Return the record of a known domain, found in this state, with its last launcher.

    Where nothing has changed it is the last record.
    """
    if _is_still(last, stated, details):
        return last
    return _record(last.uuid, stated, details, last)


def _is_still(last: Instance, stated: Stated, details: Details | None) -> bool:
    """Return whether a record says just this. To compare costs less than to make a record."""
    return (
        last.details is details
        and last.id == _id_of(stated)
        and last.state == stated.state
        and last.reason == stated.reason
        and last.name == stated.name
    )


def _record(
    uuid: UUID, stated: Stated, details: Details | None, verdict: Verdict | Instance
) -> Instance:
    return Instance(
        uuid=uuid,
        name=stated.name,
        id=_id_of(stated),
        state=DomainState.of(stated.state),
        reason=stated.reason,
        launcher=verdict.launcher,
        details=details,
        ours=verdict.ours,
    )


def _id_of(stated: Stated) -> int | None:
    return None if stated.id == INACTIVE_ID else stated.id
