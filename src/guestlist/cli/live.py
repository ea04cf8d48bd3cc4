"""`guestlist ls --live`: the table of `ls` on the screen, kept as it is on the hosts.

In: options, and a terminal. Out: the table, drawn again in its place when something changed, a few
times a second at most, with a line below it that says how far it can be believed. Drawn from live
views, so that it costs no call. What there is to complain about goes above it.
"""

from __future__ import annotations

import argparse
import logging
import queue
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import NoReturn

from guestlist.cli import hidden, hosts, selection, table, terminal, views, words
from guestlist.cli.columns import Guest
from guestlist.cli.screen import Screen
from guestlist.cli.selection import Selection
from guestlist.cli.views import Inbox, Told, View
from guestlist.errors import GuestlistError, NotSynced, short
from guestlist.inventory.changes import Change, Resynced
from guestlist.records import Snapshot

PAUSE = 0.25
"""Seconds between two drawings at least."""

TICK = 1.0
"""Seconds after which what says how old something is, a view or a domain, is drawn again."""


class _Terminal(Enum):
    """What happened to the terminal."""

    MOVED = auto()


_Item = Told | logging.LogRecord | _Terminal


def run(options: argparse.Namespace) -> NoReturn:
    """Draw, until a signal ends it; the last table stays on the screen."""
    views.quieten(verbose=options.verbose)
    inbox: Inbox[_Item] = Inbox()
    for number in (signal.SIGWINCH, signal.SIGCONT):
        signal.signal(number, lambda *_: inbox.poke(_Terminal.MOVED))
    wanted = Selection.of(options)
    asked = hosts.named(options, selection.ours(options), _LogTo(inbox))
    followed = [View(host, details=wanted.details) for host in asked]
    views.follow(
        followed,
        options.timeout,
        tell=inbox.put,
        fail=inbox.poke,
        include_foreign=wanted.included["include_foreign"],
        include_dom0=wanted.included["include_dom0"],
    )
    _LiveTable(wanted, followed, inbox).show()


class _LogTo(logging.Handler):
    """Has the library's log said by whoever draws: said by another it would be drawn over."""

    def __init__(self, inbox: Inbox[_Item]) -> None:
        super().__init__()
        self._inbox = inbox

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it on."""
        self._inbox.poke(record)


class _LiveTable:
    """The views, and how they are shown."""

    def __init__(self, wanted: Selection, followed: Sequence[View], inbox: Inbox[_Item]) -> None:
        self._wanted = wanted
        self._views = followed
        self._inbox = inbox
        self._screen = Screen()
        self._ages = any(column.name == "age_seconds" for column in wanted.columns)
        self._changes = 0

    def show(self) -> NoReturn:
        """Draw, wait until something is new, and draw again."""
        try:
            while True:
                in_step = self._draw()
                due = time.monotonic() + PAUSE
                self._take(None if in_step and not self._ages else TICK)
                while (left := due - time.monotonic()) > 0:
                    self._take(left)
        finally:
            self._screen.leave()

    def _take(self, timeout: float | None) -> None:
        """Take in the next that is new; nothing if that takes longer."""
        try:
            item = self._inbox.get(timeout)
        except queue.Empty:
            return
        match item:
            case _Terminal.MOVED:
                self._screen.begin_anew()
            case logging.LogRecord():
                self._screen.clear()
                terminal.LogLines().emit(item)
            case Told(news=GuestlistError() as error):
                self._screen.clear()
                terminal.complain(f"{error}; it is tried again until it answers")
            case Told(news=Change()):
                self._changes += 1
            case Told(news=Resynced(missed=missed)):
                self._changes += missed

    def _draw(self) -> bool:
        """Draw the table as it is now; whether that is as it is on every host."""
        snapshots = [_snapshot(view, self._wanted) for view in self._views]
        seen = list(zip(self._views, snapshots, strict=True))
        rows = self._wanted.rows(
            (view.name, snapshot.instances) for view, snapshot in seen if snapshot is not None
        )
        notes = list(self._notes(seen))
        lines = self._table(rows, max(1, terminal.height() - len(notes)))
        self._screen.draw([*lines, *notes][-terminal.height() :])
        return all(snapshot is not None and not snapshot.stale_for for snapshot in snapshots)

    def _table(self, rows: Sequence[Guest], room: int) -> list[str]:
        """The table in at most so many lines; whoever has none in it is counted."""
        fitting = min(len(rows), room)
        while True:
            lines = list(self._wanted.table_lines(rows[:fitting]))
            if fitting < len(rows):
                lines.append(f"{terminal.ellipsis()} and {len(rows) - fitting:,} more")
            if len(lines) <= room or not fitting:
                return lines[-room:]
            fitting -= 1

    def _notes(self, seen: Sequence[tuple[View, Snapshot | None]]) -> Iterator[str]:
        """The lines below the table: where nobody matches, why; and how far all is in step."""
        for view, snapshot in seen:
            if snapshot is not None and not snapshot:
                everybody = view.live.snapshot(**selection.EVERYBODY)
                why = hidden.sentence(everybody.instances, self._wanted.given)
                yield _one_line(f"{short(view.name)}: {why}")
        status = _one_line(self._status(seen))
        yield f"\x1b[2m{status}\x1b[0m" if terminal.has_colours() else status

    def _status(self, seen: Sequence[tuple[View, Snapshot | None]]) -> str:
        there = sum(len(snapshot) for _, snapshot in seen if snapshot is not None)
        in_step = sum(snapshot is not None and not snapshot.stale_for for _, snapshot in seen)
        many = "1 host" if len(seen) == 1 else f"{in_step} of {len(seen)} hosts"
        steps = f"{many} in step" if in_step or len(seen) > 1 else many
        parts = [
            f"{words.number(there, 'domain')}, {steps}",
            f"{words.number(self._changes, 'change')} seen",
        ]
        for view, snapshot in seen:
            if snapshot is None or snapshot.stale_for:
                state = (
                    "not in step yet"
                    if snapshot is None
                    else f"stale for {int(snapshot.stale_for)} s"
                )
                failure = view.live.failure
                parts.append(f"{short(view.name)} {state}" + (f": {failure}" if failure else ""))
        return "; ".join(parts)


def _snapshot(view: View, wanted: Selection) -> Snapshot | None:
    """The part of the view that is wanted; None before there is a view. No call."""
    try:
        return view.live.snapshot(**wanted.included)
    except NotSynced:
        return None


def _one_line(text: str) -> str:
    return table.cut(terminal.escape(text), terminal.width() or sys.maxsize)
