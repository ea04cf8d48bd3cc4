"""How many requests are answered in a time: a bucket of tokens. Pure.

In: a rate, and the time of each request. Out: whether the request is answered.

Source: exporter-toolkit (rate_limit), golang.org/x/time/rate.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests are answered: `burst` at once, and one more each `interval` seconds."""

    interval: float
    burst: int


class Bucket:
    """Holds a token for each request of a burst, at first; each interval adds one."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._tokens = float(rate.burst)
        self._at: float | None = None

    def takes(self, now: float) -> bool:
        """Return whether there is a token for a request at this time in seconds, and take it."""
        if self._at is not None:
            gained = (now - self._at) / self.rate.interval
            self._tokens = min(float(self.rate.burst), self._tokens + gained)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
