"""Who launched the domains of one open connection, and which of them are ours.

In: domains, and what "ours" means. Out: a `Verdict` for each. The name decides where it can; else
the namespaces in the domain's metadata decide, which the details memory reads once and remembers.
Does not list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import compress
from operator import not_
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import libvirt

from guestlist.handle import Handle
from guestlist.launcher import LaunchedBy, Launcher, NovaLaunched, by_namespaces, recognise
from guestlist.lookup import look_up
from guestlist.peer import Peer
from guestlist.plain import PlainDomains

if TYPE_CHECKING:
    from guestlist.details import DetailsMemory

T = TypeVar("T")
H = TypeVar("H", bound=Handle)

_DOM0 = 0
_DRIVERS_WITHOUT_DOM0 = frozenset({"bhyve", "ch", "lxc", "qemu", "test"})
"""Drivers of libvirt, as URIs name them, that give no domain the id 0. With any other driver the id
of every domain is looked at: on Xen, Domain-0 may bear any name."""


class Verdict(NamedTuple):
    """Who launched a domain, and whether it is ours."""

    launcher: Launcher
    ours: bool


_DOM0_VERDICT = Verdict(Launcher.DOM0, ours=False)


class Ownership:
    """Tells who launched each domain of one connection. Threads may share it.

    Args:
        peer: the connection.
        launched_by: what "ours" means.
        plain: the domains that have no metadata.
        details: returns the details memory; it is called only for a domain that has some.
    """

    def __init__(
        self,
        peer: Peer,
        launched_by: LaunchedBy,
        plain: PlainDomains,
        details: Callable[[], DetailsMemory],
    ) -> None:
        self._peer = peer
        self._plain = plain
        self._launched_by = launched_by
        self._is_nova = type(launched_by) is NovaLaunched  # a subclass may decide otherwise
        self._nova = launched_by if isinstance(launched_by, NovaLaunched) else NovaLaunched()
        self._details = details
        self._may_have_dom0 = peer.location().driver not in _DRIVERS_WITHOUT_DOM0

    def is_told_by_name(self, name: str) -> bool:
        """Return whether a name alone decides both who launched a domain and whether it is ours.

        Cost: none.
        """
        return recognise(name, self._nova) is not None and (
            self._is_nova or self._launched_by.by_name(name) is not None
        )

    def of(self, handle: Handle) -> Verdict | None:
        """Return the verdict; None if only the metadata could tell and the domain is gone.

        A domain is not ours if its name tells the launcher, only its metadata could tell whether
        it is ours, and it is gone.

        Raises:
            libvirt.libvirtError: the metadata could not be read.

        Cost: none where id or name decides, else 1 call, once; 1 more for a handle of another
        connection.
        """
        if handle.id == _DOM0:
            return _DOM0_VERDICT
        launcher = recognise(handle.name, self._nova)
        ours = self._launched_by.by_name(handle.name)
        if launcher is None or ours is None:
            namespaces = self._namespaces(handle)
            if launcher is None:
                if namespaces is None:
                    return None
                launcher = by_namespaces(namespaces, handle.name)
            if ours is None:
                ours = namespaces is not None and self._launched_by.by_metadata(namespaces)
        return Verdict(launcher, ours)

    def matching_domains(
        self, domains: list[libvirt.virDomain], *, include_foreign: bool, include_dom0: bool
    ) -> list[libvirt.virDomain]:
        """Return those of the listed domains that match; see `Host.list_instance_domains`.

        Cost: none; 1 call, once, for each domain whose name does not tell whether it is ours.
        """
        decided: list[libvirt.virDomain] = []
        names = [domain.name() for domain in domains]
        if self._is_nova and not (include_foreign or self._may_have_dom0):
            # Nova's name decides without the id, which costs more to read than the name. The loops
            # run in C: this is most of what a long list costs beside libvirt's own share.
            is_ours = list(map(self._nova.is_surely_ours, names))
            decided = list(compress(domains, is_ours))
            if len(decided) == len(domains):
                return decided
            is_left = list(map(not_, is_ours))
            domains, names = list(compress(domains, is_left)), list(compress(names, is_left))
        matching, unclear = self._sorted_out(
            ((domain, domain.ID(), name) for domain, name in zip(domains, names, strict=True)),
            include_foreign=include_foreign,
            include_dom0=include_dom0,
        )
        ours = self._ours_by_metadata(map(Handle, unclear))
        return decided + matching + [one.domain for one in ours]

    def matching_handles(
        self, handles: Iterable[H], *, include_foreign: bool, include_dom0: bool
    ) -> list[H]:
        """Return those of the handles that match; cost as `matching_domains`."""
        matching, unclear = self._sorted_out(
            ((one, one.id, one.name) for one in handles),
            include_foreign=include_foreign,
            include_dom0=include_dom0,
        )
        return matching + self._ours_by_metadata(unclear)

    def _sorted_out(
        self, listed: Iterable[tuple[T, int, str]], *, include_foreign: bool, include_dom0: bool
    ) -> tuple[list[T], list[T]]:
        """Split what was listed, with id and name: what matches, and what may. Cost: none."""
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

    def _ours_by_metadata(self, handles: Iterable[H]) -> list[H]:
        """Return those that are ours by their metadata. Cost: 1 call for each, once."""
        handles = list(handles)
        if not handles:
            return []
        if unclear := self._with_metadata(handles):
            self._details().read(unclear)
        by_metadata = self._launched_by.by_metadata
        return [
            handle
            for handle in handles
            if (namespaces := self._namespaces(handle)) is not None and by_metadata(namespaces)
        ]

    def _namespaces(self, handle: Handle) -> frozenset[str] | None:
        """Return the namespaces in a domain's metadata; None if the domain is gone."""
        if handle.domain.connect() is not self._peer.connection:  # the last one, perhaps dead
            domain = look_up(self._peer, handle.uuid)
            if domain is None:
                return None
            handle = Handle(domain)
        if not self._with_metadata([handle]):
            return frozenset()
        return self._details().namespaces(handle)

    def _with_metadata(self, handles: Iterable[H]) -> list[H]:
        """Return the domains that may have metadata. Cost: 1 call for each of a few, once."""
        for handle, fetched in self._plain.look(handles):
            self._details().learn(handle, fetched)
        return [handle for handle in handles if not self._plain.holds(handle)]
