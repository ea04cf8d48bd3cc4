"""Guests that migrate between fake hosts, each in libvirt's order, while real agents publish them.

In: hosts in memory (`lab.fake_host`), an etcd. Out: migrations, one step after the other, with
pauses at random; and where each guest has been, and when. No libvirt takes part: its test driver
cannot migrate, and QEMU's migrations are counted in tens. The live views, the agents, the client
and the etcd are the real ones.

`LateEtcd` lets each call of an agent wait first: so late is what the agent publishes.
"""

from __future__ import annotations

import contextlib
import heapq
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from uuid import UUID

import libvirt
from lab.fake import FakeConnection, opener
from lab.fake_host import LIFECYCLE, PAUSED, RUNNING, FakeHost
from lab.nodes import Domain, nova_instance

from guestlist.fleet.etcd.connection import Etcd
from guestlist.migration import (
    PAUSED_MIGRATING,
    RESUMED_MIGRATED,
    RUNNING_CANCELED,
    RUNNING_MIGRATED,
    STARTED_MIGRATED,
    STOPPED_FAILED,
    SUSPENDED_MIGRATED,
    Told,
)

SHORTEST_LAG, LONGEST_LAG = 0.05, 3.0
"""Seconds by which a publication is late."""

_LONGEST_STEP = 0.5
_CANCELLED = 0.1
_AT_ONCE = 40


class MovingHost(FakeHost):
    """A host whose guests may migrate."""

    def __init__(self, name: str, domains: Iterable[Domain]) -> None:
        super().__init__(domains)
        self.name = name
        self.uri = f"fake://{name}/system"

    def await_guest(self, guest: UUID) -> None:
        """As a target: QEMU runs, and waits for the guest's memory."""
        self._become(guest, PAUSED, PAUSED_MIGRATING, STARTED_MIGRATED)

    def pause_for_the_end(self, guest: UUID) -> None:
        """As a source: pause the guest for the last phase."""
        self._become(guest, PAUSED, PAUSED_MIGRATING, SUSPENDED_MIGRATED)

    def take_over(self, guest: UUID) -> None:
        """As a target: run the guest."""
        self._become(guest, RUNNING, RUNNING_MIGRATED, RESUMED_MIGRATED)

    def go_on(self, guest: UUID) -> None:
        """As a source: run the guest again, after a migration that failed in its last phase."""
        self._become(guest, RUNNING, RUNNING_CANCELED, RESUMED_MIGRATED)

    def give_up(self, guest: UUID) -> None:
        """As a target: end a migration that failed."""
        with self._changing():
            found = self.guest(guest)
            self._remove(found)
            self._say(found, LIFECYCLE, *STOPPED_FAILED)

    def _become(self, guest: UUID, state: int, reason: int, told: Told) -> None:
        with self._changing():
            after = replace(self.guest(guest), state=state, reason=reason)
            self._set(after)
            self._say(after, LIFECYCLE, *told)


@contextlib.contextmanager
def fake_libvirt(hosts: Iterable[MovingHost]) -> Iterator[None]:
    """Let libvirt open these hosts by their URIs; all other URIs open as usual."""
    by_uri = {each.uri: opener(each) for each in hosts}

    def opening(real: Callable[..., Any]) -> Callable[..., Any]:
        def open(uri: str | None = None) -> FakeConnection | libvirt.virConnect:
            return by_uri[uri](uri) if uri in by_uri else real(uri)

        return open

    real = {name: getattr(libvirt, name) for name in ("open", "openReadOnly")}
    for name, each in real.items():
        setattr(libvirt, name, opening(each))
    try:
        yield
    finally:
        for name, each in real.items():
            setattr(libvirt, name, each)


class LateEtcd(Etcd):
    """A connection to an etcd, of which each call waits first, for as long as `lag` says."""

    def __init__(self, at: Iterable[str], lag: Callable[[], float], timeout: float) -> None:
        super().__init__(at, timeout=timeout)
        self._lag = lag
        self._has_closed = threading.Event()

    def call(self, name: str, asked: str, /, **fields: Any) -> Any:
        self._has_closed.wait(self._lag())
        return super().call(name, asked, **fields)

    def close(self) -> None:
        self._has_closed.set()
        super().close()


