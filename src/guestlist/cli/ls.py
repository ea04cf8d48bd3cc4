"""`guestlist ls`: the domains of one host, or of several.

In: options. Out: on standard output the domains that match, by host in the order given and then by
name; on standard error, where a host has none that match, what it has instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict

from guestlist.cli import hidden, hosts, terminal
from guestlist.cli.columns import COLUMNS, Column, chosen, record
from guestlist.cli.exits import Exit
from guestlist.cli.render import rendered
from guestlist.host import Host
from guestlist.launcher import NovaLaunched
from guestlist.records import Instance


class Included(TypedDict):
    """Whom to list besides the running ones that are ours: the options of `Host.snapshot`."""

    include_inactive: bool
    include_foreign: bool
    include_dom0: bool


class Listed(NamedTuple):
    """Those who match; where nobody does everybody instead, or None if that could not be told."""

    matching: Sequence[Instance]
    everybody: Sequence[Instance] | None


def run(options: argparse.Namespace) -> Exit:
    """Ask, say what is hidden, print. Where no host answered nothing is printed: `[]` would be an
    answer.
    """
    included = Included(
        include_inactive=options.all or options.inactive,
        include_foreign=options.all or options.foreign,
        include_dom0=options.all or options.dom0,
    )
    ours = NovaLaunched(options.name_template, verify=options.verify)
    answers, status = hosts.ask(options, _question(included), ours)
    for host, listed in answers:
        if not listed.matching and listed.everybody is not None:
            given = [kind for kind, yes in zip(hidden.WHY, included.values(), strict=True) if yes]
            terminal.complain(f"{host}: {hidden.sentence(listed.everybody, given)}")
    if answers:
        rows = [(host, instance) for host, listed in answers for instance in listed.matching]
        if options.sort:
            rows.sort(key=_order(COLUMNS[options.sort]))
        columns = options.columns or chosen(_usual_columns(options))
        records = [record(columns, *row) for row in rows]
        terminal.write(rendered(options.format, columns, records, headers=options.headers))
    return status


def _question(included: Included) -> Callable[[Host], Listed]:
    def ask(host: Host) -> Listed:
        matching = host.snapshot(details=False, **included).instances
        return Listed(matching, None if matching else _everybody(host, included))

    return ask


def _everybody(host: Host, included: Included) -> Sequence[Instance] | None:
    """Everybody on the host, unless they were asked for already; only to be helpful, so a failure
    is none.
    """
    if all(included.values()):
        return ()
    try:
        everybody = Included(include_inactive=True, include_foreign=True, include_dom0=True)
        return host.snapshot(details=False, **everybody).instances
    except Exception:
        return None


def _usual_columns(options: argparse.Namespace) -> list[str]:
    if options.format in COLUMNS:
        return [options.format]
    if options.format != "table":
        return list(COLUMNS)
    several = len(hosts.distinct(options.connect)) > 1
    mixed = options.all or options.foreign or options.dom0
    return [
        *(["host"] if several else []),
        *("id", "name", "state", "uuid"),
        *(["launcher"] if mixed else []),
    ]


def _order(column: Column) -> Callable[[tuple[str, Instance]], Any]:
    """By value, and where there is none last."""

    def key(row: tuple[str, Instance]) -> tuple[bool, object]:
        value = column.value(*row)
        return value is None, value

    return key
