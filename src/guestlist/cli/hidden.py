"""What the filters of a command hide, and which options would show it.

In: a host on which no domain matched, and the options that were given. Out: a sentence. It costs
the host one more call, which only helps the user: if that call fails there is no sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from guestlist.cli.ls.selection import ALL_DOMAINS
from guestlist.cli.show import terminal
from guestlist.errors import short
from guestlist.host import Host
from guestlist.launcher import Launcher
from guestlist.records import Instance

WHY = {"inactive": "not running", "foreign": "launched by others", "dom0": "Domain-0"}
"""By the option that shows them, the kinds of domains that `guestlist ls` hides."""


def all_domains(host: Host, given: Collection[str]) -> Sequence[Instance] | None:
    """Return all domains of the host; none if all kinds were asked for; None if it cannot tell.

    Cost: 1 call, or none.
    """
    if set(given) == set(WHY):
        return ()
    try:
        return host.snapshot(details=False, **ALL_DOMAINS).instances
    except Exception:
        return None


def explain(host: str, domains: Collection[Instance], given: Collection[str]) -> None:
    """Print why a host has nothing to show. `domains` are all it has, `host` is its URI."""
    terminal.complain(f"{short(host)}: {sentence(domains, given)}")


def sentence(domains: Collection[Instance], given: Collection[str]) -> str:
    """Return why there is nothing to show, with counts: the options named show as many domains."""
    if not domains:
        return "there are no domains on this host"
    missing = (tuple(kind for kind in _kinds(one) if kind not in given) for one in domains)
    hidden = Counter(kinds for kinds in missing if kinds)
    if not hidden:  # the domains that are here now came after the list was taken
        return "nothing matches"
    total = hidden.total()
    parts = ", ".join(f"{count} {_reason(kinds)}" for kinds, count in hidden.most_common())
    return (
        f"nothing matches; {total} {'domain is' if total == 1 else 'domains are'} hidden: {parts}; "
        "-a shows all"
    )


def _kinds(instance: Instance) -> list[str]:
    kinds = [] if instance.active else ["inactive"]
    match instance.launcher:
        case Launcher.NOVA:
            pass
        case Launcher.DOM0:
            kinds.append("dom0")
        case _:
            kinds.append("foreign")
    return kinds


def _reason(kinds: tuple[str, ...]) -> str:
    reasons = " and ".join(WHY[kind] for kind in kinds)
    return f"{reasons} ({' '.join(f'--{kind}' for kind in kinds)})"
