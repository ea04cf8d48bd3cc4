"""What a live view tells its readers: changes, and the events that explain them. Pure.

In: what a domain was and what it is, and the events that arrived about it. Out: records. Reads no
clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from guestlist.errors import GuestlistError
from guestlist.event import Event
from guestlist.records import Instance, Snapshot
from guestlist.states import state_reason


@dataclass(frozen=True, slots=True)
class Change:
    """A domain was `before` and is `after`: None where it did not exist, or is gone.

    For a reader that asked for some domains only, a domain that begins or ceases to match is one
    that did not exist, or is gone. `events` are what libvirt sent of the domain since it was last
    asked about, in order; none where no event told of the change. `learned_at` is when libvirt
    answered.
    """

    before: Instance | None
    after: Instance | None
    events: tuple[Event, ...]
    learned_at: datetime

    @property
    def instance(self) -> Instance:
        """The domain as it is; the last record of a domain that is gone."""
        known = self.after or self.before
        assert known is not None
        return known

    @property
    def uuid(self) -> UUID:
        """The UUID of the domain."""
        return self.instance.uuid

    @property
    def told_at(self) -> datetime | None:
        """When libvirt sent the last event of it; None where it sent none."""
        return self.events[-1].at if self.events else None

    @property
    def why(self) -> str:
        """The events in words; without events the reason of the state."""
        if self.events:
            return ", ".join(dict.fromkeys(map(str, self.events)))
        return state_reason(self.instance.state, self.instance.reason) if self.after else ""


class Started(Change):
    """The domain has started. If `before` has an id too, it stopped and started in between."""

    __slots__ = ()


class Stopped(Change):
    """The domain ran, and stopped. A transient domain is gone with that."""

    __slots__ = ()


class Defined(Change):
    """The domain is new, and does not run."""

    __slots__ = ()


class Undefined(Change):
    """The domain is gone, and libvirt said that its definition was removed."""

    __slots__ = ()


class Changed(Change):
    """The domain has a new state, reason, name or details; or it rebooted, and nothing is new."""

    __slots__ = ()


class Gone(Change):
    """The domain is gone: an answer of libvirt's lacked it, and no event had said so by then."""

    __slots__ = ()

    @property
    def last_known(self) -> Instance:
        """The last record of the domain."""
        return self.instance


@dataclass(frozen=True, slots=True)
class Resynced:
    """The whole view as it is: it replaces what the reader had.

    Comes when the view is in step for the first time or again, and in place of the `missed` changes
    for which a reader was too slow; while the view is stale, a `Stale` comes after that one.
    """

    snapshot: Snapshot
    missed: int
    learned_at: datetime


@dataclass(frozen=True, slots=True)
class Stale:
    """libvirt cannot be asked: the view stays as it is, and becomes stale. A `Resynced` ends it.

    `since` is when libvirt was last known to be there; `error` is the reason.
    """

    since: datetime
    error: GuestlistError
    learned_at: datetime


News = Change | Resynced | Stale
"""What a reader of a live view is told."""
