"""What speaks for a live view's record of one domain, at one instant.

In: the facts that `Inventory.evidence` gathers. Out: a frozen value, for a caller that decides by
itself whether libvirt must be asked. Pure: asks nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from guestlist.records import Instance


class Evidence(NamedTuple):
    """The facts about one domain. Each fact that was not looked at speaks against the view."""

    is_in_step: bool = False
    """The view is in step: its `stale_for` is 0.0."""
    are_events_drained: bool = False
    """The event loop has handed out all events that this process had received."""
    is_in_doubt: bool = True
    """The connection is dead, events were lost, or an event or a recheck of the domain is open."""
    instance: Instance | None = None
    """The domain as the view has it; None: the view lacks it."""

    @property
    def is_undisputed(self) -> bool:
        """Whether nothing speaks against the view."""
        return self.is_in_step and self.are_events_drained and not self.is_in_doubt
