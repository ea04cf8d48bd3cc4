"""What a live view tells its readers: changes, and what libvirt said of them.

In: what a domain was and what it is, and the events that arrived about it. Out: records. Touches no
libvirt, reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from guestlist.errors import GuestlistError
from guestlist.event import Event
from guestlist.records import Instance, Snapshot, state_reason


@dataclass(frozen=True, slots=True)
class Change:
    """One domain was `before` and is `after`: None where it was not there, or is not any more.

    A reader who asked for some domains only sees one that comes among them, or leaves them, as one
    that was, or is, not there. `events` are what libvirt sent of it since it was last looked at, in
    order; none where it was found out without being told. `learned_at` is when libvirt answered.
    """

    before: Instance | None
    after: Instance | None
    events: tuple[Event, ...]
    learned_at: datetime

    @property
    def instance(self) -> Instance:
        """The domain as it is; one that is not there any more as it last was."""
        known = self.after or self.before
        assert known is not None
        return known

    @property
    def uuid(self) -> UUID:
        """Whose change it is."""
        return self.instance.uuid

    @property
    def told_at(self) -> datetime | None:
        """When libvirt last said something of it; None where it did not."""
        return self.events[-1].at if self.events else None

    @property
    def why(self) -> str:
        """What libvirt said of it, in words; where it said nothing the state's own reason."""
        if self.events:
            return ", ".join(dict.fromkeys(map(str, self.events)))
        return state_reason(self.instance.state, self.instance.reason) if self.after else ""


class Started(Change):
    """It runs, and did not before; or it has been started anew since, and both have an id."""

    __slots__ = ()


class Stopped(Change):
    """It ran, and does not any more. One that was transient is gone with that."""

    __slots__ = ()


class Defined(Change):
    """It is new, and does not run."""

    __slots__ = ()


class Undefined(Change):
    """It is gone, and libvirt said that its definition was removed."""

    __slots__ = ()


class Changed(Change):
    """Its state, reason, name or details are new; or it rebooted, and nothing is."""

    __slots__ = ()


class Gone(Change):
    """It is not there any more, and libvirt had not said so by the time that was found out."""

    __slots__ = ()

    @property
    def last_known(self) -> Instance:
        """What it last was."""
        return self.instance


@dataclass(frozen=True, slots=True)
class Resynced:
    """The whole view as it is: forget what you had.

    Comes when the view is in step for the first time or again, and in place of the `missed` changes
    that a reader was too slow for; while the view is stale, a `Stale` comes after that one.
    """

    snapshot: Snapshot
    missed: int
    learned_at: datetime


@dataclass(frozen=True, slots=True)
class Stale:
    """libvirt cannot be asked: what was last known stays, and gets old. A `Resynced` ends it.

    `since` is when libvirt was last known to be there; `error` what stands in the way.
    """

    since: datetime
    error: GuestlistError
    learned_at: datetime


News = Change | Resynced | Stale
"""What a reader of a live view is told."""
