"""Which thread makes a call, and which one writes the log, where Nova's threads may be green.

In: calls of guestlist's, and log records. Out: calls made on a real thread, records written on a
green one. Nova runs on native threads or on eventlet's green ones. A green thread that waits for
libvirt, or for a lock that a real thread holds, stops all of nova-compute meanwhile. A real thread
that logs would use green locks. So a question of guestlist's crosses to a real thread here, once,
and the log records of its threads cross back. On native threads nothing crosses.

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
"""Seconds between two turns of the thread that writes log records."""


def are_green() -> bool:
    """Whether threads that Nova starts are eventlet's."""
    return unpatched.green_by() == "eventlet"


def are_separable() -> bool:
    """Whether guestlist's threads are real: it made none before Nova patched Python."""
    return not unpatched.is_mixed()


def aside(call: Callable[[], T]) -> T:
    """Make a call in a real thread while other green threads run; here if none are green."""
    if not are_green():
        return call()
    from eventlet import tpool  # noqa: PLC0415  Nova on native threads forbids the import

    result: T = tpool.execute(call)
    return result


def relay_log() -> None:
    """Let a green thread write the log records of all guestlist's threads; harmless twice."""
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
    """Keeps records on the thread that makes them; another thread hands them to the root logger."""

    def __init__(self) -> None:
        super().__init__()
        self._records: deque[logging.LogRecord] = deque()

    def createLock(self) -> None:  # noqa: N802  logging's
        """Make no lock: a deque needs none."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Keep a record. logging's own method takes the lock, and fails without one on 3.13."""
        self._records.append(record)
        return True

    def run(self) -> None:
        """Write the records that were kept, for ever. Runs on a green thread."""
        import eventlet  # noqa: PLC0415

        while True:
            while self._records:
                logging.getLogger().handle(self._records.popleft())
            eventlet.sleep(_PAUSE)
