"""Print what happens to the guests of a fleet, as it happens.

In: options. Out: on standard output a line, or a JSON object, for each change, in the order of the
store, or in which the live views of the hosts learned of it; on standard error each host that is
missing at the start, and each outage of an etcd. Ends when a signal ends it or the reader of
standard output has left; with `--once` as soon as it is known which guests there are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from guestlist import threads
from guestlist.cli import live_hosts
from guestlist.cli.exits import Exit
from guestlist.cli.fleet import guests, sources
from guestlist.cli.show import terminal
from guestlist.cli.show.fleet_news import FleetLines, fleet_record
from guestlist.cli.waiting_changes import WaitingChanges
from guestlist.errors import GuestlistError
from guestlist.fleet.reading import Fleet
from guestlist.fleet.rows import FleetNews, Relisted, RowChange
from guestlist.several.news_queue import NewsQueue


def run(options: argparse.Namespace) -> Exit:
    """Watch until a signal ends it; with `--once`, look once."""
    live_hosts.mute_stale(verbose=options.verbose)
    text_of = _texts(options)
    try:
        if options.once:
            snapshot = sources.look(options, details=True)
            status = sources.verdict(options, snapshot, guests.Filter.of(options))
            if status in (Exit.OK, Exit.PARTIAL):
                terminal.write(text_of(Relisted(snapshot), datetime.now(UTC)))
            return status
        fleet = sources.fleet(options)
    except GuestlistError as error:
        return sources.failed(error)
    chosen = guests.Filter.of(options)
    waiting = WaitingChanges[RowChange](terminal.complain)
    queue: NewsQueue[_Told] = NewsQueue()
    terminal.on_departure(lambda: queue.put_now(BrokenPipeError()))
    threads.start(partial(_read, fleet, queue), "guestlist-fleet-read")
    while True:
        news, outage = queue.get()
        if outage is not None:
            terminal.complain(f"{outage}; it is tried again until it answers")
        if news is None:
            continue
        now = datetime.now(UTC)
        passed: list[FleetNews] = [news]
        if isinstance(news, RowChange):
            passed = [*chosen.passed(news, waiting)]
        elif isinstance(news, Relisted):
            passed = [*chosen.passed_by_list(news.snapshot, waiting), news]
        terminal.write("".join(text_of(each, now) for each in passed))
        if isinstance(news, Relisted):
            sources.complain_of(news.snapshot.incomplete)


class _Told(NamedTuple):
    """What the fleet told: news, or an outage."""

    news: FleetNews | None
    outage: GuestlistError | None = None


def _read(fleet: Fleet, queue: NewsQueue[_Told]) -> None:
    """Put the news of the fleet into the queue until it is closed. On a thread of its own."""
    try:
        fleet.wait_told()
        with fleet.watch() as changes:
            while True:
                try:
                    for news in changes:
                        queue.put(_Told(news))
                except GuestlistError as error:
                    queue.put(_Told(None, error))
                else:
                    return
    except Exception as error:
        queue.put_now(error)


def _texts(options: argparse.Namespace) -> Callable[[FleetNews, datetime], str]:
    """Return the function that makes text of news."""
    matches = guests.Filter.of(options).matches
    if options.format == "json":

        def line(news: FleetNews, at: datetime) -> str:
            return json.dumps(fleet_record(news, matches, at)) + "\n"

        return line
    return FleetLines(
        matches, colours=terminal.has_colours(), once=options.once, dates=options.dates
    ).of
