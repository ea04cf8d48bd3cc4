"""Hosts that the command line names twice, under different URIs.

In: hosts, and the domains that each answered with. Out: of each host that was asked already, which
one it is. Two that have a domain in common are one host, or a domain is being migrated: so only
those are asked who they are, and as a rule no host is.

Source: libvirt docs/formatcaps.rst (`<uuid>`: of the firmware, or of libvirtd.conf).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from uuid import UUID

from guestlist.host import Host

Identity = tuple[UUID, str, str] | None
"""The machine's UUID, the type of its hypervisor, and "/system" or "/session", which have domains
of their own. None where libvirt does not tell.
"""


def identity(host: Host) -> Identity:
    """Who the host is. Cost: 6 calls."""
    hypervisor = host.node().hypervisor
    if hypervisor.uuid is None:
        return None
    return hypervisor.uuid, hypervisor.type, host.location.instance


def repeated(
    asked: Sequence[tuple[Host, Collection[UUID]]],
    identities: Callable[[Sequence[Host]], Iterable[Identity]],
) -> Mapping[Host, Host]:
    """Of each host that stands there a second time, the one that it is.

    Args:
        asked: the hosts in order, and the UUIDs of domains of each.
        identities: asks hosts, side by side, for their `identity`.

    Cost: none where no two have a domain in common; else what `identity` costs of those that have.
    """
    suspects = {
        host
        for place, (later, domains) in enumerate(asked)
        for earlier, others in asked[:place]
        if not set(domains).isdisjoint(others)
        for host in (later, earlier)
    }
    in_order = [host for host, _ in asked if host in suspects]
    first: dict[Identity, Host] = {}
    repeats = {}
    for host, who in zip(in_order, identities(in_order), strict=True) if in_order else ():
        if who is not None and first.setdefault(who, host) is not host:
            repeats[host] = first[who]
    return repeats
