"""Exceptions at the points where a signal handler can raise one, at each point in turn.

In: an action. Out: whether it was interrupted. Python runs signal handlers when a function begins
and after a call of a C function. `sys.setprofile` calls back at the same points, in this thread
alone, and its exceptions come out as a handler's do. So each point of an action can be interrupted
in turn, without a clock.

`with lock` is no such point, as in CPython: the interpreter calls `__enter__` without a check.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from types import FrameType


class Interrupt(BaseException):
    """What the handler raises; not an `Exception`, like KeyboardInterrupt."""


def interrupted_at(point: int, act: Callable[[], object], doing: Callable[[], None]) -> bool:
    """Do `act`, and call `doing` at its n-th point; return whether `act` has so many points.

    `doing` stands for a signal handler: it may raise.
    """
    left = point

    def step(_frame: FrameType, event: str, _what: object) -> None:
        nonlocal left
        if event not in ("call", "c_return"):
            return
        left -= 1
        if left == 0:
            sys.setprofile(None)
            doing()

    sys.setprofile(step)
    try:
        act()
    finally:
        sys.setprofile(None)
    return left <= 0


def interrupt(point: int, act: Callable[[], object]) -> bool:
    """Do `act`, and raise `Interrupt` at its n-th point; return whether it has so many points."""

    def ring() -> None:
        raise Interrupt

    try:
        return interrupted_at(point, act, ring)
    except Interrupt:
        return True


def every_point(act: Callable[[int], bool], step: int = 1, first: int = 1) -> Iterator[int]:
    """Yield each point, until `act` says that it did not reach one."""
    for point in itertools.count(first, step):
        if not act(point):
            return
        yield point
