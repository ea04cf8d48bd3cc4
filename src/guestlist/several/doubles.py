"""Hosts that are named twice, under different URIs.

In: hosts, and the domains that each answered with. Out: for each host that was asked already, that
earlier host. Two hosts that have a domain in common are one host, or the domain is being migrated:
only such hosts are asked for their identity, and usually there are none.

Source: libvirt docs/formatcaps.rst (`<uuid>`: of the firmware, or of libvirtd.conf).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from uuid import UUID

    from guestlist.host import Host

    Identity = tuple[UUID, str, str, str] | None
    """The machine's UUID and its name, the type of its hypervisor, and "/system" or "/session",
    which have domains of their own. None if libvirt does not tell. The name tells machines apart to
    which their maker has given one UUID. It stops at the first dot: libvirt asks the name service
    for the domain each time, and tells the bare name when there is no answer
    (src/util/virutil.c, `virGetHostname`).
    """


def identity(host: Host) -> Identity:
    """Return the host's identity. Cost: 5 calls, once per connection."""
    uuid = host.machine_uuid()
    if uuid is None:
        return None
    hypervisor = host.hypervisor()
    name, _, _ = hypervisor.hostname.partition(".")
    return uuid, name, hypervisor.type, host.location.instance


def repeated(
    asked: Sequence[tuple[Host, Collection[UUID]]],
    identities: Callable[[Sequence[Host]], Iterable[Identity]],
) -> Mapping[Host, Host]:
    """Return, for each host that is given a second time, the host given first.

    Args:
        asked: the hosts in order, and the UUIDs of domains of each.
        identities: asks hosts, side by side, for their `identity`.

    Cost: none if no two have a domain in common; else what `identity` costs for those that have.
    """
    suspects: set[Host] = set()
    seen: dict[UUID, Host] = {}
    for host, domains in asked:
        for uuid in domains:
            earlier = seen.setdefault(uuid, host)
            if earlier is not host:
                suspects |= {earlier, host}
    in_order = [host for host, _ in asked if host in suspects]
    first: dict[Identity, Host] = {}
    repeats = {}
    for host, found in zip(in_order, identities(in_order), strict=True) if in_order else ():
        if found is not None and first.setdefault(found, host) is not host:
            repeats[host] = first[found]
    return repeats
