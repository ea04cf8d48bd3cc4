"""The rule of the fleet, against its promises (F1 to F8 of `guestlist.fleet.rule`).

First each claim beside each other one; then hosts that publish late, each by its own lag, while
guests migrate, migrations fail, and hosts die: `lab.fleet_story` writes down what is true.
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from lab.fleet_story import LONGEST, SHORTEST, TTL, Story, play

from guestlist import DomainState, Instance, Launcher
from guestlist.fleet.phases import HOLD
from guestlist.fleet.rows import (
    Fate,
    FleetRow,
    HostState,
    Phase,
    Publication,
    Standing,
    Tombstone,
)
from guestlist.fleet.rule import NOT_ON_ROSTER, fold, judge

NOW = datetime(2026, 11, 26, tzinfo=UTC)
UUIDS = [uuid.UUID(int=n) for n in range(1, 4)]
MIGRATING, STARTING_UP = 2, 11

UP = Instance(UUIDS[0], "a", 1, DomainState.RUNNING, 1, Launcher.NOVA)
OFF = replace(UP, id=None, state=DomainState.SHUTOFF)
ARRIVING = replace(UP, state=DomainState.PAUSED, reason=MIGRATING)
STARTING = replace(ARRIVING, reason=STARTING_UP)

ROSTER = {
    "a": HostState("a"),
    "b": HostState("b"),
    "c": HostState("c"),
    "dead": HostState("dead", live=False, failure="its lease has ended", since=NOW),
    "syncing": HostState("syncing", synced=False, failure="its domains are not all published"),
}


def on(host: str, born: int = 1, instance: Instance = UP, **facts: object) -> Publication:
    return Publication(host, instance, born=born, **facts)  # type: ignore[arg-type]


def source(host: str, born: int = 1) -> Publication:
    return on(host, born, ARRIVING, phase=Phase.OUTGOING)


def target(host: str, born: int = 2, instance: Instance = ARRIVING) -> Publication:
    return on(host, born, instance, phase=Phase.INCOMING)


def left(host: str, born: int = 1, fate: Fate = Fate.LEFT) -> Tombstone:
    return Tombstone(host, UP, fate, born)


def seen(*published: Publication | Tombstone) -> tuple[str, Standing] | None:
    """Return host and standing of the guest's row, the same in whatever order it is given (F8)."""
    rows = {
        judge(
            [each for each in order if isinstance(each, Publication)],
            [each for each in order if isinstance(each, Tombstone)],
            ROSTER,
        )
        for order in itertools.permutations(published)
    }
    assert len(rows) == 1, f"F8: {rows}"
    [row] = rows
    return row and (row.host, row.standing)


