"""Print what the guests of a fleet use, host by host and together.

In: options. Out: from hosts, what `guestlist usage` prints of several; from an etcd, the vCPUs and
the memory of its guests, each counted once. Standard error says which values are not known, and
whether the fleet is complete.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping

from guestlist import usage
from guestlist.cli.exits import Exit
from guestlist.cli.fleet import guests, sources
from guestlist.cli.hosts import HostReply
from guestlist.cli.show import terminal, words
from guestlist.cli.usage import run as of_hosts
from guestlist.cli.usage import shown
from guestlist.errors import GuestlistError, short
from guestlist.fleet.rows import FleetSnapshot
from guestlist.host import Host
from guestlist.records import Instance, Snapshot
from guestlist.usage import Usage

NOT_PUBLISHED = (
    "disk_virtual_bytes",
    "disk_allocated_bytes",
    "disk_over_committed_bytes",
    "block_devices",
)
"""The columns of which an etcd has nothing."""


def run(options: argparse.Namespace) -> Exit:
    """Ask the hosts, or add up what the etcd has."""
    try:
        if sources.asks_hosts(options):
            among = _on(options, sources.named_hosts(options))
            return _said(of_hosts.run(options, among), len(among))
        snapshot = sources.look(options, details=True)
    except GuestlistError as error:
        return sources.failed(error)
    chosen = guests.Filter.of(options)
    status = sources.verdict(options, snapshot, chosen)
    if status in (Exit.OK, Exit.PARTIAL):
        replies = list(_by_host(snapshot, chosen))
        unknown = [what for reply in replies for what in reply.value.unknown]
        if unknown:
            terminal.complain(of_hosts.sentence(unknown))
        text = shown.text(options, replies, several=True, not_known=NOT_PUBLISHED)
        terminal.write(text, exact=options.exact)
    return status


def _on(options: argparse.Namespace, named: Mapping[str, Host]) -> dict[str, Host]:
    """Return the hosts of --on.

    Raises:
        NoFleet: there is none.
    """
    is_on = guests.Filter.of(options).is_on
    found = {name: host for name, host in named.items() if is_on(name)}
    if not found:
        patterns = short(",".join(options.on))
        raise sources.NoFleet(f"--on {patterns}: none of the hosts has such a name")
    return found


def _said(status: Exit, hosts: int) -> Exit:
    """Print whether the hosts that were asked all answered, and return the status."""
    if status is Exit.OK:
        terminal.complain(f"complete: {words.number(hosts, 'host')}")
    elif status is Exit.PARTIAL:
        terminal.complain(f"not complete: some of {words.number(hosts, 'host')} are missing")
    return status


def _by_host(snapshot: FleetSnapshot, chosen: guests.Filter) -> Iterator[HostReply[Usage]]:
    """Yield what the guests of each host use. The guests of a host are not in order."""
    instances: defaultdict[str, list[Instance]] = defaultdict(list)
    for row in snapshot.values():
        if chosen.matches(row):
            instances[row.host].append(row.instance)
    for each in snapshot.hosts:
        if chosen.is_on(each.host):
            yield HostReply(each.host, usage.of(Snapshot(instances[each.host])))
