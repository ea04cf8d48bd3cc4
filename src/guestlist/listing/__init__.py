"""list_instance_domains: the bulk call, and the walk where there is none.

In: a peer, and what "ours" means. Out: `libvirt.virDomain` handles of the domains that match.
One call, then filtering here: two bulk calls added up lose a domain that changes between them.
Chooses the walk only where libvirt says that the bulk call does not exist; any other failure is the
caller's to hear. Opens nothing, translates no errors but one, knows no states.

Source: libvirt src/conf/virdomainobjlist.c (membership is taken at one instant under the list's
lock, each domain filtered and exported slightly later under its own).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

import libvirt

from guestlist import domainxml
from guestlist.connection import Peer, unsupported
from guestlist.errors import Code, TooManyDomains
from guestlist.launcher import (
    NOVA_NAMESPACES,
    LaunchedBy,
    Launcher,
    NovaLaunched,
    by_namespaces,
    recognise,
)
from guestlist.listing.walk import Walk

log = logging.getLogger(__name__)

ALL = 0
ACTIVE = 1
"""Flags of virConnectListAllDomains; older bindings lack VIR_CONNECT_LIST_DOMAINS_ACTIVE."""

_DOM0 = 0
INACTIVE_ID = -1
_METADATA_ELEMENT = 2
_MOST_IN_A_MESSAGE = 16_384


class Listing:
    """The listing over one connection: which way it goes there, and what it has learned.

    Threads may share it.

    What is remembered: of a domain whose name does not say whose it is, the namespaces in its
    metadata, under its UUID and id. An active domain's id is new at every start, and its metadata
    is written before it starts, so what was read stays true while both stay; an inactive domain
    (id -1) is asked again when it is next seen under an id. It is forgotten when a listing that
    would have shown it does not, and with the connection. The one thing that can go stale is
    metadata that somebody edits by hand on a domain that neither starts nor stops: Nova never does.
    """

    def __init__(self, peer: Peer, launched_by: LaunchedBy) -> None:
        self.peer = peer
        self.bulk: bool | None = None
        self.bulk_stats: bool | None = None
        self._launched_by = launched_by
        self._nova = launched_by if isinstance(launched_by, NovaLaunched) else NovaLaunched()
        self._walk: Walk | None = None
        self._choosing = threading.Lock()
        self._namespaces: dict[str, tuple[int, frozenset[str]]] = {}
        self._asking = threading.Lock()

    def instance_domains(
        self, *, include_inactive: bool, include_foreign: bool, include_dom0: bool
    ) -> list[libvirt.virDomain]:
        """The domains that match; see `Host.list_instance_domains`."""
        domains = self.domains(include_inactive=include_inactive)
        self.forget_absent(domains, include_inactive=include_inactive)
        return self.select(domains, include_foreign=include_foreign, include_dom0=include_dom0)

    def select(
        self, domains: Iterable[libvirt.virDomain], *, include_foreign: bool, include_dom0: bool
    ) -> list[libvirt.virDomain]:
        """Those of the listed domains that are ours, and the others asked for.

        Cost: 1 call for each whose name cannot tell, once.
        """
        by_name = self._launched_by.by_name
        matching, unclear = [], []
        for domain in domains:
            if domain.ID() == _DOM0:
                if include_dom0:
                    matching.append(domain)
            elif include_foreign or (ours := by_name(domain.name())):
                matching.append(domain)
            elif ours is None:
                unclear.append(domain)
        return matching + [domain for domain in unclear if self._is_ours_by_metadata(domain)]

    def forget_absent(
        self, domains: Iterable[libvirt.virDomain], *, include_inactive: bool
    ) -> None:
        """Forget the metadata of those that a listing would have shown and did not."""
        if not self._namespaces:
            return
        listed = {domain.UUIDString() for domain in domains}
        with self._asking:
            for uuid, (id, _) in list(self._namespaces.items()):
                if uuid not in listed and (include_inactive or id != INACTIVE_ID):
                    del self._namespaces[uuid]

    def domains(self, *, include_inactive: bool) -> list[libvirt.virDomain]:
        """Every domain, or every active one; each exactly once.

        Raises:
            libvirt.libvirtError: the call failed.
            TooManyDomains, ListingUnstable: see `Host.list_instance_domains`.

        Cost: 1 call, or the walk's.
        """
        if self.bulk is not False:
            try:
                domains = self.peer.connection.listAllDomains(ALL if include_inactive else ACTIVE)
            except (libvirt.libvirtError, AttributeError) as error:
                if not unsupported(error):
                    self.raise_if_too_many(error)
                    raise
                self.bulk = False
            else:
                self.bulk = True
                return domains
        walk = self._the_walk()
        return walk.everyone() if include_inactive else walk.active()

    def launcher(self, domain: libvirt.virDomain) -> Launcher:
        """Who launched it. Cost: none where its id or name tells, else 1 call, remembered.

        Raises:
            libvirt.libvirtError: code 42 if the domain is gone.
        """
        if domain.ID() == _DOM0:
            return Launcher.DOM0
        name = domain.name()
        return recognise(name, self._nova) or by_namespaces(self._metadata_of(domain), name)

    def _is_ours_by_metadata(self, domain: libvirt.virDomain) -> bool:
        try:
            return self._launched_by.by_metadata(self._metadata_of(domain))
        except libvirt.libvirtError as error:
            if error.get_error_code() == Code.NO_DOMAIN:  # gone since it was listed
                return False
            raise

    def _metadata_of(self, domain: libvirt.virDomain) -> frozenset[str]:
        """The namespaces in the domain's metadata, asked for once per UUID and id."""
        uuid, id = domain.UUIDString(), domain.ID()
        with self._asking:
            known = self._namespaces.get(uuid)
            if known is None or known[0] != id:
                known = id, _ask_for_namespaces(domain)
                self._namespaces[uuid] = known
            return known[1]

    def _the_walk(self) -> Walk:
        with self._choosing:
            if self._walk is None:
                log.warning(
                    "%s has no bulk listing (%s): walking instead, at a call per domain; "
                    "upgrade to libvirt 0.9.13 or newer",
                    self.peer.whom,
                    self.peer.versions(),
                )
                self._walk = Walk(self.peer)
            return self._walk

    def raise_if_too_many(self, error: Exception) -> None:
        """Judge by count: libvirt's own code for it is "internal error", its text is translated."""
        if isinstance(error, libvirt.libvirtError) and error.get_error_code() in (
            Code.INTERNAL_ERROR,
            Code.RPC,
        ):
            connection = self.peer.connection
            if not self.peer.alive():
                return
            there = connection.numOfDomains() + connection.numOfDefinedDomains()
            if there > _MOST_IN_A_MESSAGE:
                raise TooManyDomains(
                    f"cannot list the domains of {self.peer.whom}: there are about {there} and one "
                    f"message carries {_MOST_IN_A_MESSAGE}; list the running ones only, or run on "
                    "the host with a driver that needs no daemon"
                ) from error


def _ask_for_namespaces(domain: libvirt.virDomain) -> frozenset[str]:
    """Read the namespaces off the domain's XML; of one whose XML cannot be read, Nova's alone.

    The XML is one call, where `virDomainGetMetadata` wants one for each exact URI and does not
    exist on the libvirts that need the walk. But XML of more than 4 MiB does not pass the wire
    (code 39, and the connection lives on), and a stranger's must not spoil the list of ours.

    Cost: 1 call; for such a domain 3.
    """
    try:
        return domainxml.metadata_namespaces(domain.XMLDesc(0))
    except ValueError:
        pass
    except libvirt.libvirtError as error:
        if error.get_error_code() != Code.RPC:
            raise
    return frozenset(uri for uri in NOVA_NAMESPACES if _has_metadata(domain, uri))


def _has_metadata(domain: libvirt.virDomain, uri: str) -> bool:
    try:
        domain.metadata(_METADATA_ELEMENT, uri)
    except libvirt.libvirtError as error:
        if error.get_error_code() != Code.NO_DOMAIN_METADATA:
            raise
        return False
    return True
