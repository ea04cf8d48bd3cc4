"""One domain's XML, read to Details, also where the XML cannot be read.

In: a handle. Out: what could be read, or None where the domain is gone. XML of more than 4 MiB does
not pass the wire (code 39; the connection lives on). Other calls then tell vCPUs and memory, and
whether the domain has Nova's metadata. Raises only where the connection is lost.
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
    """What was read of a domain under its id; `failure` is a line for the log if not all was."""

    id: int
    details: Details
    namespaces: frozenset[str] | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class XmlReader:
    """Reads the XML of one domain; `keep_xml` keeps the document in the details."""

    keep_xml: bool = False

    def read(self, handle: Handle, peer: Peer) -> ReadDetails | None:
        """Read the domain's XML; None if the domain is gone.

        Raises:
            libvirt.libvirtError: the connection is lost.

        Cost: 1 call; 2 where libvirt does not give the XML, 3 where `info` fails too.
        """
        fetched = self.fetch(handle, peer)
        return self.parse(handle, fetched, peer) if isinstance(fetched, str) else fetched

    def fetch(self, handle: Handle, peer: Peer) -> str | ReadDetails | None:
        """Return the document, or what is known without it; None if the domain is gone.

        Errors and cost as `read`.
        """
        try:
            return peer.call(handle.domain.XMLDesc, 0)
        except (ValueError, libvirt.libvirtError) as error:
            return self.unfetched(handle, error, peer)

    def unfetched(
        self, handle: Handle, error: ValueError | libvirt.libvirtError, peer: Peer
    ) -> ReadDetails | None:
        """Return what is known where the document could not be fetched; None if the domain is gone.

        Raises:
            libvirt.libvirtError: `error` itself, if the connection is lost.

        Cost: none; 1 call where the domain may exist.
        """
        if not isinstance(error, libvirt.libvirtError):
            return _without_xml(handle, peer, str(error))
        if error.get_error_code() == Code.NO_DOMAIN:
            return None
        if peer.lost(error):
            raise error
        return _without_xml(handle, peer, one_line(error))  # `info` tells whether it is gone

    def parse(self, handle: Handle, document: str, peer: Peer) -> ReadDetails | None:
        """Return what the document says; None if it says nothing and the domain is gone.

        Raises:
            libvirt.libvirtError: the connection is lost.

        Cost: none; 1 or 2 calls where the document cannot be parsed at all.
        """
        try:
            details = domainxml.parse(document)
        except ValueError as error:
            return _without_xml(handle, peer, str(error))
        if self.keep_xml:
            details = replace(details, xml=document)
        if any(name.startswith("xml: ") or name == "domain" for name in details.unknown):
            failure = f"the XML of domain {short(handle.name)!r} is flawed ({details.unknown[0]})"
            return ReadDetails(handle.id, details, None, failure)
        id = handle.id
        if id == INACTIVE_ID and details.id is not None:  # it has started since it was listed
            id = details.id
        return ReadDetails(id, details, details.namespaces)


def nova_namespaces(handle: Handle, peer: Peer) -> frozenset[str] | None:
    """Return Nova's namespaces that the domain has metadata in; None if the domain is gone.

    Raises:
        libvirt.libvirtError: a call failed for another reason.

    Cost: 2 calls.
    """
    try:
        return frozenset(uri for uri in NOVA_NAMESPACES if _has_metadata(handle, uri, peer))
    except libvirt.libvirtError as error:
        if find_again(peer, error, handle.uuid) is None:
            return None
        raise


def _without_xml(handle: Handle, peer: Peer, why: str) -> ReadDetails | None:
    """Return what a domain's `info` tells, in place of its XML; None if the domain is gone."""
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
    """Return what is known of a domain whose XML was not read in time. Cost: none."""
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
    """Return whether a call failed because the domain is gone; see `lookup`.

    False where the look-up itself fails on a living connection: that tells nothing of the domain.
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
