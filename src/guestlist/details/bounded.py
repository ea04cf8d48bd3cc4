"""Many domains' XML within a deadline, where reading it may wait for a guest.

In: handles of one connection. Out: what was read of each over other connections, and which guests
did not answer. The connection of the handles is not used. One reader goes from domain to domain; if
a guest does not answer promptly another reader goes on with the others. A call that hangs is left
to itself, and its domain is not asked about again until it has returned.

Source: libvirt 0.9.12 src/qemu/qemu_driver.c (qemuDomainGetXMLDesc enters the monitor).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from guestlist.aside import Aside
from guestlist.connection import Connection, Peer, unless_unsupported
from guestlist.details import reading
from guestlist.details.crew import Reader
from guestlist.errors import GuestlistError
from guestlist.handle import Handle
from guestlist.lookup import look_up
from guestlist.native import threading
from guestlist.records import Details

log = logging.getLogger(__name__)

MOST_HANGING = 4
"""Calls that may hang at a time; beyond it nobody is asked until one of them returns. Each occupies
one of the daemon's workers, and one of the 20 clients that a daemon of that age serves."""

PROMPT = 0.25
"""Seconds after which a guest counts as slow, and another reader goes on with the others."""

_BALLOON_EVENT, _BALLOON_EVENT_IN_QEMU = 10_000, 1_002_000
"""The releases of libvirt and of QEMU that brought BALLOON_CHANGE: 0.10.0 and 1.2.0."""

_NEW_QEMU_ONLY = 5_000_000
"""The libvirt (5.0.0) from which on every QEMU that it can run is newer than that."""

_NOT_ASKED = "not asked"

_MOST_FAILURES = 2
"""Readers that may fail to connect, or lose their connection, before the others are not read."""


def is_needed(peer: Peer) -> bool:
    """Whether XMLDesc may enter a guest's monitor, and so wait for a guest that is stuck.

    QEMU's driver asks the guest for its balloon where no event tells of that: in libvirt before
    0.10.0, and in later ones with a QEMU before 1.2. Listing and states enter no monitor in any
    release.

    Raises:
        libvirt.libvirtError: the connection is lost.

    Cost: none from libvirt 5.0.0 on; else 2 calls, which are not in `Peer.calls`.
    """
    asked = peer.connection
    if not 0 < peer.release < _NEW_QEMU_ONLY or not peer.location().same_domains_again:
        return False
    if unless_unsupported(asked.getType) != "QEMU":
        return False
    qemu = unless_unsupported(asked.getVersion)
    return peer.release < _BALLOON_EVENT or (qemu is not None and qemu < _BALLOON_EVENT_IN_QEMU)


def was_not_asked(details: Details) -> bool:
    """Whether a domain was left out because others hang."""
    return any(what.startswith(f"xml: {_NOT_ASKED}") for what in details.unknown)


@dataclass
class Outcome:
    """What became of each domain; `failure` is why a reader could not read, where one could not."""

    read: list[tuple[Handle, reading.Read | None]] = field(default_factory=list)
    calls: int = 0
    failure: GuestlistError | None = None


class BoundedReader:
    """Reads the XML of one host's domains within a deadline. Threads may share it."""

    def __init__(self, connection: Connection, deadline: float) -> None:
        self._deadline = deadline
        self._aside = Aside(connection, MOST_HANGING + 1)
        self._hanging: set[bytes] = set()

    def read(
        self, handles: Iterable[Handle], read_one: Reader, returned: Callable[[bytes], object]
    ) -> Outcome:
        """What each domain's XML says; None for those that are gone.

        Args:
            handles: the domains.
            read_one: `reading.read`.
            returned: is told the UUID of a domain whose call came back after the deadline: its
                guest answers again. On another thread.

        Cost: 2 calls per domain, over other connections. Seconds: `deadline` where a guest hangs
        that did not before.
        """
        work = _Work(self._hanging, returned)
        for handle in handles:
            work.put(handle)
        end = time.monotonic() + self._deadline
        with work.changed:
            while work.is_unfinished() and (now := time.monotonic()) < end:
                if work.wants_reader(now):
                    self._start_reader(work, read_one)
                work.changed.wait(min(end - now, PROMPT))
            work.ended = True
            return self._outcome(work)

    def close(self) -> None:
        """Close what is idle; a call under way closes its own connection when it returns."""
        self._aside.close()

    def _start_reader(self, work: _Work, read_one: Reader) -> None:
        reader = _Beside()
        if self._aside.start(
            "read the XML of the domains",
            lambda peer: work.go_through(peer, reader, read_one),
            lambda failure: work.ended_with(
                reader, failure if isinstance(failure, GuestlistError) else None
            ),
        ):
            work.readers.append(reader)

    def _outcome(self, work: _Work) -> Outcome:
        outcome = Outcome(work.results, work.calls, work.failure)
        within = f"no answer within {self._deadline:g} s"
        silent = work.silent()
        self._hanging.update(handle.uuid for handle in silent)
        for handle in silent:
            outcome.read.append((handle, reading.unread(handle, within)))
        why = "other guests do not answer" if silent else "no second connection"
        for handle in work.todo:
            outcome.read.append((handle, reading.unread(handle, f"{_NOT_ASKED}, {why}")))
        if work.failure is not None:
            log.warning("details of %d domains were not read: %s", len(work.todo), work.failure)
        return outcome


