"""What one host publishes of its domains, from the news of its live view. Pure; the clock is given.

In: changes, each with the events that libvirt sent of it. Out: publications and tombstones. The
state of a domain alone cannot tell the source of a migration from its target; its state, whether it
ran here before under the same id, and the events together can. `guestlist.migration` says how a
migration looks to libvirt.

- The target is INCOMING while it is paused (starting up) and paused (migrating), then RESIDENT.
- The source is RESIDENT until the last phase. Paused (migrating) or paused (post-copy), although it
  ran here before, it is OUTGOING. After STOPPED (migrated) it has LEFT.

A domain of which a publisher hears first in the last phase, paused (migrating) and without an
event, is taken for a target: a source is in that state for milliseconds, a target for minutes.

Domain-0 is not published: it has the same UUID on every host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from guestlist.event import Event, Lifecycle
from guestlist.fleet.rows import Fate, Phase, Publication, Tombstone
from guestlist.inventory.changes import Change, Gone, News, Resynced, Stale
from guestlist.launcher import Launcher
from guestlist.migration import (
    PAUSED_MIGRATING,
    PAUSED_POSTCOPY,
    PAUSED_STARTING_UP,
    RESUMED_MIGRATED,
    RESUMED_POSTCOPY,
    RUNNING_CANCELED,
    RUNNING_MIGRATED,
    RUNNING_POSTCOPY,
    SHUTOFF_MIGRATED,
    STARTED_MIGRATED,
    STOPPED_MIGRATED,
    SUSPENDED_MIGRATED,
    Told,
)
from guestlist.records import Instance
from guestlist.states import DomainState

HOLD = 60.0
"""Seconds for which a host publishes that a guest has left or arrived; twice as long that it ended.
Longer than any other host may lag: an agent that cannot publish for as long loses its lease."""

LATE = 5.0
"""Seconds by which an event may come after a change that it explains, or before that is taken."""

MOST_HEARD = 10_000
"""Events of ends that are kept; beyond it the oldest goes."""

ENDINGS = frozenset({Lifecycle.STOPPED, Lifecycle.UNDEFINED, Lifecycle.CRASHED})
"""The events that say that a domain has ended, or is gone."""

_STARTED_HERE: frozenset[Told] = frozenset({STARTED_MIGRATED, RESUMED_MIGRATED})
"""Events of a target; with RESUMED (migrated) also of a source that runs again."""
_RUNS_HERE: frozenset[Told] = frozenset({RESUMED_MIGRATED, RESUMED_POSTCOPY})
"""The guest runs on this target."""


class Update(NamedTuple):
    """What a host publishes of one domain from now on.

    None in the place of the publication or of the tombstone: the host publishes none any more.
    `change` is the news that led to it; None where time alone did.
    """

    uuid: UUID
    publication: Publication | None
    tombstone: Tombstone | None
    change: Change | None = None


class Phases:
    """What one host publishes, kept from the news of its live view. One thread at a time.

    The revisions (`born`) are the store's: its caller tells them by `published`.
    """

    def __init__(
        self,
        host: str,
        *,
        publications: Iterable[Publication] = (),
        tombstones: Iterable[Tombstone] = (),
        hold: float = HOLD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with what the store has of this host, if it has something."""
        self._host = host
        self._hold = hold
        self._clock = clock
        self._known = {each.instance.uuid: each for each in publications}
        self._ends = {each.instance.uuid: each for each in tombstones}
        now = clock()
        self._due: dict[UUID, float] = {
            uuid: now + hold
            for uuid in (*self._known, *self._ends)
            if uuid in self._ends or self._known[uuid].arrived
        }
        """When (by the clock) a mark of a domain is taken back."""
        self._heard: dict[UUID, tuple[float, Event]] = {}
        """The events of ends that no change has been taken for, and when they came."""

    @property
    def publications(self) -> Mapping[UUID, Publication]:
        """What the host publishes of the domains that it has."""
        return MappingProxyType(self._known)

    @property
    def tombstones(self) -> Mapping[UUID, Tombstone]:
        """What the host publishes of domains that it had."""
        return MappingProxyType(self._ends)

    def take(self, news: News) -> list[Update]:
        """Return what is to publish after this news, one update for each domain that it is about.

        A `Resynced` is compared with what is known: no event explains its differences. A `Stale`
        changes nothing.
        """
        if isinstance(news, Stale):
            return []
        if isinstance(news, Resynced):
            return [each for change in self._differences(news) for each in self._take(change)]
        return self._take(news)

    def hear(self, event: Event) -> list[Update]:
        """Return what is to publish after an event that tells of the end of a domain.

        It explains a change that was taken without a reason, or one that is still to come. That a
        domain is undefined tells less than how it stopped right before.
        """
        uuid, now = event.uuid, self._clock()
        end = self._ends.get(uuid)
        if end is not None and end.fate is Fate.UNKNOWN and uuid not in self._known:
            fate = Fate.LEFT if _told(event) == STOPPED_MIGRATED else Fate.ENDED
            self._bury(end._replace(fate=fate))
            return [self._update(uuid, Gone(end.instance, None, (event,), event.at))]
        while self._heard and (first := next(iter(self._heard))):
            if self._heard[first][0] > now - LATE and len(self._heard) < MOST_HEARD:
                break
            del self._heard[first]
        _, earlier = self._heard.pop(uuid, (now, event))
        self._heard[uuid] = now, earlier if event.event == Lifecycle.UNDEFINED else event
        return []

    def expire(self) -> list[Update]:
        """Return what is to publish because marks are older than `hold` seconds."""
        now = self._clock()
        late = [uuid for uuid, due in self._due.items() if due <= now]
        for uuid in late:
            del self._due[uuid]
            self._ends.pop(uuid, None)
            if uuid in self._known:
                self._known[uuid] = self._known[uuid]._replace(arrived=False)
        return [self._update(uuid) for uuid in late]

    @property
    def next_due(self) -> float | None:
        """When, by the clock, `expire` has something to return; None: not without further news."""
        return min(self._due.values(), default=None)

    def published(self, uuid: UUID, born: int) -> None:
        """Note at which revision a domain was first published."""
        if uuid in self._known:
            self._known[uuid] = self._known[uuid]._replace(born=born)

    def _differences(self, news: Resynced) -> Iterable[Change]:
        for uuid in {**news.snapshot, **self._known}:
            known, after = self._known.get(uuid), news.snapshot.get(uuid)
            before = known.instance if known else None
            if before != after:
                yield Change(before, after, (), news.learned_at)

    def _take(self, change: Change) -> list[Update]:
        uuid, after = change.uuid, change.after
        if change.instance.launcher is Launcher.DOM0:
            return []
        if after is None or not after.active:
            change = self._explained(change)
        told = [_told(each) for each in change.events if each.event is not None]
        known = self._known.pop(uuid, None)
        if after is not None and after.active and not (known and known.instance.active):
            self._heard.pop(uuid, None)  # of an end before this start
        fate = fate_of(known, after, told) if known else None
        if known is not None and fate is not None:
            self._bury(Tombstone(self._host, known.instance, fate, known.born))
        if after is not None:
            phase = phase_of(after, known, told)
            arrived = has_arrived(after, phase, known, told)
            begins = after.active and not (known and known.instance.active)
            born = 0 if begins or known is None else known.born
            self._known[uuid] = Publication(self._host, after, phase, arrived, born)
            if arrived and not (known and known.arrived):
                self._due[uuid] = self._clock() + self._hold
            if phase is Phase.RESIDENT and after.active:
                self._ends.pop(uuid, None)
        elif uuid not in self._ends:
            self._due.pop(uuid, None)
        return [self._update(uuid, change)]

    def _explained(self, change: Change) -> Change:
        """Return the change with the event of an end that came beside it, if one did."""
        came, event = self._heard.pop(change.uuid, (0.0, None))
        if event is None or came < self._clock() - LATE:
            return change
        if _told(event) in map(_told, change.events):
            return change
        return replace(change, events=(*change.events, event))

    def _bury(self, end: Tombstone) -> None:
        times = 2 if end.fate is Fate.ENDED else 1  # it outlasts what it refutes
        self._ends[end.instance.uuid] = end
        self._due[end.instance.uuid] = self._clock() + times * self._hold

    def _update(self, uuid: UUID, change: Change | None = None) -> Update:
        return Update(uuid, self._known.get(uuid), self._ends.get(uuid), change)


