"""List the domains of one host or several, once.

In: options. Out: on standard output the domains that match, by host in the order given and then by
name. On standard error: for a host where no domain matches, which domains it has; and which two
URIs lead to one host. States and details are read only if a column that is shown or sorted by needs
them: for names and UUIDs alone (-q) a listing is enough, and nothing is imported that reads more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from guestlist.cli import hosts
from guestlist.cli.ls import selection
from guestlist.cli.show import terminal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from guestlist.cli.exits import Exit
    from guestlist.cli.hidden import Kinds
    from guestlist.cli.ls.selection import NamedDomain, Selection
    from guestlist.host import Host
    from guestlist.records import Instance


class _ListedDomains(NamedTuple):
    """The domains that match; if none does, the kinds of all, or None if the host cannot tell."""

    matching: Sequence[Instance | NamedDomain]
    hidden: Sequence[Kinds] | None


def run(options: argparse.Namespace) -> Exit:
    """Ask the hosts and print.

    Prints nothing on standard output if no host answered: `[]` would be an answer.
    """
    if options.live:
        from guestlist.cli.ls import live  # noqa: PLC0415  the views are not for a single list

        return live.run(options)
    wanted = selection.Selection.of(options)

    def ask(host: Host) -> _ListedDomains:
        matching = _matching(host, wanted)
        return _ListedDomains(matching, None if matching else _kinds(host, wanted.given))

    def uuids(listed: _ListedDomains) -> list[UUID]:
        return [one.uuid for one in listed.matching]

    replies, status = hosts.ask(options, ask, selection.ours(options), domains=uuids)
    hosts.complain_of_doubles(replies, "its domains are listed twice")
    for host, listed, _ in replies:
        if listed.hidden is not None:
            _explain(host, listed.hidden, wanted.given)
    if replies:
        rows = wanted.rows((host, listed.matching) for host, listed, _ in replies)
        terminal.write(wanted.text(rows), exact=wanted.exact)
    return status


def _matching(host: Host, wanted: Selection) -> Sequence[Instance | NamedDomain]:
    """Return the domains that match, by name and then by UUID."""
    if not wanted.names_only:
        return host.snapshot(details=wanted.details, **wanted.included).instances
    domains = host.list_instance_domains(**wanted.included)
    return sorted(selection.NamedDomain(one.name(), UUID(one.UUIDString())) for one in domains)


def _kinds(host: Host, given: Sequence[str]) -> Sequence[Kinds] | None:
    from guestlist.cli import hidden  # noqa: PLC0415  as a rule some domain matches

    return hidden.kinds_on(host, given)


def _explain(host: str, kinds: Sequence[Kinds], given: Sequence[str]) -> None:
    from guestlist.cli import hidden  # noqa: PLC0415  as a rule some domain matches

    hidden.explain(host, kinds, given)
