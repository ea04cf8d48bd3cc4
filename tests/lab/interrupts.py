"""Exceptions where a signal handler could raise them, one after the other, as if by plan.

In: something to do. Out: whether it was interrupted. Python runs signal handlers when a function
begins and after a call of a C function; `sys.setprofile` calls back at the same points, on this
thread alone, and what it raises there comes out as a handler's exception does. So the n-th point of
an action can be interrupted, each in turn, without a clock.

`with lock` is no such point, as in CPython: the interpreter calls `__enter__` without a check.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from types import FrameType


class Interrupt(BaseException):
    """What the handler raises; like KeyboardInterrupt no `Exception`."""


def interrupted_at(point: int, act: Callable[[], object], doing: Callable[[], None]) -> bool:
    """Do it, and `doing` at its n-th point; whether it went so far.

    `doing` is a signal handler: it may raise.
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
    """Do it, and raise `Interrupt` at its n-th point; whether it went so far."""

    def ring() -> None:
        raise Interrupt

    try:
        return interrupted_at(point, act, ring)
    except Interrupt:
        return True


def every_point(act: Callable[[int], bool], step: int = 1, first: int = 1) -> Iterator[int]:
    """Each point, until one is beyond the end: `act` says whether it was reached."""
    for point in itertools.count(first, step):
        if not act(point):
            return
        yield point
