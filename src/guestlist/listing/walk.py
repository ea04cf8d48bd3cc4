"""The walk: a list of all domains where there is no bulk call, which loses no domain.

In: a peer whose libvirt, or whose hypervisor driver, lacks `virConnectListAllDomains`. Out: one
handle per domain. Uses nothing newer than libvirt 0.9.6, and lifecycle events only where they
exist.

To list the active domains alone is easy: a domain that is active throughout keeps its id and is in
any full list of ids. To list active and inactive domains together is not: a domain that starts
between the list of ids and the list of names is in neither. Four things find it all the same:

1. The lists are full (`full_lists`), and taken in the order ids, names, ids, names. A domain that
   is in none of the four has changed its state at least three times meanwhile.
2. An id or name that has no domain when it is looked up belonged to one before. Not every change
   sends an event, or sends it in time: a start that fails sends none. So the lists are taken again
   (`_RollCall`) until each name on the last lists has been found. For an id, once more is enough:
   the domain that had it is on the next lists, since a start takes far longer to fail than the
   lists take.
3. Each change of state sends an event with the UUID. The event may come later than the reply that
   shows the change. So where anything moved, the walk waits for late events: time for the daemon
   to send them, one more reply behind them, and a turn of the event loop. Each UUID that an event
   names is looked up.
4. Each UUID that existed when this connection last looked is looked up unless it was listed.
   `lookupByUUID` is atomic and the authority: "no domain" means gone, whatever a list says.

A round that finds only expected domains proves the list. Where there are no events, or the event
loop is too busy to deliver them, it takes two such rounds in a row. Otherwise another round
follows. Both repetitions have a bound, and the walk raises where it reaches the bound.

Source: libvirt src/conf/virdomainobjlist.c; lateness measured at -4 to +10 ms on libvirt 9.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

import libvirt

from guestlist.errors import Code, ListingUnstable
from guestlist.event_loop import drain
from guestlist.listing.full_lists import active_ids, inactive_names
from guestlist.peer import Peer
from guestlist.unpatched import threading

ROUNDS = 8
"""Rounds before the walk gives up. With events the second round is the last in nearly all cases."""

ROLL_CALLS = 100
"""How often a round may take the lists again because an id or a name on them has no domain."""

LATE = 0.05
"""Seconds within which a daemon sends the event of a change that its replies already show: five
times the worst case measured."""

Key = TypeVar("Key", int, str)


class Walk:
    """The walk over one connection, and the UUIDs that it knows. Threads may share it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._known = _KnownUuids()
        self._has_events: bool | None = None
        self._has_looked = False
        self._subscribing = threading.Lock()

    def active(self) -> list[libvirt.virDomain]:
        """Return the active domains.

        Cost: 1 call and 1 per domain; from 1,024 domains on 2 and 1 per domain.
        """
        peer = self._peer
        listed = (_found(peer, peer.connection.lookupByID, id) for id in active_ids(peer))
        return [domain for domain in listed if domain is not None]

    def everyone(self) -> list[libvirt.virDomain]:
        """Return all domains, active and inactive.

        Raises:
            ListingUnstable: `ROUNDS` rounds all found domains that nothing had announced.

        Cost: on a quiet host 4 calls and 1 per domain. If domains come, go or change meanwhile:
        twice that on the first call of a connection, and 1 for each domain that the lists missed.
        """
        self._subscribe()
        found: dict[str, libvirt.virDomain] = {}
        calm = 0
        for _ in range(ROUNDS):
            events = self._known.events
            listed, moved = self._round()
            announced = self._take_in_events(late=moved or not self._has_looked)
            moved = moved or self._known.events != events or announced != self._has_events
            unannounced = listed.keys() - self._known.all()
            found |= listed
            found |= self._look_up(self._known.all() - found.keys())
            self._known.add(found)
            self._has_looked = True
            calm = 0 if unannounced else calm + 1
            if not moved or calm == (1 if announced else 2):
                return list(found.values())
        raise self._unstable()

    def _subscribe(self) -> None:
        """Register for lifecycle events, if there are any: they name UUIDs. Cost: 1 call, once."""
        with self._subscribing:
            if self._has_events is None:
                lifecycle = self._peer.lifecycle()
                if lifecycle is not None:
                    lifecycle.subscribe(lambda domain, *_: self._known.add_named(domain))
                self._has_events = lifecycle is not None

    def _round(self) -> tuple[dict[str, libvirt.virDomain], bool]:
        """Return every domain on the lists, by UUID, and whether anything moved meanwhile."""
        peer = self._peer
        roll = _RollCall(peer)
        ids, names = set(active_ids(peer)), set(inactive_names(peer))
        ids_again, names_again = set(active_ids(peer)), set(inactive_names(peer))
        answered = roll.call(ids | ids_again, names | names_again)
        if all(answered):
            return roll.present, (ids, names) != (ids_again, names_again)
        for _ in range(ROLL_CALLS):
            ids_answered, names_answered = roll.call(
                set(active_ids(peer)), set(inactive_names(peer))
            )
            if names_answered and (ids_answered or self._has_events):
                return roll.present, True
        raise self._unstable()

    def _unstable(self) -> ListingUnstable:
        return ListingUnstable(
            f"cannot list the domains of {self._peer.label}: there is no bulk call, and "
            "domains change faster than the walk can follow; ask again, or upgrade libvirt to "
            "0.9.13 or newer"
        )

    def _take_in_events(self, *, late: bool) -> bool:
        """Wait for the events of every change until now; return whether all were delivered.

        False where there are no events, and where the event loop is too busy.

        Args:
            late: also wait for the events of changes just now. The daemon sends them within `LATE`
                seconds, before any later reply on the wire, so one more reply brings them into this
                process.

        Cost: 1 call if `late`.
        """
        if not self._has_events:
            return False
        if late:
            threading.Event().wait(LATE)
            self._peer.call(self._peer.connection.numOfDomains)
        return drain()

    def _look_up(self, uuids: Iterable[str]) -> dict[str, libvirt.virDomain]:
        found: dict[str, libvirt.virDomain] = {}
        for uuid in uuids:
            mark = self._known.mark(uuid)
            domain = _found(self._peer, self._peer.connection.lookupByUUIDString, uuid)
            if domain is None:
                self._known.forget(uuid, mark)
            else:
                found[uuid] = domain
        return found