def lags(seed: int) -> Callable[[], float]:
    """Return lags at random: half of them the shortest, the others up to the longest."""
    chance = Random(seed)
    return lambda: chance.choice((SHORTEST_LAG, chance.uniform(SHORTEST_LAG, LONGEST_LAG)))


@dataclass(order=True)
class _Move:
    due: float
    guest: UUID
    source: int
    target: int
    fails_at: int
    step: int = 0


class Movers:
    """Migrations at random between hosts, up to 40 at once, on a thread; a context manager.

    `guests` exist all the time, on one host at least.
    """

    def __init__(self, hosts: Sequence[MovingHost], guests: Sequence[Domain], seed: int) -> None:
        self._hosts = hosts
        self._of = {each.uuid: each for each in guests}
        self.guests = frozenset(self._of)
        self._chance = Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="movers")
        self._left: defaultdict[UUID, dict[str, float]] = defaultdict(dict)
        self._homes: dict[UUID, int] = {
            guest: number for number, host in enumerate(hosts) for guest in host.guests
        }
        self.migrations = self.cancelled = 0
        self.error: BaseException | None = None

    def __enter__(self) -> Movers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def homes(self) -> dict[UUID, str]:
        """Where each guest is, once no migration is under way."""
        return {guest: self._hosts[number].name for guest, number in self._homes.items()}

    def absent_for(self, guest: UUID, host: str) -> float:
        """Return for how many seconds a guest has not been on a host; 0: it is there."""
        there = next(each for each in self._hosts if each.name == host)
        left = self._left[guest].get(host, float("-inf"))
        return 0.0 if guest in there.guests else time.monotonic() - left

    def _run(self) -> None:
        try:
            self._move()
        except BaseException as error:
            self.error = error

    def _move(self) -> None:
        moves: list[_Move] = []
        moving: set[UUID] = set()
        while moves or not self._over.is_set():
            while len(moves) < _AT_ONCE and not self._over.is_set():
                move = self._begin(moving)
                moving.add(move.guest)
                heapq.heappush(moves, move)
            move = heapq.heappop(moves)
            time.sleep(max(0.0, move.due - time.monotonic()))
            if self._step(move):
                move.due = self._next()
                heapq.heappush(moves, move)
            else:
                moving.discard(move.guest)

    def _begin(self, moving: set[UUID]) -> _Move:
        guest = self._chance.choice([each for each in self._homes if each not in moving])
        source = self._homes[guest]
        target = self._chance.choice([n for n in range(len(self._hosts)) if n != source])
        fails_at = self._chance.choice((2, 3)) if self._chance.random() < _CANCELLED else 0
        return _Move(self._next(), guest, source, target, fails_at)

    def _next(self) -> float:
        return time.monotonic() + self._chance.uniform(0.0, _LONGEST_STEP)

    def _step(self, move: _Move) -> bool:
        """Take the next step of a migration; return whether there are more."""
        source, target, guest = self._hosts[move.source], self._hosts[move.target], move.guest
        move.step += 1
        if move.step == move.fails_at:
            target.give_up(guest)
            self._left[guest][target.name] = time.monotonic()
            if move.step == 3:
                source.go_on(guest)
            self.cancelled += 1
            return False
        if move.step == 1:
            target.begin_transient(self._of[guest])
            target.await_guest(guest)
        elif move.step == 2:
            source.pause_for_the_end(guest)
        elif move.step == 3:
            target.take_over(guest)
            self._homes[guest] = move.target
        else:
            source.migrate_away(guest, kept=False)
            self._left[guest][source.name] = time.monotonic()
            self.migrations += 1
            return False
        return True


def hosts_with_guests(hosts: int, guests: int) -> tuple[list[MovingHost], list[Domain]]:
    """Return so many hosts, each with so many transient guests, and all guests."""
    domains = [replace(nova_instance(n), transient=True) for n in range(hosts * guests)]
    made = [MovingHost(f"h{n}", domains[n * guests : (n + 1) * guests]) for n in range(hosts)]
    return made, domains
