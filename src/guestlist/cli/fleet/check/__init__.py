"""`guestlist fleet check`: its options. `run` tries what the etcd must refuse, and prints."""

from __future__ import annotations

import argparse

from guestlist.cli import etcd_options
from guestlist.cli import options as common
from guestlist.cli.fleet import options as of_fleet

ABOUT = "try whether the etcd keeps a host to its own keys"

EXAMPLES = f"""\
examples:
  guestlist fleet check --endpoints etcd1:2379,etcd2:2379,etcd3:2379 \\
      --cacert ca.pem --cert node7.pem --key node7.key
      with the credentials of node7's agent: the holes at each member

Give the credentials of a host's agent: the check tries what such a user must not do. It writes
nothing, and leaves nothing behind; the log of etcd tells of one login that failed and one
compaction that was refused. It compares no versions, and does not ask for the members' clocks:
nothing in a fleet compares them. Without --host the host is the name of the user.

The exit status is 11 if there is a hole, 3 if there is none but a check could not be made.
docs/fleet-security.md explains every hole.

{etcd_options.NOTE}"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `fleet check`."""
    of_fleet.add_sources(command, hosts=False)
    command.add_argument(
        "--host", metavar="NAME", help="the host whose agent has these credentials"
    )
    common.add_format(command, ("table", "json", "yaml"))


def check_options(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse no etcd."""
    of_fleet.check_sources(options, command)
