"""What one host publishes of its domains, from what its live view tells. Without libvirt."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from guestlist import DomainState, Gone, Instance, Launcher, Snapshot
from guestlist.event import Event, EventKind, Lifecycle
from guestlist.fleet.board import Board
from guestlist.fleet.phases import HOLD, LATE, Phases, Update
from guestlist.fleet.rows import Fate, HostState, Phase, Publication, Standing, Tombstone
from guestlist.inventory.changes import Change, Changed, Resynced, Stale
from guestlist.inventory.merging import kind_of

NOW = datetime(2026, 11, 26, tzinfo=UTC)
GUEST = uuid.UUID(int=1)
STARTED, SUSPENDED, RESUMED, STOPPED, UNDEFINED, DEFINED = (
    Lifecycle.STARTED,
    Lifecycle.SUSPENDED,
    Lifecycle.RESUMED,
    Lifecycle.STOPPED,
    Lifecycle.UNDEFINED,
    Lifecycle.DEFINED,
)
PAUSED, RUNNING, SHUTOFF = DomainState.PAUSED, DomainState.RUNNING, DomainState.SHUTOFF

Seen = tuple[DomainState, int] | tuple[DomainState, int, int] | None
"""A state and its reason; the domain's id, where it is not 1."""


def instance(seen: Seen, launcher: Launcher = Launcher.NOVA) -> Instance | None:
    if seen is None:
        return None
    state, reason, *ids = seen
    number = None if state is SHUTOFF else (ids or [1])[0]
    return Instance(GUEST, "a", number, state, reason, launcher)


def event(told: tuple[int, int]) -> Event:
    return Event(GUEST, EventKind.LIFECYCLE, NOW, *told)


class Told:
    """What a host publishes of one guest, as its view tells what happens to it."""

    def __init__(self, host: str = "a", **options: object) -> None:
        self.now = 0.0
        self.phases = Phases(host, clock=lambda: self.now, **options)  # type: ignore[arg-type]
        self.last: Instance | None = None

    def see(self, seen: Seen, *told: tuple[int, int]) -> list[Update]:
        before, self.last = self.last, instance(seen)
        events = tuple(map(event, told))
        kind: type[Change] = kind_of(before, self.last, events) or Changed
        return self.phases.take(kind(before, self.last, events, NOW))

    @property
    def marks(self) -> tuple[Phase | None, bool, Fate | None]:
        """The phase, whether it has arrived, and the fate of the guest."""
        known, end = self.phases.publications.get(GUEST), self.phases.tombstones.get(GUEST)
        return known and known.phase, bool(known and known.arrived), end and end.fate  # type: ignore[return-value]


HERE = Phase.RESIDENT, False, None
COMING = Phase.INCOMING, False, None
ARRIVED = Phase.RESIDENT, True, None
GOING = Phase.OUTGOING, False, None
NOTHING = None, False, None
LEFT = None, False, Fate.LEFT
ENDED = None, False, Fate.ENDED

