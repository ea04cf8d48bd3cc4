"""The board of a live view, which readers read: the view, how old it is, and who subscribes.

In: views and changes, from the one thread that merges them. Out: snapshots, subscriptions, and
whether the view is in step. Everything happens under one lock that is held for a short time only:
what is read is never changed, only replaced. Makes no call of libvirt's.

A signal handler may read within a read of the same thread: the lock lets it in again, nothing moves
meanwhile, and each step of the interrupted read may be taken once more. A method that waits for the
thread that merges raises there, because that thread would wait for the lock.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from guestlist import threads
from guestlist.errors import GuestlistError, NotSynced, without_frames
from guestlist.inventory.changes import Change, News, Resynced, Stale
from guestlist.inventory.merging import View
from guestlist.inventory.scope import Part, Scope
from guestlist.inventory.subscribers import Changes, Queue
from guestlist.records import Instance, Snapshot
from guestlist.unpatched import threading
from guestlist.waiting import Bell

PATIENCE = 1.0
"""Seconds that libvirt may owe an answer before the view counts as stale."""


class Board:
    """One host's view, as its readers see it. Threads may share it."""

    def __init__(self, longest_queue: int) -> None:
        self._longest_queue = longest_queue
        self._view: View = View()
        self._synced = False
        self._ended = False
        self._stale_since: float | None = None
        self._stale: Stale | None = None
        self._awaiting_since: float | None = None
        self._failure: GuestlistError | None = None
        self._parts: dict[Scope, Part] = {}
        self._subscribers: tuple[weakref.ref[Queue], ...] = ()
        self._lock = threading.RLock()
        self._moved = Bell()

    # For readers

    @property
    def stale_for(self) -> float | None:
        """The seconds for which libvirt has not confirmed the view; 0.0 while it is in step.

        None before it was in step for the first time.
        """
        if not self._synced:
            return None
        since, awaiting = self._stale_since, self._awaiting_since
        now = time.monotonic()
        if since is None and awaiting is not None and now - awaiting > PATIENCE:
            since = awaiting
        return 0.0 if since is None else now - since

    @property
    def failure(self) -> GuestlistError | None:
        """The error because of which the view is stale, or not yet in step."""
        return self._failure

    def snapshot(self, scope: Scope) -> Snapshot:
        """Return the part of the view that a scope admits.

        Raises:
            NotSynced: the view has not been in step yet, so nothing is known.
        """
        with self._lock:
            snapshot = self._snapshot(scope)
        if snapshot is None:
            raise self._not_synced()
        return snapshot

    def row(self, uuid: UUID) -> Instance | None:
        """Return one domain of a view that is in step, else None. Takes no lock."""
        return self._view.get(uuid) if self.stale_for == 0 else None

    def subscribe(self, scope: Scope, owner: object) -> Changes:
        """Return a new reader of changes. It keeps `owner` alive; the board does not keep it.

        Raises:
            Reentered: a signal handler asks within a read.
        """
        self.refuse_within_read("follow the changes")
        with self._lock:
            queue = Queue(
                scope,
                longest=self._longest_queue,
                lock=self._lock,
                view=self._snapshot,
                forget=self._forget,
                stale=self._stale,
            )
            changes = Changes(queue, owner)
            if self._ended:
                queue.end()
            else:
                kept = (each for each in self._subscribers if each() is not None)
                self._subscribers = (*kept, weakref.ref(queue))
        return changes

    def wait_synced(self, timeout: float | None) -> None:
        """Wait until the view is in step: its `stale_for` is 0.0.

        Raises:
            GuestlistError: the view is not in step after `timeout` seconds, and this is why.
        """
        self.refuse_within_read("wait for the view")
        self._moved.wait_for(lambda: self.stale_for == 0 or self._ended, timeout)
        stale_for = self.stale_for
        if stale_for == 0:
            return
        failure = self._failure
        if failure is not None:
            raise without_frames(failure)
        if self._ended or stale_for is not None:
            raise self._not_synced(stale_for)
        raise NotSynced(
            f"the view is not in step after {timeout:g} s: libvirt has not answered yet, and no "
            "call has failed; wait longer"
        )

    def refuse_within_read(self, what: str) -> None:
        """Raise where this thread is within a read, so that it would wait for itself.

        Raises:
            Reentered: a signal handler asks for `what` within a read.
        """
        if self.is_read_here():
            raise threads.reentered(what)

    def is_read_here(self) -> bool:
        """Whether this thread is within a read, which a handler or finalizer has interrupted."""
        return threads.is_held_here(self._lock)

    # For the thread that merges

    @property
    def view(self) -> View:
        """The view of this moment; that thread alone replaces it."""
        return self._view

    @property
    def is_in_step(self) -> bool:
        """Whether the view is in step, or would be if libvirt answered in time."""
        return self._synced and self._stale_since is None

    def publish(self, view: View, changes: Iterable[Change]) -> None:
        """Replace the view by the one that these changes made of it."""
        with self._lock:
            self._view = view
            for part in self._parts.values():
                part.follow(changes, view)
            if self._synced:
                self._tell(changes)

    def await_answer(self, since: float | None) -> None:
        """Note since when (monotonic) a question, or an event, has no answer; None: all have.

        The view is stale when that lasts longer than `PATIENCE`.
        """
        self._awaiting_since = since
        self._moved.ring()

    def in_step(self) -> None:
        """Note that the view is as libvirt has it, and tell the readers."""
        with self._lock:
            if self.is_in_step or self._ended:
                return
            self._synced = True
            self._stale_since = self._stale = self._failure = None
            now = datetime.now(UTC)
            for reader in self._readers():
                snapshot = self._snapshot(reader.scope)
                assert snapshot is not None
                reader.put([Resynced(snapshot, 0, now)])
        self._moved.ring()

    def fall_behind(self, since: float, error: GuestlistError) -> None:
        """Note that libvirt cannot be asked, since when (monotonic) and why; tell the readers."""
        with self._lock:
            self._failure = error
            self._awaiting_since = None
            if not self.is_in_step:
                return
            self._stale_since = since
            now = datetime.now(UTC)
            was = now - timedelta(seconds=time.monotonic() - since)
            self._stale = Stale(was, error, now)
            self._tell([self._stale])

    def end(self) -> None:
        """Note that nothing will be merged any more. Harmless twice, and within a read."""
        with self._lock:
            self._ended = True
            if self._synced and self._stale_since is None:
                self._stale_since = time.monotonic()
            for reader in self._readers():
                reader.end()
        self._moved.ring()

    # How it is done, under the lock

    def _tell(self, news: Iterable[News]) -> None:
        for reader in self._readers():
            reader.put(news)

    def _readers(self) -> Iterable[Queue]:
        return [reader for each in self._subscribers if (reader := each()) is not None]

    def _snapshot(self, scope: Scope) -> Snapshot | None:
        stale_for = self.stale_for
        if stale_for is None:
            return None
        part = self._parts.get(scope)
        if part is None:
            part = self._parts[scope] = Part(scope)
        return part.snapshot(self._view, stale_for)

    def _forget(self, queue: Queue) -> None:
        with self._lock:
            self._subscribers = tuple(each for each in self._subscribers if each() is not queue)

    def _not_synced(self, stale_for: float | None = None) -> NotSynced:
        if self._ended:
            return NotSynced("the view is not in step, and will not be: it was closed")
        if stale_for is not None:
            return NotSynced(f"the view is {stale_for:.1f} s behind: libvirt has not answered yet")
        return NotSynced(
            "nothing is known yet: the view has not been in step; call wait_synced() first"
        )
