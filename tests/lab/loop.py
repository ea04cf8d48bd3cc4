"""The thread that moves bytes between clients and a daemon: sockets, buffers, time.

In: connections to a socket of its own. Out: whole messages for a `Handler`, which decides what
happens to each. Nothing here knows what a message means.

One thread owns every link and the selector; other threads give it work with `Loop.do`. So no lock
is needed, and events have one order.

A client is cut off at once, the daemon only after it has answered all calls of that client. If a
libvirtd 9.0 is about to answer a client that follows events, and loses the client, it may crash
(`./dev torture cuts`) and end the connections of all other clients.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import libvirt
from lab.wire import CALL, OK, REPLY, Message, take_frames, type_of

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_CHUNK = 1 << 20
_BACKLOG_BYTES = 8 << 20  # bytes that wait for one side before the other side is read no further
_FAREWELL_SECONDS = 1.0  # seconds in which daemons must answer after the links are closed
_OWN_SERIALS = 0xF0000000  # serials of the link's own calls; those of a client count from 0


class Handler(Protocol):
    """The object that decides what happens to messages. The loop's thread calls it."""

    def from_client(self, link: Link, frame: bytes) -> None:
        """Take a message that a client sent."""

    def from_daemon(self, link: Link, frame: bytes) -> None:
        """Take a message that the daemon sent."""

    def nonsense(self) -> bytes | None:
        """Return the bytes that a new connection gets instead of service."""

    def failed(self, error: BaseException) -> None:
        """Take an error that the loop or the handler raised."""


