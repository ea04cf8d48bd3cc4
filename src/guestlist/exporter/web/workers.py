"""Threads that work for asyncio's loop: at most so many at a time.

In: jobs, from the thread of asyncio's loop. Out: futures of that loop. A job that finds all threads
busy waits for one. No job is stopped: one that never ends keeps its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from guestlist import threads
from guestlist.errors import GuestlistError

T = TypeVar("T")


class Workers:
    """Runs jobs on threads. Make it, and use it, on the thread of asyncio's loop."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._busy = 0
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._loop = asyncio.get_running_loop()

    @property
    def load(self) -> int:
        """The number of jobs that run or wait."""
        return self._busy + len(self._waiting)

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Return the future of the job's result. To cancel it does not stop the job."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append((job, future))
        self._start()
        return future

    def _start(self) -> None:
        while self._waiting and self._busy < self._most:
            job, future = self._waiting.popleft()
            self._busy += 1
            try:
                threads.start(partial(self._work, job, future), self._name)
            except GuestlistError as error:  # no thread, or the end of the process
                self._settle(future, None, error)

    def _work(self, job: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        """Do a job on this thread, and tell the loop its result."""
        value, error = None, None
        try:
            value = job()
        except Exception as raised:  # the loop's side raises it
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._finish, future, value, error)

    def _finish(self, future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
        self._settle(future, value, error)
        self._start()

    def _settle(self, future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
        self._busy -= 1
        if future.done():  # cancelled
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
