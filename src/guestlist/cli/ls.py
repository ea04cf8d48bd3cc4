"""`guestlist ls`: the domains of one host, or of several.

In: options. Out: on standard output the domains that match, by host in the order given and then by
name; on standard error, where a host has none that match, what it has instead, and where two URIs
lead to one host, which. Details are read
only if a column that is shown or sorted by wants them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from guestlist.cli import hidden, hosts, selection, terminal
from guestlist.cli.exits import Exit
from guestlist.cli.selection import Selection
from guestlist.errors import short
from guestlist.host import Host
from guestlist.records import Instance


class Listed(NamedTuple):
    """Those who match; where nobody does everybody instead, or None if that could not be told."""

    matching: Sequence[Instance]
    everybody: Sequence[Instance] | None


def run(options: argparse.Namespace) -> Exit:
    """Ask, say what is hidden, print. Where no host answered nothing is printed: `[]` would be an
    answer.
    """
    if options.live:
        from guestlist.cli import live  # noqa: PLC0415  not for a list that is made once

        return live.run(options)
    wanted = Selection.of(options)

    def ask(host: Host) -> Listed:
        matching = host.snapshot(details=wanted.details, **wanted.included).instances
        return Listed(matching, None if matching else hidden.everybody(host, wanted.given))

    def uuids(listed: Listed) -> list[UUID]:
        return [one.uuid for one in listed.matching]

    answers, status = hosts.ask(options, ask, selection.ours(options), domains=uuids)
    hosts.complain_of_doubles(answers, "its domains are listed twice")
    for host, listed, _ in answers:
        if not listed.matching and listed.everybody is not None:
            why = hidden.sentence(listed.everybody, wanted.given)
            terminal.complain(f"{short(host)}: {why}")
    if answers:
        rows = wanted.rows((host, listed.matching) for host, listed, _ in answers)
        terminal.write(wanted.text(rows), exact=wanted.exact)
    return status
