"""List the domains of one host or several, once.

In: options. Out: on standard output the domains that match, by host in the order given and then by
name. On standard error: for a host where no domain matches, which domains it has; and which two
URIs lead to one host. Details are read only if a column that is shown or sorted by needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from guestlist.cli import hosts
from guestlist.cli.ls import selection
from guestlist.cli.show import terminal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from uuid import UUID

    from guestlist.cli.exits import Exit
    from guestlist.host import Host
    from guestlist.records import Instance


class _ListedDomains(NamedTuple):
    """The domains that match; if none does, all domains instead, or None if they are not known."""

    matching: Sequence[Instance]
    all_domains: Sequence[Instance] | None


def run(options: argparse.Namespace) -> Exit:
    """Ask the hosts and print.

    Prints nothing on standard output if no host answered: `[]` would be an answer.
    """
    if options.live:
        from guestlist.cli.ls import live  # noqa: PLC0415  the views are not for a single list

        return live.run(options)
    wanted = selection.Selection.of(options)

    def ask(host: Host) -> _ListedDomains:
        matching = host.snapshot(details=wanted.details, **wanted.included).instances
        return _ListedDomains(matching, None if matching else _all_domains(host, wanted.given))

    def uuids(listed: _ListedDomains) -> list[UUID]:
        return [one.uuid for one in listed.matching]

    replies, status = hosts.ask(options, ask, selection.ours(options), domains=uuids)
    hosts.complain_of_doubles(replies, "its domains are listed twice")
    for host, listed, _ in replies:
        if not listed.matching and listed.all_domains is not None:
            _explain(host, listed.all_domains, wanted.given)
    if replies:
        rows = wanted.rows((host, listed.matching) for host, listed, _ in replies)
        terminal.write(wanted.text(rows), exact=wanted.exact)
    return status


def _all_domains(host: Host, given: Sequence[str]) -> Sequence[Instance] | None:
    from guestlist.cli import hidden  # noqa: PLC0415  as a rule some domain matches

    return hidden.all_domains(host, given)


def _explain(host: str, all_domains: Sequence[Instance], given: Sequence[str]) -> None:
    from guestlist.cli import hidden  # noqa: PLC0415  as a rule some domain matches

    hidden.explain(host, all_domains, given)
