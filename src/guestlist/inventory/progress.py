"""What a live view has done since its start, over all its connections.

In: counts, from the thread that follows. Out: `InventoryStatistics`. Makes no call.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass

from guestlist.event import Event
from guestlist.inventory.drift import Drift


@dataclass(frozen=True, slots=True)
class InventoryStatistics:
    """What a live view has done since it was started."""

    stale_for: float | None
    """Seconds, as in a snapshot; None before the view is in step."""
    events: int
    """Events that arrived."""
    asks: int
    """Calls about some domains: events named them, or they could not stay in their state."""
    lists: int
    """Calls about all domains."""
    calls: int
    """All calls about domains, with those that read details."""
    changes: int
    """Changes that were merged."""
    drifts: int
    """Changes that only a comparison found."""
    connections: int
    """Connections over which the view was in step."""
    stalls: int
    """Times that the event loop did not turn for a second."""
    losses: int
    """Times that events were lost on their way."""
    details_pending: int
    """Domains whose XML must be read again, and is not read yet."""
    reaction_median: float | None
    """Seconds from the arrival of an event to the view, of the last 1,024 events."""
    reaction_worst: float | None
    """The longest of these times."""


class Progress:
    """The counts of a live view. One thread writes, any thread reads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Counts by the names that `InventoryStatistics` gives them; `calls`: over connections
        that have ended."""
        self.reactions: deque[float] = deque(maxlen=1_024)
        self.drifts: deque[Drift] = deque(maxlen=64)
        self.heard: deque[Event] = deque(maxlen=512)
        """The last events of all domains, in order."""
        self.listed_at = -math.inf
        """When (monotonic) the list began that the view was last compared with."""

    def statistics(
        self, *, stale_for: float | None, calls: int, details_pending: int
    ) -> InventoryStatistics:
        """Return the counts as they are now; `calls` are those over the connection that is open."""
        counts, reactions = self.counts, sorted(self.reactions)
        return InventoryStatistics(
            stale_for=stale_for,
            events=counts["events"],
            asks=counts["asks"],
            lists=counts["lists"],
            calls=counts["calls"] + calls,
            changes=counts["changes"],
            drifts=counts["drifts"],
            connections=counts["connections"],
            stalls=counts["stalls"],
            losses=counts["losses"],
            details_pending=details_pending,
            reaction_median=reactions[len(reactions) // 2] if reactions else None,
            reaction_worst=reactions[-1] if reactions else None,
        )
