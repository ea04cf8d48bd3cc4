"""Print what the instances of a host use, each of them and all together.

In: options. Out: on standard output what Nova would be told, by host in the order given and then by
name; on standard error, one line for each host, which values are not known. That is no failure: an
unknown value counts as nothing, and the exit status stays 0.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from guestlist import details, driver
from guestlist.cli import hidden, hosts
from guestlist.cli.exits import Exit
from guestlist.cli.filters import Filter
from guestlist.cli.hidden import Kinds
from guestlist.cli.hosts import HostReply
from guestlist.cli.ls import selection
from guestlist.cli.show import terminal
from guestlist.cli.usage import shown
from guestlist.driver import ComputeDriver
from guestlist.errors import short
from guestlist.host import Host
from guestlist.records import Instance
from guestlist.usage import Usage

_NAMED = 3
"""Unknown values that standard error names; JSON names them all."""

_LONGEST = 120
"""Characters of each."""

_IMAGES_SHARE = 1 / 3
"""The share of the timeout in which images are measured. The rest is for libvirt."""


class _HostUsage(NamedTuple):
    """What the instances use that match, of those looked at, and what cannot be judged.

    If there is none to look at: the kinds of all domains, as for `ls`.
    """

    usage: Usage
    looked_at: int
    unjudged: str | None
    hidden: Sequence[Kinds] | None


def run(options: argparse.Namespace, among: Mapping[str, Host] | None = None) -> Exit:
    """Ask the hosts and print. Prints nothing on standard output if no host answered.

    `among` as for `hosts.ask`.
    """
    if not options.verbose:  # they name each unknown value by itself; `_sentence` is one for all
        for log in (driver.log, details.log):
            log.setLevel(logging.ERROR)
    chosen = Filter.of(options)
    foreign = options.foreign or "foreign" in chosen.kinds
    given = ["inactive", "dom0", *(["foreign"] if foreign else [])]
    images_deadline = options.timeout * _IMAGES_SHARE

    def ask(host: Host) -> _HostUsage:
        looked_at: list[Instance] = []

        def matches(instance: Instance) -> bool:
            looked_at.append(instance)
            return chosen.matches(instance)

        compute = ComputeDriver(host, images_deadline=images_deadline)
        usage = compute.usage(matches, include_foreign=foreign)
        return _HostUsage(
            usage,
            len(looked_at),
            chosen.unjudged(looked_at),
            hidden=None if looked_at else hidden.kinds_on(host, given),
        )

    def uuids(used: _HostUsage) -> list[UUID]:
        return [one.uuid for one in used.usage.instances]

    ours = selection.ours(options)
    replies, status = hosts.ask(options, ask, ours, domains=uuids, among=among)
    hosts.complain_of_doubles(replies, "shown twice, and counted once in the total over hosts")
    for host, used, _ in replies:
        if used.hidden is not None:
            hidden.explain(host, used.hidden, given)
        elif used.looked_at and not used.usage.instances:
            why = chosen.without_match(used.looked_at, widest=foreign)
            terminal.complain(f"{short(host)}: {why}")
        if used.unjudged:
            terminal.complain(f"{short(host)}: {used.unjudged}")
        if used.usage.unknown:
            terminal.complain(f"{short(host)}: {sentence(used.usage.unknown)}")
    if replies:
        used_by = [HostReply(host, used.usage, same_as) for host, used, same_as in replies]
        several = among is not None or len(hosts.distinct(options.connect)) > 1
        terminal.write(shown.text(options, used_by, several=several), exact=options.exact)
    return status


def sentence(unknown: Sequence[str]) -> str:
    """Return one line, of bounded length, that names what is not known."""
    named = "; ".join(short(name, _LONGEST) for name in unknown[:_NAMED])
    more = len(unknown) - _NAMED
    rest = f"; and {more:,} more, which -f json names" if more > 0 else ""
    return f"not known, and counted as nothing: {named}{rest}"
