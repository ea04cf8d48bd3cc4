"""A fleet that is told, not run: hosts publish late and independently, while guests migrate.

In: what happens (a guest starts, migrates step by step in libvirt's order, hosts and agents die and
return), a clock that only this moves, and the lag of each publication. Out: what a reader of the
fleet sees, and the truth to hold against it. What hosts publish is decided by `fleet.phases`, what
a reader sees by `fleet.folded`: those are under test. Without libvirt, etcd or threads.

Each host publishes one transaction at a time: it is composed, and takes effect a lag later. What
happens meanwhile goes into the next one. An agent that dies keeps its lease for `TTL` seconds.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from uuid import UUID

from guestlist import DomainState, Instance, Launcher, Snapshot
from guestlist.event import Event, EventKind, Lifecycle
from guestlist.fleet.folded import Folded
from guestlist.fleet.phases import HOLD, Phases, Update
from guestlist.fleet.rows import FleetNews, FleetRow, FleetSnapshot, HostState, RowChange, Standing
from guestlist.inventory.changes import Change, Changed, Resynced
from guestlist.inventory.merging import kind_of

TTL = 30.0
SHORTEST, LONGEST = 0.05, 3.0
"""Seconds that a publication may lag."""

AT = datetime(2026, 11, 26, tzinfo=UTC)
"""The time of all events: a rule that looked at clocks would find them stopped."""

R_BOOTED, R_MIGRATED, R_UNPAUSED, R_CANCELED = 1, 2, 5, 6
P_MIGRATING, P_STARTING_UP = 2, 11
STARTED, SUSPENDED, RESUMED, STOPPED, UNDEFINED = (
    Lifecycle.STARTED,
    Lifecycle.SUSPENDED,
    Lifecycle.RESUMED,
    Lifecycle.STOPPED,
    Lifecycle.UNDEFINED,
)

Told = tuple[int, int]


@dataclass
class SimHost:
    """A host: its domains as libvirt has them, and what its agent is about to publish."""

    name: str
    domains: dict[UUID, Instance] = field(default_factory=dict)
    phases: Phases | None = None
    """The agent; None while it is dead."""
    pending: dict[UUID, Update] = field(default_factory=dict)
    under_way: list[Update] | None = None
    as_of: float = 0.0
    """The time of the truth that is published; where nothing is pending, it is now."""
    composed_at: float = 0.0
    commit_at: float = 0.0
    syncs: bool = False
    lease_ends: float | None = None
    is_up: bool = True
    returned_at: float = 0.0
    """When the agent last began."""


@dataclass
class Move:
    """A migration under way, and the step that it has taken."""

    guest: UUID
    source: SimHost
    target: SimHost
    step: int = 0


class Story:
    """The fleet, its truth, and one reader that looks at every step."""

    def __init__(self, hosts: int, lag: Callable[[], float]) -> None:
        self._lag = lag
        self.now = 1_000.0
        self.hosts = [SimHost(f"host{n}") for n in range(hosts)]
        self.moves: list[Move] = []
        self.store = Folded()
        self.reader: dict[UUID, object] = {}
        """The rows, as the news of the fleet add up to."""
        self.published: set[UUID] = set()
        """Guests that a host on which they ran has published."""
        self.ended: dict[UUID, float] = {}
        """Guests that exist no more, and when they ended."""
        self.doubled: dict[UUID, float] = {}
        """Guests that really run twice, or did, and when that was last so."""
        self.migrations = self.looks = self.complete_looks = self.rows_seen = 0
        self.lingering = 0
        """Rows of guests that have ended, in transit or unknown for `HOLD` seconds at most."""
        self.missed_without_rule = self.doubled_without_rule = 0
        """Guests that a reader misses, or has twice, who takes all that is published as it is."""
        self.wrong: list[str] = []
        self._revision = 0
        self._ids = itertools.count(1)
        self._numbers = itertools.count(1)
        for host in self.hosts:
            self.restart(host)
        self.settle()

    # The truth

    def homes(self, guest: UUID) -> list[SimHost]:
        """Return the hosts that have a domain of a guest."""
        return [host for host in self.hosts if guest in host.domains]

    def guests(self) -> set[UUID]:
        """Return the guests that exist: on a host that is down they do not."""
        return {uuid for host in self.hosts for uuid in host.domains}

    def is_moving(self, guest: UUID) -> bool:
        """Return whether a migration of a guest is under way."""
        return any(move.guest == guest for move in self.moves)

    def idle(self, host: SimHost) -> list[UUID]:
        """Return the guests of a host that do not migrate, in their order."""
        return [uuid for uuid in host.domains if not self.is_moving(uuid)]

    # What happens to guests

    def start(self, host: SimHost, guest: UUID | None = None) -> UUID:
        """Start a guest on a host."""
        uuid = guest or UUID(int=next(self._numbers))
        booting = self._paused(uuid, P_STARTING_UP)
        self._set(host, uuid, booting)
        running = replace(booting, state=DomainState.RUNNING, reason=R_BOOTED)
        self._set(host, uuid, running, (STARTED, 0))
        self.ended.pop(uuid, None)
        return uuid

    def end(self, host: SimHost, guest: UUID, *, is_heard: bool = True) -> None:
        """Destroy a transient guest; `is_heard`: the view hears of it before it asks."""
        self._set(host, guest, None, *([(STOPPED, 1)] if is_heard else []))

    def shut_down(self, host: SimHost, guest: UUID) -> None:
        """Shut a guest down that stays defined."""
        off = replace(host.domains[guest], id=None, state=DomainState.SHUTOFF, reason=1)
        self._set(host, guest, off, (STOPPED, 0))

    def resume(self, host: SimHost, guest: UUID) -> None:
        """Resume a paused guest by hand."""
        running = replace(host.domains[guest], state=DomainState.RUNNING, reason=R_UNPAUSED)
        self._set(host, guest, running, (RESUMED, 0))

    def begin_move(self, source: SimHost, target: SimHost, guest: UUID) -> Move:
        """Begin a migration: the target's QEMU starts."""
        move = Move(guest, source, target)
        self.moves.append(move)
        self._set(target, guest, self._paused(guest, P_STARTING_UP))
        return move

    def step(self, move: Move) -> None:
        """Let a migration take its next step, in libvirt's order."""
        move.step += 1
        guest, source, target = move.guest, move.source, move.target
        if move.step == 1:
            waiting = replace(target.domains[guest], reason=P_MIGRATING)
            self._set(target, guest, waiting, (STARTED, 1))
        elif move.step == 2:
            paused = replace(source.domains[guest], state=DomainState.PAUSED, reason=P_MIGRATING)
            self._set(source, guest, paused, (SUSPENDED, 1))
        elif move.step == 3:
            running = replace(target.domains[guest], state=DomainState.RUNNING, reason=R_MIGRATED)
            self._set(target, guest, running, (RESUMED, 1))
        else:
            self._set(source, guest, None, (STOPPED, 3))
            self.moves.remove(move)
            self.migrations += 1

    def cancel(self, move: Move) -> None:
        """End a migration that has not reached its target: the source goes on."""
        if move.step >= 3:
            self.step(move)
            return
        guest, source = move.guest, move.source
        self.moves.remove(move)
        self._set(move.target, guest, None, (STOPPED, 5))
        if move.step == 2 and guest in source.domains:
            running = replace(source.domains[guest], state=DomainState.RUNNING, reason=R_CANCELED)
            self._set(source, guest, running, (RESUMED, 1))

    # What happens to hosts and agents

    def kill_agent(self, host: SimHost) -> None:
        """Kill the agent: what it has not published is lost, and its lease ends in time."""
        host.phases = None
        host.pending, host.under_way = {}, None
        if host.lease_ends is None:
            host.lease_ends = self.now + TTL

    def kill_host(self, host: SimHost) -> None:
        """Kill the machine: its guests are gone, and its migrations fail or have succeeded."""
        self.kill_agent(host)
        host.is_up = False
        for move in [each for each in self.moves if host in (each.source, each.target)]:
            if move.step >= 3:
                self.step(move)
            else:
                self.cancel(move)
        for guest in list(host.domains):
            self._set(host, guest, None)

    def restart(self, host: SimHost) -> None:
        """Start the agent, and the machine if it is down: it reads what the store has of it."""
        host.is_up, host.returned_at = True, self.now
        host.lease_ends = None
        host.pending, host.under_way = {}, None
        self._see(HostState(host.name, synced=False, failure="syncing"))
        host.phases = Phases(
            host.name,
            publications=self.store.publications_of(host.name),
            tombstones=self.store.tombstones_of(host.name),
            clock=lambda: self.now,
        )
        host.syncs = True
        self._take(host, Resynced(Snapshot(host.domains.values()), 0, AT))
        self._compose(host)

    # Time

    def advance(self, seconds: float) -> None:
        """Let time pass; each publication takes effect when it is due, and the reader looks."""
        end = self.now + seconds
        while (due := min(self._due(), default=end + 1)) <= end:
            self.now = max(self.now, due)
            self._work()
            self.look()
        self.now = end
        self._work()
        self.look()

    def settle(self) -> None:
        """Let all be published that has happened."""
        while any(host.under_way is not None or host.pending for host in self.hosts):
            self.advance(LONGEST)

    def _due(self) -> Iterator[float]:
        for host in self.hosts:
            if host.under_way is not None:
                yield host.commit_at
            if host.lease_ends is not None:
                yield host.lease_ends
            if host.phases is not None and (due := host.phases.next_due) is not None:
                yield due

    def _work(self) -> None:
        for host in self.hosts:
            if host.lease_ends is not None and host.lease_ends <= self.now:
                host.lease_ends = float("inf")
                self._see(HostState(host.name, live=False, failure="its lease has ended", since=AT))
            if host.phases is not None:
                for update in host.phases.expire():
                    host.pending[update.uuid] = update
            if host.under_way is not None and host.commit_at <= self.now:
                self._commit(host)
            self._compose(host)

    # Publishing

    def _set(self, host: SimHost, guest: UUID, after: Instance | None, *told: Told) -> None:
        before = host.domains.pop(guest, None)
        if after is not None:
            host.domains[guest] = after
        elif guest not in self.guests():
            self.ended[guest] = self.now
        events = tuple(Event(guest, EventKind.LIFECYCLE, AT, *each) for each in told)
        kind = kind_of(before, after, events) or Changed
        if before is not None or after is not None:
            self._take(host, kind(before, after, events, AT))
        self._compose(host)

    def _take(self, host: SimHost, news: Change | Resynced) -> None:
        if host.phases is not None:
            for update in host.phases.take(news):
                host.pending[update.uuid] = update

    def _compose(self, host: SimHost) -> None:
        """Begin the next transaction, if there is something to publish and none is under way."""
        if host.phases is None or host.under_way is not None:
            return
        if not host.pending and not host.syncs:
            host.as_of = self.now
        else:
            host.under_way, host.pending = list(host.pending.values()), {}
            host.composed_at, host.commit_at = self.now, self.now + self._lag()

    def _commit(self, host: SimHost) -> None:
        assert host.under_way is not None
        assert host.phases is not None
        updates, host.under_way = host.under_way, None
        self._revision += 1
        for update in updates:
            change = self.store.publish(
                host.name,
                update.uuid,
                update.publication,
                update.tombstone,
                revision=self._revision,
                learned_at=AT,
            )
            if (key := self.store.publication(host.name, update.uuid)) is not None:
                host.phases.published(update.uuid, key.born)
            self._tell([change] if change else [])
        host.as_of = host.composed_at
        if host.syncs:
            host.syncs = False
            self._see(HostState(host.name))

    def _see(self, state: HostState) -> None:
        self._revision += 1
        self._tell(self.store.see(state, revision=self._revision, learned_at=AT))

    def _tell(self, news: list[FleetNews] | list[RowChange]) -> None:
        """Apply the news as a reader does."""
        for each in news:
            if isinstance(each, RowChange):
                if self.reader.get(each.row.uuid) != each.before:
                    self.wrong.append(f"not what it was: {each}")
                if each.after is None:
                    self.reader.pop(each.row.uuid, None)
                else:
                    self.reader[each.row.uuid] = each.after

    def _paused(self, uuid: UUID, reason: int) -> Instance:
        return Instance(
            uuid,
            f"instance-{uuid.int:08x}",
            next(self._ids),
            DomainState.PAUSED,
            reason,
            Launcher.NOVA,
        )

    # What the rule comes to, and the reader

    def check_quiet(self) -> None:
        """Settle, and hold each row against the truth: exactly the domains of the hosts."""
        self.settle()
        self.advance(2 * HOLD + LONGEST)
        self.settle()
        fleet = self.look()
        for guest in self.guests() | set(fleet):
            homes = [host for host in self.homes(guest) if host.phases is not None]
            if len(homes) != 1 or len(self.homes(guest)) > 1 or self.is_moving(guest):
                continue
            row = fleet.get(guest)
            if row is None or (row.host, row.standing) not in (
                (homes[0].name, Standing.RESIDENT),
                (homes[0].name, Standing.STALE_COPY),
            ):
                self._complain(f"not settled: {row}", guest)
        if fleet.complete and set(fleet) != self.guests():
            self.wrong.append(f"{self.now:.2f}: {set(fleet) ^ self.guests()} after quiet")

    def look(self) -> FleetSnapshot:
        """Read the fleet, and hold it against the truth."""
        fleet = self.store.snapshot()
        self.looks += 1
        self.rows_seen += len(fleet)
        if dict(fleet) != self.reader:
            self.wrong.append("the changes do not add up to the fleet")
        alive, as_of = self.guests(), self.as_of
        for guest in alive:
            if not self.is_moving(guest) and len(self.homes(guest)) > 1:
                self.doubled[guest] = self.now
        self.published |= {
            guest for guest, row in fleet.items() if row.instance.state is DomainState.RUNNING
        }
        copies = Counter(
            each.instance.uuid
            for host in self.hosts
            for each in self.store.publications_of(host.name)
        )
        self.doubled_without_rule += sum(number > 1 for number in copies.values())
        if fleet.complete:
            self.missed_without_rule += len(self.published & alive - set(copies))
            self.complete_looks += 1
            for guest in self.published & alive - set(fleet):
                self._complain("missed", guest)
        for guest, row in fleet.items():
            if row.standing is Standing.CONFLICT and self.doubled.get(guest, 0.0) < as_of:
                self._complain(f"false {row}", guest)
            if guest in alive or self.ended.get(guest, 0.0) >= as_of:
                continue
            if row.standing not in (Standing.UNKNOWN, Standing.IN_TRANSIT):
                self._complain(f"invented {row}", guest)
            elif fleet.complete:
                self.lingering += 1
                if self._explained_until(row) < as_of:
                    self._complain(f"lingers {row}", guest)
        return fleet

    @property
    def as_of(self) -> float:
        """The time of the oldest truth that a host has published."""
        return min(
            (host.as_of for host in self.hosts if host.lease_ends != float("inf")),
            default=self.now,
        )

    def _explained_until(self, row: FleetRow) -> float:
        """Return until when a guest that has ended may be in transit or unknown.

        An agent that was dead does not know what became of a guest, and tells so for `HOLD`
        seconds; and a host that told of a guest later than its next host refutes nothing.
        """
        returned = max(host.returned_at for host in self.hosts)
        return max(self.ended.get(row.uuid, 0.0), returned) + HOLD + LONGEST

    def _complain(self, what: str, guest: UUID) -> None:
        homes = {host.name: (host.domains[guest].state, host.as_of) for host in self.homes(guest)}
        self.wrong.append(f"{self.now:.2f}: {what}: {guest}, on {homes}")


