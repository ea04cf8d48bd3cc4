"""`guestlist ls`: the domains of one host, or of several.

In: options. Out: on standard output the domains that match, by host in the order given and then by
name; on standard error, where a host has none that match, what it has instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from guestlist.cli import hidden, hosts, terminal
from guestlist.cli.columns import COLUMNS, Column, chosen, record
from guestlist.cli.exits import Exit
from guestlist.cli.render import rendered
from guestlist.host import Host
from guestlist.launcher import NovaLaunched
from guestlist.records import Instance


class Listed(NamedTuple):
    """Those who match; where nobody does everybody instead, or None if that could not be told."""

    matching: Sequence[Instance]
    everybody: Sequence[Instance] | None


def run(options: argparse.Namespace) -> Exit:
    """Ask, say what is hidden, print. Where no host answered nothing is printed: `[]` would be an
    answer.
    """
    included = {f"include_{kind}": options.all or getattr(options, kind) for kind in hidden.WHY}
    ours = NovaLaunched(options.name_template, verify=options.verify)
    answers, status = hosts.ask(options, _question(included), ours)
    for host, listed in answers:
        if not listed.matching and listed.everybody is not None:
            given = [kind for kind in hidden.WHY if included[f"include_{kind}"]]
            terminal.complain(f"{host}: {hidden.sentence(listed.everybody, given)}")
    if answers:
        rows = [(host, instance) for host, listed in answers for instance in listed.matching]
        if options.sort:
            rows.sort(key=_order(COLUMNS[options.sort]))
        columns = options.columns or chosen(_usual_columns(options))
        records = [record(columns, *row) for row in rows]
        terminal.write(rendered(options.format, columns, records, headers=options.headers))
    return status


def _question(included: Mapping[str, bool]) -> Callable[[Host], Listed]:
    def ask(host: Host) -> Listed:
        matching = host.snapshot(**included).instances
        return Listed(matching, None if matching else _everybody(host, included))

    return ask


def _everybody(host: Host, included: Mapping[str, bool]) -> Sequence[Instance] | None:
    """Everybody on the host, unless they were asked for already; only to be helpful, so a failure
    is none.
    """
    if all(included.values()):
        return ()
    try:
        return host.snapshot(**dict.fromkeys(included, True)).instances
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
