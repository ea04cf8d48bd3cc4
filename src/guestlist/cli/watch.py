"""`guestlist watch`: what happens to the domains of one host, or of several, as it happens.

In: options. Out: on standard output a line, or a JSON object, for each change, in the order in
which its host's view came to know it; on standard error a host that cannot be asked at the start.
Ends when it is told to, or nobody reads any more; with `--once` as soon as it is known who is
there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict

from guestlist.cli import ending, hidden, hosts, selection, terminal, views
from guestlist.cli.exits import Exit
from guestlist.cli.news_lines import Lines
from guestlist.cli.news_records import news_record
from guestlist.cli.views import Inbox, Told, View
from guestlist.errors import GuestlistError, short
from guestlist.host import Host
from guestlist.inventory import Inventory
from guestlist.inventory.changes import News, Resynced
from guestlist.records import Snapshot


class _Included(TypedDict):
    """Whom to watch besides those that are ours: the options of `Inventory.changes`."""

    include_foreign: bool
    include_dom0: bool


class _Present(NamedTuple):
    """Who is on a host: of those that were asked for, and everybody."""

    host: str
    resynced: Resynced
    everybody: Snapshot


def run(options: argparse.Namespace) -> Exit:
    """Watch, until a signal ends it; or look once."""
    views.quieten(verbose=options.verbose)
    included = _Included(
        include_foreign=options.all or options.foreign, include_dom0=options.all or options.dom0
    )
    if options.once:
        return _look_once(options, included)
    inbox: Inbox[Told] = Inbox()
    followed = [View(host, details=True) for host in hosts.named(options, selection.ours(options))]
    told = _teller(options, [view.name for view in followed])
    terminal.on_departure(lambda: inbox.poke(BrokenPipeError()))
    views.follow(followed, options.timeout, tell=inbox.put, fail=inbox.poke, **included)
    while True:
        view, news = inbox.get()
        if isinstance(news, GuestlistError):
            terminal.complain(f"{news}; it is tried again until it answers")
            continue
        terminal.write(told(view.name, news))
        if isinstance(news, Resynced) and not news.snapshot:
            _explain(view.name, view.live.snapshot(**selection.EVERYBODY), included)


def _look_once(options: argparse.Namespace, included: _Included) -> Exit:
    """Who is there now, of each host that answers in time."""

    def ask(host: Host) -> _Present:
        with Inventory(host) as live:
            ending.on_end(live.close)
            views.await_step(live, options.timeout)
            snapshot = live.snapshot(include_inactive=True, **included)
            everybody = live.snapshot(**selection.EVERYBODY)
            return _Present(live.resolved_uri, Resynced(snapshot, 0, datetime.now(UTC)), everybody)

    answers, status = hosts.ask(options, ask, selection.ours(options))
    told = _teller(options, [answer.value.host for answer in answers])
    for host, resynced, everybody in (answer.value for answer in answers):
        terminal.write(told(host, resynced))
        if not resynced.snapshot:
            _explain(host, everybody, included)
    return status


def _teller(options: argparse.Namespace, names: list[str]) -> Callable[[str, News], str]:
    """What makes text of the news of a host, by its name."""
    if options.format == "json":
        return _json_line
    several = len(hosts.distinct(options.connect)) > 1
    lines = Lines(names if several else [], colours=terminal.has_colours(), once=options.once)
    return lines.of


def _json_line(host: str, news: News) -> str:
    record: dict[str, Any] = news_record(host, news)
    return json.dumps(record) + "\n"


def _explain(host: str, everybody: Snapshot, included: _Included) -> None:
    """Say why there is nobody to watch: a filter, most likely."""
    widening = {
        "inactive": True,
        "foreign": included["include_foreign"],
        "dom0": included["include_dom0"],
    }
    given = [kind for kind in hidden.WHY if widening[kind]]
    terminal.complain(f"{short(host)}: {hidden.sentence(everybody.instances, given)}")
