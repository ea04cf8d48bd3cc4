"""The options of a live view, checked once. Pure.

In: what a caller passes to `Inventory`. Out: one value, or a ValueError that names the option.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """What a live view does, and how often; see `Inventory`. Times are in seconds."""

    details: bool
    resync_every: float
    verify_every: float | None
    details_max_age: float
    longest_queue: int

    def __post_init__(self) -> None:
        """Refuse a number that makes no sense; also NaN, which is not above anything."""
        for name in ("resync_every", "verify_every", "details_max_age"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is {seconds!r}: it must be a number of seconds above 0")
        if not self.longest_queue >= 1:
            raise ValueError(f"longest_queue is {self.longest_queue!r}: it must be at least 1")
