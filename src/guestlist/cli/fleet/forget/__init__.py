"""`guestlist fleet forget`: its options. `run` takes a host off the roster of a fleet."""

from __future__ import annotations

import argparse

from guestlist.cli import etcd_options
from guestlist.cli.fleet import options as of_fleet

ABOUT = "delete what a host has published: for a host that will not come back"

EXAMPLES = f"""\
examples:
  guestlist fleet forget node7 --endpoints etcd1:2379 \\
      --cacert ca.pem --cert root.pem --key root.key
      node7 leaves the fleet, and its guests with it

A host that is down stays in the fleet, and its guests stay as 'unknown', until it is
forgotten. A host whose agent is running cannot be forgotten: it would publish its domains
again. The user needs the right to write to the fleet. Nothing happens on the host itself.

{etcd_options.NOTE}"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `fleet forget`."""
    command.add_argument("host", metavar="HOST", help="the name of the host, as in 'fleet hosts'")
    of_fleet.add_sources(command, hosts=False)


def check_options(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse no fleet."""
    of_fleet.check_sources(options, command)
