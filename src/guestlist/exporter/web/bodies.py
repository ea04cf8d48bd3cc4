"""The bodies of one exporter: each is made once, compressed once, and shared.

In: requests, on the thread of asyncio's loop. Out: bytes, made and compressed on a worker's thread.

**Which body a request gets.** One body at most is being made, and one waits to be made. A request
shares the one that waits, or the one that is being made if it began at most `SHARED_FOR` seconds
ago; a body that is done is for no later request. So what a request gets began at most `SHARED_FOR`
before it, and a request waits for the rest of one making and for one more. A making ends within
1.5 s while libvirt hangs (`exporter.scrape`), so each request has its answer within 2 s then:
1.5 - 1.25 + 1.5 at most.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from functools import partial

from guestlist.exporter.web.workers import Workers
from guestlist.unpatched import time

SHARED_FOR = 1.25
"""Seconds after the beginning of a body in which a request may still share it."""

LONGEST_WAIT = 10.0
"""Seconds after which a request is told that there is no body."""

_LEVEL = 1
"""zlib's level. Of 7.1 MB (70,000 series) level 1 leaves 9.6 % in 20 ms of CPU, level 4 8.7 % in
33 ms, level 6 8.6 % in 45 ms, level 9 8.3 % in 163 ms (zlib 1.2.13). Level 4 would save 61 kB for
13 ms, which pays below 5 MB/s only."""

_GZIP = 16 + zlib.MAX_WBITS


class Body:
    """An exposition, and its compressed form once a request has asked for that."""

    def __init__(self, plain: bytes, workers: Workers) -> None:
        self.plain = plain
        self._workers = workers
        self._compressed: asyncio.Future[bytes] | None = None

    async def compressed(self) -> bytes:
        """Return the exposition as a gzip file."""
        if self._compressed is None:
            self._compressed = self._workers.run(partial(_gzip, self.plain))
        return await asyncio.shield(self._compressed)


class Bodies:
    """The bodies of one exporter."""

    def __init__(self, scrape: Callable[[], bytes], workers: Workers) -> None:
        self._scrape = scrape
        self._workers = workers
        self._latest: _Making | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no body is being made and none waits to be made."""
        return self._latest is None

    async def body(self) -> Body:
        """Return a body for a request that arrives now.

        Raises:
            TimeoutError: there is none after `LONGEST_WAIT` seconds.
            Exception: what the making of it raised.
        """
        making = self._latest
        if making is None or making.is_too_old():
            making = self._latest = _Making(self._scrape, self._workers, after=making)
            making.done.add_done_callback(partial(self._forget, making))
        return await asyncio.wait_for(asyncio.shield(making.done), LONGEST_WAIT)

    def _forget(self, making: _Making, done: asyncio.Future[Body]) -> None:
        if self._latest is making:
            self._latest = None
        if not done.cancelled():
            done.exception()  # asyncio complains of an error that no request has waited for


class _Making:
    """The making of one body; it begins when the one before it has ended."""

    def __init__(
        self, scrape: Callable[[], bytes], workers: Workers, after: _Making | None
    ) -> None:
        self._scrape = scrape
        self._workers = workers
        self._begun: float | None = None
        self.done: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        if after is None:
            self._start()
        else:
            after.done.add_done_callback(lambda _: self._start())

    def is_too_old(self) -> bool:
        """Return whether a request that arrives now must not share it."""
        return self._begun is not None and time.monotonic() - self._begun > SHARED_FOR

    def _start(self) -> None:
        self._workers.run(self._make).add_done_callback(self._finish)

    def _make(self) -> bytes:
        """Make the body, on a worker's thread."""
        self._begun = time.monotonic()
        return self._scrape()

    def _finish(self, made: asyncio.Future[bytes]) -> None:
        error = made.exception()
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(Body(made.result(), self._workers))


def _gzip(plain: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(plain) + packer.flush()
