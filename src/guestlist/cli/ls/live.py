"""`guestlist ls --live`: the table of `ls` on the screen, kept as it is on the hosts.

In: options, and a terminal. Out: the table, drawn again in its place when something changed, a few
times a second at most. A line below it says how many hosts are in step. The table is drawn from
live views, so a drawing costs no call. Error messages go above the table.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import NoReturn

from guestlist.cli import hidden, live_hosts
from guestlist.cli.ls import selection
from guestlist.cli.ls.selection import Selection
from guestlist.cli.show import table, terminal, words
from guestlist.cli.show.columns import DomainRow
from guestlist.cli.show.screen import Screen
from guestlist.errors import GuestlistError, NotSynced, short
from guestlist.inventory.changes import Change, Resynced
from guestlist.records import Snapshot
from guestlist.several import following
from guestlist.several.following import FollowedHost, HostNews
from guestlist.several.news_queue import NewsQueue

PAUSE = 0.25
"""Seconds between two drawings, at least."""

TICK = 1.0
"""Seconds between two drawings of a table that shows an age: of a stale view, or of a domain."""


class _Terminal(Enum):
    """What happened to the terminal."""

    MOVED = auto()


_Item = HostNews | logging.LogRecord | _Terminal


def run(options: argparse.Namespace) -> NoReturn:
    """Draw until a signal ends it; the last table stays on the screen."""
    live_hosts.mute_stale(verbose=options.verbose)
    queue: NewsQueue[_Item] = NewsQueue()
    for number in (signal.SIGWINCH, signal.SIGCONT):
        signal.signal(number, lambda *_: queue.put_now(_Terminal.MOVED))
    wanted = Selection.of(options)
    followed = live_hosts.followed(
        options, selection.ours(options), details=wanted.details, log_handler=_LogTo(queue)
    )
    following.follow(
        followed,
        options.timeout,
        tell=queue.put,
        fail=queue.put_now,
        include_foreign=wanted.included["include_foreign"],
        include_dom0=wanted.included["include_dom0"],
    )
    _LiveTable(wanted, followed, queue).show()


class _LogTo(logging.Handler):
    """Hands the library's log to the thread that draws: only that thread can write above it."""

    def __init__(self, queue: NewsQueue[_Item]) -> None:
        super().__init__()
        self._queue = queue

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record on."""
        self._queue.put_now(record)


class _LiveTable:
    """The hosts that are followed, and how they are shown."""

    def __init__(
        self, wanted: Selection, followed: Sequence[FollowedHost], queue: NewsQueue[_Item]
    ) -> None:
        self._wanted = wanted
        self._followed = followed
        self._queue = queue
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
        """Take in the next news; return without any after `timeout` seconds."""
        try:
            item = self._queue.get(timeout)
        except TimeoutError:
            return
        match item:
            case _Terminal.MOVED:
                self._screen.clear_all()
            case logging.LogRecord():
                self._screen.clear()
                terminal.LogLines().emit(item)
            case HostNews(news=GuestlistError() as error):
                self._screen.clear()
                terminal.complain(f"{error}; it is tried again until it answers")
            case HostNews(news=Change()):
                self._changes += 1
            case HostNews(news=Resynced(missed=missed)):
                self._changes += missed

    def _draw(self) -> bool:
        """Draw the table as it is now; return whether every host is in step."""
        snapshots = [_snapshot(each, self._wanted) for each in self._followed]
        seen = list(zip(self._followed, snapshots, strict=True))
        rows = self._wanted.rows(
            (each.name, self._wanted.matching(snapshot.instances))
            for each, snapshot in seen
            if snapshot is not None
        )
        notes = list(self._notes(seen))
        lines = self._table(rows, max(1, terminal.height() - len(notes)))
        self._screen.draw([*lines, *notes][-terminal.height() :])
        return all(snapshot is not None and not snapshot.stale_for for snapshot in snapshots)

    def _table(self, rows: Sequence[DomainRow], room: int) -> list[str]:
        """Return the table in at most `room` lines; the last one counts the rows left out."""
        fitting = min(len(rows), room)
        while True:
            lines = list(self._wanted.table_lines(rows[:fitting]))
            if fitting < len(rows):
                lines.append(f"{terminal.ellipsis()} and {len(rows) - fitting:,} more")
            if len(lines) <= room or not fitting:
                return lines[-room:]
            fitting -= 1

    def _notes(self, seen: Sequence[tuple[FollowedHost, Snapshot | None]]) -> Iterator[str]:
        """Yield the lines below the table: why no domain of a host matches; what is in step."""
        for each, snapshot in seen:
            if snapshot is None:
                continue
            for why in self._why_fewer(each, snapshot):
                yield _one_line(f"{short(each.name)}: {why}")
        status = _one_line(self._status(seen))
        yield f"\x1b[2m{status}\x1b[0m" if terminal.has_colours() else status

    def _why_fewer(self, followed: FollowedHost, snapshot: Snapshot) -> Iterator[str]:
        """Yield why no domain of a host is shown, and how many the filters cannot judge."""
        if not snapshot:
            domains = followed.live.snapshot(**selection.ALL_DOMAINS).instances
            yield hidden.sentence(hidden.kinds_of(domains), self._wanted.given)
        elif not self._wanted.matching(snapshot.instances):
            yield self._wanted.why_nothing(len(snapshot))
        if unjudged := self._wanted.filter.unjudged(snapshot.instances):
            yield unjudged

    def _status(self, seen: Sequence[tuple[FollowedHost, Snapshot | None]]) -> str:
        there = sum(
            len(self._wanted.matching(snapshot.instances))
            for _, snapshot in seen
            if snapshot is not None
        )
        in_step = sum(snapshot is not None and not snapshot.stale_for for _, snapshot in seen)
        many = "1 host" if len(seen) == 1 else f"{in_step} of {len(seen)} hosts"
        steps = f"{many} in step" if in_step or len(seen) > 1 else many
        parts = [
            f"{words.number(there, 'domain')}, {steps}",
            f"{words.number(self._changes, 'change')} seen",
        ]
        for each, snapshot in seen:
            if snapshot is None or snapshot.stale_for:
                state = (
                    "not in step yet"
                    if snapshot is None
                    else f"stale for {int(snapshot.stale_for)} s"
                )
                failure = each.live.failure
                parts.append(f"{short(each.name)} {state}" + (f": {failure}" if failure else ""))
        return "; ".join(parts)


def _snapshot(followed: FollowedHost, wanted: Selection) -> Snapshot | None:
    """Return the part of the view that is wanted; None before there is a view. Cost: no call."""
    try:
        return followed.live.snapshot(**wanted.included)
    except NotSynced:
        return None


def _one_line(text: str) -> str:
    return table.cut(terminal.escape(text), terminal.width() or sys.maxsize)
