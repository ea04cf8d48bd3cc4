"""A Prometheus histogram, of numbers that come one by one. Pure.

In: observations. Out: the lines of its buckets. Takes no lock: its owner does.
"""

from __future__ import annotations

from bisect import bisect_left


class Histogram:
    """A histogram without labels: observations, counted by the bounds that they do not exceed."""

    def __init__(self, name: str, bounds: tuple[float, ...]) -> None:
        self._name = name
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count an observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self) -> str:
        """Return its lines: the buckets, each with those below it, then sum and count."""
        lines, below = [], 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            below += count
            lines.append(f'{self._name}_bucket{{le="{bound}"}} {below}\n')
        return "".join([*lines, f"{self._name}_sum {self._sum}\n{self._name}_count {below}\n"])
