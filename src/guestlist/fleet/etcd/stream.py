"""One stream of requests and answers, at one member, until it ends.

In: requests, from any thread. Out: answers, one at a time; an `EtcdError` at the end. A thread of
its own reads them, so that the reader can wait for a limited time, and be told to stop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import grpc

from guestlist import threads
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import EtcdError, Unreachable
from guestlist.fleet.etcd.failures import failure
from guestlist.fleet.etcd.messages import METHODS
from guestlist.waiting import Bell

MOST_WAITING = 8
"""Answers that wait for the reader. Then the thread waits, and the server keeps the rest."""


class Stream:
    """A call that streams, open at the member that the connection asks at present.

    One thread receives; any thread may send and close.

    Args:
        etcd: the connection.
        name: the call: "Watch".
        asked: what it asks, in words that complete "cannot …".
    """

    def __init__(self, etcd: Etcd, name: str, asked: str) -> None:
        self.asked = asked
        self._request = METHODS[name].request
        self._requests = _Requests()
        self._came: deque[Any] = deque()
        self._end: EtcdError | None = None
        self._bell = Bell()
        self._answers, self.member = etcd.open_stream(name, self._requests)
        try:
            threads.start(self._read, "guestlist-etcd")
        except BaseException:
            self.close()
            raise

    def send(self, **fields: Any) -> None:
        """Send a request with these fields; after the end it is dropped."""
        self._requests.put(self._request(**fields))

    def receive(self, timeout: float) -> Any | None:
        """Return the next answer; None: none came within so many seconds.

        Raises:
            EtcdError: the stream has ended, and all answers were received.
        """
        self._bell.wait_for(lambda: self._came or self._end, timeout)
        if self._came:
            answer = self._came.popleft()
            self._bell.ring()
            return answer
        if self._end is not None:
            raise self._end
        return None

    def close(self) -> None:
        """End the stream. A thread that waits in it gets `Unreachable`."""
        self._finish(self._lost("it was closed"))
        self._answers.cancel()

    def silent(self, seconds: float) -> Unreachable:
        """Close it, and return the error for a member that gives no answer."""
        self.close()
        return self._lost(f"no answer within {seconds:g} s")

    def _read(self) -> None:
        """Take what comes, until the stream ends."""
        try:
            for answer in self._answers:
                self._bell.wait_for(lambda: len(self._came) < MOST_WAITING or self._end)
                self._came.append(answer)
                self._bell.ring()
        except grpc.RpcError as error:
            self._finish(failure(error, self.asked, self.member, changes=False).error)
        else:
            self._finish(self._lost("it ended the stream"))

    def _finish(self, why: EtcdError) -> None:
        """Let both ends know that it is over, and why; the first reason stays."""
        self._end = self._end or why
        self._requests.end()
        self._bell.ring()

    def _lost(self, why: str) -> Unreachable:
        return Unreachable(f"cannot {self.asked} at etcd {self.member}: {why}")


class _Requests:
    """The requests of one stream: a thread of grpc's takes them, until the end."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._has_ended = False
        self._bell = Bell()

    def put(self, request: Any) -> None:
        self._waiting.append(request)
        self._bell.ring()

    def end(self) -> None:
        self._has_ended = True
        self._bell.ring()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._bell.wait_for(lambda: self._waiting or self._has_ended)
        if self._has_ended:
            raise StopIteration
        return self._waiting.popleft()
