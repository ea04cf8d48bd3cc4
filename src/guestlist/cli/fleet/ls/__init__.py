"""`guestlist fleet ls`: its options. `run` lists the guests of a fleet and prints them."""

from __future__ import annotations

import argparse

from guestlist.cli import filters, ls
from guestlist.cli import options as common
from guestlist.cli.fleet import options as of_fleet
from guestlist.cli.show.fleet_columns import GUEST_COLUMNS

ABOUT = "list the guests of a fleet, each once"

EXAMPLES = f"""\
examples:
  guestlist fleet ls --hosts hosts.yml
      the active guests that Nova launched on the hosts of the file, asked now
  guestlist fleet ls --endpoints etcd1:2379 -l
      those that agents publish, with vCPUs, memory and the owner's ids
  guestlist fleet ls --hosts hosts.yml --project shop --state paused
      the paused guests of a project
  guestlist fleet ls --endpoints etcd1:2379 --on 'rack7-*' -f uuid
      the guests of some hosts
  guestlist fleet ls --endpoints etcd1:2379 -a -f json |
      jq -r '.[] | select(.standing == "conflict") | .uuid'
      guests that run on two hosts

Standard error says 'complete', or names each host whose guests may be missing or old: the
exit status is 3 then. It counts all guests of the fleet, and says how many of them match if
the options leave some out. Domain-0, which each Xen host has, is not listed.

A table tells how the guests stand only if one of them is not 'resident'; -l always does.

An etcd has no disks, addresses, flavors or names that people chose: those columns are '-'
in a table and null in JSON. From an etcd no column costs a call to a host.

{filters.NOTE}
{of_fleet.NOTE}
{common.CSV_NOTE}"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `fleet ls`."""
    of_fleet.add_sources(command)
    domains = ls.add_domains(command)
    domains.add_argument(
        "-a", "--all", action="store_true", help="all domains: --inactive --foreign"
    )
    common.add_ours(domains)
    of_fleet.add_filters(domains)
    ls.add_look(command, GUEST_COLUMNS, usual="by name")


def check_options(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse options that exclude each other; set `exact`."""
    of_fleet.check_sources(options, command)
    ls.check_look(options, command)
