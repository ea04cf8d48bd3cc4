"""`guestlist fleet setup`: its options. `run` makes the users and roles of a fleet."""

from __future__ import annotations

import argparse

from guestlist.cli import etcd_options
from guestlist.cli.fleet import options as of_fleet

ABOUT = "make the users and roles of a fleet, and turn authentication on"

EXAMPLES = f"""\
examples:
  guestlist fleet setup node1 node2 node3 --reader viewer --dry-run \\
      --endpoints etcd1:2379,etcd2:2379 --cacert ca.pem --cert root.pem --key root.key
      what is missing in this etcd
  guestlist fleet setup node4 --endpoints etcd1:2379 --cacert ca.pem --cert root.pem --key root.key
      one more host

The name of a user is the common name (CN) of its certificate: here root, node1, viewer. A host may
read and write its own keys only, a reader may read the fleet. What is there already stays, so
the command can be repeated. It makes no certificates: docs/fleet-security.md shows how to.

First it turns authentication on and checks the etcd, as 'guestlist fleet check' does, with a user
that it makes for that and deletes. If there is a hole, it turns authentication off again if it was
off, changes nothing and exits with status 11; --insecure goes on.

{etcd_options.NOTE}"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `fleet setup`."""
    command.add_argument(
        "host", metavar="HOST", nargs="*", help="the name of a host, as its agent gives it"
    )
    of_fleet.add_sources(command, hosts=False)
    command.add_argument(
        "--reader",
        metavar="NAME",
        action="append",
        default=[],
        help="a user who may read the fleet; may be repeated",
    )
    command.add_argument("--dry-run", action="store_true", help="only say what is missing")
    command.add_argument("--insecure", action="store_true", help="go on although there is a hole")


def check_options(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse no etcd, and no user."""
    of_fleet.check_sources(options, command)
    if not (options.host or options.reader):
        command.error("for which hosts? Name them, or a reader with --reader")
