"""Look-ups by UUID: whether a domain exists, which no other call tells on every driver.

In: a peer, a UUID, and perhaps an error. Out: a handle, or None where the domain is gone. A call
about a domain that is gone fails with code 42 on QEMU and LXC of any age. Other drivers use other
codes: the test drivers of libvirt 0.9.12 and 1.2.7 answer `state`, `info` and `XMLDesc` with code
8, other drivers with code 1. `lookupByUUID` gives code 42 on all of them, and is atomic.

Looks up by the string: libvirt-python before 6.6 cannot take bytes on Python 3.10 and later
(SystemError: PY_SSIZE_T_CLEAN).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import libvirt

from guestlist.errors import Code
from guestlist.peer import Peer, unsupported

T = TypeVar("T")


def as_uuid(uuid: UUID | str) -> UUID:
    """Return a UUID that a caller gave as such, or as text.

    Raises:
        ValueError: the text is no UUID.
    """
    return uuid if isinstance(uuid, UUID) else UUID(uuid)


def look_up(peer: Peer, uuid: bytes) -> libvirt.virDomain | None:
    """Return the domain with this UUID; None if there is none.

    Raises:
        libvirt.libvirtError: libvirt could not tell.

    Cost: 1 call.
    """
    try:
        return peer.call(peer.connection.lookupByUUIDString, str(UUID(bytes=uuid)))
    except libvirt.libvirtError as error:
        if error.get_error_code() != Code.NO_DOMAIN:
            raise
        return None


_MOST_KNOWN = 1_000
"""Handles that a connection keeps of domains that are asked about one at a time."""


def keep_known(peer: Peer, uuid: bytes, domain: libvirt.virDomain | None) -> None:
    """Keep the handle of a domain that will be asked about again; None: it is gone."""
    if domain is None:
        peer.handles.pop(uuid, None)
    else:
        if len(peer.handles) >= _MOST_KNOWN:
            peer.handles.clear()
        peer.handles[uuid] = domain


def find_again(peer: Peer, error: libvirt.libvirtError, uuid: bytes) -> libvirt.virDomain | None:
    """Return a new handle of the domain about which a call failed; None if the domain is gone.

    Raises:
        libvirt.libvirtError: `error` itself where the connection is lost, or where the look-up
            fails as well.

    Cost: 1 call; none where `error` is code 42, or the connection is lost.
    """
    if error.get_error_code() == Code.NO_DOMAIN:
        return None
    if peer.lost(error):
        raise error
    try:
        return look_up(peer, uuid)
    except libvirt.libvirtError as other:
        if peer.lost(other):
            raise
        raise error from other


def ask_about(
    peer: Peer,
    domains: list[libvirt.virDomain],
    ask: Callable[[list[libvirt.virDomain]], list[T]],
) -> list[T]:
    """Return what one call answers about several domains, some of which may be gone.

    If libvirt fails the call because a domain is gone, it is asked again without that domain.

    Raises:
        libvirt.libvirtError: the call failed for another reason.

    Cost: 1 call. If it fails, 1 for each domain to find which are gone, and 1 more.
    """
    while domains:
        try:
            return peer.call(ask, domains)
        except libvirt.libvirtError as error:
            if unsupported(error) or peer.lost(error):
                raise
            left = [domain for domain in domains if look_up(peer, domain.UUID()) is not None]
            if len(left) == len(domains):
                raise
            domains = left
    return []
