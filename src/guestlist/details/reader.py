"""One domain's XML to Details, whatever becomes of it.

In: a handle. Out: what could be read, or None where the domain is gone. XML of more than 4 MiB does
not pass the wire (code 39, and the connection lives on): what is asked in its place says vCPUs and
memory, and whether Nova's metadata is there. Raises only where the connection is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

import libvirt

from guestlist import domainxml
from guestlist.errors import Code, one_line, short
from guestlist.handle import INACTIVE_ID, Handle
from guestlist.launcher import NOVA_NAMESPACES
from guestlist.lookup import find_again
from guestlist.peer import Peer
from guestlist.records import Details

_METADATA_ELEMENT = 2


@dataclass(frozen=True, slots=True)
class ReadDetails:
    """What one reading gave. `failure` is one line for the log where it did not give it all."""

    id: int
    details: Details
    namespaces: frozenset[str] | None
    failure: str | None = None


def read(handle: Handle, peer: Peer, *, keep_xml: bool = False) -> ReadDetails | None:
    """ReadDetails the domain's XML; None if the domain is gone.

    `keep_xml`: the document stays in the details.

    Raises:
        libvirt.libvirtError: the connection is lost.

    Cost: 1 call; 2 where the XML could not be had, 3 where `info` fails too.
    """
    try:
        document = peer.call(handle.domain.XMLDesc, 0)
        details = domainxml.parse(document)
    except ValueError as error:
        return _without_xml(handle, peer, str(error))
    except libvirt.libvirtError as error:
        if error.get_error_code() == Code.NO_DOMAIN:
            return None
        if peer.lost(error):
            raise
        return _without_xml(handle, peer, one_line(error))  # `info` tells whether it is gone
    if keep_xml:
        details = replace(details, xml=document)
    if any(name.startswith("xml: ") or name == "domain" for name in details.unknown):
        failure = f"the XML of domain {short(handle.name)!r} is flawed ({details.unknown[0]})"
        return ReadDetails(handle.id, details, None, failure)
    id = handle.id
    if id == INACTIVE_ID and details.id is not None:  # it has started since it was listed
        id = details.id
    return ReadDetails(id, details, details.namespaces)


def nova_namespaces(handle: Handle, peer: Peer) -> frozenset[str] | None:
    """Those of Nova's namespaces that the domain has metadata in; None if the domain is gone.

    Raises:
        libvirt.libvirtError: whatever else libvirt said.

    Cost: 2 calls.
    """
    try:
        return frozenset(uri for uri in NOVA_NAMESPACES if _has_metadata(handle, uri, peer))
    except libvirt.libvirtError as error:
        if find_again(peer, error, handle.uuid) is None:
            return None
        raise


def _without_xml(handle: Handle, peer: Peer, why: str) -> ReadDetails | None:
    """What a domain's `info` tells: some drivers and some XML give no more. None if it is gone."""
    vcpus = memory_kib = current_memory_kib = None
    try:
        _, memory_kib, current_memory_kib, vcpus, _ = peer.call(handle.domain.info)
    except libvirt.libvirtError as error:
        if _is_gone(handle, peer, error):
            return None
    details = replace(
        _nothing_read(handle, "xml", "devices"),
        vcpus=vcpus,
        current_vcpus=vcpus,
        memory_kib=memory_kib,
        current_memory_kib=current_memory_kib,
    )
    return ReadDetails(handle.id, details, None, _cannot_be_read(handle, why))


def unread(handle: Handle, why: str) -> ReadDetails:
    """What is known of a domain whose XML was not read in time. Cost: none."""
    details = _nothing_read(handle, f"xml: {why}")
    return ReadDetails(handle.id, details, None, _cannot_be_read(handle, why))


def _nothing_read(handle: Handle, *unknown: str) -> Details:
    return Details(
        uuid=UUID(bytes=handle.uuid),
        name=handle.name,
        type=None,
        vcpus=None,
        current_vcpus=None,
        memory_kib=None,
        current_memory_kib=None,
        unknown=unknown,
    )


def _cannot_be_read(handle: Handle, why: str) -> str:
    return f"the XML of domain {short(handle.name)!r} cannot be read ({why})"


def _is_gone(handle: Handle, peer: Peer, error: libvirt.libvirtError) -> bool:
    """Whether a call failed because the domain is gone; see `lookup`.

    A look-up that fails on a living connection says nothing of the domain: then it is not gone.
    """
    try:
        return find_again(peer, error, handle.uuid) is None
    except libvirt.libvirtError as other:
        if peer.lost(other):
            raise
        return False


def _has_metadata(handle: Handle, uri: str, peer: Peer) -> bool:
    try:
        peer.call(handle.domain.metadata, _METADATA_ELEMENT, uri)
    except libvirt.libvirtError as error:
        if error.get_error_code() != Code.NO_DOMAIN_METADATA:
            raise
        return False
    return True
