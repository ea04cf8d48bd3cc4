"""Take a host off the roster of a fleet, and say what was deleted.

In: the name of a host. Out: a line on standard output. Asks for no confirmation.
"""

from __future__ import annotations

import argparse

from guestlist.cli.exits import Exit
from guestlist.cli.fleet import sources
from guestlist.cli.show import terminal, words
from guestlist.errors import GuestlistError


def run(options: argparse.Namespace) -> Exit:
    """Delete what the host has published."""
    try:
        with sources.fleet(options) as fleet:
            gone = fleet.forget(options.host)
    except GuestlistError as error:
        return sources.failed(error)
    host = terminal.escape(options.host)
    if not (gone.on_roster or gone.domains or gone.tombstones):
        terminal.complain(f"{options.host} is not in the fleet: nothing was deleted")
        return Exit.FAILED
    terminal.write(
        f"{host} is forgotten: the etcd has no record of it and of "
        f"{words.number(gone.domains, 'domain')} any more\n"
    )
    return Exit.OK
