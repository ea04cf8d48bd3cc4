"""What the filters of a command kept back, and which options would show it.

In: a host where nothing matched, and the options that were given. Out: a sentence. Asks the host
once more, and only to be helpful: a failure is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from guestlist.host import Host
from guestlist.launcher import Launcher
from guestlist.records import Instance

WHY = {"inactive": "not running", "foreign": "launched by others", "dom0": "Domain-0"}
"""By the option that shows them, the kinds of domains that `guestlist ls` hides."""


def everybody(host: Host, given: Collection[str]) -> Sequence[Instance] | None:
    """Everybody on the host, unless they were asked for already; None if that cannot be told.

    Cost: 1 call, or none.
    """
    if set(given) == set(WHY):
        return ()
    try:
        return host.snapshot(
            include_inactive=True, include_foreign=True, include_dom0=True, details=False
        ).instances
    except Exception:
        return None


def sentence(everybody: Collection[Instance], given: Collection[str]) -> str:
    """Why there is nothing to show, counted so that the options named do show as many."""
    if not everybody:
        return "there are no domains on this host"
    missing = (tuple(kind for kind in _kinds(one) if kind not in given) for one in everybody)
    hidden = Counter(kinds for kinds in missing if kinds)
    if not hidden:  # whoever is here now was not when the list was taken
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
