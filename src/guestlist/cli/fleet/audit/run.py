"""Compare what the hosts of a fleet run with what Nova believes.

In: options. Out: what `guestlist audit` prints. Changes nothing, on no side.
"""

from __future__ import annotations

import argparse

from guestlist.cli.audit import run as audit
from guestlist.cli.exits import Exit
from guestlist.cli.fleet import sources
from guestlist.cli.fleet.audit.looks import FleetLooks
from guestlist.errors import GuestlistError


def run(options: argparse.Namespace) -> Exit:
    """Make an audit and print what it found; with `--watch`, repeat it until a signal ends it."""
    if sources.asks_hosts(options):
        return audit.run(options)
    try:
        with sources.fleet(options) as fleet:
            return audit.run(options, FleetLooks(fleet))
    except GuestlistError as error:
        return sources.failed(error)
