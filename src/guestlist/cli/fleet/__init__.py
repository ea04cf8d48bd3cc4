"""`guestlist fleet`: its commands, and the options that they share.

In: the parser of the command. Out: the same, with the parsers of its own commands. Each of them is
a package, as the commands of `guestlist` are: its options in `__init__`, what it does in `run`.

    ls, usage, watch, audit, hosts, forget, check, setup   a package for each command
    run       runs one of these commands
    options   the options that say which fleet, and which of its guests
    sources   the fleet that the options name, and the exit status of what it told
    guests    the guests that the options choose, as rows
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Any

from guestlist.cli import exits
from guestlist.cli.exits import Exit
from guestlist.cli.show import terminal

ABOUT = "list and watch the guests of many hosts, each guest once"

COMMANDS = ("ls", "usage", "watch", "audit", "hosts", "forget", "check", "setup")

EXAMPLES = """\
examples:
  guestlist fleet ls --hosts hosts.yml
      the active guests of all hosts in the file, which are asked now
  guestlist fleet ls --endpoints etcd1:2379,etcd2:2379 \\
      --cacert ca.pem --cert me.pem --key me.key
      those of all hosts whose agents publish to this etcd, at one instant
  guestlist fleet watch --endpoints etcd1:2379
      what happens to them, as it happens
  guestlist fleet hosts --endpoints etcd1:2379
      the hosts, and which of them are not current
  guestlist fleet ls --help
      more about listing, with examples

A guest that migrates is one row: 'migrating' on its source, 'handover' while both hosts
publish it, 'in-transit' between the two. In an etcd a host whose agent is silent keeps its
guests, as 'unknown'.

A list is 'complete' if it has each guest of each host. If it is not, standard error names
each host that is missing, and why, and the exit status is 3. Repair that host and list
again. A host that will not come back leaves an etcd by 'guestlist fleet forget'.
"""


def add_options(fleet: argparse.ArgumentParser) -> None:
    """Add the commands of `fleet`, each with its options."""
    commands = fleet.add_subparsers(title="commands", dest="fleet_command", metavar="COMMAND")
    for name in COMMANDS:
        command = _package(name)
        parser = commands.add_parser(
            name,
            help=command.ABOUT,
            description=f"{command.ABOUT[0].upper()}{command.ABOUT[1:]}.",
            epilog=f"{command.EXAMPLES}\n{exits.in_words()}",
        )
        command.add_options(parser)
        parser.set_defaults(parser=parser)


def check_options(options: argparse.Namespace, fleet: argparse.ArgumentParser) -> None:
    """Refuse what the command refuses; explain the commands if none was given."""
    if options.fleet_command is None:
        terminal.explain(fleet.format_help())
        sys.exit(Exit.USAGE)
    _package(options.fleet_command).check_options(options, options.parser)


def _package(name: str) -> Any:
    return import_module(f"guestlist.cli.fleet.{name}")
