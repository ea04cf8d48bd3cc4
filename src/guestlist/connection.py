"""One libvirt connection: open, keepalive, and what the peer at its other end can do.

In: a URI. Out: a `Peer`, opened when first needed and again after a loss; libvirt's errors as
guestlist's own. Never repeats a call that failed: the caller is told, and its next call reconnects.
Does not list, does not parse.

Source: libvirt docs/uri.rst, src/remote/remote_driver.c, src/rpc/virkeepalive.c.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import libvirt

from guestlist import process
from guestlist.errors import (
    Code,
    ConnectionFailed,
    LibvirtFailure,
    call_failure,
    is_loss,
    open_failure,
)
from guestlist.events import Stream, drain, ensure_loop, wake
from guestlist.native import queue, threading

log = logging.getLogger(__name__)

LONGEST_CLOSE = 10.0
"""Seconds that a daemon may take to say goodbye."""

T = TypeVar("T")


def version_text(number: int | None) -> str:
    """Libvirt's version number as people write it: 9000000 is 9.0.0; None is unknown."""
    if number is None:
        return "unknown"
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


def unsupported(error: Exception) -> bool:
    """Whether a call failed because it does not exist here, and for no other reason.

    Three ways, one meaning: the binding lacks it (AttributeError from the call), the daemon does
    ("unknown procedure"), the hypervisor driver does. libvirt says the last two with code 3.
    """
    if isinstance(error, libvirt.libvirtError):
        return bool(error.get_error_code() == Code.NO_SUPPORT)
    return isinstance(error, AttributeError)


@dataclass(frozen=True, slots=True)
class Versions:
    """Who talks to whom. Numbers as libvirt encodes them: 9000000 is 9.0.0; None is unknown."""

    client: int
    daemon: int | None
    driver: str
    hypervisor: int | None

    def __str__(self) -> str:
        return (
            f"client library {version_text(self.client)}, daemon {version_text(self.daemon)}, "
            f"driver {self.driver} {version_text(self.hypervisor)}"
        )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the libvirt at the other end of one connection can do for us."""

    uri: str
    versions: Versions
    bulk_listing: bool
    bulk_stats: bool
    lifecycle_events: bool
    keepalive: bool | None
    """None: a driver inside this process, which nobody can lose."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a libvirt is, as its URI tells."""

    here: bool
    """On this machine: paths in its answers are paths here."""

    asked_again_at_will: bool
    """Whether a second connection reaches the same domains, and asks nobody for a password."""

    @classmethod
    def of(cls, uri: str) -> Location:
        """Read it off a URI as libvirt resolved it: driver[+transport]://[user@][host]/path.

        Source: libvirt docs/uri.rst. The test driver gives each connection to a node file a host
        of its own.
        """
        parts = urlsplit(uri)
        driver, _, transport = parts.scheme.partition("+")
        return cls(
            here=transport in ("", "unix") and not parts.hostname,
            asked_again_at_will=transport in ("", "unix", "tcp", "tls")
            and (driver != "test" or parts.path == "/default"),
        )


