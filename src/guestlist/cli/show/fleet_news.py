"""News of a fleet: a line each for people, a record each for programs.

In: what a reader of a fleet was told. Out: text, in the words of `guestlist watch`, with the host
and how the guest stands among the hosts. What strangers chose in a line is escaped
(`terminal.escape`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from guestlist.cli.show import words
from guestlist.cli.show.differences import shown
from guestlist.cli.show.news_lines import Lines, in_parts, is_worth_a_line
from guestlist.cli.show.news_records import of_domain
from guestlist.cli.show.terminal import escape
from guestlist.fleet.rows import (
    FleetNews,
    FleetRow,
    HostChange,
    HostState,
    Relisted,
    RowChange,
    Standing,
)

Matches = Callable[[FleetRow], bool]


class FleetLines:
    """Makes the lines of one run.

    `matches` says which guests to list; `dates` is as for `Lines`.
    """

    def __init__(
        self, matches: Matches, *, colours: bool, once: bool = False, dates: bool = False
    ) -> None:
        self._matches = matches
        self._once = once
        self._lines = Lines((), colours=colours, dates=dates)
        self._has_begun = False

    def of(self, news: FleetNews, at: datetime) -> str:
        """Return the line, or lines, with their ends; empty if the news is none for people."""
        return "".join(self._lines.line("", *parts) for parts in self._parts(news, at))

    def _parts(self, news: FleetNews, at: datetime) -> Iterator[tuple[datetime, str, str, str]]:
        match news:
            case Relisted():
                yield from self._relisted(news, at)
            case HostChange():
                yield (at, *_of_host(news))
            case RowChange():
                if _is_news(news):
                    yield (news.change.learned_at, *_of_guest(news))

    def _relisted(self, news: Relisted, at: datetime) -> Iterator[tuple[datetime, str, str, str]]:
        matching = [row for row in news.snapshot.rows if self._matches(row)]
        there = f"{words.number(len(matching), 'guest')} on " + words.number(
            len(news.snapshot.hosts), "host"
        )
        why = f" ({escape(news.why)})" if news.why else ""
        if self._once:
            yield at, "", there, ""
            for row in matching:
                yield at, f"{row.host}  {row.instance.name}", "present", _state(row)
        elif self._has_begun:
            yield at, "", "listed again", f": {there}{why}"
        else:
            yield at, "", "watching", f" {there}{why}"
        self._has_begun = True


def _is_news(change: RowChange) -> bool:
    return bool(_moves(change)) or is_worth_a_line(change.change)


def _of_guest(change: RowChange) -> tuple[str, str, str]:
    """Return the host and name of the guest, what happened, and the rest of the line."""
    name, word, rest = in_parts(change.change)
    moves = ", ".join(_moves(change))
    if moves:
        rest = f"{rest}; {moves}" if rest else f": {moves}"
    return f"{change.row.host}  {name}", word, rest


def _moves(change: RowChange) -> list[str]:
    """Return what is new of the guest among the hosts."""
    before, after = change.before, change.after
    if after is None:
        return []
    if before is None:
        return [str(after.standing)] if after.standing is not Standing.RESIDENT else []
    moves = []
    if before.host != after.host:
        moves.append(f"host {escape(before.host)} -> {escape(after.host)}")
    if before.standing is not after.standing:
        moves.append(f"{before.standing} -> {after.standing}")
    return moves


def _of_host(change: HostChange) -> tuple[str, str, str]:
    now = change.after
    known = now or change.before
    name = known.host if known else ""
    if now is None:
        return name, "gone", ": the host was forgotten"
    if now.is_current:
        return name, "back in step", ""
    return name, "syncing" if now.live else "stale", f": {escape(now.failure or '')}"


def _state(row: FleetRow) -> str:
    standing = "" if row.standing is Standing.RESIDENT else f", {row.standing}"
    return f": {row.instance.state}{standing}"


def fleet_record(news: FleetNews, matches: Matches, at: datetime) -> dict[str, Any]:
    """Return news as docs/schemas/fleet-watch.schema.json describes it.

    `matches` says which guests to list.
    """
    match news:
        case Relisted():
            return {
                "change": "relisted",
                "learned_at": _instant(at),
                "why": news.why,
                "revision": news.snapshot.revision,
                "complete": news.snapshot.complete,
                "hosts": [_host(each) for each in news.snapshot.hosts],
                "guests": [_guest(row) for row in news.snapshot.rows if matches(row)],
            }
        case HostChange():
            known = news.after or news.before
            return {
                "change": "host",
                "learned_at": _instant(at),
                "host": known.host if known else None,
                "before": _host(news.before),
                "after": _host(news.after),
            }
    return {
        "change": type(news.change).__name__.lower(),
        "host": news.row.host,
        "learned_at": _instant(news.change.learned_at),
        **of_domain(news.change),
        "before": news.before and _guest(news.before),
        "after": news.after and _guest(news.after),
    }


def _guest(row: FleetRow) -> dict[str, Any]:
    return {
        "host": row.host,
        **shown(row.instance),
        "standing": str(row.standing),
        "others": list(row.others),
        "since": None if row.since is None else words.instant(row.since),
    }


def _host(state: HostState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {
        "host": state.host,
        "live": state.live,
        "synced": state.synced,
        "since": None if state.since is None else words.instant(state.since),
        "failure": state.failure,
    }


def _instant(at: datetime) -> str:
    return words.instant(at.astimezone(UTC), "microseconds")
