"""A crowd of servers, and threads that play Nova's operations on them, as many at a time as wanted.

In: Nova's operations (`lab.nova_life`), hosts, a seed. Out: servers that are launched, moved,
stopped, shelved and deleted; how many operations of each kind have ended. Between two steps of an
operation is a pause of random length: none, short or long. The seed fixes which operation the n-th
one is among those that are possible then, and its pauses; the system fixes how threads interleave.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self

from lab.nova_life import Host, Life, Server, Steps

SHORT, LONG = 0.3, 3.0
"""Seconds: the longest of the short pauses, and of the long ones."""

_IDLE = 0.05
"""Seconds until a thread that found every server at work looks again."""


class _Job(NamedTuple):
    name: str
    server: Server | None
    cell: str
    steps: Callable[[list[Server]], Steps]
    chance: random.Random


class Crowd:
    """Servers on these hosts, and threads that play; a context manager.

    `wrong` has a line for each operation that failed. It ends when each operation has ended.
    """

    def __init__(
        self,
        life: Life,
        hosts: Sequence[Host],
        *,
        servers: int,
        threads: int,
        seed: int,
        pauses: bool = True,
    ) -> None:
        self._life = life
        self._hosts = hosts
        self._wanted = servers
        self._seed = seed
        self._pauses = pauses
        self._changed = threading.Condition()
        self._idle: list[Server] = []
        self._at_work: Counter[str] = Counter()
        self._held: set[str] = set()
        self._ending = threading.Event()
        self._begun = 0
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._threads = [
            threading.Thread(target=self._work, name=f"crowd-{number}") for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for number in range(self._wanted):
            state = "stopped" if number % 7 == 0 else "active"
            self._idle.append(self._life.settled(self._hosts[number % len(self._hosts)], state))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    @property
    def total(self) -> int:
        """How many operations have ended."""
        return sum(self.done.values())

    @contextlib.contextmanager
    def held(self, cell: str) -> Iterator[None]:
        """Within, no operation is under way in this cell."""
        with self._changed:
            self._held.add(cell)
            self._changed.wait_for(lambda: not self._at_work[cell])
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(cell)

    def _work(self) -> None:
        while not self._ending.is_set():
            job = self._take()
            if job is None:
                self._ending.wait(_IDLE)
                continue
            made: list[Server] = []
            try:
                for _ in job.steps(made):
                    self._ending.wait(_pause(job.chance) if self._pauses else 0)
            except Exception as error:
                self.wrong.append(f"{job.name} of {job.server} failed: {error!r}"[:1_000])
            else:
                made += [job.server] if job.server and job.server.state != "deleted" else []
            with self._changed:
                self.done[job.name] += 1
                self._at_work[job.cell] -= 1
                self._idle += made
                self._changed.notify_all()

    def _take(self) -> _Job | None:
        """Return the next operation; None if all servers are at work."""
        with self._changed:
            self._begun += 1
            chance = random.Random(f"{self._seed}-{self._begun}")
            hosts = [each for each in self._hosts if each.cell not in self._held]
            idle = [each for each in self._idle if each.host in hosts]
            if hosts and len(self._idle) + self._at_work.total() < self._wanted:
                host = chance.choice(hosts)
                job = _Job(
                    "launch", None, host.cell, lambda made: self._life.launch(host, made), chance
                )
            elif idle:
                server = chance.choice(idle)
                self._idle.remove(server)
                name, begin = chance.choice(self._life.operations(server))
                job = _Job(name, server, server.host.cell, lambda _: begin(), chance)
            else:
                return None
            self._at_work[job.cell] += 1
            return job


def _pause(chance: random.Random) -> float:
    """Return the seconds between two steps."""
    kind = chance.random()
    return 0.0 if kind < 0.4 else chance.uniform(0, SHORT if kind < 0.85 else LONG)
