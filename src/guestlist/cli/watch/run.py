"""Print what happens to the domains of one host or several, as it happens.

In: options. Out: on standard output a line, or a JSON object, for each change, in the order in
which the host's live view learned of it; on standard error each host that cannot be asked at the
start. Ends when a signal ends it or the reader of standard output has left; with `--once` as soon
as it is known which domains there are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict

from guestlist.cli import ending, hidden, hosts, live_hosts
from guestlist.cli.exits import Exit
from guestlist.cli.ls import selection
from guestlist.cli.show import terminal
from guestlist.cli.show.news_lines import Lines
from guestlist.cli.show.news_records import news_record
from guestlist.cli.show.progress import Progress
from guestlist.errors import GuestlistError
from guestlist.host import Host
from guestlist.inventory import Inventory
from guestlist.inventory.changes import News, Resynced
from guestlist.records import Snapshot
from guestlist.several import following
from guestlist.several.following import HostNews
from guestlist.several.news_queue import NewsQueue


class _Included(TypedDict):
    """The domains to watch besides those that are ours: the options of `Inventory.changes`."""

    include_foreign: bool
    include_dom0: bool


class _Present(NamedTuple):
    """The domains of a host: those that were asked for, and all."""

    host: str
    resynced: Resynced
    all_domains: Snapshot


def run(options: argparse.Namespace) -> Exit:
    """Watch until a signal ends it; with `--once`, look once."""
    live_hosts.mute_stale(verbose=options.verbose)
    included = _Included(
        include_foreign=options.all or options.foreign, include_dom0=options.all or options.dom0
    )
    if options.once:
        return _look_once(options, included)
    queue: NewsQueue[HostNews] = NewsQueue()
    progress = Progress()
    followed = live_hosts.followed(
        options, selection.ours(options), details=True, progress=progress
    )
    text_of = _texts(options, [each.name for each in followed])
    terminal.on_departure(lambda: queue.put_now(BrokenPipeError()))
    following.follow(followed, options.timeout, tell=queue.put, fail=queue.put_now, **included)
    while True:
        with progress:  # until the first news
            host, news = queue.get()
        if isinstance(news, GuestlistError):
            terminal.complain(f"{news}; it is tried again until it answers")
            continue
        terminal.write(text_of(host.name, news))
        if isinstance(news, Resynced) and not news.snapshot:
            _explain(host.name, host.live.snapshot(**selection.ALL_DOMAINS), included)


def _look_once(options: argparse.Namespace, included: _Included) -> Exit:
    """Print the domains of each host that answers in time."""

    def ask(host: Host) -> _Present:
        with Inventory(host) as live:
            ending.on_end(live.close)
            following.await_step(live, options.timeout)
            snapshot = live.snapshot(include_inactive=True, **included)
            domains = live.snapshot(**selection.ALL_DOMAINS)
            return _Present(live.resolved_uri, Resynced(snapshot, 0, datetime.now(UTC)), domains)

    replies, status = hosts.ask(options, ask, selection.ours(options))
    text_of = _texts(options, [reply.value.host for reply in replies])
    for host, resynced, domains in (reply.value for reply in replies):
        terminal.write(text_of(host, resynced))
        if not resynced.snapshot:
            _explain(host, domains, included)
    return status


def _texts(options: argparse.Namespace, names: list[str]) -> Callable[[str, News], str]:
    """Return the function that makes text of a host's name and its news."""
    if options.format == "json":
        return _json_line
    several = len(hosts.distinct(options.connect)) > 1
    lines = Lines(names if several else [], colours=terminal.has_colours(), once=options.once)
    return lines.of


def _json_line(host: str, news: News) -> str:
    record: dict[str, Any] = news_record(host, news)
    return json.dumps(record) + "\n"


def _explain(host: str, domains: Snapshot, included: _Included) -> None:
    """Print why there is no domain to watch: usually a filter hides them."""
    widening = {
        "inactive": True,
        "foreign": included["include_foreign"],
        "dom0": included["include_dom0"],
    }
    given = [kind for kind in selection.KINDS if widening[kind]]
    hidden.explain(host, hidden.kinds_of(domains.instances), given)
