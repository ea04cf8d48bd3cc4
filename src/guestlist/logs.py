"""The log records of guestlist's threads under gevent, where the locks of `logging` are green.

gevent replaces the locks of `logging` too. One of guestlist's threads that waits for such a lock
may wait for ever while greenlets hand it to each other. And a greenlet that waits lets another
greenlet run in the middle of guestlist's code. So under gevent a greenlet of the main thread's hub
writes the records of all threads.

In: records, on any thread. Out: the same records in their order, given to the program's handlers as
soon as the hub runs. Of more than `MOST` waiting records the oldest are lost.

Source: gevent's loop (`run_callback_threadsafe`, the one way into a hub from another thread).
"""

from __future__ import annotations

import atexit
import gc
import logging
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

from guestlist import unpatched

MOST = 10_000
"""Records that may wait for the hub."""

_Record = tuple[logging.Logger, logging.LogRecord]


class Lockless(logging.Logger):
    """A logger that decides without a lock whether a record is wanted."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  logging's
        return self.manager.disable < level >= self.getEffectiveLevel()


class _Relayed(Lockless):
    """A logger whose records a greenlet writes."""

    def handle(self, record: logging.LogRecord) -> None:
        assert _relay is not None
        _relay.put((self, record))


class _Relay:
    """Hands records to a greenlet of one hub."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._records: deque[_Record] = deque(maxlen=MOST)

    def put(self, record: _Record) -> None:
        self._records.append(record)
        self._hub.loop.run_callback_threadsafe(self._begin)

    def _begin(self) -> None:
        """Start the greenlet that writes. Runs in the hub, which must not wait."""
        if self._records:
            sys.modules["gevent"].spawn(self.write)

    def write(self) -> None:
        """Write the records that wait."""
        while self._records:
            logger, record = self._records.popleft()
            logging.Logger.handle(logger, record)


_relay: _Relay | None = None


def loggers() -> Iterator[logging.Logger]:
    """Yield guestlist's loggers: those of its modules that are imported."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] == "guestlist" and isinstance(logger, logging.Logger):
            yield logger


def relay() -> None:
    """Let a greenlet write guestlist's records if gevent is in use. A second call is harmless."""
    global _relay  # noqa: PLW0603  logging is one per process
    if unpatched.green_by() != "gevent":
        return
    if _relay is None:
        hub = _main_hub()
        if hub is None:  # then there is no greenlet that could hold a lock either
            return
        _relay = _Relay(hub)
        atexit.register(_relay.write)
    for logger in loggers():
        logger.__class__ = _Relayed


def _main_hub() -> Any:
    """Return the hub of the main thread, on any thread; None before the main thread has one."""
    hubs = sys.modules["gevent.hub"]
    if unpatched.threading.get_ident() == hubs.MAIN_THREAD_IDENT:
        return hubs.get_hub()
    for thing in gc.get_objects():  # gevent keeps each hub where only its thread finds it
        if isinstance(thing, hubs.Hub) and thing.thread_ident == hubs.MAIN_THREAD_IDENT:
            return thing
    return None
