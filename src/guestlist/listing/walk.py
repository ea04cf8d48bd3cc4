"""The walk: a list where there is no bulk call, with nobody lost.

In: a peer whose libvirt, or whose hypervisor driver, lacks `virConnectListAllDomains`. Out: one
handle per domain. Uses nothing newer than libvirt 0.9.6, lifecycle events only where there are any.

Active domains alone are easy: one that is active throughout has one id throughout and is in any
whole list of ids. Active and inactive ones together are not: a domain that starts between the list
of ids and the list of names is in neither. What finds it all the same:

1. Lists that are whole (`uncut`), taken ids, names, ids, names in a row. Whoever is in none of the
   four changed state at least three times meanwhile.
2. Each change of state is an event that names the UUID. It may come later than the reply that shows
   it, so where anything moved the walk waits for late ones. Each UUID named is looked up.
3. Each UUID that existed when this connection last looked is looked up unless it was listed.
4. `lookupByUUID` is atomic and the authority: "no domain" means gone, whatever a list said.

A round of that which finds nobody who was not expected proves the list; otherwise there is another
round, at most `ROUNDS` in all. A start that fails sends no event, but takes far longer than four
lists do; the lists find it.

Source: libvirt src/conf/virdomainobjlist.c; lateness measured at -4 to +10 ms on libvirt 9.0.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

import libvirt

from guestlist.connection import Peer
from guestlist.errors import Code, ListingUnstable
from guestlist.listing.uncut import active_ids, inactive_names

ROUNDS = 8
"""Rounds before the walk gives up. With events the second round is the last but for freak cases."""

LATE = 0.05
"""Seconds an event may lag behind the reply that shows its effect: 5 times the worst measured."""

Key = TypeVar("Key", int, str)


class Walk:
    """The walk over one connection, and whom it knows there. Threads may share it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._known = _Known()
        self._has_events: bool | None = None
        self._subscribing = threading.Lock()

    def active(self) -> list[libvirt.virDomain]:
        """The active domains. Cost: 1 call and 1 per domain (2 and 1 from 1,024 domains up)."""
        connection = self._peer.connection
        return list(_resolve(connection.lookupByID, active_ids(connection)).values())

    def everyone(self) -> list[libvirt.virDomain]:
        """The domains, active and inactive.

        Raises:
            ListingUnstable: after `ROUNDS` rounds there still were domains that nothing announced.

        Cost: on a quiet host 4 calls and 1 per domain; where domains come, go or change meanwhile,
        twice that on the first call of a connection, and 1 for each that the lists missed.
        """
        self._subscribe()
        found: dict[str, libvirt.virDomain] = {}
        calm = 0
        for _ in range(ROUNDS):
            before = self._known.all()
            events = self._known.events
            listed, moved = self._round()
            if moved or not before:
                threading.Event().wait(LATE)
            moved = moved or self._known.events != events
            unannounced = listed.keys() - self._known.all()
            found |= listed
            found |= self._look_up(self._known.all() - found.keys())
            self._known.add(found)
            calm = 0 if unannounced else calm + 1
            if not moved or calm == (1 if self._has_events else 2):
                return list(found.values())
        raise ListingUnstable(
            f"cannot list the domains of {self._peer.whom}: without libvirt's bulk call they "
            f"changed faster than they can be walked ({ROUNDS} rounds); ask again, or upgrade "
            "libvirt to 0.9.13 or newer"
        )

    def _subscribe(self) -> None:
        """Have the lifecycle events tell who exists, where there are any. Cost: 1 call, once."""
        with self._subscribing:
            if self._has_events is None:
                lifecycle = self._peer.lifecycle()
                if lifecycle is not None:
                    lifecycle.subscribe(lambda domain, *_: self._known.add_named(domain))
                self._has_events = lifecycle is not None

    def _round(self) -> tuple[dict[str, libvirt.virDomain], bool]:
        """Ids, names, ids, names; then a handle for each. By UUID, and whether anything moved."""
        connection = self._peer.connection
        ids, names = active_ids(connection), inactive_names(connection)
        ids_again, names_again = active_ids(connection), inactive_names(connection)
        both_ids, both_names = {*ids, *ids_again}, {*names, *names_again}
        by_id = _resolve(connection.lookupByID, both_ids)
        by_name = _resolve(connection.lookupByName, both_names)
        moved = (
            len(both_ids) + len(both_names) > len(by_id | by_name)
            or set(ids) != set(ids_again)
            or set(names) != set(names_again)
        )
        return by_id | by_name, moved

    def _look_up(self, uuids: Iterable[str]) -> dict[str, libvirt.virDomain]:
        found: dict[str, libvirt.virDomain] = {}
        for uuid in uuids:
            mark = self._known.mark(uuid)
            handles = _resolve(self._peer.connection.lookupByUUIDString, [uuid])
            if not handles:
                self._known.forget(uuid, mark)
            found |= handles
        return found


class _Known:
    """The UUIDs that exist as far as one connection knows: those it saw, and those events named."""

    def __init__(self) -> None:
        self.events = 0
        self._marks: dict[str, int] = {}  # by UUID: how many events there were when it was named
        self._lock = threading.Lock()

    def all(self) -> set[str]:
        with self._lock:
            return set(self._marks)

    def add(self, uuids: Iterable[str]) -> None:
        with self._lock:
            for uuid in uuids:
                self._marks.setdefault(uuid, self.events)

    def add_named(self, domain: libvirt.virDomain) -> None:
        uuid = domain.UUIDString()
        with self._lock:
            self.events += 1
            self._marks[uuid] = self.events

    def mark(self, uuid: str) -> int | None:
        with self._lock:
            return self._marks.get(uuid)

    def forget(self, uuid: str, mark: int | None) -> None:
        """Forget one that is gone, unless an event has named it again since `mark` was read."""
        with self._lock:
            if self._marks.get(uuid) == mark:
                self._marks.pop(uuid, None)


def _resolve(
    lookup: Callable[[Key], libvirt.virDomain], keys: Iterable[Key]
) -> dict[str, libvirt.virDomain]:
    """The handles by UUID; a key that nobody has any more is left out. Cost: 1 call per key."""
    found = {}
    for key in keys:
        try:
            domain = lookup(key)
        except libvirt.libvirtError as error:
            if error.get_error_code() != Code.NO_DOMAIN:
                raise
        else:
            found[domain.UUIDString()] = domain
    return found
