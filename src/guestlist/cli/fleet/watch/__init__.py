"""`guestlist fleet watch`: its options. `run` follows a fleet and prints what changes."""

from __future__ import annotations

import argparse

from guestlist.cli import options as common
from guestlist.cli import watch
from guestlist.cli.fleet import options as of_fleet

ABOUT = "show what happens to the guests of a fleet"

EXAMPLES = f"""\
examples:
  guestlist fleet watch --hosts hosts.yml
      what happens to the guests that Nova launched on these hosts, one line each
  guestlist fleet watch --endpoints etcd1:2379,etcd2:2379,etcd3:2379 --on 'rack7-*'
      the guests of some hosts
  guestlist fleet watch --endpoints etcd1:2379 --once -a
      which guests there are now, in the same form
  guestlist fleet watch --endpoints etcd1:2379 -f json |
      jq -r 'select(.after.standing == "conflict") | .uuid'
      guests that begin to run on two hosts

A guest that migrates is 'changed': 'resident -> migrating', then 'host node1 -> node2'. A
host that falls silent is 'stale', and its guests are 'unknown'. It is 'syncing' while it
publishes its domains again, and 'back in step' after that. 'listed again': some changes
are not known one by one, for the reason that follows; the whole fleet was read once more.

{of_fleet.NOTE}"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `fleet watch`."""
    of_fleet.add_sources(command)
    of_fleet.add_guests(
        command, "which guests to watch", "By default: those that Nova launched, in any state."
    )
    how = command.add_argument_group("how to show it")
    common.add_format(how, ("lines", "json"))
    how.add_argument(
        "--once",
        action="store_true",
        help="show which guests there are now, and end with the exit status that ls would have",
    )
    watch.add_dates(how)


def check_options(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse no fleet, and two."""
    of_fleet.check_sources(options, command)
    options.all = options.foreign
