"""The walk: a list where there is no bulk call, with nobody lost.

In: a peer whose libvirt, or whose hypervisor driver, lacks `virConnectListAllDomains`. Out: one
handle per domain. Uses nothing newer than libvirt 0.9.6, lifecycle events only where there are any.

Active domains alone are easy: one that is active throughout has one id throughout and is in any
whole list of ids. Active and inactive ones together are not: a domain that starts between the list
of ids and the list of names is in neither. What finds it all the same:

1. Lists that are whole (`full_lists`), taken ids, names, ids, names in a row. A domain that is in
   none of the four changed state at least three times meanwhile.
2. An id or name that nobody answers to any more was somebody's, and not every change sends an
   event, or sends it in time: a start that fails sends none. So the lists are taken again
   (`_RollCall`), until each name on the last ones has been answered to; for an id, once:
   whoever had it is on the next lists, as a start takes far longer to fail than lists to take.
3. Each change of state is an event with the UUID. It may come later than the reply that shows it,
   so where anything moved the walk waits until the late ones are in: time for the daemon to send
   them, a reply behind them, a turn of the loop. Each UUID named is looked up.
4. Each UUID that existed when this connection last looked is looked up unless it was listed.
   `lookupByUUID` is atomic and the authority: "no domain" means gone, whatever a list said.

A round of that which finds nobody who was not expected proves the list (where there are no events,
or the loop is too busy to hand them out, two in a row); otherwise there is another round. Both
repetitions are bounded, and the walk raises where it hits the bound.

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
"""Rounds before the walk gives up. With events the second round is the last but for freak cases."""

ROLL_CALLS = 100
"""How often a round may take the lists again because somebody on them did not answer."""

LATE = 0.05
"""Seconds within which a daemon sends the event of a change that its replies show already: five
times the worst measured."""

Key = TypeVar("Key", int, str)


class Walk:
    """The walk over one connection, and whom it knows there. Threads may share it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._known = _KnownUuids()
        self._has_events: bool | None = None
        self._has_looked = False
        self._subscribing = threading.Lock()

    def active(self) -> list[libvirt.virDomain]:
        """The active domains. Cost: 1 call and 1 per domain (2 and 1 from 1,024 domains up)."""
        peer = self._peer
        listed = (_found(peer, peer.connection.lookupByID, id) for id in active_ids(peer))
        return [domain for domain in listed if domain is not None]

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
        """Have the lifecycle events tell who exists, where there are any. Cost: 1 call, once."""
        with self._subscribing:
            if self._has_events is None:
                lifecycle = self._peer.lifecycle()
                if lifecycle is not None:
                    lifecycle.subscribe(lambda domain, *_: self._known.add_named(domain))
                self._has_events = lifecycle is not None

    def _round(self) -> tuple[dict[str, libvirt.virDomain], bool]:
        """Everybody whom the lists show, by UUID, and whether anything moved meanwhile."""
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
            f"cannot list the domains of {self._peer.label}: there is no bulk call, and they "
            "change faster than a walk can follow; ask again, or upgrade libvirt to 0.9.13 or newer"
        )

    def _take_in_events(self, *, late: bool) -> bool:
        """Whether there are events, and those of every change until now have been handed out.

        Of changes just now, the late ones too: the daemon sends an event within `LATE`; it precedes
        any later reply on the wire, so that one more reply has it in this process. Cost: 1 call if
        `late`.
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
    """Who is present, called by the ids and names on one pair of lists after another."""

    def __init__(self, peer: Peer) -> None:
        self.present: dict[str, libvirt.virDomain] = {}
        self._peer = peer
        self._ids: dict[int, str] = {}  # the UUID that has answered to each
        self._names: dict[str, str] = {}

    def call(self, ids: set[int], names: set[str]) -> tuple[bool, bool]:
        """Look up each that nobody has answered to yet; whether all ids, and all names, now are.

        Two names that one domain has answered to are both looked up again: on one list they are
        two domains, and one of them took the name that the other gave up.
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
        """Look each key up; whether each has a domain."""
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


def _found(
    peer: Peer, lookup: Callable[[Key], libvirt.virDomain], key: Key
) -> libvirt.virDomain | None:
    """The domain, or None where there is none. Cost: 1 call."""
    try:
        return peer.call(lookup, key)
    except libvirt.libvirtError as error:
        if error.get_error_code() != Code.NO_DOMAIN:
            raise
        return None
