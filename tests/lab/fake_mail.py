"""Events on their way from a fake host to one connection: in order, unless a test changes that.

In: events of the host. Out: the same events, delivered one by one, without the host's lock, by the
thread that caused them. A test may lose the next events, or delay them and release them later. A
later event overtakes one that is delayed alone; libvirt itself never does that (the events of one
connection come in order).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Letter:
    """One event: VIR_DOMAIN_EVENT_ID_*, the domain, and the facts of an event of that kind."""

    kind: int
    guest: Any
    facts: tuple[object, ...]


class Mail:
    """The events on their way to one connection. Threads may share it.

    `lost` are the events that never arrive.
    """

    def __init__(self, hand_over: Callable[[Letter], None]) -> None:
        self.lost: list[Letter] = []
        self._hand_over = hand_over
        self._due: deque[Letter] = deque()
        self._waiting: list[Letter] = []
        self._to_hold = 0.0
        self._to_lose = 0
        self._lock = threading.Lock()
        self._turn = threading.RLock()

    # For a test

    def hold(self, letters: float = 1) -> None:
        """Delay the next events, so many of them; `math.inf`: all, until `release`."""
        with self._lock:
            self._to_hold += letters

    def lose(self, letters: int = 1) -> None:
        """Lose the next events, so many of them."""
        with self._lock:
            self._to_lose += letters

    @property
    def waiting(self) -> tuple[Letter, ...]:
        """Return the delayed events, the oldest first."""
        with self._lock:
            return tuple(self._waiting)

    def release(self, place: int | None = None) -> None:
        """Deliver the delayed event at that place; without a place, deliver all and delay none."""
        with self._lock:
            if place is None:
                self._due.extend(self._waiting)
                self._waiting.clear()
                self._to_hold = 0
            else:
                self._due.append(self._waiting.pop(place))
        self.deliver()

    def spare(self) -> None:
        """Stop losing events."""
        with self._lock:
            self._to_lose = 0

    # For the host

    def put(self, letter: Letter) -> None:
        """Send an event. It arrives with the next `deliver`."""
        with self._lock:
            if self._to_lose:
                self._to_lose -= 1
                self.lost.append(letter)
            elif self._to_hold:
                self._to_hold -= 1
                self._waiting.append(letter)
            else:
                self._due.append(letter)

    def deliver(self) -> None:
        """Deliver what is due; when this returns, all that was sent before has arrived."""
        with self._turn:
            while True:
                with self._lock:
                    if not self._due:
                        return
                    letter = self._due.popleft()
                self._hand_over(letter)
