"""`guestlist watch`: its options, and what it does with them.

In: the parser of the command. Out: the same, with the options of `watch`.

    run     follows the hosts and prints what changes
    chosen  lets through what the filters admit
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from guestlist.cli import filters
from guestlist.cli import options as common

if TYPE_CHECKING:
    from datetime import datetime

ABOUT = "show what happens to the domains"

EXAMPLES = f"""\
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
  guestlist watch --since 2h
      first the domains that Nova wrote in the last two hours, then what happens
  guestlist watch --project shop --dates
      the domains of a project, each time with its date

A host that cannot be asked is tried again until it answers. The changes that happened
meanwhile follow then, and after them 'back in step'. The reason of a change is in
libvirt's words: 'stopped (destroyed)'. 'gone': the domain disappeared and libvirt sent
no event. If changes follow each other faster than guestlist can ask, one line shows
them together; a domain that comes and goes faster than that is not shown. Times are
those of this machine; for others: TZ=UTC guestlist watch. They have date and offset with
--dates and --since, and after midnight. docs/schemas/watch.schema.json in guestlist's
source has the keys of JSON; it refers to ls.schema.json beside it.

libvirt keeps no history, and does not tell when a domain started: --since cannot show
what happened before. It begins with the domains that exist now and that Nova wrote since
then: at the time of each line the server was made, rebuilt, resized, moved or
hard-rebooted. A domain that does not tell this time is left out, and standard error says
how many. TIME is a length before now (90s, 10m, 2h, 3d), a time of today (22:10), a date
(2026-03-01) or both (2026-03-01T22:10+01:00).

{filters.NOTE}
A change is shown if the domain matches before it or after it.

{common.CONFIGURATION_NOTE}"""


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
    filters.add_filters(domains, "by its name or its id in Keystone")
    how = watch.add_argument_group("how to show it")
    common.add_format(how, ("lines", "json"))
    how.add_argument(
        "--once",
        action="store_true",
        help="show which domains there are now, and end with the exit status that ls would have",
    )
    add_dates(how)
    how.add_argument(
        "--since",
        metavar="TIME",
        type=_since,
        help="first show the domains that Nova wrote since this time; see below",
    )


def add_dates(how: argparse._ActionsContainer) -> None:
    """Add the option that asks for full times."""
    how.add_argument(
        "--dates",
        action="store_true",
        help="print each time with its date and its offset; JSON has them always",
    )


def check_options(options: argparse.Namespace, watch: argparse.ArgumentParser) -> None:
    """Refuse options that exclude each other."""
    if options.since is not None and options.format == "json":
        watch.error("--since goes with -f lines; -f json has 'created_at' of each domain")


def _since(text: str) -> datetime:
    from guestlist.cli.since import instant  # noqa: PLC0415  not for --help

    return instant(text)
