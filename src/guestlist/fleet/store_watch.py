"""A fleet in the store, followed: news of it, from a list on, in the store's order.

In: a connection, and the layout of a fleet. Out: an iterator of news, for one thread. A thread of
its own lists the fleet, watches it from that revision on, and lists it again where the store has no
more of the changes: after a compaction, and after it was restored from an older state. It says so:
a `Relisted` replaces what the reader had.

A slow reader delays that thread: a bounded number of news waits here, and etcd keeps the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import groupby

from guestlist import threads
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import Compacted, EtcdError, StoreReplaced, Unreachable
from guestlist.fleet.etcd.kv import KeyValue
from guestlist.fleet.etcd.watch import Watch
from guestlist.fleet.etcd.watch_stream import Batch
from guestlist.fleet.layout import Layout
from guestlist.fleet.readers import FleetWatch
from guestlist.fleet.rows import FleetNews, Relisted
from guestlist.fleet.store_list import list_fleet
from guestlist.fleet.store_state import StoreState
from guestlist.several.news_queue import NewsQueue
from guestlist.waiting import Bell

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds before the fleet is listed again after a failure: at first, and at most."""


class Closed(Exception):
    """The watch was closed."""


class StoreWatch(FleetWatch):
    """The news of a fleet: an endless iterator, which begins with a `Relisted`.

    Raises each failure once, and may be asked again, because the thread goes on trying:
        Unreachable: no member answers; the reader may lag from now on.
        Denied: the user may not read the fleet.
        EtcdError: another refusal of the store.
    """

    def __init__(
        self, etcd: Etcd, layout: Layout, forget: Callable[[StoreWatch], object] = lambda _: None
    ) -> None:
        self._etcd = etcd
        self._forget = forget
        self._layout = layout
        self._news: NewsQueue[FleetNews] = NewsQueue()
        self._watch: Watch | None = None
        self._is_closed = False
        self._has_failed = False
        """Whether the last that was told is a failure: each is told once."""
        self._bell = Bell()
        threads.start(self._run, "guestlist-fleet-watch")

    def get(self, timeout: float | None = None) -> FleetNews | None:
        """Wait for the next news and return it; None when there will be no more.

        Raises:
            TimeoutError: nothing came for `timeout` seconds.
            EtcdError: as the iterator.
            ForkedProcess: the process was forked: the thread that lists and watches is not in it.
        """
        self._etcd.check_process()
        try:
            return None if self._is_closed else self._news.get(timeout)
        except Closed:
            self._news.put_now(Closed())  # for the next call
            return None

    def close(self) -> None:
        """End it: a thread that waits for news gets no more. Waits for no answer of etcd's.

        Does nothing in a forked process: gRPC would hang there, or abort.
        """
        if self._etcd.belongs_to_parent:
            return
        self._forget(self)
        self._is_closed = True
        self._news.put_now(Closed())
        self._news.close()
        self._bell.ring()
        if (watch := self._watch) is not None:
            watch.close()

    def _run(self) -> None:
        """List and watch until it is closed. On a thread of its own."""
        why = ""
        pause = FIRST_PAUSE
        while not self._is_closed:
            try:
                revision, content = list_fleet(self._etcd, self._layout)
                state = StoreState(content, revision)
                self._tell(Relisted(state.snapshot(), why))
                why = self._follow(state, content.newest)
                pause = FIRST_PAUSE
            except EtcdError as error:
                why = str(error)
                self._fail(error)
                self._bell.wait_for(lambda: self._is_closed, pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except Exception as error:
                self._fail(error)
                return

    def _follow(self, state: StoreState, witness: KeyValue | None) -> str:
        """Tell what changes, until the store has the changes no longer; return why."""
        self._watch = watch = Watch(
            self._etcd,
            self._layout.everything,
            state.revision,
            witnesses=self._layout.summary,
            witness=witness,
        )
        with watch:
            while not self._is_closed:
                try:
                    for batch in watch:
                        self._take(state, batch)
                except (Compacted, StoreReplaced) as error:
                    return str(error)
                except Unreachable as error:
                    self._fail(error)
        return ""

    def _take(self, state: StoreState, batch: Batch) -> None:
        at = datetime.now(UTC)
        for _, events in groupby(batch.events, key=lambda each: each.kv.mod_revision):
            for news in state.take(list(events), at):
                self._tell(news)

    def _tell(self, news: FleetNews) -> None:
        self._has_failed = False
        if not self._is_closed:
            self._news.put(news)

    def _fail(self, error: Exception) -> None:
        if not (self._is_closed or self._has_failed):
            self._has_failed = True
            self._news.put_now(error)
