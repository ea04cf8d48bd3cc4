"""`guestlist fleet usage`: its options. `run` adds up what the guests of a fleet use."""

from __future__ import annotations

import argparse

from guestlist.cli import options as common
from guestlist.cli import usage
from guestlist.cli.fleet import options as of_fleet

ABOUT = "show what the guests of a fleet use, host by host and together"

EXAMPLES = f"""\
examples:
  guestlist fleet usage --hosts hosts.yml
      each host of the file is asked, as 'guestlist usage' asks one
  guestlist fleet usage --endpoints etcd1:2379
      vCPUs and memory, as the agents publish them; each guest counts once
  guestlist fleet usage --endpoints etcd1:2379 -f json \\
      --project 0123456789abcdef0123456789abcdef |
      jq '[.[].total.vcpus] | add'
      the vCPUs of a project

Agents publish neither disks nor block devices: from an etcd those numbers are not known,
null in JSON, and a table leaves them out. A guest that migrates counts once there, on the
host that has it; where the hosts are asked it counts on each host that has it, since both
hold its memory. The guests of a host whose agent is silent count as it last published them.

{of_fleet.NOTE}
{common.CSV_NOTE}"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `fleet usage`."""
    of_fleet.add_sources(command)
    of_fleet.add_guests(
        command, "which domains to count", "By default: those that Nova launched, active or not."
    )
    usage.add_look(command)


def check_options(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse options that exclude each other; set `exact`."""
    of_fleet.check_sources(options, command)
    options.all = options.foreign
    usage.check_options(options, command)
