"""Whose thread makes a call, and who writes to the log, where Nova's threads may be green.

Nova runs on native threads or on eventlet's. A green thread that waits for libvirt, or for a lock
that a real thread has, stops all of nova-compute meanwhile; and a real thread that logs uses locks
that are green ones. So guestlist's calls cross into a real thread here, once per question, and what
its threads have to say crosses back.

Source: Nova's nova/virt/libvirt/host.py (`_EventletLibvirtEventHandler`: no logging in a native
thread); eventlet's tpool.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from guestlist import logs, unpatched

T = TypeVar("T")

_PAUSE = 0.5
"""Seconds between two looks at what is to be logged."""


def are_green() -> bool:
    """Whether threads that Nova starts are eventlet's."""
    return unpatched.green_by() == "eventlet"


def are_separable() -> bool:
    """Whether guestlist's threads are real: not if it made some before Nova patched Python."""
    return not unpatched.is_mixed()


def aside(call: Callable[[], T]) -> T:
    """Make a call in a real thread, while other green ones go on; here where there are none."""
    if not are_green():
        return call()
    from eventlet import tpool  # noqa: PLC0415  Nova on native threads forbids the import

    result: T = tpool.execute(call)
    return result


def relay_log() -> None:
    """Have what guestlist logs, on whatever thread, written by a green one; harmless twice."""
    if not are_green() or any(
        isinstance(one, _Relay) for one in logging.getLogger("guestlist").handlers
    ):
        return
    relay = _Relay()
    top = logging.getLogger("guestlist")
    top.addHandler(relay)
    top.propagate = False
    for logger in logs.loggers():
        logger.__class__ = logs.Lockless
    import eventlet  # noqa: PLC0415

    eventlet.spawn(relay.run)


class _Relay(logging.Handler):
    """Keeps records on the thread that makes them, and hands them to the root logger on another."""

    def __init__(self) -> None:
        super().__init__()
        self._records: deque[logging.LogRecord] = deque()

    def createLock(self) -> None:  # noqa: N802  logging's
        """None is needed: a deque can do without."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Keep it. Logging's own takes the lock, and from Python 3.13 on takes no None for one."""
        self._records.append(record)
        return True

    def run(self) -> None:
        """Write what there is, again and again. On a green thread."""
        import eventlet  # noqa: PLC0415

        while True:
            while self._records:
                logging.getLogger().handle(self._records.popleft())
            eventlet.sleep(_PAUSE)
