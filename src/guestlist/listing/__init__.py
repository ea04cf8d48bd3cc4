"""The list of all domains: the bulk call, and the walk where there is none.

In: a peer. Out: a `libvirt.virDomain` handle of every domain, or of every active one. One call, and
what is not wanted is left out elsewhere: two bulk calls added up lose a domain that changes between
them. Chooses the walk only where libvirt says that the bulk call does not exist; any other failure
is raised. Opens nothing, translates one error, and knows neither states nor launchers.

    __init__    the list of one connection: which way it goes, and why it fails
    walk        the list without the bulk call
    full_lists  the two old list calls, never cut short

Source: libvirt src/conf/virdomainobjlist.c (membership is taken at one instant under the list's
lock, each domain filtered and exported slightly later under its own).
"""

from __future__ import annotations

import logging

import libvirt

from guestlist.errors import Code, TooManyDomains, codes
from guestlist.listing.walk import Walk
from guestlist.peer import Peer, unsupported
from guestlist.unpatched import threading

log = logging.getLogger(__name__)

ALL = 0
ACTIVE = 1
"""Flags of virConnectListAllDomains; older bindings lack VIR_CONNECT_LIST_DOMAINS_ACTIVE."""

_MOST_IN_A_MESSAGE = 16_384


class Listing:
    """The list of one connection, and which way it is made there. Threads may share it."""

    def __init__(self, peer: Peer) -> None:
        self.bulk: bool | None = None
        """Whether the bulk call exists here; None before the first list."""
        self._peer = peer
        self._walk: Walk | None = None
        self._choosing = threading.Lock()

    def domains(self, *, include_inactive: bool) -> list[libvirt.virDomain]:
        """Return every domain, or every active one; each exactly once.

        Raises:
            libvirt.libvirtError: the call failed.
            TooManyDomains, ListingUnstable: see `Host.list_instance_domains`.

        Cost: 1 call, or the walk's.
        """
        if self.bulk is not False:
            peer = self._peer
            flags = ALL if include_inactive else ACTIVE
            try:
                domains = peer.call(peer.connection.listAllDomains, flags)
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

    def raise_if_too_many(self, error: Exception) -> None:
        """Raise `TooManyDomains` in place of an error that more domains than fit may explain.

        libvirt's own code for that is "internal error", and its text is translated. So the domains
        are counted. Cost: 2 calls where the code fits, else none.
        """
        if not isinstance(error, libvirt.libvirtError):
            return
        if error.get_error_code() not in (Code.INTERNAL_ERROR, Code.RPC) or not self._peer.alive():
            return
        peer, connection = self._peer, self._peer.connection
        there = peer.call(connection.numOfDomains) + peer.call(connection.numOfDefinedDomains)
        if there > _MOST_IN_A_MESSAGE:
            raise TooManyDomains(
                f"cannot list the domains of {peer.label}: there are about {there} and "
                f"one message carries {_MOST_IN_A_MESSAGE}; list the running ones only, or "
                "run on the host with a driver that needs no daemon",
                **codes(error),
            ) from error

    def _the_walk(self) -> Walk:
        with self._choosing:
            if self._walk is None:
                log.warning(
                    "%s has no bulk listing (%s): walking instead, at a call per domain; "
                    "upgrade to libvirt 0.9.13 or newer",
                    self._peer.label,
                    self._peer.versions(),
                )
                self._walk = Walk(self._peer)
            return self._walk