def play(random: Random, *, hosts: int, steps: int, faults: bool) -> Story:
    """Tell a story at random: guests come, go and migrate; with faults, agents and hosts die."""
    story = Story(hosts, lambda: random.choice((SHORTEST, random.uniform(SHORTEST, LONGEST))))
    for host in story.hosts:
        for _ in range(3):
            story.start(host)
    story.settle()
    pauses = (0.0, 0.0, 0.01, 0.3, 1.0, 3.0, *([10.0] if faults else []))
    for _ in range(steps):
        _happen(story, random, faults=faults)
        story.advance(random.choice(pauses))
    for host in story.hosts:
        if host.phases is None:
            story.restart(host)
    for move in list(story.moves):
        story.cancel(move)
    story.check_quiet()
    return story


def _happen(story: Story, random: Random, *, faults: bool) -> None:
    """Let one thing happen, if it can."""
    what, host = random.random(), random.choice(story.hosts)
    if what < 0.85:
        _migrate(story, random, host, what)
    elif what < 0.9:
        if host.is_up and len(host.domains) < 6:
            story.start(host)
    elif what < 0.95:
        if idle := story.idle(host):
            story.end(host, random.choice(idle))
    elif faults and host.phases is None:
        story.restart(host)
    elif faults:
        random.choice((story.kill_agent, story.kill_host))(host)


def _migrate(story: Story, random: Random, host: SimHost, what: float) -> None:
    """Begin a migration, let one take a step or all that are left, or cancel one."""
    if what < 0.35:
        target = random.choice(story.hosts)
        if (idle := story.idle(host)) and target is not host and host.is_up and target.is_up:
            story.begin_move(host, target, random.choice(idle))
    elif story.moves:
        move = random.choice(story.moves)
        if what > 0.8:
            story.cancel(move)
        else:
            story.step(move)
            while what > 0.6 and move in story.moves:
                story.step(move)
