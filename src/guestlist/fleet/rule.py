"""The rule: what the hosts publish -> one row for each guest. Pure: reads no clock, asks nothing.

In: the publications and tombstones of all hosts at one revision, and the state of each host. Out:
rows. Hosts publish independently and late, so two hosts may publish one guest, or no host that has
it; the rule says what is true as far as anything published tells. Its promises, for hosts whose
publications lag by any time below `phases.HOLD`:

F1  Each guest has one row at most: the rows are keyed by UUID, whatever is published.
F2  No guest is lost: a domain that a host publishes has a row; and in a snapshot that is complete a
    guest that migrates has one from before its first host lets it go until after its next host has
    published it.
F3  No guest is invented: the instance of a row was published by its host. A guest of which only
    tombstones are left is in the fleet while a host says that it has left, or does not know: for
    `phases.HOLD` at most, and not once another host, to which it came later, says that it ended.
F4  A guest that migrates is one row: on its source, MIGRATING, while the source runs it; on its
    target, HANDOVER, while both publish it; on its target, ARRIVING, while it runs on neither; on
    its last host, IN_TRANSIT, while no host publishes it.
F5  CONFLICT is a double run: two current hosts publish the guest active, neither as the source of a
    migration, and it did not arrive on either not long ago. Definitions that are not active are no
    conflict.
F6  A host that is silent or syncing is believed last. A guest that only a silent host publishes is
    UNKNOWN, since the last sign of that host. A guest that a current host runs is that host's;
    STALE_COPY says that the other host may run it too.
F7  A snapshot is complete only if there are hosts, and each of them is current. A host that
    publishes and is on no roster counts as silent.
F8  The order in which publications are given changes nothing.

Of two hosts with the same claim the one where the guest was born later wins: the host has published
later, by revision, that the guest runs there (`Publication.born`). A definition that stays behind
is as old as its last run. A source lets go of a guest only when its target runs it, so that is
where the guest went last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from guestlist.fleet.rows import (
    Fate,
    FleetRow,
    FleetSnapshot,
    HostState,
    Phase,
    Publication,
    Standing,
    Tombstone,
)
from guestlist.migration import PAUSED_STARTING_UP
from guestlist.states import DomainState

Hosts = Mapping[str, HostState]

NOT_ON_ROSTER = "the host publishes domains and is not on the roster of the fleet"


def fold(
    publications: Iterable[Publication],
    tombstones: Iterable[Tombstone],
    hosts: Iterable[HostState],
    revision: int = 0,
) -> FleetSnapshot:
    """Return the fleet at one revision: one row for each guest.

    Args:
        publications: those of all hosts, one for each domain of a host.
        tombstones: those of all hosts, one for each domain of a host.
        hosts: the roster: every host of the fleet, also those that publish nothing.
        revision: the revision at which all of it was read.
    """
    roster = _Roster((each.host, each) for each in hosts)
    first: dict[UUID, Publication] = {}
    shared: dict[UUID, list[Publication]] = {}
    for publication in publications:  # a million: each look-up by a UUID is a call of a function
        other = first.setdefault(publication.instance.uuid, publication)
        if other is not publication:
            shared.setdefault(publication.instance.uuid, [other]).append(publication)
    live = {host for host, state in roster.items() if state.live}
    here, resident = Phase.RESIDENT, Standing.RESIDENT
    rows: dict[UUID, FleetRow] = {}
    for uuid, publication in first.items():
        if publication.phase is here and publication.host in live:
            rows[uuid] = FleetRow(publication.host, publication.instance, resident)
        else:
            rows[uuid] = _row(publication, _alone(publication, roster), (), roster)
    absent: dict[UUID, list[Tombstone]] = {}
    for tombstone in tombstones:
        absent.setdefault(tombstone.instance.uuid, []).append(tombstone)
    for uuid in {**shared, **absent}:
        alone = [first[uuid]] if uuid in first else []
        row = judge(shared.get(uuid, alone), absent.get(uuid, ()), roster)
        if row is not None:
            rows[uuid] = row
    return FleetSnapshot.over(rows, roster.values(), revision)


class _Roster(dict[str, HostState]):
    """The states of hosts. A host that is missing is added, as a silent one."""

    def __missing__(self, host: str) -> HostState:
        self[host] = stranger(host)
        return self[host]


def stranger(host: str) -> HostState:
    """Return the state of a host that publishes and is on no roster."""
    return HostState(host, live=False, synced=False, failure=NOT_ON_ROSTER)


def judge(
    published: Sequence[Publication], tombstones: Sequence[Tombstone], hosts: Hosts
) -> FleetRow | None:
    """Return the row of one guest; None: no host has it, or says that it is on its way.

    Args:
        published: what hosts publish of this guest, one for each host.
        tombstones: what hosts say of its end, one for each host.
        hosts: the state of each of these hosts.
    """
    if len(published) == 1 and not tombstones:
        return _row(published[0], _alone(published[0], hosts), (), hosts)
    return _Guest(published, tombstones, hosts).row()


class _Guest:
    """What is published of one guest, sorted by what it claims."""

    def __init__(
        self, published: Sequence[Publication], tombstones: Sequence[Tombstone], hosts: Hosts
    ) -> None:
        self._hosts = hosts
        self._published = published
        self._ends = _not_refuted(tombstones)
        self._running = sorted((each for each in published if _runs(each)), key=_claim)
        self._coming = sorted(
            (each for each in published if each.phase is Phase.INCOMING), key=_claim
        )
        self._defined = sorted((each for each in published if not each.instance.active), key=_claim)

    def row(self) -> FleetRow | None:
        """Return the row: the first of these claims that is made.

        A current host runs it; is its target; the one that was last of a host that sent it away and
        a silent host that ran it; a silent target; a definition.
        """
        running = [each for each in self._running if self._is_current(each.host)]
        if running:
            return self._of(running[0], self._standing(running))
        silent = [each for each in self._running if not self._is_current(each.host)]
        end = self._last_end()
        last = silent[0] if silent and (end is None or silent[0].born > end.born) else None
        coming = [each for each in self._coming if self._is_current(each.host)]
        if coming and last is None:
            return self._of(coming[0], self._arrival(coming[0]))
        defined = self._youngest_defined(last)
        if defined is not None and (end is None or defined.born > end.born):
            return self._of(defined, Standing.STALE_COPY if last else Standing.RESIDENT)
        if last is not None:
            return self._of(last, _alone(last, self._hosts))
        if end is not None:
            return self._gone(end)
        rest = (*self._coming, *self._defined)
        return self._of(rest[0], _alone(rest[0], self._hosts)) if rest else None

    def _standing(self, running: Sequence[Publication]) -> Standing:
        """Return how a guest stands that these current hosts run."""
        best, *others = running
        if others:
            moves = any(each.arrived or each.phase is Phase.OUTGOING for each in running)
            return Standing.HANDOVER if moves else Standing.CONFLICT
        if best.phase is Phase.OUTGOING or any(
            self._is_current(each.host) for each in self._coming
        ):
            return Standing.MIGRATING
        return Standing.STALE_COPY if len(self._running) > 1 else Standing.RESIDENT

    def _arrival(self, coming: Publication) -> Standing:
        """Return how a guest stands that its target alone has: a boot looks like one."""
        if self._ends or len(self._coming) > 1:
            return Standing.ARRIVING
        return _alone(coming, self._hosts)

    def _last_end(self) -> Tombstone | None:
        """Return the tombstone of the host where the guest was last: of current ones, if any is."""
        told = [each for each in self._ends if self._is_current(each.host)]
        return max(told or self._ends, key=lambda each: (each.born, each.host), default=None)

    def _youngest_defined(self, last: Publication | None) -> Publication | None:
        """Return the definition on a current host, if it is younger than a silent host's run."""
        for each in self._defined:
            if self._is_current(each.host):
                return each if last is None or each.born > last.born else None
        return None

    def _gone(self, end: Tombstone) -> FleetRow:
        told = end.fate is Fate.LEFT and self._is_current(end.host)
        standing = Standing.IN_TRANSIT if told else Standing.UNKNOWN
        others = {each.host for each in self._published} - {end.host}
        return _row(end, standing, tuple(sorted(others)), self._hosts)

    def _of(self, best: Publication, standing: Standing) -> FleetRow:
        others = {each.host for each in self._published} - {best.host}
        return _row(best, standing, tuple(sorted(others)), self._hosts)

    def _is_current(self, host: str) -> bool:
        return self._hosts[host].is_current


