"""What guestlist logs, where logging's locks are green.

gevent replaces those of logging, too. A thread of guestlist's that waits for one may wait for ever
while greenlets pass it among themselves, and a greenlet that waits lets another one into the midst
of guestlist's code. So there a greenlet of the main thread's hub writes what any thread has to say.

In: records, on any thread. Out: the same, in their order, to whatever handlers the program has, as
soon as the hub runs. Beyond `MOST` the oldest are lost.

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

_Record = tuple[logging.Logger, logging.LogRecord]


class Lockless(logging.Logger):
    """A logger that takes no lock to find out whether a record is wanted."""

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
        """In the hub, which must not wait."""
        if self._records:
            sys.modules["gevent"].spawn(self.write)

    def write(self) -> None:
        while self._records:
            logger, record = self._records.popleft()
            logging.Logger.handle(logger, record)


_relay: _Relay | None = None


def loggers() -> Iterator[logging.Logger]:
    """guestlist's, as far as its modules are imported."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] == "guestlist" and isinstance(logger, logging.Logger):
            yield logger


def relay() -> None:
    """Have a greenlet write what guestlist logs under gevent; harmless twice."""
    global _relay  # noqa: PLW0603  logging is one per process
    if unpatched.green_by() != "gevent":
        return
    if _relay is None:
        hub = _main_hub()
        if hub is None:  # and no greenlet that could hold a lock
            return
        _relay = _Relay(hub)
        atexit.register(_relay.write)
    for logger in loggers():
        logger.__class__ = _Relayed


def _main_hub() -> Any:
    """The hub of the main thread, from whatever thread this is called; None before it has one."""
    hubs = sys.modules["gevent.hub"]
    if unpatched.threading.get_ident() == hubs.MAIN_THREAD_IDENT:
        return hubs.get_hub()
    for thing in gc.get_objects():  # gevent keeps them by thread, out of reach of others
        if isinstance(thing, hubs.Hub) and thing.thread_ident == hubs.MAIN_THREAD_IDENT:
            return thing
    return None
