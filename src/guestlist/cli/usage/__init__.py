"""`guestlist usage`: its options, and what it does with them.

In: the parser of the command. Out: the same, with the options of `usage`.

    run     asks the hosts and prints
    shown   what instances use, in the format asked for
"""

from __future__ import annotations

import argparse

from guestlist.cli import filters
from guestlist.cli import options as common
from guestlist.cli.show import columns

ABOUT = "show what the instances use"

NOTE = """\
With filters only the instances that match count, Domain-0 too, and the sums are theirs.
--launcher counts those of that launcher without -a. Put a pattern of --name between
quotes.
"""

EXAMPLES = f"""\
examples:
  guestlist usage
      what each of Nova's instances uses of this host, and all of them together
  guestlist usage -a -c test:///default
      of libvirt's built-in test host, instances that others launched included
  guestlist usage --sort disk_over_committed_bytes --reverse
      the instances whose disks may grow most, first
  guestlist usage -c qemu+ssh://node1/system -c qemu+ssh://node2/system
      two hosts, each with its total
  guestlist usage --project shop
      what the instances of a project use
  guestlist usage -f json | jq '.[].total.memory_kib'
      for a program, in exact numbers
  guestlist usage -f csv > usage.csv
      for a spreadsheet: no totals

vCPUs, memory and block devices are those of active instances; disks are those of all.
A value that is not known counts as nothing, and standard error says so; JSON names
each under 'unknown'. Images are measured on this machine only: the size of a disk on
a network or of another host is not known. docs/schemas/usage.schema.json in
guestlist's source has the keys of JSON.

{NOTE}
{common.CSV_NOTE}"""


def add_options(usage: argparse.ArgumentParser) -> None:
    """Add the options of `usage`."""
    common.add_hosts(usage)
    domains = usage.add_argument_group(
        "which domains to count",
        "By default: those that Nova launched, active or not; and the memory of Domain-0.",
    )
    domains.add_argument(
        "-a",
        "--all",
        "--foreign",
        dest="foreign",
        action="store_true",
        help="also those that others launched, as Nova's own driver counts",
    )
    common.add_ours(domains)
    filters.add_filters(domains, "by its name or its id in Keystone")
    add_look(usage)


def add_look(command: argparse.ArgumentParser) -> None:
    """Add the options that say how to show what instances use."""
    how = command.add_argument_group("how to show it")
    common.add_format(how, common.TABLE_FORMATS)
    common.add_order(how, columns.USAGE_COLUMNS)


def check_options(options: argparse.Namespace, usage: argparse.ArgumentParser) -> None:
    """Refuse --raw where it has no meaning; set `exact`."""
    options.exact = common.check_exact(options, usage, "--raw", "csv")
