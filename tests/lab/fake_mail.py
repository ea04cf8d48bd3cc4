"""Events on their way from a fake host to one connection: in order, unless a test has it otherwise.

In: what the host says of a domain. Out: the same, handed over one by one, outside the host's lock,
by whoever made the host say it. A test may lose the next ones, or hold them back and release them
when it likes: one held back alone is overtaken by those after it, which is more than libvirt does
to anybody (the events of one connection come in order).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Letter:
    """One event: VIR_DOMAIN_EVENT_ID_*, of whom, and what libvirt says of an event of that kind."""

    kind: int
    guest: Any
    facts: tuple[object, ...]


class Mail:
    """What is on its way to one connection. Threads may share it.

    `lost` are those that never arrived.
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
        """Hold back the next events, so many of them; `math.inf`: all, until `release`."""
        with self._lock:
            self._to_hold += letters

    def lose(self, letters: int = 1) -> None:
        """Lose the next events, so many of them."""
        with self._lock:
            self._to_lose += letters

    @property
    def waiting(self) -> tuple[Letter, ...]:
        """Those held back, the oldest first."""
        with self._lock:
            return tuple(self._waiting)

    def release(self, place: int | None = None) -> None:
        """Let the one at that place come; without a place all of them, and hold back no more."""
        with self._lock:
            if place is None:
                self._due.extend(self._waiting)
                self._waiting.clear()
                self._to_hold = 0
            else:
                self._due.append(self._waiting.pop(place))
        self.deliver()

    def spare(self) -> None:
        """Lose no more."""
        with self._lock:
            self._to_lose = 0

    # For the host

    def put(self, letter: Letter) -> None:
        """Send it. It arrives with the next `deliver`."""
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
        """Hand over what is due; when this returns, all that was sent before has arrived."""
        with self._turn:
            while True:
                with self._lock:
                    if not self._due:
                        return
                    letter = self._due.popleft()
                self._hand_over(letter)
