"""`guestlist ls`: the domains of one host, or of several.

In: options. Out: on standard output the domains that match, by host in the order given and then by
name; on standard error, where a host has none that match, what it has instead. Details are read
only if a column that is shown or sorted by wants them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypedDict

from guestlist.cli import hidden, hosts, terminal
from guestlist.cli.columns import (
    BRIEF,
    COLUMNS,
    SAID_SHORTER,
    Guest,
    chosen,
    in_order,
    record,
)
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
    given = [kind for kind, yes in zip(hidden.WHY, included.values(), strict=True) if yes]
    columns = options.columns or chosen(_usual_columns(options))
    sort = COLUMNS[options.sort] if options.sort else None
    details = any(column.details for column in (*columns, *([sort] if sort else [])))
    ours = NovaLaunched(options.name_template, verify=options.verify)
    answers, status = hosts.ask(options, _question(included, given, details=details), ours)
    for host, listed in answers:
        if not listed.matching and listed.everybody is not None:
            terminal.complain(f"{host}: {hidden.sentence(listed.everybody, given)}")
    if answers:
        now = datetime.now(UTC)
        rows = [Guest(host, one, now) for host, listed in answers for one in listed.matching]
        rows = in_order(rows, sort, reverse=options.reverse)
        records = [record(columns, row) for row in rows]
        terminal.write(rendered(options.format, columns, records, headers=options.headers))
    return status


def _question(
    included: Included, given: Sequence[str], *, details: bool
) -> Callable[[Host], Listed]:
    def ask(host: Host) -> Listed:
        matching = host.snapshot(details=details, **included).instances
        return Listed(matching, None if matching else hidden.everybody(host, given))

    return ask


def _usual_columns(options: argparse.Namespace) -> list[str]:
    """The columns where none were chosen by name."""
    if options.format in COLUMNS:
        return [options.format]
    if options.format != "table":
        return list(COLUMNS if options.long else BRIEF)
    several = len(hosts.distinct(options.connect)) > 1
    host = ["host"] if several else []
    if options.long:
        return host + [name for name in COLUMNS if name not in {"host", *SAID_SHORTER}]
    mixed = options.all or options.foreign or options.dom0
    return [*host, *("id", "name", "state", "uuid"), *(["launcher"] if mixed else [])]