STORIES = {
    "a target": [
        ((PAUSED, 11), [], COMING),
        ((PAUSED, 2), [(STARTED, 1)], COMING),
        ((RUNNING, 2), [(RESUMED, 1)], ARRIVED),
        ((PAUSED, 1), [(SUSPENDED, 0)], ARRIVED),
    ],
    "a target of which no event came": [
        ((PAUSED, 2), [], COMING),
        ((RUNNING, 2), [], ARRIVED),
    ],
    "a target that was seen late": [((RUNNING, 2), [(STARTED, 1), (RESUMED, 1)], ARRIVED)],
    "a target whose guest is paused": [
        ((PAUSED, 2), [(STARTED, 1)], COMING),
        ((PAUSED, 1), [(SUSPENDED, 0)], ARRIVED),
    ],
    "a target that fails": [
        ((PAUSED, 2), [(STARTED, 1)], COMING),
        (None, [(STOPPED, 5)], NOTHING),
    ],
    "a target that ends as it has arrived": [
        ((PAUSED, 2), [(STARTED, 1)], COMING),
        (None, [(RESUMED, 1), (STOPPED, 1)], ENDED),
    ],
    "a target, post-copy": [
        ((PAUSED, 2), [(STARTED, 1)], COMING),
        ((RUNNING, 10), [(RESUMED, 3)], ARRIVED),
        ((RUNNING, 2), [(RESUMED, 1)], ARRIVED),
    ],
    "a source": [
        ((RUNNING, 1), [(STARTED, 0)], HERE),
        ((PAUSED, 2), [(SUSPENDED, 1)], GOING),
        (None, [(STOPPED, 3)], LEFT),
    ],
    "a source of which no event came": [
        ((RUNNING, 1), [], HERE),
        ((PAUSED, 2), [], GOING),
        (None, [], (None, False, Fate.UNKNOWN)),
    ],
    "a source that is first heard of in its last phase": [
        ((PAUSED, 2), [(SUSPENDED, 1)], GOING),
        (None, [(STOPPED, 3)], LEFT),
    ],
    "a source that fails": [
        ((RUNNING, 1), [], HERE),
        ((PAUSED, 2), [(SUSPENDED, 1)], GOING),
        ((RUNNING, 6), [(RESUMED, 1)], HERE),
    ],
    "a source that fails, of which no event came": [
        ((PAUSED, 2), [], COMING),
        ((RUNNING, 6), [], HERE),
    ],
    "a source whose guest is paused": [
        ((PAUSED, 1), [], HERE),
        ((PAUSED, 2), [(SUSPENDED, 1)], GOING),
    ],
    "a source, post-copy": [
        ((RUNNING, 1), [], HERE),
        ((PAUSED, 12), [(SUSPENDED, 7)], GOING),
        (None, [(STOPPED, 3)], LEFT),
    ],
    "a source that stays defined": [
        ((RUNNING, 1), [], HERE),
        ((SHUTOFF, 4), [], (Phase.RESIDENT, False, Fate.LEFT)),
        (None, [(UNDEFINED, 0)], LEFT),
    ],
    "a source that arrived before, and fails": [
        ((RUNNING, 2), [(STARTED, 1), (RESUMED, 1)], ARRIVED),
        ((PAUSED, 2), [(SUSPENDED, 1)], (Phase.OUTGOING, True, None)),
        ((RUNNING, 6), [(RESUMED, 1)], ARRIVED),
    ],
    "there and back": [
        ((RUNNING, 1), [], HERE),
        (None, [(STOPPED, 3)], LEFT),
        ((PAUSED, 2, 2), [(STARTED, 1)], (Phase.INCOMING, False, Fate.LEFT)),
        ((RUNNING, 2, 2), [(RESUMED, 1)], ARRIVED),
    ],
    "there and back between two looks": [
        ((RUNNING, 1), [], HERE),
        ((RUNNING, 2, 2), [(STOPPED, 3), (STARTED, 1), (RESUMED, 1)], ARRIVED),
    ],
    "a boot": [
        ((PAUSED, 11), [], COMING),
        ((RUNNING, 1), [(STARTED, 0)], HERE),
        (None, [(STOPPED, 1)], ENDED),
    ],
    "a boot that is heard of at once": [((PAUSED, 11), [(STARTED, 0)], HERE)],
    "a boot that fails": [((PAUSED, 11), [], COMING), (None, [(STOPPED, 5)], NOTHING)],
    "a definition": [
        ((SHUTOFF, 0), [(DEFINED, 0)], HERE),
        ((RUNNING, 1), [(STARTED, 0)], HERE),
        ((SHUTOFF, 1), [(STOPPED, 0)], (Phase.RESIDENT, False, Fate.ENDED)),
        ((RUNNING, 1, 2), [(STARTED, 0)], HERE),
    ],
    "a definition that is removed": [((SHUTOFF, 0), [], HERE), (None, [], NOTHING)],
}


@pytest.mark.parametrize("story", STORIES)
def test_state_and_events_together_tell_what_a_domain_is_to_a_migration(story: str) -> None:
    told = Told()
    for seen, events, marks in STORIES[story]:
        told.see(seen, *events)  # type: ignore[arg-type]
        assert told.marks == marks, seen


def test_marks_are_taken_back_after_a_while() -> None:
    told = Told()
    told.see((RUNNING, 2), (STARTED, 1), (RESUMED, 1))
    told.now = HOLD - 1
    assert told.phases.expire() == []
    told.now = told.phases.next_due or 0.0
    [update] = told.phases.expire()
    assert update == Update(GUEST, told.phases.publications[GUEST], None)
    assert told.marks == HERE
    assert told.phases.next_due is None

    told.see(None, (STOPPED, 3))
    told.now += HOLD
    assert told.phases.expire() == [Update(GUEST, None, None)]


def test_an_end_is_told_for_longer_than_what_it_refutes() -> None:
    told = Told()
    told.see((RUNNING, 1), (STARTED, 0))
    told.see(None, (STOPPED, 1))
    told.now = HOLD
    assert told.phases.expire() == []
    told.now = 2 * HOLD
    assert told.phases.expire() == [Update(GUEST, None, None)]


