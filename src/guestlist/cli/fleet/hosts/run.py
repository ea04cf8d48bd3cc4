"""List the hosts of a fleet.

In: options. Out: on standard output each host: its status, its last sign if it is silent, how many
domains it publishes, the version of its agent, what is wrong. Prints nothing if the fleet could not
be asked.
"""

from __future__ import annotations

import argparse

from guestlist.cli.exits import Exit
from guestlist.cli.fleet import sources
from guestlist.cli.show import terminal
from guestlist.cli.show.columns import in_order, record
from guestlist.cli.show.fleet_columns import HOST_COLUMNS
from guestlist.cli.show.render import rendered
from guestlist.errors import GuestlistError
from guestlist.fleet.reading import summaries
from guestlist.fleet.summary import HostSummary
from guestlist.launcher import Anyone


def run(options: argparse.Namespace) -> Exit:
    """Ask for the hosts and print them."""
    try:
        found = _hosts(options)
    except GuestlistError as error:
        return sources.failed(error)
    if not found:
        terminal.complain(sources.NO_HOSTS)
        return Exit.FAILED
    sort = HOST_COLUMNS[options.sort] if options.sort else None
    rows = in_order(found, sort, reverse=options.reverse)
    columns = list(HOST_COLUMNS.values())
    text = rendered(
        options.format,
        columns,
        [record(columns, row) for row in rows],
        headers=options.headers,
        exact=options.exact,
    )
    terminal.write(text, exact=options.exact)
    return Exit.OK if all(each.state.is_current for each in found) else Exit.PARTIAL


def _hosts(options: argparse.Namespace) -> tuple[HostSummary, ...]:
    if sources.asks_hosts(options):
        return summaries(sources.look(options, details=False, launched_by=Anyone()))
    with sources.fleet(options) as fleet:
        return fleet.hosts()
