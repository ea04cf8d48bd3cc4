"""The events that tell of the end of domains, heard beside a live view.

In: the lifecycle events of a view's connections. Out: those that say that a domain stopped or was
undefined, in order. A view that asks about a domain for another reason may learn that the domain is
gone before that event arrives; its change then tells no reason, and the event comes too late for
it. `Phases.hear` takes it all the same: whether a guest has migrated or ended depends on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self
from uuid import UUID

from guestlist.event import Event, EventKind
from guestlist.fleet.phases import ENDINGS
from guestlist.inventory import Inventory
from guestlist.inventory.lifetime import listen

if TYPE_CHECKING:
    import libvirt

MOST = 10_000
"""Events that are kept; beyond it the oldest goes."""


class Endings:
    """A listener of one live view. Threads may share it."""

    kinds: Mapping[int, int] = {int(EventKind.LIFECYCLE): 0}

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=MOST)

    @classmethod
    def of(cls, view: Inventory) -> Self:
        """Return a listener of a view that is not started yet. Cost: no call.

        Raises:
            RuntimeError: the view was started already.
        """
        endings = cls()
        listen(view, endings)
        return endings

    def take(self) -> Iterator[Event]:
        """Yield the events since the last call."""
        while self._events:
            yield self._events.popleft()

    # As a listener of the view

    def begin(self, kinds: Collection[int]) -> None:
        """Nothing: events of the connection before are true all the same."""

    def hear(self, kind: int, domain: libvirt.virDomain, *facts: int) -> None:  # noqa: ARG002
        """Keep an event, if it tells of an end."""
        event, detail = facts
        if event in ENDINGS:
            uuid = UUID(bytes=domain.UUID())
            now = datetime.now(UTC)
            self._events.append(Event(uuid, EventKind.LIFECYCLE, now, event, detail))

    def end(self) -> None:
        """Nothing: as `begin`."""