def _runs(publication: Publication) -> bool:
    return publication.phase is not Phase.INCOMING and publication.instance.active


def _claim(publication: Publication) -> tuple[bool, bool, int, str]:
    """Return the order of claims: no source, then a target, then the one that began last."""
    is_source = publication.phase is Phase.OUTGOING
    return is_source, not publication.arrived, -publication.born, publication.host


def _not_refuted(tombstones: Sequence[Tombstone]) -> list[Tombstone]:
    """Return the tombstones that leave it open where the guest is.

    A guest that came to a host later, and ended there, is not on its way any more.
    """
    ended = [each.born for each in tombstones if each.fate is Fate.ENDED]
    latest = max(ended, default=-1)
    return [each for each in tombstones if each.fate is not Fate.ENDED and each.born >= latest]


def _alone(publication: Publication, hosts: Hosts) -> Standing:
    """Return how a guest stands of which only this is published."""
    if not hosts[publication.host].live:
        return Standing.UNKNOWN
    if publication.phase is Phase.OUTGOING:
        return Standing.MIGRATING
    if publication.phase is Phase.INCOMING and not _starts_up(publication):
        return Standing.ARRIVING
    return Standing.RESIDENT


def _starts_up(publication: Publication) -> bool:
    instance = publication.instance
    return instance.state is DomainState.PAUSED and instance.reason == PAUSED_STARTING_UP


def _row(
    source: Publication | Tombstone, standing: Standing, others: tuple[str, ...], hosts: Hosts
) -> FleetRow:
    since = hosts[source.host].since if standing is Standing.UNKNOWN else None
    return FleetRow(source.host, source.instance, standing, others, since)