class Peer:
    """An open connection, and what has been learned of the libvirt behind it.

    What is learned belongs to this one connection: after a reconnect the daemon may be another.
    """

    def __init__(
        self, connection: libvirt.virConnect, whom: str, *, keepalive: bool | None
    ) -> None:
        self.connection = connection
        self.whom = whom
        self.keepalive = keepalive
        self.calls = 0
        """Calls made for answers so far. Opening, registering for events and closing are not among
        them: those belong to the connection, not to a question."""
        self._streams: dict[int, Stream | None] = {}
        self._daemon: int | None = None
        self._closed = False
        self._lock = threading.Lock()
        process.leave_to_parent(connection)

    def alive(self) -> bool:
        """Whether libvirt still holds the connection open. Cost: none."""
        try:
            return self.connection.isAlive() != 0
        except libvirt.libvirtError:
            return False
        except AttributeError:  # isAlive is of 0.9.8
            return True

    def lost(self, error: libvirt.libvirtError) -> bool:
        """Whether a call failed because the connection is dead, and not for what was asked."""
        return is_loss(error) or not self.alive()

    def events(self, kind: int, since: int = 0) -> Stream | None:
        """The events of a kind, registered on first use; None where this libvirt has none.

        Args:
            kind: VIR_DOMAIN_EVENT_ID_*.
            since: the libvirt that brought this kind, as a number; an older daemon is not asked.

        Where a registration fails while events of another kind are handed out, libvirt's client
        (9.0) releases the callback twice, and the process crashes. So ask for what may be missing
        first: the newest kinds before the older ones, and for lifecycle events last.

        Raises:
            libvirt.libvirtError: the connection is lost.

        Cost: 1 call the first time; with `since` 1 more, once per connection.
        """
        with self._lock:
            if kind not in self._streams:
                absent = self._closed or (since > 0 and self._release() < since)
                self._streams[kind] = None if absent else self._register(kind)
            return self._streams[kind]

    def lifecycle(self) -> Stream | None:
        """The lifecycle events: subscribers are called with (domain, event, detail)."""
        return self.events(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE)

    def _register(self, kind: int) -> Stream | None:
        try:
            return Stream(self.connection, kind)
        except AttributeError:  # domainEventRegisterAny is of 0.8.0
            return None
        except libvirt.libvirtError as error:
            # A daemon says code 1 to a kind that it does not know.
            unknown = kind != libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE and not self.lost(error)
            if unknown or unsupported(error):
                return None
            raise

    def _release(self) -> int:
        """The daemon's version, asked once; 0 where it does not tell."""
        if self._daemon is None:
            self._daemon = _unless_unsupported(self.connection.getLibVersion) or 0
        return self._daemon

    def location(self) -> Location:
        """Where this libvirt is. Cost: none."""
        return Location.of(_resolved_uri(self.connection))

    def close(self) -> None:
        """End the events and let libvirt's connection go; harmless on a dead one, and twice.

        Keepalive first: libvirt's client (9.0) may free a connection whose timer is just about to
        send a sign of life, and then hangs or crashes. It is stopped, a turn of the event loop has
        what was under way come to its end, and then nobody but us has the connection. Without
        keepalive a daemon that hangs would hold the last call up for ever, so that has a thread,
        which is given up after `LONGEST_CLOSE` seconds.

        Cost: 1 call, and 1 more for each kind of events.
        """
        with self._lock:
            streams, self._streams = self._streams, {}
            self._closed = True
        for stream in streams.values():
            if stream is not None:
                stream.end()
        if not self.keepalive or not self.alive():
            _close(self.connection)
            return
        with contextlib.suppress(libvirt.libvirtError):
            self.connection.setKeepAlive(0, 0)
        drain()
        closing = threading.Thread(
            target=_close, args=(self.connection,), name="guestlist-close", daemon=True
        )
        closing.start()
        closing.join(LONGEST_CLOSE)

    def versions(self) -> Versions:
        """Ask client, daemon and driver for their versions. Cost: 3 calls."""
        asked = self.connection
        return Versions(
            client=libvirt.getVersion(),
            daemon=_unless_unsupported(asked.getLibVersion),
            driver=_unless_unsupported(asked.getType) or "unknown",
            hypervisor=_unless_unsupported(asked.getVersion),
        )