CASES = {
    "one host": ([on("a")], "a", Standing.RESIDENT),
    "one host, not active": ([on("a", instance=OFF)], "a", Standing.RESIDENT),
    "a boot is not an arrival": ([target("a", instance=STARTING)], "a", Standing.RESIDENT),
    "a host that is not synced": ([on("syncing")], "syncing", Standing.RESIDENT),
    # A migration from a to b, step by step, and each step published by one host alone.
    "target starts up": ([on("a"), target("b", instance=STARTING)], "a", Standing.MIGRATING),
    "memory is copied": ([on("a"), target("b")], "a", Standing.MIGRATING),
    "last phase": ([source("a"), target("b")], "a", Standing.MIGRATING),
    "last phase, target is late": ([source("a")], "a", Standing.MIGRATING),
    "runs on the target": ([source("a"), on("b", 2, arrived=True)], "b", Standing.HANDOVER),
    "runs, source is late": ([on("a"), on("b", 2, arrived=True)], "b", Standing.HANDOVER),
    "source is gone, target is late": ([left("a"), target("b")], "b", Standing.ARRIVING),
    "source is gone, target began": (
        [left("a"), target("b", instance=STARTING)],
        "b",
        Standing.ARRIVING,
    ),
    "source is gone, target is silent": ([left("a")], "a", Standing.IN_TRANSIT),
    "it is over": ([left("a"), on("b", 2, arrived=True)], "b", Standing.RESIDENT),
    "source is on no roster": ([target("b")], "b", Standing.ARRIVING),
    # There, and on, and back again.
    "on to a third": ([left("a"), left("b", 2), on("c", 3, arrived=True)], "c", Standing.RESIDENT),
    "on to a silent third": ([left("a"), left("b", 2)], "b", Standing.IN_TRANSIT),
    "back, and away again": ([left("b", 2), left("a", 3)], "a", Standing.IN_TRANSIT),
    "on, first source late": (
        [on("a"), left("b", 2), target("c", 3)],
        "a",
        Standing.MIGRATING,
    ),
    "back, both late": (
        [on("a", 3, arrived=True), on("b", 2, arrived=True)],
        "a",
        Standing.HANDOVER,
    ),
    # It ends after it has arrived.
    "ended there": ([left("a"), left("b", 2, Fate.ENDED)], None, None),
    "ended there, source late": ([on("a"), left("b", 2, Fate.ENDED)], "a", Standing.RESIDENT),
    "shut down there": (
        [left("a"), on("b", 2, OFF), left("b", 2, Fate.ENDED)],
        "b",
        Standing.RESIDENT,
    ),
    "ended there, began again here, left": (
        [left("a", 3), left("b", 2, Fate.ENDED)],
        "a",
        Standing.IN_TRANSIT,
    ),
    "back, and shut down there": (
        [on("a", 3, OFF), left("a", 3, Fate.ENDED), left("b", 2)],
        "a",
        Standing.RESIDENT,
    ),
    "only ended": ([left("a", 1, Fate.ENDED)], None, None),
    "not told why it is gone": ([left("a", 1, Fate.UNKNOWN)], "a", Standing.UNKNOWN),
    "not told, and arrived": (
        [left("a", 1, Fate.UNKNOWN), on("b", 2, arrived=True)],
        "b",
        Standing.RESIDENT,
    ),
    # Definitions that stay behind.
    "left a definition": ([on("a", instance=OFF), left("a"), target("b")], "b", Standing.ARRIVING),
    "left a definition, silent": ([on("a", instance=OFF), left("a")], "a", Standing.IN_TRANSIT),
    "left a definition, over": ([on("a", 3, OFF), on("b", 2)], "b", Standing.RESIDENT),
    "two definitions": ([on("a", 1, OFF), on("b", 2, OFF)], "b", Standing.RESIDENT),
    # Two that run it.
    "a double run": ([on("a"), on("b", 2)], "b", Standing.CONFLICT),
    "a double run of three": ([on("a"), on("b", 2), target("c", 3)], "b", Standing.CONFLICT),
    # Silent hosts.
    "silent": ([on("dead")], "dead", Standing.UNKNOWN),
    "silent, not active": ([on("dead", instance=OFF)], "dead", Standing.UNKNOWN),
    "silent source": ([source("dead")], "dead", Standing.UNKNOWN),
    "silent, and it runs elsewhere": ([on("dead", 2), on("b", 1)], "b", Standing.STALE_COPY),
    "silent, and it is defined later": (
        [on("dead", 1), on("b", 2, OFF)],
        "b",
        Standing.STALE_COPY,
    ),
    "silent, and an old definition": ([on("dead", 2), on("b", 1, OFF)], "dead", Standing.UNKNOWN),
    "died as a source": ([on("dead"), target("b")], "dead", Standing.UNKNOWN),
    "died as a source, arrived": (
        [source("dead"), on("b", 2, arrived=True)],
        "b",
        Standing.STALE_COPY,
    ),
    "died as a target": ([on("a"), target("dead")], "a", Standing.RESIDENT),
    "died as a target, last phase": ([source("a"), target("dead")], "a", Standing.MIGRATING),
    "died as a target, gone": ([left("a"), target("dead")], "a", Standing.IN_TRANSIT),
    "died as a target, alone": ([target("dead")], "dead", Standing.UNKNOWN),
    "died after it was sent away": ([left("dead")], "dead", Standing.UNKNOWN),
    "left a dead host, then this": ([on("dead", 1), left("a", 2)], "a", Standing.IN_TRANSIT),
    "left this, then died there": ([on("dead", 2), left("a", 1)], "dead", Standing.UNKNOWN),
    "moved on from the dead": (
        [on("dead", 1), left("a", 2), target("b", 3)],
        "b",
        Standing.ARRIVING,
    ),
    "syncing is no double run": ([on("syncing"), on("b", 2)], "b", Standing.STALE_COPY),
}


