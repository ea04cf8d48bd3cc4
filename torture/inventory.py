"""`./dev torture inventory`: a live view under churn and restarts, held against what it promises.

One process changes the domains of a real daemon as fast as it can, first those of libvirt's test
driver, in one way after the other, then QEMU guests, of which some cannot start. This process has a
live view of them with three readers of its changes (a quick one, one under asyncio, and one that is
too slow) and a fourth thread that looks at the view every few milliseconds. No domain may be
missing, no state may go back in time, and each reader's changes must add up to the view
(`lab.views`).

In rounds the changes pause, and within `SETTLE` seconds the view must equal what a new connection
sees. In the end the daemon is killed under churn and started again, time after time: meanwhile the
view stays as it was; then it is right again within `SETTLE` seconds, and leaves nothing behind.
Prints a line per kind of churn, and exits 1 if there was a violation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lab.churn import Churner, Mode, populate, populated, starts_active
from lab.daemon import Daemon
from lab.nodes import Domain, nova_instance
from lab.qemu import broken_guest_xml, guest_xml, qemu_available
from lab.views import EVERYBODY, Replica, differences, truth
from lab.waiting import wait_until

from guestlist import Inventory, Snapshot

SETTLE = 5.0
"""Seconds that a view may take to become right once nothing changes, or the daemon is back."""

LOOK_EVERY, SLOW_EVERY = 0.005, 0.05
"""Seconds between two looks at the view, and between two changes that the slow reader takes."""

LONGEST_QUEUE = 2_000
GUESTS, BROKEN_GUESTS = 4, 2
GUEST_ROUND = 5.0
"""Seconds of churn before each pause: starting a guest takes half a second or more."""

SHARES: dict[Mode, float] = {
    "switch": 0.14,
    "redefine": 0.12,
    "kind": 0.12,
    "come-and-go": 0.12,
    "rename": 0.12,
}
QEMU_SHARE = 0.22
"""The share of QEMU guests; the restarts take the rest of the time."""


@dataclass
class Line:
    """One line of the result. `wrong` has a line for each violation."""

    what: str
    rounds: int = 0
    right: int = 0
    changes: int = 0
    heard: int = 0
    missed: int = 0
    looks: int = 0
    drifts: int = 0
    worst: float = 0.0
    took: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.what:12} {self.rounds:6} {self.right:6} {self.worst:7.2f} {self.changes:9,} "
            f"{self.changes / (self.took or 1):9,.0f} {self.heard:9,} {self.missed:9,} "
            f"{self.looks:8,} {self.drifts:6} {len(self.wrong):5}"
        )

    def add(self, other: Line) -> None:
        """Add the counts of another line."""
        for name in ("rounds", "right", "changes", "heard", "missed", "looks", "drifts", "took"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.worst = max(self.worst, other.worst)
        self.wrong += other.wrong


HEADER = (
    f"{'churn':12} {'rounds':>6} {'right':>6} {'worst s':>7} {'changes':>9} {'changes/s':>9} "
    f"{'heard':>9} {'missed':>9} {'looks':>8} {'drifts':>6} {'wrong':>5}"
)


class Watch:
    """A live view, all its readers, and the violations that they found; a context manager.

    No snapshot may lack a domain of `always`, which may be empty; a snapshot may not.
    """

    def __init__(self, uri: str, line: Line, always: Sequence[UUID]) -> None:
        self.uri = uri
        self.line = line
        self.always = frozenset(always)
        self.live = Inventory(uri, longest_queue=LONGEST_QUEUE)
        self._finished = threading.Event()
        self._ids: dict[UUID, int] = {}
        self._wrong: list[str] = []

    def __enter__(self) -> Self:
        self.live.wait_synced(30)
        self._quick, self._slow, self._under_asyncio = self._replicas = tuple(
            Replica(self.live.changes(include_foreign=True, include_dom0=True)) for _ in range(3)
        )
        self._threads = [
            threading.Thread(target=self._guarded, args=(reader,), name=f"torture-{name}")
            for name, reader in {
                "quick": self._read_quickly,
                "slow": self._read_slowly,
                "asyncio": lambda: asyncio.run(self._read_under_asyncio()),
                "looker": self._look,
            }.items()
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        statistics = self.live.statistics()
        self.line.drifts += statistics.drifts
        if self.always and statistics.connections != 1:
            self._wrong.append(f"it has reconnected, though no connection was lost: {statistics}")
        self.live.close()
        for thread in self._threads:
            thread.join(30)
            if thread.is_alive():
                self._wrong.append(f"{thread.name} does not end")
        self.line.heard += sum(replica.seen for replica in self._replicas)
        self.line.missed += sum(replica.missed for replica in self._replicas)
        if self._quick.stales > self._quick.resyncs:
            self._wrong.append("stale, and no resynced after it")
        for replica in self._replicas:
            self._wrong += replica.wrong
        self.line.wrong += self._wrong

    def settle(self, since: float) -> None:
        """Count a round: from `since` on nothing changes, and the view must soon be right."""
        self.line.rounds += 1
        expected = truth(self.uri)
        try:
            wait_until(lambda: self._is(expected), since + SETTLE - time.monotonic())
        except TimeoutError:
            seen = self.live.snapshot(**EVERYBODY)
            self._wrong.append(f"not right after {SETTLE} s: {seen}, {self.live.statistics()}")
            self._wrong += differences(seen, expected)
            self.live.resync(SETTLE)  # so that the next rounds do not fail for the same reason
            return
        self.line.worst = max(self.line.worst, time.monotonic() - since)
        self.line.right += 1
        for name, replica in ("quick", self._quick), ("asyncio", self._under_asyncio):
            try:
                wait_until(lambda: replica.view == expected, SETTLE)  # noqa: B023
            except TimeoutError:
                self._wrong.append(
                    f"what the {name} reader heard does not add up: "
                    f"{differences(Snapshot(replica.view.values()), expected)}"
                )

    def _is(self, expected: Snapshot) -> bool:
        seen = self.live.snapshot(**EVERYBODY)
        return seen.stale_for == 0.0 and seen == expected

    def _guarded(self, reader: Callable[[], None]) -> None:
        try:
            reader()
        except Exception as error:
            self._wrong.append(f"{threading.current_thread().name} failed: {error!r}")

    def _read_quickly(self) -> None:
        """Take every change, and check now and then that their sum equals a view that was read."""
        replica = self._quick
        while not self._finished.is_set():
            then, missed = self.live.snapshot(**EVERYBODY), replica.missed
            while replica.view != then and replica.missed == missed:
                if not replica.take(SETTLE):
                    if not self._finished.is_set():
                        self._wrong.append("no sum of changes equals a view that was read")
                    break
            for _ in range(100):
                if not replica.take(LOOK_EVERY):
                    break

    def _read_slowly(self) -> None:
        while not self._finished.wait(SLOW_EVERY):
            self._slow.take(SLOW_EVERY)

    async def _read_under_asyncio(self) -> None:
        async for news in self._under_asyncio.changes:
            self._under_asyncio.hear(news)

    def _look(self) -> None:
        while not self._finished.wait(LOOK_EVERY):
            seen = self.live.snapshot(**EVERYBODY)
            self.line.looks += 1
            if not seen or not self.always <= set(seen):
                self._wrong.append(f"a domain is missing in {seen}: {self.always - set(seen)}")
            for instance in seen.values() if self.always else ():  # a daemon that lives
                if instance.id is not None:
                    if instance.id < self._ids.get(instance.uuid, 0):
                        self._wrong.append(f"back in time, from {self._ids}: {instance}")
                    self._ids[instance.uuid] = instance.id


def main() -> int:
    """Run all of it, and return the exit code."""
    options = _options()
    libvirt.registerErrorHandler(lambda *_: None, None)
    logging.getLogger("guestlist").setLevel(logging.CRITICAL)
    rounds = options.rounds or round(50 * options.minutes)
    restarts = options.restarts or round(5 * options.minutes)
    seconds = 60 * options.minutes
    total = Line("total")
    print(HEADER)
    of_rounds = rounds / sum(SHARES.values())
    for mode, share in SHARES.items():
        with Daemon() as daemon:
            _print(
                _run_mode(
                    daemon,
                    mode,
                    options.domains,
                    rounds=math.ceil(of_rounds * share),
                    seconds=seconds * share,
                ),
                total,
            )
    if qemu_available() is None:
        with Daemon() as daemon:
            line = _run_guests(daemon, seconds * QEMU_SHARE)
        _print(line, total)
    with Daemon() as daemon:
        _print(_run_restarts(daemon, options.domains, restarts), total)
    print(total)
    return 0 if not total.wrong and total.right == total.rounds else 1


def _print(line: Line, total: Line) -> None:
    print(line, flush=True)
    for what in line.wrong[:10]:
        print(f"  {what[:2_000]}", flush=True)
    total.add(line)


def _run_mode(daemon: Daemon, mode: Mode, count: int, *, rounds: int, seconds: float) -> Line:
    """Return a line: one kind of churn on the test driver."""
    domains = [nova_instance(n, active=starts_active(mode, n)) for n in range(count)]
    uuids = [domain.uuid for domain in domains]
    line = Line(mode)
    with (
        populated(daemon.uri(), domains),
        Churner(daemon.uri(), uuids, mode) as churner,
        Watch(daemon.uri(), line, uuids) as watch,
    ):
        _churn_and_settle(watch, [churner], rounds, seconds)
    return line


def _run_guests(daemon: Daemon, seconds: float) -> Line:
    """Return a line: QEMU guests that start, fail to start, and are destroyed; two at a time.

    A round takes longer than the others': it waits for a guest that is just starting.
    """
    mode: Mode = "boot"
    good = [nova_instance(n, active=False) for n in range(GUESTS)]
    broken = [nova_instance(GUESTS + n, active=False) for n in range(BROKEN_GUESTS)]
    uuids = [domain.uuid for domain in good + broken]
    line = Line("QEMU guests")
    with (
        _defined(daemon.qemu_uri, good, broken),
        Churner(daemon.qemu_uri, uuids[::2], mode) as churner,
        Churner(daemon.qemu_uri, uuids[1::2], mode, seed=1) as another,
        Watch(daemon.qemu_uri, line, uuids) as watch,
    ):
        _churn_and_settle(watch, [churner, another], math.ceil(seconds / GUEST_ROUND), seconds)
    return line


@contextlib.contextmanager
def _defined(uri: str, good: Sequence[Domain], broken: Sequence[Domain]) -> Iterator[None]:
    connection = libvirt.open(uri)
    handles = [connection.defineXML(guest_xml(domain)) for domain in good]
    handles += [connection.defineXML(broken_guest_xml(domain)) for domain in broken]
    try:
        yield
    finally:
        for handle in handles:
            with contextlib.suppress(libvirt.libvirtError):
                handle.destroy()
            handle.undefine()
        connection.close()


def _churn_and_settle(
    watch: Watch, churners: Sequence[Churner], rounds: int, seconds: float
) -> None:
    """Run rounds of churn, then quiet: as many as `rounds`, or as fit into `seconds`."""
    began = time.monotonic()
    for number in range(1, rounds + 1):
        if time.monotonic() - began > seconds:
            break
        time.sleep(max(0.0, began + seconds * number / rounds - time.monotonic()))
        for churner in churners:
            churner.pause()
        watch.settle(time.monotonic())
        for churner in churners:
            churner.resume()
    watch.line.changes += sum(churner.changes for churner in churners)
    watch.line.took += time.monotonic() - began


def _run_restarts(daemon: Daemon, count: int, restarts: int) -> Line:
    """Return a line: the daemon is killed under churn and started again, `restarts` times."""
    domains = [nova_instance(n, active=n % 2 > 0) for n in range(count)]
    uuids = [domain.uuid for domain in domains]
    line, chance = Line("restarts"), random.Random(0)
    began = time.monotonic()
    holder = populate(daemon.uri(), domains)
    with Watch(daemon.uri(), line, ()) as watch:
        watch.settle(time.monotonic())
        before = _held()
        for _ in range(restarts):
            with Churner(daemon.uri(), uuids) as churner:
                churner.wait_changes(chance.randrange(5, 200))
                line.changes += churner.changes
                daemon.kill()
                last = watch.live.snapshot(**EVERYBODY)
                if not set(uuids) <= set(last):
                    line.wrong.append(f"without libvirt, a domain is missing in {last}")
            with contextlib.suppress(libvirt.libvirtError):
                holder.close()
            daemon.restart()
            back = time.monotonic()
            holder = populate(daemon.uri(), domains)
            watch.settle(back)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: _held() == before, SETTLE)
        after = _held()
        if after != before:
            line.wrong.append(f"left behind: {before} at first, {after} in the end")
        connections = watch.live.statistics().connections
        if connections < restarts + 1:
            line.wrong.append(f"{connections} connections for {restarts} restarts")
    holder.close()
    line.took = time.monotonic() - began
    return line


def _held() -> dict[str, int]:
    """Count what this process has open."""
    gc.collect()
    connections: list[Any] = [each for each in gc.get_objects() if type(each) is libvirt.virConnect]
    return {
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "connections": sum(each._o is not None for each in connections),
        "callbacks": sum(len(getattr(each, "domainEventCallbackID", ())) for each in connections),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev torture inventory", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes that it takes, about")
    parser.add_argument(
        "--rounds", type=int, help="rounds of churn, then quiet, on the test driver; 50 a minute"
    )
    parser.add_argument("--restarts", type=int, help="restarts of the daemon; 5 a minute")
    parser.add_argument("--domains", type=int, default=20, help="domains that change")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
