"""Waiting for what will be so, without a sleep that guesses how long it takes.

In: a condition. Out: nothing once it holds, an error if it never does. The deadlines are generous:
they bound a test that fails, and say nothing about how fast anything is.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LONG = 30.0
"""Seconds after which what has not happened is taken not to happen."""

_PAUSE = 0.002


def wait_until(condition: Callable[[], object], timeout: float = LONG) -> None:
    """Return once `condition()` is true; it is asked again and again.

    Raises:
        TimeoutError: it was not after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it was not so after {timeout:g} s")
        time.sleep(_PAUSE)