@pytest.mark.parametrize(("detail", "fate"), [(1, Fate.ENDED), (3, Fate.LEFT)])
def test_an_event_that_comes_after_its_change_explains_it(detail: int, fate: Fate) -> None:
    """A view that asks for another reason learns that a domain is gone before it is told why."""
    told = Told()
    told.see((RUNNING, 1))
    told.see(None, (SUSPENDED, 0))
    assert told.marks == (None, False, Fate.UNKNOWN)
    [update] = told.phases.hear(event((STOPPED, detail)))
    assert told.marks == (None, False, fate)
    assert isinstance(update.change, Gone)
    assert update.change.events == (event((STOPPED, detail)),)
    assert told.phases.hear(event((STOPPED, detail))) == []


def test_an_event_that_comes_before_its_change_explains_it() -> None:
    told = Told()
    told.see((RUNNING, 1))
    assert told.phases.hear(event((STOPPED, 3))) == []
    told.see((PAUSED, 2))  # a change from before the event
    [update] = told.see(None)
    assert told.marks == LEFT
    assert update.change is not None
    assert update.change.events == (event((STOPPED, 3)),)


def test_each_event_that_comes_before_its_change_explains_it() -> None:
    """Nova's guests are undefined right after they have left."""
    told = Told()
    told.see((RUNNING, 1))
    told.phases.hear(event((STOPPED, 3)))
    told.phases.hear(event((UNDEFINED, 0)))
    told.see(None, (UNDEFINED, 0))
    assert told.marks == LEFT


def test_the_event_of_an_end_explains_no_later_end() -> None:
    told = Told()
    told.see((RUNNING, 1), (STARTED, 0))
    told.see(None, (STOPPED, 3))
    told.phases.hear(event((STOPPED, 3)))  # heard beside the view, after its change
    told.see((RUNNING, 2, 2), (STARTED, 1), (RESUMED, 1))
    told.see(None, (STOPPED, 1))
    assert told.marks == ENDED


def test_an_event_of_an_end_long_ago_explains_nothing() -> None:
    told = Told()
    told.see((RUNNING, 1))
    told.phases.hear(event((STOPPED, 3)))
    told.now = LATE + 1
    told.see(None)
    assert told.marks == (None, False, Fate.UNKNOWN)


def test_a_whole_view_is_compared_and_what_is_missing_is_unknown() -> None:
    """An agent that was dead, and a view that was out of step, do not know what became of it."""
    running = instance((RUNNING, 1))
    assert running is not None
    gone = replace(running, uuid=uuid.UUID(int=2))
    sent = replace(running, uuid=uuid.UUID(int=3))
    told = Told(
        publications=[Publication("a", running, born=4), Publication("a", gone, born=5)],
        tombstones=[Tombstone("a", sent, Fate.LEFT, 6)],
    )
    there = Resynced(Snapshot([running]), 0, NOW)
    [update] = told.phases.take(there)
    assert update[:3] == (gone.uuid, None, Tombstone("a", gone, Fate.UNKNOWN, 5))
    assert told.phases.publications == {GUEST: Publication("a", running, born=4)}
    assert told.phases.take(there) == []
    told.now = HOLD
    assert {each.uuid for each in told.phases.expire()} == {gone.uuid, sent.uuid}
    assert told.phases.tombstones == {}


def test_the_revision_of_the_first_publication_stays() -> None:
    told = Told()
    told.see((RUNNING, 1))
    told.phases.published(GUEST, 7)
    told.see((PAUSED, 1))
    assert told.phases.publications[GUEST].born == 7
    told.see(None, (STOPPED, 3))
    assert told.phases.tombstones[GUEST].born == 7
    told.phases.published(GUEST, 8)  # it is gone meanwhile
    assert not told.phases.publications


def test_a_guest_that_came_back_to_its_definition_and_ended_is_not_between_hosts() -> None:
    """F3: a definition that stayed behind is older than the run on the host in between."""
    board = Board([HostState("a"), HostState("b")])
    hosts = {host: Told(host) for host in "ab"}

    def see(host: str, seen: Seen, *told: tuple[int, int]) -> None:
        updates = hosts[host].see(seen, *told)
        board.publish(host, hosts[host].phases, updates)

    see("a", (RUNNING, 1), (STARTED, 0))
    for source, target in ("ab", "ba"):
        see(target, (PAUSED, 2), (STARTED, 1))
        see(target, (RUNNING, 2), (RESUMED, 1))
        see(source, (SHUTOFF, 4), (STOPPED, 3))
    see("a", (SHUTOFF, 1), (STOPPED, 1))
    row = board.snapshot()[GUEST]
    assert (row.host, row.standing, row.instance.state) == ("a", Standing.RESIDENT, SHUTOFF)


def test_domain_0_is_no_guest_and_a_stale_view_changes_nothing() -> None:
    told = Told()
    dom0 = instance((RUNNING, 1), Launcher.DOM0)
    assert told.phases.take(Changed(None, dom0, (), NOW)) == []
    assert told.phases.take(Stale(NOW, None, NOW)) == []  # type: ignore[arg-type]
