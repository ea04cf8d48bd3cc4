"""The progress line: what the command waits for, while it waits.

In: counts, from the threads that have them. Out: one line on standard error, first after `DELAY`
seconds, then again when it has changed. All other output removes it first (`terminal`), and so does
the end of the wait, also by a signal. Where no person reads it (`terminal.person_reads_errors`),
nothing is counted and no thread is started. A single host has no count before its domains are read:
until then ssh may ask for a password.

    guestlist: 37 of 64 hosts answered; 1,200 of 5,000 domains read
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import partial
from typing import Self

from guestlist import threads
from guestlist.cli.show import terminal
from guestlist.errors import GuestlistError
from guestlist.host import Host, tell_reads
from guestlist.unpatched import threading
from guestlist.waiting import Bell

DELAY = 1.0
"""Seconds of waiting before the line is shown."""

PAUSE = 0.1
"""Seconds between two drawings, at least."""


class Progress:
    """What one wait waits for, as a line; a context manager for the length of the wait.

    Any thread may count. A count starts the thread that draws; without any there is none.
    """

    def __init__(self) -> None:
        self._is_read = terminal.person_reads_errors()
        self._is_over = self._is_drawn = False
        self._step = ""
        self._hosts = (0, 0)
        self._domains: dict[Host | None, tuple[int, int]] = {}
        self._moved = Bell()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Return the progress; nothing is shown yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the line; no count shows it again."""
        self._is_over = True
        terminal.remove_passing(terminal.LONGEST_REMOVAL)
        self._moved.ring()

    def step(self, what: str) -> None:
        """Tell what is done from now on, in words: "asking Nova for its servers"."""
        self._hosts = (0, 0)
        self._domains = {}
        self._step = what
        self._begin()

    def hosts(self, told: int, asked: int) -> None:
        """Count the hosts that have answered or failed; one alone is not counted."""
        if asked > 1:
            self._hosts = told, asked
            self._begin()

    def domains_of(self, hosts: Iterable[Host]) -> None:
        """Count the domains of these hosts whose details were read."""
        if self._is_read:
            for host in hosts:
                tell_reads(host, partial(self.domains, host=host))

    def domains(self, read: int, number: int, *, host: Host | None = None) -> None:
        """Count the domains that were read, of a host or of an etcd."""
        self._domains[host] = read, number
        self._begin()

    def line(self) -> str:
        """Return the line as it is now, without an end; "" if there is nothing to show."""
        if self._is_over:
            return ""
        counts = []
        told, asked = self._hosts
        if asked:
            counts.append(f"{told:,} of {asked:,} hosts answered")
        domains = self._domains.copy().values()
        if number := sum(number for _, number in domains):
            counts.append(f"{sum(read for read, _ in domains):,} of {number:,} domains read")
        said = ": ".join(filter(None, [self._step, "; ".join(counts)]))
        return f"guestlist: {said}"[: terminal.width_of_errors() - 1] if said else ""

    def _begin(self) -> None:
        if not self._is_read or self._is_drawn or self._is_over:
            return
        with self._lock:
            is_first, self._is_drawn = not self._is_drawn, True
        if is_first:
            with contextlib.suppress(GuestlistError):  # no thread: no line
                threads.start(self._draw, "guestlist-progress")

    def _draw(self) -> None:
        """Draw until the wait is over. On a thread of its own."""
        pause = DELAY
        while not self._moved.wait_for(lambda: self._is_over, pause):
            if terminal.person_reads_errors():
                terminal.pass_by(self.line)
            pause = PAUSE
