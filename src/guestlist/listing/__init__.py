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
from collections.abc import Iterable, Mapping
from typing import TypeVar

import libvirt

from guestlist.details import DetailsMemory
from guestlist.errors import Code, TooManyDomains, codes
from guestlist.handle import Handle
from guestlist.launcher import LaunchedBy, Launcher, NovaLaunched, by_namespaces, recognise
from guestlist.listing.walk import Walk
from guestlist.lookup import look_up
from guestlist.peer import Peer, unsupported
from guestlist.records import Instance
from guestlist.unpatched import threading

log = logging.getLogger(__name__)

T = TypeVar("T")
H = TypeVar("H", bound=Handle)

ALL = 0
ACTIVE = 1
"""Flags of virConnectListAllDomains; older bindings lack VIR_CONNECT_LIST_DOMAINS_ACTIVE."""

_DOM0 = 0
_MOST_IN_A_MESSAGE = 16_384


class Listing:
    """The listing over one connection: which way it goes there, and what it has learned.

    Whose a domain is that its name does not tell, its metadata does: `details` remembers it.
    Threads may share it.
    """

    def __init__(self, peer: Peer, launched_by: LaunchedBy, details: DetailsMemory) -> None:
        self.peer = peer
        self.details = details
        self.last: Mapping[bytes, Instance] = {}
        """The instances of the last snapshot with details over this connection, by UUID."""
        self.bulk: bool | None = None
        self.bulk_stats: bool | None = None
        self._launched_by = launched_by
        self._nova = launched_by if isinstance(launched_by, NovaLaunched) else NovaLaunched()
        self._walk: Walk | None = None
        self._choosing = threading.Lock()

    def instance_domains(
        self, *, include_inactive: bool, include_foreign: bool, include_dom0: bool
    ) -> list[libvirt.virDomain]:
        """The domains that match; see `Host.list_instance_domains`."""
        domains = self.domains(include_inactive=include_inactive)
        if self.details:
            listed = {domain.UUID() for domain in domains}
            self.details.discard_absent(listed, include_inactive=include_inactive)
        matching, unclear = self.sorted_out(
            ((domain, domain.ID(), domain.name()) for domain in domains),
            include_foreign=include_foreign,
            include_dom0=include_dom0,
        )
        return matching + [one.domain for one in self.ours_by_metadata(map(Handle, unclear))]

    def sorted_out(
        self,
        listed: Iterable[tuple[T, int, str]],
        *,
        include_foreign: bool,
        include_dom0: bool,
    ) -> tuple[list[T], list[T]]:
        """Of whoever was listed, with id and name: who matches, and who may. Cost: none."""
        by_name = self._launched_by.by_name
        matching, unclear = [], []
        for one, id, name in listed:
            if id == _DOM0:
                if include_dom0:
                    matching.append(one)
            elif include_foreign or (ours := by_name(name)):
                matching.append(one)
            elif ours is None:
                unclear.append(one)
        return matching, unclear

    def ours_by_metadata(self, handles: Iterable[H]) -> list[H]:
        """Those of whom the name cannot tell and the metadata does. Cost: 1 call for each, once."""
        handles = list(handles)
        self.details.read(handles)
        return [handle for handle in handles if self._is_ours_by_metadata(handle)]

    def domains(self, *, include_inactive: bool) -> list[libvirt.virDomain]:
        """Every domain, or every active one; each exactly once.

        Raises:
            libvirt.libvirtError: the call failed.
            TooManyDomains, ListingUnstable: see `Host.list_instance_domains`.

        Cost: 1 call, or the walk's.
        """
        if self.bulk is not False:
            self.peer.calls += 1
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

    def is_told_by_name(self, name: str) -> bool:
        """Whether a name alone tells who launched a domain, and whether it is ours. Cost: none."""
        told = recognise(name, self._nova) is not None
        return told and self._launched_by.by_name(name) is not None

    def launcher(self, handle: Handle) -> Launcher | None:
        """Who launched it; None if only its metadata could tell and it is gone.

        Cost: none where its id or name tells, else 1 call, remembered; 1 more for a handle of
        another connection.
        """
        if handle.id == _DOM0:
            return Launcher.DOM0
        launcher = recognise(handle.name, self._nova)
        if launcher is not None:
            return launcher
        if handle.domain.connect() is not self.peer.connection:  # the last one, perhaps dead
            domain = look_up(self.peer, handle.uuid)
            if domain is None:
                return None
            handle = Handle(domain)
        namespaces = self.details.namespaces(handle)
        return None if namespaces is None else by_namespaces(namespaces, handle.name)

    def is_ours(self, handle: Handle) -> bool:
        """Whether it is ours, as `launched_by` has it; Domain-0 is not.

        Cost: none where its name tells, else 1 call, remembered.
        """
        if handle.id == _DOM0:
            return False
        ours = self._launched_by.by_name(handle.name)
        return self._is_ours_by_metadata(handle) if ours is None else ours

    def _is_ours_by_metadata(self, handle: Handle) -> bool:
        namespaces = self.details.namespaces(handle)
        return namespaces is not None and self._launched_by.by_metadata(namespaces)

    def _the_walk(self) -> Walk:
        with self._choosing:
            if self._walk is None:
                log.warning(
                    "%s has no bulk listing (%s): walking instead, at a call per domain; "
                    "upgrade to libvirt 0.9.13 or newer",
                    self.peer.label,
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
            self.peer.calls += 2
            there = connection.numOfDomains() + connection.numOfDefinedDomains()
            if there > _MOST_IN_A_MESSAGE:
                raise TooManyDomains(
                    f"cannot list the domains of {self.peer.label}: there are about {there} and "
                    f"one message carries {_MOST_IN_A_MESSAGE}; list the running ones only, or "
                    "run on the host with a driver that needs no daemon",
                    **codes(error),
                ) from error
