"""List the domains of one host or several, once.

In: options. Out: on standard output the domains that match, by host in the order given and then by
name. On standard error: for a host where no domain matches, which domains it has; how many domains
the filters cannot judge; and which two URIs lead to one host. States and details are read only if a
column that is shown or sorted by, or a filter, needs them: for names and UUIDs alone (-q) a listing
is enough, and nothing is imported that reads more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast
from uuid import UUID

from guestlist.cli import hosts
from guestlist.cli.ls import selection
from guestlist.cli.show import terminal
from guestlist.errors import short

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from guestlist.cli.exits import Exit
    from guestlist.cli.hidden import Kinds
    from guestlist.cli.ls.selection import NamedDomain, Selection
    from guestlist.host import Host
    from guestlist.records import Instance


class _ListedDomains(NamedTuple):
    """The domains that match, of those looked at.

    If none was there to look at: the kinds of all domains, or None if the host cannot tell.
    """

    matching: Sequence[Instance | NamedDomain]
    looked_at: int
    hidden: Sequence[Kinds] | None
    unjudged: str | None


def run(options: argparse.Namespace) -> Exit:
    """Ask the hosts and print.

    Prints nothing on standard output if no host answered: `[]` would be an answer.
    """
    if options.live:
        from guestlist.cli.ls import live  # noqa: PLC0415  the views are not for a single list

        return live.run(options)
    wanted = selection.Selection.of(options)

    def ask(host: Host) -> _ListedDomains:
        listed = _listed(host, wanted)
        return _ListedDomains(
            wanted.matching(listed),
            len(listed),
            hidden=None if listed else _kinds(host, wanted.given),
            unjudged=_unjudged(listed, wanted),
        )

    def uuids(listed: _ListedDomains) -> list[UUID]:
        return [one.uuid for one in listed.matching]

    replies, status = hosts.ask(options, ask, selection.ours(options), domains=uuids)
    hosts.complain_of_doubles(replies, "its domains are listed twice")
    for host, listed, _ in replies:
        if listed.hidden is not None:
            _explain(host, listed.hidden, wanted.given)
        elif listed.looked_at and not listed.matching:
            terminal.complain(f"{short(host)}: {wanted.why_nothing(listed.looked_at)}")
        if listed.unjudged:
            terminal.complain(f"{short(host)}: {listed.unjudged}")
    if replies:
        rows = wanted.rows((host, listed.matching) for host, listed, _ in replies)
        terminal.write(wanted.text(rows), exact=wanted.exact)
    return status


def _listed(host: Host, wanted: Selection) -> Sequence[Instance | NamedDomain]:
    """Return the domains that are listed, before filters, by name and then by UUID."""
    if not wanted.names_only:
        return host.snapshot(details=wanted.details, **wanted.included).instances
    domains = host.list_instance_domains(**wanted.included)
    return sorted(selection.NamedDomain(one.name(), UUID(one.UUIDString())) for one in domains)


def _unjudged(listed: Sequence[Instance | NamedDomain], wanted: Selection) -> str | None:
    if not wanted.filter.details:
        return None
    return wanted.filter.unjudged(cast("Sequence[Instance]", listed))


def _kinds(host: Host, given: Sequence[str]) -> Sequence[Kinds] | None:
    from guestlist.cli import hidden  # noqa: PLC0415  as a rule some domain matches

    return hidden.kinds_on(host, given)


def _explain(host: str, kinds: Sequence[Kinds], given: Sequence[str]) -> None:
    from guestlist.cli import hidden  # noqa: PLC0415  as a rule some domain matches

    hidden.explain(host, kinds, given)
