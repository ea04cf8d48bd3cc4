"""Merging what libvirt answered into a view. Pure: no thread, no libvirt, no clock.

In: a view, one answer of libvirt's, the events that arrived. Out: the next view, and what changed.
Only an answer moves the view, and answers are merged in the order in which they were asked for. An
event tells that something happened to a domain, and when; it never tells what the domain is now,
because it may arrive long after its change (`feed` argues when it comes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from immutables import Map

from guestlist.event import Event, EventKind, Lifecycle
from guestlist.inventory.changes import (
    Change,
    Changed,
    Defined,
    Gone,
    Started,
    Stopped,
    Undefined,
)
from guestlist.migration import PAUSED_STARTING_UP
from guestlist.records import Instance
from guestlist.states import DomainState

View = Map[UUID, Instance]
"""Every domain of a host as it was last seen, by UUID. Never changed: merging makes another one,
which shares all that is the same."""

MOST_EVENTS = 32
"""Events that a change carries, the last ones: a domain may change faster than libvirt answers."""


class Observation(NamedTuple):
    """What libvirt answered about some domains, or about all.

    `asked` are the domains that it was asked about, None for all; `found` are those of them that
    exist. A domain that was asked about and not found does not exist.
    """

    asked: Iterable[UUID] | None
    found: Mapping[UUID, Instance]
    at: datetime


def merge(
    view: View, answer: Observation, events: Iterable[Event] = ()
) -> tuple[View, tuple[Change, ...]]:
    """Return the view after an answer, and what is new in it, at most one change for each domain.

    Args:
        view: what was known.
        answer: what libvirt answered; asked for after the answers that made `view`.
        events: the events since the domains were last asked about, in order. They tell the name of
            a change, and when libvirt said so; a change carries the last `MOST_EVENTS`. Events of
            domains that were not asked about are not looked at.

    Cost: as many steps as domains were asked about, however many there are.
    """
    told: dict[UUID, list[Event]] = {}
    for event in events:
        told.setdefault(event.uuid, []).append(event)
    found = answer.found
    asked = {*view, *found} if answer.asked is None else answer.asked
    changes = []
    for uuid in asked:  # each look-up by a UUID takes as long as a call of a function
        before, after = view.get(uuid), found.get(uuid)
        said = told.get(uuid, ()) if told else ()
        if before is after and not said:
            continue
        kind = kind_of(before, after, said)
        if kind is not None:
            changes.append(kind(before, after, tuple(said[-MOST_EVENTS:]), answer.at))
    return (apply(view, changes) if changes else view), tuple(changes)


def apply(view: View, changes: Iterable[Change]) -> View:
    """Return the view with these changes made."""
    changed = view.mutate()
    for change in changes:
        if change.after is not None:
            changed[change.uuid] = change.after
        else:
            changed.pop(change.uuid, None)
    return changed.finish()


def must_pass(before: Instance | None, after: Instance | None) -> bool:
    """Whether a domain cannot stay as it was found, so that it must be asked about again.

    A start that fails sends no event, and is seen as a domain that is starting up, or shutting
    down. A domain that is shut off and has just run may be transient: libvirt shows it so for the
    instant in which it removes it, and sends no more events afterwards.
    """
    if after is None:
        return False
    if after.state == DomainState.SHUTDOWN:
        return True
    if after.state == DomainState.PAUSED and after.reason == PAUSED_STARTING_UP:
        return True
    return not after.active and (before is None or before.active)


def kind_of(
    before: Instance | None, after: Instance | None, told: Iterable[Event]
) -> type[Change] | None:
    """Return the kind of a change, by the events of it; None if nothing has changed."""
    if after is None:
        return None if before is None else _end(told)
    if before is None:
        return Started if after.active else Defined
    if after.id != before.id:
        return Started if after.active else Stopped
    if after != before or any(event.kind is EventKind.REBOOT for event in told):
        return Changed
    return None


def _end(told: Iterable[Event]) -> type[Change]:
    said = {event.event for event in told}
    if Lifecycle.UNDEFINED in said:
        return Undefined
    return Stopped if Lifecycle.STOPPED in said else Gone