@pytest.mark.parametrize("case", CASES)
def test_each_guest_has_the_row_that_its_publications_say(case: str) -> None:
    """F2 to F6, and F8."""
    published, host, standing = CASES[case]
    assert seen(*published) == (host and (host, standing))  # type: ignore[misc]


def test_an_unknown_guest_tells_since_when_and_others_are_named() -> None:
    """F6: `since` is the host's; and a row names the other hosts in their order."""
    assert judge([on("dead"), target("b"), target("a")], [], ROSTER) == FleetRow(
        "dead", UP, Standing.UNKNOWN, ("a", "b"), NOW
    )
    assert judge([on("a"), on("dead")], [], ROSTER) == FleetRow(
        "a", UP, Standing.STALE_COPY, ("dead",)
    )


def test_a_fleet_is_complete_only_if_each_of_its_hosts_tells() -> None:
    """F7."""
    assert not fold([], [], []).complete
    assert fold([], [], [ROSTER["a"]]).complete
    assert fold([on("a")], [], [ROSTER["a"], ROSTER["b"]]).complete
    for host in ("dead", "syncing"):
        missing = fold([on("a")], [], [ROSTER[host], ROSTER["a"]])
        assert not missing.complete
        assert missing.incomplete == (ROSTER[host],)


@pytest.mark.parametrize("published", [([on("z")], []), ([], [left("z")])])
def test_a_host_that_is_on_no_roster_makes_it_incomplete(published) -> None:
    """F7."""
    fleet = fold(*published, [ROSTER["a"]])
    assert [each.host for each in fleet.hosts] == ["a", "z"]
    assert [each.failure for each in fleet.incomplete] == [NOT_ON_ROSTER]
    assert [row.standing for row in fleet.rows] == [Standing.UNKNOWN]


HOSTS = st.sampled_from(sorted(ROSTER))
BORN = st.integers(0, 4)
INSTANCES = st.builds(
    replace,
    st.sampled_from([UP, OFF, ARRIVING, STARTING]),
    uuid=st.sampled_from(UUIDS),
)
PUBLICATIONS = st.builds(Publication, HOSTS, INSTANCES, st.sampled_from(Phase), st.booleans(), BORN)
TOMBSTONES = st.builds(Tombstone, HOSTS, INSTANCES, st.sampled_from(Fate), BORN)


def key(each: Publication | Tombstone) -> tuple[str, uuid.UUID]:
    return each.host, each.instance.uuid


@given(
    st.lists(PUBLICATIONS, unique_by=key),
    st.lists(TOMBSTONES, unique_by=key),
    st.randoms(use_true_random=False),
)
def test_whatever_is_published_each_guest_has_one_row(published, tombstones, random) -> None:
    """F1, F2, F3 and F8."""
    fleet = fold(published, tombstones, ROSTER.values(), 7)
    given_back = {key(each): each for each in (*tombstones, *published)}
    present = {each.instance.uuid for each in published}
    assert present <= set(fleet) <= present | {each.instance.uuid for each in tombstones}  # F2
    for guest, row in fleet.items():
        assert row.uuid == guest
        said = [each for each in (*published, *tombstones) if key(each) == (row.host, guest)]
        assert row.instance in [each.instance for each in said], "F3"
        assert row.host not in row.others
    assert given_back.keys() >= {(row.host, row.uuid) for row in fleet.rows}
    random.shuffle(published)
    random.shuffle(tombstones)
    again = fold(published, tombstones, ROSTER.values(), 7)
    assert dict(again) == dict(fleet), "F8"
    assert fleet.rows == tuple(sorted(fleet.values(), key=lambda row: row.uuid))


# A fleet that publishes late


