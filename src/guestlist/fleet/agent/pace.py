"""How often the agent asks the store: spacing of writes, and patience after failures. Pure.

In: a clock's time, and chance. Out: when the next attempt is due.
"""

from __future__ import annotations

from collections.abc import Callable

SPACING = 0.03
"""Seconds between two writes. Changes that come meanwhile are written together; the first change
after a pause is written at once."""

FIRST_PAUSE = 0.1
"""Seconds, at most, before the second attempt after a failure."""

LONGEST_PAUSE = 3.0
"""Seconds, at most, between two attempts while the store fails."""


class Patience:
    """The pause before the next attempt: it doubles with each failure, and half of it is chance.

    Args:
        chance: returns a number from 0.0 up to 1.0, as `random.random`.
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._failures = 0

    def failed(self) -> float:
        """Return the seconds until the next attempt, after one more failure."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 16))
        self._failures += 1
        return self.jitter(longest)

    def succeeded(self) -> None:
        """Begin with the shortest pause again."""
        self._failures = 0

    def jitter(self, longest: float) -> float:
        """Return a part of `longest`: from half of it up to all."""
        return longest * (1 + self._chance()) / 2
