"""Merging, and scopes: the pure part of a live view, without libvirt, threads or a clock.

First each kind of change; then properties over random views, answers and events.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestlist import (
    Changed,
    Defined,
    DomainState,
    Gone,
    Instance,
    Launcher,
    Started,
    Stopped,
    Undefined,
)
from guestlist.event import Event, EventKind, Lifecycle
from guestlist.inventory.merging import Observation, View, apply, merge, must_pass
from guestlist.inventory.scope import Part, Scope
from guestlist.records import Details

NOW = datetime(2026, 11, 23, tzinfo=UTC)
UUIDS = [uuid.UUID(int=n) for n in range(1, 6)]
STARTING_UP = 11


def details(uuid, vcpus=1):
    return Details(uuid, "a", "test", vcpus, vcpus, 65_536, 65_536)


OFF = Instance(UUIDS[0], "a", None, DomainState.SHUTOFF, 1, Launcher.NOVA, details(UUIDS[0]))
UP = replace(OFF, id=1, state=DomainState.RUNNING)
AGAIN = replace(UP, id=2)
PAUSED = replace(UP, state=DomainState.PAUSED)
STARTING = replace(PAUSED, reason=STARTING_UP)
ENDING = replace(UP, state=DomainState.SHUTDOWN)


def view_of(*instances):
    return View({instance.uuid: instance for instance in instances})


def reading(after, *, asked=UUIDS[:1]):
    return Observation(asked, {} if after is None else {after.uuid: after}, NOW)


def told(*events, uuid=UUIDS[0]):
    """Return events, a second apart; a number is a lifecycle event."""
    return tuple(
        Event(uuid, event, NOW + timedelta(seconds=n))
        if isinstance(event, EventKind)
        else Event(uuid, EventKind.LIFECYCLE, NOW + timedelta(seconds=n), event, 0)
        for n, event in enumerate(events)
    )


def merged(before, after, events=(), **options):
    """Return the changes, after a check that the view is right."""
    view = view_of() if before is None else view_of(before)
    new, changes = merge(view, reading(after, **options), events)
    assert dict(new) == ({} if after is None else {after.uuid: after})
    return changes


KINDS = [
    (None, UP, Started),
    (OFF, UP, Started),
    (UP, AGAIN, Started),
    (UP, STARTING, Changed),
    (OFF, STARTING, Started),
    (UP, OFF, Stopped),
    (None, OFF, Defined),
    (UP, PAUSED, Changed),
    (UP, replace(UP, reason=5), Changed),
    (UP, replace(UP, name="b"), Changed),
    (OFF, replace(OFF, name="b"), Changed),
    (UP, replace(UP, details=details(UUIDS[0], vcpus=2)), Changed),
    (UP, replace(UP, launcher=Launcher.OTHER, ours=False), Changed),
]


@pytest.mark.parametrize("events", [(), (Lifecycle.DEFINED,), (Lifecycle.STOPPED, 2)])
@pytest.mark.parametrize(("before", "after", "kind"), KINDS)
def test_what_a_change_is_called_is_told_by_what_was_and_is(before, after, kind, events):
    """Events tell what libvirt said, and when; the two records tell what became of a domain."""
    (change,) = merged(before, after, told(*events))
    assert type(change) is kind
    assert (change.before, change.after, change.learned_at) == (before, after, NOW)
    assert change.events == told(*events)
    assert change.told_at == (told(*events)[-1].at if events else None)


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ((), Gone),
        ((Lifecycle.STOPPED,), Stopped),
        ((Lifecycle.UNDEFINED,), Undefined),
        ((Lifecycle.UNDEFINED, Lifecycle.STOPPED), Undefined),
        ((Lifecycle.STOPPED, Lifecycle.UNDEFINED), Undefined),
        ((Lifecycle.STARTED,), Gone),
        ((EventKind.DEVICE_ADDED, EventKind.REBOOT), Gone),
    ],
)
@pytest.mark.parametrize("before", [OFF, UP])
def test_g4_who_is_gone_is_called_by_what_libvirt_said(before, events, kind):
    (change,) = merged(before, None, told(*events))
    assert type(change) is kind
    assert (change.before, change.after, change.instance) == (before, None, before)


def test_a_reboot_is_a_change_though_nothing_is_new():
    (change,) = merged(UP, UP, told(EventKind.REBOOT))
    assert type(change) is Changed
    assert change.before is change.after is UP


@pytest.mark.parametrize("event", [kind for kind in EventKind if kind is not EventKind.REBOOT])
def test_an_event_after_which_all_is_as_it_was_is_no_change(event):
    assert merged(UP, UP, told(event)) == ()
    assert merged(UP, replace(UP), told(event)) == (), "an equal record is no change"


def test_g4_who_comes_and_goes_between_two_answers_was_never_there():
    events = told(Lifecycle.DEFINED, Lifecycle.STARTED, Lifecycle.STOPPED, Lifecycle.UNDEFINED)
    assert merged(None, None, events) == ()


def test_events_of_who_was_not_asked_about_are_not_looked_at():
    other = replace(UP, uuid=UUIDS[1])
    events = told(Lifecycle.STOPPED, EventKind.REBOOT, uuid=UUIDS[1])
    view = view_of(UP, other)
    assert merge(view, reading(UP), events) == (view, ())
    _, (change,) = merge(view, reading(PAUSED), events)
    assert change.events == ()


def test_a_list_of_all_removes_who_is_not_in_it_and_an_answer_about_some_does_not():
    other = replace(UP, uuid=UUIDS[1])
    new, changes = merge(view_of(UP, other), reading(UP, asked=None))
    assert dict(new) == {UP.uuid: UP}
    assert [type(change) for change in changes] == [Gone]
    assert dict(merge(view_of(UP, other), reading(UP))[0]) == {UP.uuid: UP, other.uuid: other}


def test_a_view_is_the_same_object_while_nothing_changes_and_never_changes_itself():
    view = view_of(UP)
    assert merge(view, reading(UP, asked=None))[0] is view
    merge(view, reading(None))
    assert dict(view) == {UP.uuid: UP}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, False),
        (UP, None, False),
        (None, UP, False),
        (UP, PAUSED, False),
        (OFF, OFF, False),
        (None, STARTING, True),
        (STARTING, STARTING, True),
        (UP, ENDING, True),
        (ENDING, ENDING, True),
        (UP, OFF, True),
        (None, OFF, True),
        (OFF, replace(OFF, name="b"), False),
        (UP, replace(UP, state=DomainState.CRASHED), False),
    ],
)
def test_g1_who_cannot_stay_as_it_was_found_is_looked_at_again(before, after, expected):
    assert must_pass(before, after) is expected


# At random

INSTANCES = st.builds(
    lambda uuid, name, up, reason, launcher, vcpus, ours: Instance(
        uuid,
        name,
        up[0],
        up[1],
        reason,
        Launcher.DOM0 if up[0] == 0 else launcher,
        details(uuid, vcpus) if vcpus else None,
        ours=ours and up[0] != 0,
    ),
    st.sampled_from(UUIDS),
    st.sampled_from("abc"),
    st.sampled_from(
        [
            (None, DomainState.SHUTOFF),
            (0, DomainState.RUNNING),
            (1, DomainState.RUNNING),
            (1, DomainState.PAUSED),
            (2, DomainState.RUNNING),
        ]
    ),
    st.integers(1, 2),
    st.sampled_from([Launcher.NOVA, Launcher.OTHER]),
    st.integers(0, 2),
    st.booleans(),
)
VIEWS = st.lists(INSTANCES, max_size=6).map(lambda instances: view_of(*instances))
EVENTS = st.lists(
    st.builds(
        lambda uuid, event, second: told(event, uuid=uuid)[0],
        st.sampled_from(UUIDS),
        st.sampled_from([*Lifecycle, *EventKind]),
        st.integers(0, 9),
    ),
    max_size=6,
)
SCOPES = st.builds(Scope, st.booleans(), st.booleans(), st.booleans())


@st.composite
def readings(draw):
    """Draw an answer about all domains, or about some; of these some may not exist."""
    found = draw(VIEWS)
    asked = draw(st.none() | st.sets(st.sampled_from(UUIDS)))
    if asked is not None:
        found = {uuid: instance for uuid, instance in found.items() if uuid in asked}
    return Observation(asked, dict(found), NOW)


def expected(view, answer):
    """Return what the view must be after an answer, computed in the shortest way."""
    asked = {*view, *answer.found} if answer.asked is None else answer.asked
    return {uuid: each for uuid, each in view.items() if uuid not in asked} | answer.found


def admitted(scope, view):
    return {uuid: instance for uuid, instance in view.items() if scope.admits(instance)}


@given(VIEWS, readings(), EVENTS)
def test_g3_the_changes_make_the_new_view_of_the_old_one(view, answer, events):
    new, changes = merge(view, answer, events)
    assert dict(new) == expected(view, answer)
    assert dict(apply(view, changes)) == dict(new)
    assert len({change.uuid for change in changes}) == len(changes), "one for each domain"
    for change in changes:
        assert change.before == view.get(change.uuid)
        assert change.after == new.get(change.uuid)


@given(VIEWS, readings(), EVENTS, EVENTS)
def test_g2_events_never_move_the_view_whatever_they_say_and_in_whatever_order(
    view, answer, events, others
):
    """They may come late, twice, in another order, or not at all: they give names and times."""
    new, changes = merge(view, answer, events)
    for said in (others, events[::-1], events + events, []):
        again, told_otherwise = merge(view, answer, said)
        assert again == new
        assert moves(told_otherwise) == moves(changes)


def moves(changes):
    return {
        (change.uuid, change.before, change.after)
        for change in changes
        if change.before != change.after
    }


@given(VIEWS, readings())
def test_who_did_not_change_is_the_same_object_in_the_next_view(view, answer):
    found = {uuid: replace(view.get(uuid, each)) for uuid, each in answer.found.items()}
    new, _ = merge(view, Observation(answer.asked, found, NOW))
    assert all(new[uuid] is view[uuid] for uuid in new if uuid in view)


@given(VIEWS, readings(), EVENTS, SCOPES)
def test_g3_the_changes_as_a_scope_sees_them_make_its_new_part(view, answer, events, scope):
    new, changes = merge(view, answer, events)
    seen = [each for change in changes if (each := scope.seen(change)) is not None]
    part = View(admitted(scope, view))
    assert dict(apply(part, seen)) == admitted(scope, new)
    for change in seen:
        assert change.before == part.get(change.uuid)
        assert change.after is None or scope.admits(change.after)


@given(VIEWS, readings(), SCOPES)
def test_a_change_that_a_scope_sees_whole_is_handed_on_as_it_is(view, answer, scope):
    _, changes = merge(view, answer)
    for change in changes:
        whole = all(scope.admits(each) for each in (change.before, change.after) if each)
        seen = scope.seen(change)
        assert (seen is change) == whole
        assert seen is None or type(seen) is type(change)


@given(VIEWS, st.lists(st.tuples(readings(), EVENTS, st.sampled_from([None, 0.0, 2.0]))), SCOPES)
def test_g3_a_part_that_follows_is_the_part_filtered_anew(view, answers, scope):
    part = Part(scope)
    part.snapshot(view, 0.0)
    for answer, events, age in answers:
        view, changes = merge(view, answer, events)
        part.follow(changes, view)
        if age is not None:  # a reader reads
            snapshot = part.snapshot(view, age)
            assert dict(snapshot) == admitted(scope, view)
            assert snapshot.stale_for == age
            names = [(each.name, each.uuid) for each in snapshot.instances]
            assert names == sorted(names)
    last = part.snapshot(view, 0.0)
    assert dict(last) == admitted(scope, view)
    assert part.snapshot(view, 0.0) is last, "G9: the same while nothing changes"


def test_a_part_that_is_not_read_does_not_gather_changes_for_ever():
    """Above a quarter of the view it is cheaper to filter the view again."""
    part, view = Part(Scope()), view_of(UP)
    part.snapshot(view, 0.0)
    for n in range(100):
        view, changes = merge(view, reading((PAUSED, UP)[n % 2]))
        part.follow(changes, view)
        assert part._coming is None or len(part._coming) <= 17
    assert dict(part.snapshot(view, 0.0)) == {UP.uuid: UP}
