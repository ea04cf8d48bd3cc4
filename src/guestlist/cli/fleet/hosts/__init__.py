"""`guestlist fleet hosts`: its options. `run` lists the hosts of a fleet."""

from __future__ import annotations

import argparse

from guestlist.cli import options as common
from guestlist.cli.fleet import options as of_fleet
from guestlist.cli.show.fleet_columns import HOST_COLUMNS

ABOUT = "list the hosts of a fleet, and which of them are not current"

EXAMPLES = f"""\
examples:
  guestlist fleet hosts --endpoints etcd1:2379
      each host, whether it is current, and how many domains it publishes
  guestlist fleet hosts --endpoints etcd1:2379 -f json |
      jq -r '.[] | select(.status != "current") | .host'
      the hosts because of which the fleet is not complete
  guestlist fleet hosts --hosts hosts.yml
      which hosts of the file answer

A host is 'current' if all its domains are published and its agent reports each change;
'syncing' while they are not all published; 'unknown' if its agent is silent, or if the host
was asked and did not answer. 'failure' says why. 'since' is the last sign of a host that is
unknown, by that host's own clock. The exit status is 3 if a host is not current. A host
leaves an etcd only by 'guestlist fleet forget HOST'.

{of_fleet.NOTE}
{common.CSV_NOTE}"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `fleet hosts`."""
    of_fleet.add_sources(command)
    how = command.add_argument_group("how to show them")
    common.add_format(how, common.TABLE_FORMATS)
    common.add_order(how, HOST_COLUMNS, usual="by name")


def check_options(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse options that exclude each other; set `exact`."""
    of_fleet.check_sources(options, command)
    options.exact = common.check_exact(options, command, "--raw", "csv")
