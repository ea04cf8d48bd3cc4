"""`guestlist watch`: its options. `run` follows the hosts and prints what changes."""

from __future__ import annotations

import argparse

from guestlist.cli import options as common

ABOUT = "show what happens to the domains"

EXAMPLES = """\
examples:
  guestlist watch
      what happens to the domains that Nova launched on this host, one line each
  guestlist watch -a -c test:///default
      what happens to every domain of libvirt's built-in test host
  guestlist watch -c qemu+ssh://node1/system -c qemu+ssh://node2/system
      the domains of two hosts
  guestlist watch --once -a
      which domains there are now, in the same form
  guestlist watch -f json | jq -r 'select(.change == "stopped") | .uuid'
      one object per line, for a program
  guestlist watch | grep -m 1 'instance-0000002a  stopped'
      wait until instance-0000002a has stopped

A host that cannot be asked is tried again until it answers. The changes that happened
meanwhile follow then, and after them 'back in step'. The reason of a change is in
libvirt's words: 'stopped (destroyed)'. 'gone': the domain disappeared and libvirt sent
no event. If changes follow each other faster than guestlist can ask, one line shows
them together; a domain that comes and goes faster than that is not shown. Times are those of this
machine; for others: TZ=UTC guestlist watch. docs/schemas/watch.schema.json in
guestlist's source has the keys of JSON; it refers to ls.schema.json beside it.
"""


def add_options(watch: argparse.ArgumentParser) -> None:
    """Add the options of `watch`."""
    common.add_hosts(watch)
    domains = watch.add_argument_group(
        "which domains to watch", "By default: those that Nova launched, in any state."
    )
    domains.add_argument("--foreign", action="store_true", help="also those that others launched")
    domains.add_argument("--dom0", action="store_true", help="also Xen's Domain-0")
    domains.add_argument("-a", "--all", action="store_true", help="all domains: --foreign --dom0")
    common.add_ours(domains)
    how = watch.add_argument_group("how to show it")
    common.add_format(how, ("lines", "json"))
    how.add_argument(
        "--once",
        action="store_true",
        help="show which domains there are now, and end with the exit status that ls would have",
    )
