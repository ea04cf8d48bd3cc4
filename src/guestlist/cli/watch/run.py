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
from guestlist.cli.filters import Filter
from guestlist.cli.ls import selection
from guestlist.cli.show import terminal
from guestlist.cli.show.news_lines import Lines
from guestlist.cli.show.news_records import news_record
from guestlist.cli.show.progress import Progress
from guestlist.cli.since import unjudged
from guestlist.cli.watch.chosen import ChosenNews
from guestlist.errors import GuestlistError, short
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
    chosen = Filter.of(options)
    included = _Included(
        include_foreign=options.all or options.foreign or "foreign" in chosen.kinds,
        include_dom0=options.all or options.dom0 or "dom0" in chosen.kinds,
    )
    if options.once:
        return _look_once(options, included)
    passed = ChosenNews(chosen, terminal.complain)
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
        for told in passed.of(host.name, news):
            terminal.write(text_of(host.name, told))
        if isinstance(news, Resynced):
            known = host.live.snapshot(**selection.ALL_DOMAINS)
            _explain(options, host.name, known, included, news.snapshot)


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
    passed = ChosenNews(Filter.of(options), terminal.complain)
    for host, resynced, domains in (reply.value for reply in replies):
        for told in passed.of(host, resynced):
            terminal.write(text_of(host, told))
        _explain(options, host, domains, included, resynced.snapshot)
    return status


def _texts(options: argparse.Namespace, names: list[str]) -> Callable[[str, News], str]:
    """Return the function that makes text of a host's name and its news."""
    if options.format == "json":
        return _json_line
    several = len(hosts.distinct(options.connect)) > 1
    aliases: dict[str, str] = options.aliases
    lines = Lines(
        [aliases.get(name, name) for name in names] if several else [],
        colours=terminal.has_colours(),
        once=options.once,
        dates=options.dates,
        since=options.since,
    )
    return lambda host, news: lines.of(aliases.get(host, host), news)


def _json_line(host: str, news: News) -> str:
    record: dict[str, Any] = news_record(host, news)
    return json.dumps(record) + "\n"


def _explain(
    options: argparse.Namespace,
    host: str,
    domains: Snapshot,
    included: _Included,
    looked_at: Snapshot,
) -> None:
    """Print why there is no domain to watch, and how many domains cannot be judged.

    `domains` are all of the host, `looked_at` those that the options include, before filters.
    """
    chosen = Filter.of(options)
    matching = [one for one in looked_at.instances if chosen.matches(one)]
    if not looked_at:
        _explain_hidden(host, domains, included)
    elif not matching:
        widest = all(included.values())
        terminal.complain(f"{short(host)}: {chosen.without_match(len(looked_at), widest=widest)}")
    for line in (
        chosen.unjudged(looked_at.instances),
        unjudged(matching) if options.since else None,
    ):
        if line:
            terminal.complain(f"{short(host)}: {line}")


def _explain_hidden(host: str, domains: Snapshot, included: _Included) -> None:
    """Print which domains there are, if the options include none of them."""
    widening = {
        "inactive": True,
        "foreign": included["include_foreign"],
        "dom0": included["include_dom0"],
    }
    given = [kind for kind in selection.KINDS if widening[kind]]
    hidden.explain(host, hidden.kinds_of(domains.instances), given)