def _told(event: Event) -> Told:
    """Return the numbers of a lifecycle event; -1 where there is none."""
    return (
        -1 if event.event is None else event.event,
        -1 if event.detail is None else event.detail,
    )


def phase_of(instance: Instance, known: Publication | None, told: Collection[Told]) -> Phase:
    """Return what a host's copy of a domain is to a migration.

    Args:
        instance: the domain as it is.
        known: what the host has published of it, if it has.
        told: the lifecycle events that came since.
    """
    if instance.state is not DomainState.PAUSED or not instance.active:
        return Phase.RESIDENT
    same = known if known is not None and known.instance.id == instance.id else None
    if instance.reason == PAUSED_POSTCOPY:
        return Phase.OUTGOING
    if instance.reason == PAUSED_STARTING_UP:
        has_booted = any(event == Lifecycle.STARTED and detail != 1 for event, detail in told)
        was_here = same is not None and same.phase is Phase.RESIDENT
        return Phase.RESIDENT if has_booted or was_here else Phase.INCOMING
    if instance.reason == PAUSED_MIGRATING:
        ran_here = (
            same is not None
            and same.phase is not Phase.INCOMING
            and same.instance.state is not DomainState.NOSTATE
        )
        return Phase.OUTGOING if ran_here or SUSPENDED_MIGRATED in told else Phase.INCOMING
    return Phase.RESIDENT


