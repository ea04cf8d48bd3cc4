"""A fleet's keys in the store, all at one revision, in pages that are bounded.

In: a connection, spans of keys, a revision. Out: etcd's own records, in pages. Decodes nothing and
judges nothing.

**Why by hosts.** A span that is read with a limit makes etcd (3.4, 3.5) count the rest of that span
for each page: the whole is quadratic. A span without a limit makes it build the whole answer in
memory. So the domains are read in spans of some hosts each, which `layout` cuts without a gap. The
limit is a guard only, for hosts that have very many.

**Side by side.** etcd builds one answer while another is decoded here: `AT_ONCE` threads ask, and a
bounded number of pages waits for the reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence

from guestlist import threads
from guestlist.errors import GuestlistError
from guestlist.fleet.etcd import kv
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.kv import KeyValue, Page
from guestlist.fleet.etcd.span import Span
from guestlist.several.news_queue import NewsQueue
from guestlist.unpatched import threading

MOST_KEYS = 20_000
"""Keys in one answer, at most."""

AT_ONCE = 3
"""Calls that are under way at the same time."""


def read_small(etcd: Etcd, span: Span, revision: int = 0) -> tuple[int, list[KeyValue]]:
    """Return the keys of a span that has few (one for each host), and the revision.

    Raises:
        EtcdError: see `kv.read`.
    """
    rows: list[KeyValue] = []
    for page in _parts(etcd, span, revision):
        revision = revision or page.revision
        rows += page.rows
    return revision, rows


def read_all(
    etcd: Etcd, spans: Sequence[Span], revision: int, *, at_once: int = AT_ONCE
) -> Generator[Sequence[KeyValue]]:
    """Yield the keys of all spans at one revision, a page at a time, in no order.

    Starts threads unless one call is enough. They end when the iterator is closed.

    Raises:
        Compacted: the store has no longer that revision: begin again.
        EtcdError: see `kv.read`.
    """
    if len(spans) < 2:
        for span in spans:
            for page in _parts(etcd, span, revision):
                yield page.rows
        return
    reading = _Reading(etcd, spans, revision, min(at_once, len(spans)))
    try:
        yield from reading.pages()
    finally:
        reading.close()


def _parts(etcd: Etcd, span: Span, revision: int) -> Iterator[Page]:
    """Yield a span in one page, or in several if it has very many keys."""
    while True:
        page = kv.read(etcd, span, revision=revision, limit=MOST_KEYS)
        yield page
        if not page.more:
            return
        revision = revision or page.revision
        span = Span(page.rows[-1].key + b"\0", span.end)


class _Reading:
    """Spans that several threads read, and the pages that wait for the reader."""

    def __init__(self, etcd: Etcd, spans: Sequence[Span], revision: int, at_once: int) -> None:
        self._etcd = etcd
        self._revision = revision
        self._spans = deque(spans)
        self._lock = threading.Lock()
        self._queue: NewsQueue[Sequence[KeyValue] | None] = NewsQueue(most=2 * at_once)
        self._readers = 0
        for _ in range(at_once):
            try:
                threads.start(self._read, "guestlist-pages")
            except GuestlistError:
                if not self._readers:
                    raise
                break  # the threads that run read the rest
            self._readers += 1

    def pages(self) -> Generator[Sequence[KeyValue]]:
        """Yield pages until each thread has ended."""
        left = self._readers
        while left:
            page = self._queue.get()
            if page is None:
                left -= 1
            else:
                yield page

    def close(self) -> None:
        """Let the threads end after the call that they make."""
        self._spans.clear()
        self._queue.close()

    def _read(self) -> None:
        """Read spans until none is left; `None` says so. On a thread of its own."""
        try:
            while (span := self._next()) is not None:
                for page in _parts(self._etcd, span, self._revision):
                    self._queue.put(page.rows)
            self._queue.put(None)
        except Exception as error:
            self.close()
            self._queue.put_now(error)

    def _next(self) -> Span | None:
        with self._lock:
            return self._spans.popleft() if self._spans else None