def _unless_unsupported(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except (libvirt.libvirtError, AttributeError) as error:
        if unsupported(error):
            return None
        raise


class Connection:
    """A libvirt connection that opens when first used and reopens on the next use after a loss.

    Threads may share it and take turns: one question at a time. libvirt would interleave their
    calls, but its client (9.0) can stall one of two threads behind the other, and crashes when a
    connection that several are waiting on is lost or closed.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        readonly: bool = False,
        keepalive_interval: int = 1,
        keepalive_count: int = 5,
        open_timeout: float | None = 10.0,
    ) -> None:
        self.uri = uri
        self.readonly = readonly
        self.keepalive_interval = keepalive_interval
        self.keepalive_count = keepalive_count
        self.open_timeout = open_timeout
        self._peer: Peer | None = None
        self._given_up: list[threading.Thread] = []
        self._next_attempt = 0.0
        self._turn = threading.RLock()

    def like_this(self) -> Connection:
        """Another connection to the same libvirt, with the same options, to be opened and closed.

        For what must not wait behind, or hold up, what is asked here.
        """
        return Connection(
            self.uri,
            readonly=self.readonly,
            keepalive_interval=self.keepalive_interval,
            keepalive_count=self.keepalive_count,
            open_timeout=self.open_timeout,
        )

    @property
    def whom(self) -> str:
        """The peer's name in messages: the URI, as asked for or as libvirt resolved it."""
        peer = self._peer
        return peer.whom if peer else self.uri or "libvirt's default URI"

    @property
    def current(self) -> Peer | None:
        """The open peer, if there is one; opens nothing."""
        return self._peer

    def peer(self) -> Peer:
        """The open peer; opened now if there is none or the last one is known to be dead.

        Raises:
            ConnectionFailed, AccessDenied: see `errors.open_failure`.
            ForkedProcess, ThreadsReplaced: see `process.check`.
        """
        process.check()
        with self._turn:
            if self._peer is not None and not self._peer.alive():
                self._peer.close()
                self._peer = None
            if self._peer is None:
                self._peer = self._open()
            return self._peer

    @contextlib.contextmanager
    def asking(self, what: str) -> Iterator[Peer]:
        """Lend the peer, alone, for calls that together answer `what` ("list the domains").

        Raises:
            GuestlistError: libvirt's error in the block, translated; on a loss the peer is let go,
                so that the next use opens another. Nothing is tried twice.
        """
        process.check()
        with self._turn:
            peer = self.peer()
            try:
                yield peer
            except libvirt.libvirtError as error:
                lost = peer.lost(error)
                if lost:
                    self.close()
                raise call_failure(error, what, peer.whom, lost=lost) from error
            except UnicodeDecodeError as error:
                raise LibvirtFailure(
                    f"cannot {what} of {peer.whom}: it answered with text that is not UTF-8 "
                    f"({error})"
                ) from error

    def close(self) -> None:
        """Let the connection go. Domains already handed out keep libvirt's own reference to it.

        Waits for the question that another thread is asking. Cost: 1 call if it was open; on a
        silent daemon as long as keepalive takes. In a forked process it does nothing.
        """
        if process.is_foreign():
            return
        with self._turn:
            peer, self._peer = self._peer, None
            if peer is not None:
                peer.close()

    def _open(self) -> Peer:
        ensure_loop()
        connection = self._open_within_deadline()
        peer = Peer(
            connection,
            whom=self.uri or _resolved_uri(connection),
            keepalive=self._keep_alive(connection),
        )
        wake()  # for keepalive's timer
        return peer

    def _open_within_deadline(self) -> libvirt.virConnect:
        """Open on a thread of its own: libvirt's open has no deadline and cannot be interrupted.

        An attempt that is given up goes on, and while one does another begins beside it only after
        twice as long as before: a live view of a daemon that hangs for days would have thousands.
        """
        if not self._may_attempt():
            raise self._no_answer()
        outcome: queue.Queue[libvirt.virConnect | Exception] = queue.Queue()
        given_up = threading.Event()

        def attempt() -> None:
            try:
                opener = libvirt.openReadOnly if self.readonly else libvirt.open
                connection = opener(self.uri)
            except Exception as error:
                outcome.put(error)
                return
            outcome.put(connection)
            if given_up.is_set():
                _close(connection)

        attempting = threading.Thread(target=attempt, name="guestlist-open", daemon=True)
        attempting.start()
        try:
            result = outcome.get(timeout=self.open_timeout)
        except queue.Empty:
            given_up.set()
            self._given_up.append(attempting)
            patience = (self.open_timeout or 0.0) * 2 ** len(self._given_up)
            self._next_attempt = time.monotonic() + patience
            raise self._no_answer() from None
        if isinstance(result, libvirt.libvirtError):
            raise open_failure(result, self.whom) from result
        if isinstance(result, ValueError):  # a URI with a NUL or a lone surrogate in it
            raise ConnectionFailed(f"cannot connect to {self.whom!r}: {result}") from result
        if isinstance(result, Exception):
            raise result
        return result

    def _may_attempt(self) -> bool:
        """Whether to begin another attempt, now or when the last one has ended within the time."""
        self._given_up = [thread for thread in self._given_up if thread.is_alive()]
        if not self._given_up or time.monotonic() >= self._next_attempt:
            return True
        self._given_up[-1].join(self.open_timeout)
        return not self._given_up[-1].is_alive()

    def _no_answer(self) -> ConnectionFailed:
        return ConnectionFailed(
            f"cannot connect to {self.whom}: no answer within {self.open_timeout:g} s; the "
            "daemon is stopped, hung, or already serves as many clients as max_clients allows"
        )

    def _keep_alive(self, connection: libvirt.virConnect) -> bool | None:
        if not self.keepalive_interval:
            return False
        try:
            return connection.setKeepAlive(self.keepalive_interval, self.keepalive_count) == 0
        except AttributeError:  # setKeepAlive is of 0.9.8
            return False
        except libvirt.libvirtError as error:
            if unsupported(error):
                return None
            log.warning("no keepalive on %s: %s", self.whom, error)
            return False


def _resolved_uri(connection: libvirt.virConnect) -> str:
    try:
        return connection.getURI()
    except libvirt.libvirtError:
        return "libvirt's default URI"


def _close(connection: libvirt.virConnect) -> None:
    with contextlib.suppress(libvirt.libvirtError):  # a dead one cannot be closed any better
        connection.close()
