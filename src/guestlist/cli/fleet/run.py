"""Run a command of `guestlist fleet`.

In: options. Out: the exit status of that command. Only its own modules are imported.
"""

from __future__ import annotations

import argparse
from importlib import import_module

from guestlist.cli.exits import Exit


def run(options: argparse.Namespace) -> Exit:
    """Run the command that the options name."""
    command = import_module(f"guestlist.cli.fleet.{options.fleet_command}.run")
    status: Exit = command.run(options)
    return status