class _RollCall:
    """The domains found by the ids and names on one pair of lists after another."""

    def __init__(self, peer: Peer) -> None:
        self.present: dict[str, libvirt.virDomain] = {}
        self._peer = peer
        self._ids: dict[int, str] = {}  # the UUID that was found by each
        self._names: dict[str, str] = {}

    def call(self, ids: set[int], names: set[str]) -> tuple[bool, bool]:
        """Look up each id and name that has no domain yet; return whether all ids and names have.

        Two names by which one domain was found are both looked up again: on one list they are two
        domains, and one of them took the name that the other gave up.
        """
        connection = self._peer.connection
        doubled = self._doubled(names)
        ids_answered = self._look_up(connection.lookupByID, ids - self._ids.keys(), self._ids)
        names_answered = self._look_up(
            connection.lookupByName, (names - self._names.keys()) | doubled, self._names
        )
        return ids_answered, names_answered and not self._doubled(names)

    def _look_up(
        self, lookup: Callable[[Key], libvirt.virDomain], keys: set[Key], answers: dict[Key, str]
    ) -> bool:
        """Look each key up; return whether each has a domain."""
        for key in keys:
            answers.pop(key, None)
            domain = _found(self._peer, lookup, key)
            if domain is not None:
                answers[key] = domain.UUIDString()
                self.present[answers[key]] = domain
        return keys <= answers.keys()

    def _doubled(self, names: set[str]) -> set[str]:
        answered = {name: self._names[name] for name in names & self._names.keys()}
        times = Counter(answered.values())
        return {name for name, uuid in answered.items() if times[uuid] > 1}


class _KnownUuids:
    """The UUIDs that exist as far as one connection knows: seen by it, or named by an event."""

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
        """Forget a UUID that is gone, unless an event has named it again since `mark` was read."""
        with self._lock:
            if self._marks.get(uuid) == mark:
                self._marks.pop(uuid, None)


def _found(
    peer: Peer, lookup: Callable[[Key], libvirt.virDomain], key: Key
) -> libvirt.virDomain | None:
    """Return the domain with this key, None if there is none. Cost: 1 call."""
    try:
        return peer.call(lookup, key)
    except libvirt.libvirtError as error:
        if error.get_error_code() != Code.NO_DOMAIN:
            raise
        return None
