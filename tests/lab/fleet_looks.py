"""Readers of a fleet in etcd that look without a pause, and hold each list against the truth.

In: a fleet, and what must be in every list. Out: counts, and a line for each list that was wrong.
One reader takes snapshots; one reads the same keys at the revision of each snapshot, and counts
what a reader without the rule would miss and double; one walks the hosts one after the other; one
adds up the changes of a watch.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from uuid import UUID

from lab.waiting import LONG

from guestlist.fleet.etcd import kv
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import EtcdError
from guestlist.fleet.layout import Layout
from guestlist.fleet.readers import FleetWatch
from guestlist.fleet.rows import FleetRow, FleetSnapshot, Relisted, RowChange, Standing

Judge = Callable[[FleetRow], str | None]
"""Returns what is wrong with a row, by the truth; None: nothing."""


class Looks:
    """Snapshots without a pause, on a thread; a context manager.

    Args:
        take: takes a list.
        always: the guests that must be in every list that says it is complete.
        judge: what is wrong with a row of a complete list.
    """

    def __init__(
        self,
        take: Callable[[], FleetSnapshot],
        always: Iterable[UUID],
        judge: Judge = lambda _: None,
        pause: float = 0.01,
    ) -> None:
        self._take = take
        self._always = frozenset(always)
        self._judge = judge
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="looks")
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.on_list: Callable[[FleetSnapshot], object] = lambda _: None

    def __enter__(self) -> Looks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(LONG)

    def wait_lists(self, more: int) -> None:
        """Return when so many more lists were taken."""
        enough = self.counts["lists"] + more
        end = time.monotonic() + LONG
        while self.counts["lists"] < enough and self._thread.is_alive():
            if time.monotonic() > end:
                raise TimeoutError(f"fewer than {more} lists in {LONG:g} s")
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._over.wait(self._pause):
            try:
                found = self._take()
            except EtcdError:
                self.counts["failed"] += 1
                continue
            except Exception as error:
                self.wrong.append(f"the reader failed: {error!r}")
                return
            self.look_at(found)
            self.on_list(found)

    def look_at(self, found: FleetSnapshot) -> None:
        """Judge a list."""
        rows = list(found.values())
        self.counts["lists"] += 1
        self.counts["rows"] += len(rows)
        self.counts["complete"] += found.complete
        uuids = Counter(row.uuid for row in rows)
        missed = self._always - set(uuids)
        if not found.complete:
            self.counts["missed and said so"] += bool(missed)
            return
        self.counts["missed"] += len(missed)
        self.counts["doubled"] += sum(number > 1 for number in uuids.values())
        self.wrong += [f"missed: {each}" for each in missed]
        self.wrong += [f"doubled: {each}" for each, number in uuids.items() if number > 1]
        for row in rows:
            if row.standing is Standing.CONFLICT:
                self.counts["doubled"] += 1
                self.wrong.append(f"no double run: {row}")
            elif (why := self._judge(row)) is not None:
                self.counts["invented"] += 1
                self.wrong.append(f"{why}: {row}")


class Adding:
    """The changes of a watch, added up on a thread; a context manager.

    `rows` are what they come to. `wrong` has a line for each change that does not begin where the
    one before has ended.
    """

    def __init__(self, news: FleetWatch) -> None:
        self._news = news
        self._thread = threading.Thread(target=self._run, name="adding")
        self._lock = threading.Lock()
        self._rows: dict[UUID, FleetRow] = {}
        self.changes = self.relists = self.failures = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Adding:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._news.close()
        self._thread.join(LONG)

    @property
    def rows(self) -> dict[UUID, FleetRow]:
        """What the changes have come to so far."""
        with self._lock:
            return self._rows.copy()

    def _run(self) -> None:
        while True:
            try:
                news = self._news.get()
            except EtcdError:
                self.failures += 1
                continue
            if news is None:
                return
            with self._lock:
                self._take(news)

    def _take(self, news: object) -> None:
        if isinstance(news, Relisted):
            self.relists += 1
            self._rows = dict(news.snapshot)
        elif isinstance(news, RowChange):
            self.changes += 1
            if self._rows.get(news.row.uuid) != news.before:
                self.wrong.append(f"not what it was: {news}")
            if news.after is None:
                self._rows.pop(news.row.uuid, None)
            else:
                self._rows[news.row.uuid] = news.after


class Without:
    """What readers would see that know no rule: at one revision, and host by host."""

    def __init__(
        self, etcd: Etcd, fleet: str, hosts: Iterable[str], always: Iterable[UUID]
    ) -> None:
        self._etcd = etcd
        self._layout = Layout(fleet)
        self._hosts = list(hosts)
        self._always = frozenset(always)
        self.counts: Counter[str] = Counter()

    def look(self, found: FleetSnapshot) -> None:
        """Read the domains that were there at the revision of a list; then walk the hosts."""
        self._count("one revision", found.revision)
        self._count("host by host", 0)

    def _count(self, how: str, revision: int) -> None:
        seen: Counter[UUID] = Counter()
        for host in self._hosts:
            page = kv.read(self._etcd, self._layout.domains(host), revision=revision)
            seen.update(UUID(row.key[-36:].decode()) for row in page.rows)
        self.counts[f"lists {how}"] += 1
        self.counts[f"missed {how}"] += len(self._always - set(seen))
        self.counts[f"doubled {how}"] += sum(number > 1 for number in seen.values())
