"""`guestlist audit`: its options, and what it does with them.

In: the parser of the command. Out: the same, with the options of `audit`.

    run        makes one audit and prints what it found
    watching   repeats the audit and prints what is new and what is resolved
    sides      the hosts and Nova that the options name
    news       what differs between the findings of one audit and the next    (pure)
"""

from __future__ import annotations

import argparse

from guestlist.audit.settle import SETTLE
from guestlist.cli import options as common
from guestlist.cli.show import findings

ABOUT = "compare what libvirt runs with what Nova believes, and change nothing"

EXAMPLES = f"""\
examples:
  openstack server list --all-projects --long -f json |
      guestlist audit --servers -
      this host against the servers that Nova lists
  guestlist audit --hosts hosts.yml --os-cloud admin
      all hosts of the file, against Nova itself, which is asked before and after them
  guestlist audit -c qemu+ssh://node1/system -c qemu+ssh://node2/system --os-cloud admin
      two hosts
  guestlist audit --hosts hosts.yml --os-cloud admin --watch=300
      what is new and what is resolved, every five minutes
  guestlist audit --os-cloud admin -f json |
      jq -r '.findings[] | select(.certainty == "certain") | [.kind, .uuid] | @tsv'
      the certain findings, for a program

The audit only reads: it changes nothing, on no host and in no Nova. A finding is
'certain' if a second look at the host and at Nova confirmed it; else it is 'possible',
and its reason says what another look could show. A file of servers cannot be asked
again: with --servers every finding is possible. What the audit could not look at is
named on standard error as 'incomplete'. Hosts that are not asked do not make it so:
give all hosts of the cloud.

hosts.yml has lines such as 'node1: qemu+tls://node1/system'; the name is the one that
Nova knows the host by. The cloud of --os-cloud is in clouds.yaml, and its user must be
allowed to list the servers of all projects. docs/audit.md in guestlist's source says of
each finding what it means, how it comes about, what to check and what not to do;
docs/schemas/audit.schema.json has the keys of JSON.

{common.CSV_NOTE}"""

REPEAT = 60.0
"""Seconds between two audits of --watch."""


def add_options(audit: argparse.ArgumentParser) -> None:
    """Add the options of `audit`."""
    common.add_hosts(audit)
    audit.add_argument(
        "--hosts",
        metavar="FILE",
        help="more hosts to ask: Nova's names of them and their URIs, in YAML",
    )
    add_comparison(audit)


def add_comparison(audit: argparse.ArgumentParser) -> None:
    """Add the options that say what to compare the hosts with, how, and how to show it."""
    nova = audit.add_argument_group(
        "what Nova believes", "One of these two is needed."
    ).add_mutually_exclusive_group(required=True)
    nova.add_argument(
        "--servers",
        metavar="FILE",
        help="JSON of 'openstack server list --all-projects --long', or of Nova's API; '-' for "
        "standard input; made just before the audit",
    )
    nova.add_argument(
        "--os-cloud",
        metavar="NAME",
        help="ask Nova itself: the cloud of this name in clouds.yaml (needs the extra "
        "guestlist[openstack])",
    )
    domains = audit.add_argument_group("how to compare")
    domains.add_argument(
        "--settle",
        metavar="SECONDS",
        type=common.seconds,
        default=SETTLE,
        help="how long to wait before a power state that differs, a second copy or a tap device is "
        "looked at again (default: %(default)g)",
    )
    domains.add_argument(
        "--no-disks",
        dest="disks",
        action="store_false",
        help="do not look for the disks and tap devices of this machine",
    )
    common.add_ours(domains)
    how = audit.add_argument_group("how to show it")
    common.add_format(how, common.TABLE_FORMATS)
    common.add_order(how, findings.COLUMNS, "certain findings first, the gravest kind first")
    how.add_argument(
        "--watch",
        metavar="SECONDS",
        type=common.seconds,
        nargs="?",
        const=REPEAT,
        help="repeat the audit, SECONDS after the last one has ended, and show only what is new "
        f"and what is resolved: a line each, or JSON lines (without SECONDS: {REPEAT:g})",
    )


def check_options(options: argparse.Namespace, audit: argparse.ArgumentParser) -> None:
    """Refuse options that exclude each other; set `exact`."""
    options.exact = common.check_exact(options, audit, "--raw", "csv")
    for option in ("servers", "os_cloud", "hosts"):
        if getattr(options, option) == "":
            audit.error(f"--{option.replace('_', '-')} is empty")
    if options.watch is None:
        return
    if options.servers == "-":
        audit.error("--watch reads the servers again and again: give a file, or --os-cloud")
    if options.format not in ("table", "json"):
        audit.error(f"--watch goes with -f table or -f json, not with {options.format}")
    if options.sort or options.reverse:
        audit.error("--watch shows findings as they come: it goes without --sort and --reverse")