class End:
    """One of a link's two sockets, with incomplete input and unsent output."""

    def __init__(self, link: Link, sock: socket.socket) -> None:
        self.link = link
        self.sock = sock
        self.inbox = bytearray()
        self.outbox: deque[memoryview] = deque()
        self.owed = 0
        self.interest = 0
        self.closing = False  # as soon as everything is sent
        sock.setblocking(False)

    def send(self, data: bytes) -> None:
        self.outbox.append(memoryview(data))
        self.owed += len(data)
        self.flush()

    def send_later(self, data: bytes, seconds: float, *, then_close: bool = False) -> None:
        def deliver() -> None:
            self.closing |= then_close
            self.send(data)

        if seconds > 0:
            self.link.loop.later(seconds, self.link, deliver)
        else:
            deliver()

    def flush(self) -> None:
        """Send what the socket accepts; the rest is sent when it is writable."""
        if self.is_closed or (self.link.loop.stalled and not self.link.closed):
            return
        try:
            while self.outbox:
                sent = self.sock.send(self.outbox[0])
                self.owed -= sent
                if sent == len(self.outbox[0]):
                    self.outbox.popleft()
                else:
                    self.outbox[0] = self.outbox[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.link.ended(self)
            return
        if self.closing and not self.outbox:
            self.link.close()
        else:
            self.link.watch()

    def pull(self) -> list[bytes] | None:
        """Return the messages that are complete now; None: the other side has closed."""
        try:
            size = self.sock.recv_into(self.link.loop.chunk)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not size:
            return None
        self.inbox += memoryview(self.link.loop.chunk)[:size]
        return list(take_frames(self.inbox))

    @property
    def is_closed(self) -> bool:
        return self.sock.fileno() < 0

    def close(self) -> None:
        if not self.is_closed:
            self.link.loop.unwatch(self)
            self.sock.close()


class DaemonEnd(End):
    """The socket to the daemon; it knows how many calls wait for a reply."""

    unanswered = 0

    def send(self, data: bytes) -> None:
        self.unanswered += type_of(data) == CALL
        super().send(data)

    def pull(self) -> list[bytes] | None:
        frames = super().pull()
        self.unanswered -= sum(type_of(frame) == REPLY for frame in frames or ())
        return frames


class Link:
    """A client's connection, and the connection to the daemon that belongs to it."""

    def __init__(self, loop: Loop, near: socket.socket, far: socket.socket) -> None:
        self.loop = loop
        self.near = End(self, near)
        self.far = DaemonEnd(self, far)
        self._asked: dict[int, Callable[[Message], None]] = {}
        self._serials = itertools.count(_OWN_SERIALS)
        self.nonsense = loop.handler.nonsense()
        self.closed = False

    def ask(self, call: Message, then: Callable[[Message], None]) -> None:
        """Make a call of our own on this connection; the client sees neither call nor reply."""
        serial = next(self._serials)
        self._asked[serial] = then
        self.far.send(replace(call, type=CALL, serial=serial, status=OK).encode())

    def asked(self, reply: Message) -> bool:
        """Return whether this answers a call of our own; if so, handle it."""
        then = self._asked.pop(reply.serial, None)
        if then:
            then(reply)
        return then is not None

    def read(self, end: End) -> None:
        """Read what arrived at one end, and handle each complete message."""
        frames = end.pull()
        if frames is None:
            self.ended(end)
            return
        if self.closed:
            self.leave()
            return
        if self.nonsense is not None:
            self.near.send(self.nonsense)
            self.nonsense = b""
            return
        handle = (
            self.loop.handler.from_client if end is self.near else self.loop.handler.from_daemon
        )
        for frame in frames:
            if not self.closed:
                handle(self, frame)

    def ended(self, end: End) -> None:
        """Close the other end after it has got all that is still to be sent."""
        if end is self.near:
            self.close()
            return
        self.far.close()
        if self.near.outbox and not self.closed:
            self.near.closing = True
        else:
            self.close()

    def watch(self) -> None:
        """Register what each end can do now: read, write."""
        for end, other in [(self.near, self.far), (self.far, self.near)]:
            if end.is_closed:
                continue
            interest = 0
            if self.closed or not self.loop.stalled:
                interest |= _READ if other.owed < _BACKLOG_BYTES and not other.closing else 0
                interest |= _WRITE if end.outbox else 0
            self.loop.watch(end, interest)

    def close(self) -> None:
        """Cut the client off, and `leave` the daemon."""
        self.closed = True
        self.near.close()
        self.near.owed = 0
        self.loop.links.discard(self)
        self.loop.leaving.add(self)
        self.leave()

    def leave(self) -> None:
        """Cut the daemon off after it has answered everything."""
        if self.far.unanswered and not self.far.is_closed:
            self.watch()
        else:
            self.far.close()
            self.loop.leaving.discard(self)


_loops: set[int] = set()
"""The threads that are loops."""


def _spare_the_loop(kind: type) -> None:
    """Let no loop free a handle itself: it would wait for a reply that only it can bring.

    Python collects garbage on whichever thread makes the next object. The last handle of a
    connection closes it, which is a call, perhaps through the proxy of that thread.
    """
    free: Callable[[object], None] = kind.__del__  # type: ignore[attr-defined]
    loops = _loops  # at the end the names of this module may be gone

    def __del__(self: object, _ident: Callable[[], int] = threading.get_ident) -> None:
        if _ident() in loops:
            threading.Thread(target=free, args=(self,), daemon=True).start()
        else:
            free(self)

    kind.__del__ = __del__  # type: ignore[attr-defined]


class Loop(threading.Thread):
    """The thread that moves the bytes. Other threads may call only `do`."""

    def __init__(self, path: str, upstream: str, handler: Handler) -> None:
        super().__init__(name="proxy", daemon=True)
        self.handler = handler
        self.links: set[Link] = set()
        self.leaving: set[Link] = set()  # the client is gone; the daemon has still to reply
        self.chunk = bytearray(_CHUNK)
        self.stalled = False
        self.on_resume: list[Callable[[], None]] = []
        self._upstream = upstream
        self._finished = False
        self._delayed: list[tuple[float, int, Link, Callable[[], None]]] = []
        self._order = itertools.count()
        self._requests: deque[Callable[[], None]] = deque()
        self._selector = selectors.EpollSelector()
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(512)
        self._listener.setblocking(False)
        self._selector.register(self._bell, _READ, self._answer)
        self._selector.register(self._listener, _READ, self._accept)

    def do(self, request: Callable[[], None], *, wait: bool = True) -> None:
        """Run `request` in the loop's thread; return when it is done."""
        if threading.current_thread() is self:
            request()
            return
        done = threading.Event()

        def answer() -> None:
            try:
                request()
            except Exception as error:
                self.handler.failed(error)
            finally:
                done.set()

        self._requests.append(answer)
        with contextlib.suppress(OSError):
            self._ringer.send(b"!")
        while wait and self.is_alive() and not done.wait(0.1):
            pass

    def finish(self) -> None:
        def finish() -> None:
            self._finished = True

        self.do(finish)
        self.join()

    def run(self) -> None:
        _loops.add(threading.get_ident())
        try:
            self._run()
        finally:
            _loops.discard(threading.get_ident())

    def _run(self) -> None:
        while not self._finished:
            self._serve_all(self._ready())
            self._deliver_delayed()
        self.drop()
        self._let_leave()
        self._selector.close()
        for sock in (self._bell, self._ringer, self._listener):
            sock.close()

    def _ready(self) -> list[tuple[selectors.SelectorKey, int]]:
        if self._delayed and not self.stalled:
            # epoll counts in milliseconds, select() in microseconds; and an epoll is a file.
            patience = max(0.0, self._delayed[0][0] - time.monotonic())
            select.select([self._selector.fileno()], [], [], patience)
            return self._selector.select(0)
        return self._selector.select()

    def _serve_all(self, events: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, ready in events:
            if isinstance(key.data, End):
                self._serve(key.data, ready)
            else:
                key.data()

    def _let_leave(self) -> None:
        """Wait, with a limit, until daemons have answered the calls of clients that are gone."""
        end = time.monotonic() + _FAREWELL_SECONDS
        while self.leaving and (left := end - time.monotonic()) > 0:
            self._serve_all(self._selector.select(left))
            self.drop()  # clients that connected meanwhile
        for link in list(self.leaving):
            link.far.close()

    def _serve(self, end: End, ready: int) -> None:
        try:
            if ready & _WRITE and not end.is_closed:
                end.flush()
            if ready & _READ and not end.is_closed and (end.link.closed or not self.stalled):
                end.link.read(end)
        except Exception as error:
            self.handler.failed(error)
            end.link.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            near, _ = self._listener.accept()
            far = socket.socket(socket.AF_UNIX)
            far.settimeout(5)
            try:
                far.connect(self._upstream)
            except OSError:
                near.close()
                far.close()
                return
            link = Link(self, near, far)
            self.links.add(link)
            link.watch()

    def _answer(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)
        while self._requests:
            self._requests.popleft()()

    def watch(self, end: End, interest: int) -> None:
        if interest == end.interest:
            return
        if end.interest == 0:
            self._selector.register(end.sock, interest, end)
        elif interest == 0:
            self._selector.unregister(end.sock)
        else:
            self._selector.modify(end.sock, interest, end)
        end.interest = interest

    def unwatch(self, end: End) -> None:
        self.watch(end, 0)

    def later(self, seconds: float, link: Link, deliver: Callable[[], None]) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._delayed, (due, next(self._order), link, deliver))

    def _deliver_delayed(self) -> None:
        while self._delayed and not self.stalled and self._delayed[0][0] <= time.monotonic():
            _, _, link, deliver = heapq.heappop(self._delayed)
            if not link.closed:
                deliver()

    def stall(self) -> None:
        self.stalled = True
        for link in self.links:
            link.watch()

    def resume(self) -> None:
        self.stalled = False
        waiting, self.on_resume = self.on_resume, []
        for proceed in waiting:
            proceed()
        for link in list(self.links):
            link.near.flush()
            link.far.flush()

    def drop(self) -> None:
        for link in list(self.links):
            link.close()


for _kind in (libvirt.virConnect, libvirt.virDomain):
    _spare_the_loop(_kind)