def has_arrived(
    instance: Instance, phase: Phase, known: Publication | None, told: Collection[Told]
) -> bool:
    """Return whether a guest came to this host by a migration, not long ago as far as is known.

    Args:
        instance: the domain as it is.
        phase: what it is to a migration.
        known: what the host has published of it, if it has.
        told: the lifecycle events that came since.
    """
    if phase is Phase.INCOMING or not instance.active:
        return False
    same = known if known is not None and known.instance.id == instance.id else None
    if same is not None and same.phase is not Phase.INCOMING:
        return same.arrived
    if instance.state is DomainState.RUNNING and instance.reason in (
        RUNNING_MIGRATED,
        RUNNING_POSTCOPY,
    ):
        return True
    if same is None:
        return not _STARTED_HERE.isdisjoint(told)
    is_source = instance.state is DomainState.RUNNING and instance.reason == RUNNING_CANCELED
    return same.instance.reason == PAUSED_MIGRATING and not is_source


def fate_of(known: Publication, after: Instance | None, told: Collection[Told]) -> Fate | None:
    """Return what a host says of a domain that ran on it and does not any more.

    None: there is nothing to tell. It still runs, or did not run before; or it was the target of a
    migration that failed.

    Args:
        known: what the host has published of the domain.
        after: the domain as it is; None: it is gone.
        told: the lifecycle events that came since.
    """
    if not known.instance.active or (after is not None and after.active):
        return None
    if STOPPED_MIGRATED in told or (after is not None and after.reason == SHUTOFF_MIGRATED):
        return Fate.LEFT
    if known.phase is Phase.INCOMING and _RUNS_HERE.isdisjoint(told):
        return None
    if after is None and not any(event in ENDINGS for event, _ in told):
        return Fate.UNKNOWN
    return Fate.ENDED
