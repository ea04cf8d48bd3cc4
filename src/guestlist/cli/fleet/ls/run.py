"""List the guests of a fleet, each once, and print them.

In: options. Out: on standard output the guests that match, by name; on standard error `complete`,
or each host whose guests may be missing or old. Prints nothing on standard output if no host has
told anything: `[]` would be an answer.
"""

from __future__ import annotations

import argparse

from guestlist.cli.exits import Exit
from guestlist.cli.fleet import guests, sources
from guestlist.cli.show import terminal
from guestlist.errors import GuestlistError


def run(options: argparse.Namespace) -> Exit:
    """Look at the fleet and print its guests."""
    wanted = guests.selection(options)
    chosen = guests.Filter.of(options)
    try:
        snapshot = sources.look(options, details=wanted.details or chosen.details)
    except GuestlistError as error:
        return sources.failed(error)
    status = sources.verdict(options, snapshot, chosen)
    if status in (Exit.OK, Exit.PARTIAL):
        matching = (row for row in snapshot.rows if chosen.matches(row))
        rows = guests.rows(matching, wanted)
        wanted = guests.with_usual_columns(options, wanted, rows)
        terminal.write(wanted.text(rows), exact=wanted.exact)
    return status
