"""The two views that are compared, each in a process of its own, and what they saw when.

`live` is guestlist's `Inventory`. `bare` is the least that could be called a view: events mark
domains, one bulk call asks about the marked ones, a dictionary has the states. It does not survive
a lost connection, has no readers and no keepalive: it shows what the calls themselves cost.

The process says "ready". At each "begin" on standard input it forgets what it saw. At "end" it
prints one line of JSON: processor seconds and seconds since "begin", calls, and which domains it
saw become active or inactive, and when (wall clock). "snapshot" times reading, "resync" lists all
domains.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from typing import Any

import libvirt

from guestlist import Inventory
from guestlist.event_loop import ensure_loop
from guestlist.inventory.board import Board

Seen = list[tuple[str, bool, float]]
SHUTOFF = 5
READS = 1_000


class Live:
    """guestlist's view. It notes each change at the moment when the view's thread publishes it."""

    def __init__(self, uri: str) -> None:
        self.seen: Seen = []
        publish = Board.publish

        def stamped(board: Board, view: Any, changes: Any) -> None:
            publish(board, view, changes)
            now = time.time()
            for change in changes:
                active = change.after is not None and change.after.active
                was = change.before is not None and change.before.active
                if active != was:
                    self.seen.append((change.uuid.hex, active, now))

        setattr(Board, "publish", stamped)  # noqa: B010  mypy refuses to assign to a method
        began = time.monotonic()
        self._view = Inventory(uri)
        self._view.wait_synced(600)
        self.synced_seconds = time.monotonic() - began

    @property
    def calls(self) -> int:
        """Return the number of calls about domains so far."""
        return self._view.statistics().calls

    def snapshot(self) -> float:
        """Return the seconds that a snapshot takes while nothing changes."""
        self._view.snapshot(include_inactive=True)
        began = time.perf_counter()
        for _ in range(READS):
            self._view.snapshot(include_inactive=True)
        return (time.perf_counter() - began) / READS

    def first_snapshot(self) -> float:
        """Return the seconds that the next snapshot takes: the first since something changed."""
        began = time.perf_counter()
        self._view.snapshot(include_inactive=True)
        return time.perf_counter() - began

    def resync(self) -> None:
        """List all domains."""
        self._view.resync(60)


class Bare:
    """The smallest thing that can be called a view."""

    def __init__(self, uri: str) -> None:
        self.seen: Seen = []
        self.calls = 0
        self.synced_seconds = 0.0
        ensure_loop()
        self._marked: dict[bytes, libvirt.virDomain] = {}
        self._bell = threading.Condition()
        self._states: dict[bytes, bool] = {}
        self._connection = libvirt.open(uri)
        self._connection.domainEventRegisterAny(None, 0, self._mark, None)
        for domain, record in self._connection.getAllDomainStats(1):
            self._states[domain.UUID()] = record["state.state"] != SHUTOFF
        threading.Thread(target=self._follow, daemon=True).start()

    def _mark(self, _c: Any, domain: libvirt.virDomain, *_: Any) -> None:
        with self._bell:
            self._marked[domain.UUID()] = domain
            self._bell.notify()

    def _follow(self) -> None:
        while True:
            with self._bell:
                while not self._marked:
                    self._bell.wait()
                marked, self._marked = self._marked, {}
            self.calls += 1
            for domain, record in self._connection.domainListGetStats(list(marked.values()), 1):
                uuid, active = domain.UUID(), record["state.state"] != SHUTOFF
                if self._states.get(uuid) != active:
                    self._states[uuid] = active
                    self.seen.append((uuid.hex(), active, time.time()))


def main(way: str, uri: str) -> None:
    """Follow the host, and answer questions until standard input ends."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    view: Any = {"live": Live, "bare": Bare}[way](uri)
    say("ready")
    began, calls, cpu = 0.0, 0, 0.0
    for line in sys.stdin:
        match line.strip():
            case "begin":
                view.seen.clear()
                began, calls, cpu = time.monotonic(), view.calls, _processor()
                say("begun")
            case "end":
                spent, took = _processor() - cpu, time.monotonic() - began
                made = view.calls - calls
                say({"cpu": spent, "seconds": took, "calls": made, "seen": list(view.seen)})
            case question:
                answer = getattr(view, question)
                say(answer() if callable(answer) else answer)


def say(what: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps(what), flush=True)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(*sys.argv[1:])