@pytest.mark.parametrize("faults", [False, True], ids=["lags alone", "agents and hosts die"])
def test_in_a_thousand_migrations_no_list_misses_or_doubles_a_guest(faults: bool) -> None:
    """F1 to F7: a reader looks at every step. Without the rule it would miss and double guests."""
    migrations = missed = doubled = looks = lingering = rows = 0
    for seed in itertools.count():
        story = play(Random(seed), hosts=6, steps=150, faults=faults)
        assert story.wrong == [], f"seed {seed}"
        migrations += story.migrations
        missed += story.missed_without_rule
        doubled += story.doubled_without_rule
        looks += story.complete_looks
        lingering += story.lingering
        rows += story.rows_seen
        if migrations >= 1_000:
            break
    assert min(missed, doubled, looks) > 0
    assert faults or lingering < rows / 500  # F3: guests that ended as soon as they had arrived


class Fleet(RuleBasedStateMachine):
    """A fleet to which anything may happen, at any pace, with any lag."""

    def __init__(self) -> None:
        super().__init__()
        self.lag = SHORTEST
        self.story = Story(3, lambda: self.lag)

    @rule(lag=st.floats(SHORTEST, LONGEST))
    def publish_later(self, lag: float) -> None:
        self.lag = lag

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, LONGEST, TTL, HOLD]))
    def let_time_pass(self, seconds: float) -> None:
        self.story.advance(seconds)

    @rule(at=st.integers(0, 2))
    def start(self, at: int) -> None:
        host = self.story.hosts[at]
        if host.is_up and len(self.story.guests()) < 3:
            self.story.start(host)

    @rule(at=st.integers(0, 2), heard=st.booleans())
    def end(self, at: int, heard: bool) -> None:
        if idle := self.idle(at):
            self.story.end(self.story.hosts[at], idle[0], is_heard=heard)

    @rule(at=st.integers(0, 2), by=st.integers(1, 2))
    def begin_migration(self, at: int, by: int) -> None:
        target = self.story.hosts[(at + by) % 3]
        if (idle := self.idle(at)) and target.is_up:
            self.story.begin_move(self.story.hosts[at], target, idle[0])

    @precondition(lambda self: self.story.moves)
    @rule(steps=st.integers(1, 4))
    def go_on(self, steps: int) -> None:
        move = self.story.moves[0]
        for _ in range(steps):
            if move in self.story.moves:
                self.story.step(move)

    @precondition(lambda self: self.story.moves)
    @rule()
    def cancel(self) -> None:
        self.story.cancel(self.story.moves[-1])

    @rule(at=st.integers(0, 2), whole=st.booleans())
    def die(self, at: int, whole: bool) -> None:
        host = self.story.hosts[at]
        (self.story.kill_host if whole else self.story.kill_agent)(host)

    @rule(at=st.integers(0, 2))
    def come_back(self, at: int) -> None:
        self.story.restart(self.story.hosts[at])

    @rule()
    def be_quiet(self) -> None:
        self.story.check_quiet()

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.story.look()
        assert self.story.wrong == []

    def idle(self, at: int) -> list[uuid.UUID]:
        host = self.story.hosts[at]
        return self.story.idle(host)


TestFleet = Fleet.TestCase


def test_a_true_double_run_is_a_conflict_and_its_end_ends_it() -> None:
    """F5: also where the second one began as a migration, once `HOLD` is over."""
    story = Story(2, lambda: SHORTEST)
    here, there = story.hosts
    guest = story.start(here)
    story.advance(1)
    story.start(there, guest)
    story.advance(1)
    assert story.look()[guest].standing is Standing.CONFLICT
    story.end(there, guest)
    story.advance(1)
    assert story.look()[guest] == FleetRow("host0", here.domains[guest], Standing.RESIDENT)

    move = story.begin_move(here, there, guest)
    for _ in range(3):
        story.step(move)
    story.moves.clear()  # the source is told nothing, and its guest is resumed by hand
    story.resume(here, guest)
    story.advance(1)
    assert story.look()[guest].standing is Standing.HANDOVER
    story.advance(HOLD)
    assert story.look()[guest].standing is Standing.CONFLICT
    assert story.wrong == []