@dataclass(eq=False, slots=True)
class _Beside:
    """A reader: the domain that it asks about, and since when. None: it connects."""

    handle: Handle | None = None
    since: float = 0.0


class _Work:
    """What is still to be read, who reads it, and what has been read."""

    def __init__(self, hanging: set[bytes], returned: Callable[[bytes], object]) -> None:
        self.changed = threading.Condition()
        self.todo: deque[Handle] = deque()
        self.results: list[tuple[Handle, reading.Read | None]] = []
        self.readers: list[_Beside] = []
        self.calls = 0
        self.failure: GuestlistError | None = None
        self.ended = False
        self._failures = 0
        self._hanging = hanging
        self._already_silent: list[Handle] = []
        self._returned = returned

    # Under the lock

    def put(self, handle: Handle) -> None:
        """One to be read, unless a call about it hangs already."""
        if handle.uuid in self._hanging:
            self._already_silent.append(handle)
        else:
            self.todo.append(handle)

    def is_unfinished(self) -> bool:
        return any(reader.handle for reader in self.readers) or (
            bool(self.todo) and (bool(self.readers) or self._failures < _MOST_FAILURES)
        )

    def wants_reader(self, now: float) -> bool:
        """Whether there is work, and every reader waits for a guest that is slow."""
        return bool(self.todo) and all(
            reader.handle is not None and now >= reader.since + PROMPT for reader in self.readers
        )

    def silent(self) -> list[Handle]:
        """Those whose guests have not answered."""
        asked = [reader.handle for reader in self.readers if reader.handle is not None]
        return [*self._already_silent, *asked]

    # On a reader's thread

    def go_through(self, peer: Peer, reader: _Beside, read_one: Reader) -> None:
        """Read one after the other, until there are no more or the deadline has passed."""
        before = peer.calls
        while (handle := self._next(reader, peer.calls - before)) is not None:
            before = peer.calls
            self._done(reader, handle, _read_over(peer, handle, read_one))

    def ended_with(self, reader: _Beside, failure: GuestlistError | None) -> None:
        """A reader has ended; what it was asking about it gives back."""
        with self.changed:
            self.readers.remove(reader)
            self.failure = failure or self.failure
            self._failures += failure is not None or reader.handle is not None
            if reader.handle is not None:
                self._hanging.discard(reader.handle.uuid)
                self.todo.append(reader.handle)
            self.changed.notify_all()

    def _next(self, reader: _Beside, calls: int) -> Handle | None:
        with self.changed:
            self.calls += calls
            if self.ended or not self.todo:
                self.changed.notify_all()
                return None
            handle = self.todo.popleft()
            reader.handle, reader.since = handle, time.monotonic()
            return handle

    def _done(self, reader: _Beside, handle: Handle, read: reading.Read | None) -> None:
        with self.changed:
            reader.handle = None
            self.changed.notify_all()
            self._hanging.discard(handle.uuid)
            is_late = self.ended
            if not is_late:
                self.results.append((handle, read))
        if is_late:
            self._returned(handle.uuid)


def _read_over(peer: Peer, handle: Handle, read_one: Reader) -> reading.Read | None:
    """Read one over another connection than its handle's."""
    domain = look_up(peer, handle.uuid)
    return None if domain is None else read_one(handle.over(domain), peer)
