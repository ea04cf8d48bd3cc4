"""Waiting until a condition holds, without a sleep of a guessed length.

In: a condition. Out: nothing when it holds, an error if it does not. The deadlines are long: they
limit a test that fails, and say nothing about how fast the code is.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LONG = 30.0
"""Seconds after which a condition that does not hold counts as one that never will."""

_PAUSE = 0.002


def wait_until(condition: Callable[[], object], timeout: float = LONG) -> None:
    """Return when `condition()` is true; it is called again and again.

    Raises:
        TimeoutError: it is not true after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition does not hold after {timeout:g} s")
        time.sleep(_PAUSE)
