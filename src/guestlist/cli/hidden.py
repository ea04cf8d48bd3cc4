"""What the filters of a command hide, and which options would show it.

In: a host on which no domain matched, and the options that were given. Out: a sentence. It costs
the host two more calls, which only help the user: if one fails there is no sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from guestlist.cli.ls.selection import ALL_DOMAINS
from guestlist.cli.show import terminal
from guestlist.errors import short

if TYPE_CHECKING:
    from guestlist.host import Host
    from guestlist.records import Instance

Kinds = tuple[str, ...]
"""Of one domain: the options, of those in `WHY`, without which it is not shown."""

WHY = {"inactive": "not running", "foreign": "launched by others", "dom0": "Domain-0"}
"""By the option that shows them, the kinds of domains that `guestlist ls` hides."""

_INACTIVE, _DOM0 = -1, 0
"""Ids of libvirt's."""


def kinds_on(host: Host, given: Collection[str]) -> Sequence[Kinds] | None:
    """Return the kinds of each domain of the host; None if it cannot tell.

    Empty if all kinds were asked for already. A domain that goes away between the two calls may
    count as foreign.

    Cost: 2 calls of `Host.list_instance_domains`, or none.
    """
    if set(given) == set(WHY):
        return ()
    try:
        domains = [(one.UUID(), one.ID()) for one in host.list_instance_domains(**ALL_DOMAINS)]
        ours = host.list_instance_domains(include_inactive=True, include_dom0=True)
        known = {one.UUID() for one in ours}
    except Exception:
        return None
    return [
        _kinds(active=id != _INACTIVE, dom0=id == _DOM0, ours=uuid in known) for uuid, id in domains
    ]


def kinds_of(instances: Iterable[Instance]) -> Sequence[Kinds]:
    """Return the kinds of each instance of a live view. Cost: none."""
    from guestlist.launcher import Launcher  # noqa: PLC0415  a single list does without

    return [
        _kinds(
            active=one.active,
            dom0=one.launcher is Launcher.DOM0,
            ours=one.launcher is Launcher.NOVA,
        )
        for one in instances
    ]


def _kinds(*, active: bool, dom0: bool, ours: bool) -> Kinds:
    state = () if active else ("inactive",)
    if dom0:
        return (*state, "dom0")
    return state if ours else (*state, "foreign")


def explain(host: str, domains: Collection[Kinds], given: Collection[str]) -> None:
    """Print why a host, by its URI, has nothing to show. `domains` are all its domains."""
    terminal.complain(f"{short(host)}: {sentence(domains, given)}")


def sentence(domains: Collection[Kinds], given: Collection[str]) -> str:
    """Return why there is nothing to show, with counts: the options named show as many domains."""
    if not domains:
        return "there are no domains on this host"
    missing = (tuple(kind for kind in kinds if kind not in given) for kinds in domains)
    hidden = Counter(kinds for kinds in missing if kinds)
    if not hidden:  # the domains that are here now came after the list was taken
        return "nothing matches"
    total = hidden.total()
    most_first = sorted(
        hidden.items(), key=lambda counted: (-counted[1], len(counted[0]), counted[0])
    )
    parts = ", ".join(f"{count} {_reason(kinds)}" for kinds, count in most_first)
    return (
        f"nothing matches; {total} {'domain is' if total == 1 else 'domains are'} hidden: {parts}; "
        "-a shows all"
    )


def _reason(kinds: Kinds) -> str:
    reasons = " and ".join(WHY[kind] for kind in kinds)
    return f"{reasons} ({' '.join(f'--{kind}' for kind in kinds)})"
