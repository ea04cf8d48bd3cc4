"""A relay in front of a TCP port of loopback, that stops, cuts and loses connections on demand.

In: connections to its own port. Out: the same bytes, both ways, until a test holds or cuts them.
Knows nothing of what the bytes mean.

Two threads carry each connection. `hold` lets them keep what they have read, so nothing is lost by
a hold alone; new connections are accepted and carry nothing, as behind a network that drops
packets. `cut` ends connections.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

_CHUNK = 1 << 16

Which = Callable[[bytes], bool]
"""Tells by the first bytes that a client sent whether a hold is for its connection."""


class Relay:
    """A relay to a port of 127.0.0.1; a context manager."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._changed = threading.Condition()
        self._pairs: set[_Pair] = set()
        self._held: Which | None = None
        self._holds_answers_only = False
        self._left: int | None = None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        """Its own port."""
        self.accepted = 0
        """Connections so far."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def hold(self, which: Which = lambda first: True, *, answers_only: bool = False) -> None:
        """Carry nothing any more, neither way, on the connections that are meant.

        `answers_only`: what clients send still goes through.
        """
        with self._changed:
            self._held = which
            self._holds_answers_only = answers_only

    def release(self) -> None:
        """Carry everything again, what waited first."""
        with self._changed:
            self._held = None
            self._changed.notify_all()

    def cut(self) -> None:
        """End all connections; accept new ones."""
        with self._changed:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close()
        with self._changed:
            self._changed.notify_all()

    def cut_after(self, size: int) -> None:
        """Let so many more bytes come from upstream, of all connections together; then cut all."""
        with self._changed:
            self._left = size

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                far = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                near.close()
                continue
            pair = _Pair(near, far)
            with self._changed:
                self._pairs.add(pair)
            for source, sink in ((near, far), (far, near)):
                pump = threading.Thread(
                    target=self._pump, args=(pair, source, sink, source is far), daemon=True
                )
                pump.start()

    def _pump(self, pair: _Pair, source: socket.socket, sink: socket.socket, down: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if not down and not pair.first:
                    pair.first = data
                with self._changed:
                    self._changed.wait_for(lambda: pair.is_closed or not self._holds(pair, down))
                kept, is_last = self._budget(data) if down else (data, False)
                sink.sendall(kept)
                if is_last:
                    self.cut()
        pair.close()
        with self._changed:
            self._pairs.discard(pair)

    def _holds(self, pair: _Pair, down: bool) -> bool:
        if self._held is None or (self._holds_answers_only and not down):
            return False
        return self._held(pair.first)

    def _budget(self, data: bytes) -> tuple[bytes, bool]:
        """Return what may still pass before the cut, and whether the cut comes after it."""
        with self._changed:
            if self._left is None:
                return data, False
            kept = data[: self._left]
            self._left -= len(kept)
            if self._left:
                return kept, False
            self._left = None
            return kept, True


class _Pair:
    """A client's connection and the one upstream."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._both = near, far
        self.first = b""
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True
        for each in self._both:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
