"""News of a live view for people: one line each.

In: what a view told, and the name of its host. Out: a line with the time (by this machine's clock
and time zone), the host if there are several, the domain, what happened, and why in libvirt's
words. The time has its date and its offset if that is asked for, and from the first line on whose
date or offset is another than that of the first line. What strangers chose in it is escaped
(`terminal.escape`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from guestlist.cli.show import table, words
from guestlist.cli.show.differences import Difference, differences
from guestlist.cli.show.terminal import escape
from guestlist.cli.since import written_since
from guestlist.errors import ConnectionLost
from guestlist.event import EventKind
from guestlist.inventory.changes import (
    Change,
    Changed,
    Defined,
    Gone,
    News,
    Resynced,
    Stale,
    Started,
    Stopped,
    Undefined,
)
from guestlist.records import Instance
from guestlist.states import DomainState, state_reason

_GAP = "  "

_COLOURS = {
    "started": "32",
    "restarted": "32",
    "stopped": "2",
    "defined": "36",
    "undefined": "35",
    "changed": "33",
    "gone": "31",
    "connection lost": "31",
    "stale": "31",
    "syncing": "33",
    "back in step": "32",
}

_WORDS: dict[type[News], str] = {
    Started: "started",
    Stopped: "stopped",
    Defined: "defined",
    Undefined: "undefined",
    Changed: "changed",
    Gone: "gone",
}

_AS_EXPECTED = {
    Started: DomainState.RUNNING,
    Stopped: DomainState.SHUTOFF,
    Defined: DomainState.SHUTOFF,
}
"""The state that a change of this kind implies, and that its line leaves out."""

_LEFT_OUT = {"id", "uuid", "active"}
"""Columns that tell people nothing new beside the rest of the line."""


class Lines:
    """Makes the lines of one run: a line may depend on what was told of its host before.

    Args:
        hosts: the names to leave room for; empty for a single host, whose name is left out.
        colours: whether words are coloured.
        once: whether to list the domains of a `Resynced`.
        dates: whether each time has its date and its offset.
        since: list those domains of a host's first `Resynced` that Nova wrote since then.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        colours: bool,
        once: bool = False,
        dates: bool = False,
        since: datetime | None = None,
    ) -> None:
        self._dates = dates or since is not None
        self._since = since
        self._day: tuple[object, ...] | None = None
        """Date and offset of the first line."""

        self._width = max((table.cells(escape(host)) for host in hosts), default=0)
        self._colours = colours
        self._once = once
        self._met: set[str] = set()

    def of(self, host: str, news: News) -> str:
        """Return the line, or lines, with their ends; empty if the news is none for people."""
        match news:
            case Resynced():
                told = list(self._resynced(host, news))
            case Stale():
                word = "connection lost" if isinstance(news.error, ConnectionLost) else "stale"
                told = [(news.learned_at, "", word, f": {escape(str(news.error))}")]
            case _:
                told = [(news.learned_at, *in_parts(news))] if is_worth_a_line(news) else []
        return "".join(self.line(host, *parts) for parts in told)

    def _resynced(self, host: str, news: Resynced) -> Iterator[tuple[datetime, str, str, str]]:
        at, there = news.learned_at, words.number(len(news.snapshot), "domain")
        if self._since is not None and host not in self._met:
            for written_at, one in written_since(news.snapshot.instances, self._since):
                yield written_at, one.name, "written by Nova", f": {one.state}{_reason(one)}"
        if self._once:
            yield at, "", there, ""
            if self._since is None:
                for one in news.snapshot.instances:
                    yield at, one.name, "present", f": {one.state}{_reason(one)}"
        elif news.missed:
            yield at, "", words.number(news.missed, "change") + " missed", f": {there} now"
        elif host not in self._met:
            yield at, "", "watching", f" {there}"
        else:
            yield at, "", "back in step", f": {there}"
        self._met.add(host)

    def line(self, host: str, at: datetime, name: str, word: str, rest: str) -> str:
        """Return one line, of its parts; a part that is empty is left out."""
        shown = escape(host)
        parts = [
            self._time(at),
            *([shown + " " * (self._width - table.cells(shown))] if self._width else []),
            *([escape(name)] if name else []),
            self._painted(word) + rest,
        ]
        return _GAP.join(parts) + "\n"

    def _time(self, at: datetime) -> str:
        local = at.astimezone()
        day = local.date(), local.utcoffset()
        self._day = self._day or day
        self._dates |= day != self._day
        return local.isoformat(timespec="seconds") if self._dates else f"{local:%H:%M:%S}"

    def _painted(self, word: str) -> str:
        attributes = _COLOURS.get(word) if self._colours else None
        return f"\x1b[{attributes}m{word}\x1b[0m" if attributes else word


def is_worth_a_line(change: Change) -> bool:
    """Return whether something happened to the domain itself.

    A change of the view may be less: the details of a domain are read a moment after its start.
    """
    if not isinstance(change, Changed) or change.before is None or change.after is None:
        return True
    rebooted = any(event.kind is EventKind.REBOOT for event in change.events)
    return rebooted or any(_differences(change))


def in_parts(change: Change) -> tuple[str, str, str]:
    """Return the domain's name, what happened, and the rest of the line."""
    word = _WORDS[type(change)]
    if isinstance(change, Started) and change.before and change.before.active:
        word = "restarted"
    facts = list(_facts(change))
    said = list(dict.fromkeys(map(str, change.events)))
    why = ""
    if len(said) == 1 and said[0].startswith(f"{word} ("):
        why = said.pop().removeprefix(word)
    elif not said and change.after and type(change) in _AS_EXPECTED:
        why = _reason(change.after)
    rest = "; ".join(filter(None, [", ".join(facts), ", ".join(said)]))
    return change.instance.name, word, f"{why}: {rest}" if rest else why


def _facts(change: Change) -> Iterator[str]:
    """Yield the facts of the change besides its kind."""
    match change:
        case Gone():
            yield f"was {change.last_known.state}"
        case Stopped(after=None):
            yield "it is gone"
        case Changed(after=None):
            yield "no longer one of those watched"
        case Changed(before=None):
            yield "now one of those watched"
    expected = _AS_EXPECTED.get(type(change))
    if change.after and expected is not None and change.after.state != expected:
        yield str(change.after.state)
    yield from map(_in_words, _differences(change))


def _differences(change: Change) -> Iterator[Difference]:
    """Yield the differences between before and after that the line does not tell yet."""
    if change.before is None or change.after is None:
        return
    told = set(_LEFT_OUT)
    state_is_said = type(change) in _AS_EXPECTED
    if state_is_said or (change.events and change.before.state != change.after.state):
        told.add("reason")
    if state_is_said:
        told.add("state")
    for each in differences(change.before, change.after):
        if each.name not in told:
            yield each


def _in_words(difference: Difference) -> str:
    column = difference.column
    if column is None:
        return difference.name
    before, after = table.text(column, difference.before), table.text(column, difference.after)
    return f"{column.title or column.name} {before} -> {after}"


def _reason(instance: Instance) -> str:
    reason = state_reason(instance.state, instance.reason)
    return "" if reason == "unknown" else f" ({reason})"
