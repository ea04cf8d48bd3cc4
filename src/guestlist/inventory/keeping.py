"""Keeping a view in step over one connection: list, ask, compare, read details.

In: a connection, its events, a board. Out: a board that is in step, or the error that ends the
connection. All calls are made by one thread over this one connection, one after the other: so each
answer is newer than the last one. `ledger` enters the answers; `feed` argues when an event comes.

libvirt has no resource version, so "list, then watch from there" does not exist. Events are kept
from before the list is made, and each domain that they name is asked about after it. Two nets are
below that: `rechecks`, for a state that must pass, and a comparison with a new list.

Everything here ends with the connection: the handles of its domains keep its socket open.

Source: libvirt src/conf/virdomainobjlist.c (virDomainObjListConvert skips domains that are gone).
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import libvirt

from guestlist import snapshot
from guestlist.event import EventKind
from guestlist.event_loop import wake
from guestlist.handle import Stated
from guestlist.inventory import feed
from guestlist.inventory.board import Board
from guestlist.inventory.doubt import Doubt, ListRequests, Standing
from guestlist.inventory.facts import Facts
from guestlist.inventory.feed import Feed, Inbox, Raw
from guestlist.inventory.instances import Instances, uuid_of
from guestlist.inventory.ledger import Ledger
from guestlist.inventory.merging import Observation
from guestlist.inventory.options import Options
from guestlist.inventory.progress import Progress
from guestlist.inventory.rechecks import RECHECK_AFTER, Rechecks
from guestlist.session import Session

log = logging.getLogger(__name__)

_MOVES_STATE = EventKind.LIFECYCLE, EventKind.REBOOT

MOST_ASKED = 1_000
"""Domains that are asked about by name. Beyond it a list of all costs no more."""

WITHOUT_EVENTS = 5.0
"""Seconds between two lists on a driver that has no events at all."""


class Keeping:
    """Keeps a board in step over one connection, on one thread."""

    def __init__(
        self,
        session: Session,
        doubt: Doubt,
        *,
        board: Board,
        inbox: Inbox,
        requests: ListRequests,
        facts: Facts,
        progress: Progress,
        options: Options,
    ) -> None:
        self._session = session
        self._doubt = doubt
        self._board = board
        self._inbox = inbox
        self._requests = requests
        self._facts = facts
        self._progress = progress
        self._options = options
        self._instances = Instances(session, details=options.details)
        self._backlog = self._instances.backlog
        self._rechecks = Rechecks()
        self._ledger = Ledger(
            self._instances,
            self._rechecks,
            doubt,
            board=board,
            inbox=inbox,
            progress=progress,
            logs_drift=session.peer.label if options.verify_every else None,
        )
        self._next_list = self._list_began = 0.0

    # For other threads too

    def is_in_doubt(self, uuid: bytes) -> bool:
        """Whether a domain may differ from its row in the view. Cost: no call.

        The order counts: an event that is taken in leaves `names` only after `rechecks` has its
        domain, and `lost` goes only after the standing has fallen.
        """
        return (
            not self._session.peer.alive()
            or self._inbox.names(uuid)
            or not self._doubt.is_whole
            or uuid in self._rechecks
        )

    @property
    def calls(self) -> int:
        """Calls about domains over this connection."""
        return self._session.peer.calls

    @property
    def details_pending(self) -> int:
        """Domains whose details may have changed and are not read again yet."""
        return len(self._backlog)

    # The steps

    def begin(self) -> None:
        """Register for events, then list all domains. Cost: 11 calls at most, and the list's."""
        peer = self._session.peer
        feed.register(peer)
        self._session.details.watch()
        self._doubt.has_events = Feed(peer, self._inbox).has_lifecycle
        if not self._doubt.has_events:
            log.warning(
                "%s has no lifecycle events: its domains are listed every %g s instead",
                peer.label,
                min(WITHOUT_EVENTS, self._options.resync_every),
            )
        self._list()

    def step(self) -> None:
        """Wait until something is due, and do what is most urgent.

        Raises:
            ConnectionLost, libvirt.libvirtError: the connection is of no more use.
        """
        raw = self._inbox.take(self._next_due() - time.monotonic())
        now = time.monotonic()
        if self._doubt.demands_list(now):
            self._list(raw)
            self._inbox.done(raw)
            return
        due = self._rechecks.due(now, shared=bool(raw))
        if raw or due:
            self._ask(raw, due)
            self._inbox.done(raw)
            wake()  # for the events that came with the answer
        if now >= self._next_list:
            self._compare()
        elif self._facts.is_due:
            self._read_facts()
        elif self._backlog and now >= self._backlog.next():
            self._read_details()

    def _next_due(self) -> float:
        if self._facts.is_due:
            return 0.0
        due = min(self._doubt.next_look, self._next_list, self._rechecks.next())
        return min(due, self._backlog.next()) if self._backlog else due

    # Lists

    def _list(self, raw: Sequence[Raw] = ()) -> None:
        """List all domains and believe the list, whatever the view had.

        Cost: 1 call; for the first list of a view 1 more for each domain, for its details.
        """
        request = self._requests.begin()
        stated = self._states(raw)
        before = self._doubt.standing
        if before is Standing.FIRST:
            self._instances.read_all(stated)
        late = self._inbox.take()
        self._instances.clear()
        self._ledger.enter(None, stated, [*raw, *late])
        now = time.monotonic()
        for one in late:  # its change may have come after the list was made
            self._rechecks.put(one.uuid, one.domain, now)
        self._inbox.done(late)
        self._doubt.listed()
        self._progress.listed_at = self._list_began
        if before in (Standing.FIRST, Standing.RECONNECTED):
            self._backlog.catch_up()
            self._progress.counts["connections"] += 1
            self._facts.connected(self._session.peer)
            self._board.in_step()
        self._requests.end(request)

    def _compare(self) -> None:
        """List all domains, and look again at those that the view has otherwise. Cost: 1 call.

        The event of a difference may be on its way: so it is believed after a second question.
        """
        self._facts.compared()
        view = self._board.view
        found = {}
        for one in self._states():
            uuid = uuid_of(one.uuid)
            self._instances.note(one)
            found[uuid] = self._instances.of(one, view.get(uuid))
        look_at = time.monotonic() + RECHECK_AFTER
        for uuid in {*view, *found}:
            if view.get(uuid) != found.get(uuid):
                known = self._instances.stated(uuid.bytes)
                assert known is not None  # of an earlier answer, where the list lacks it
                self._rechecks.suspect(known, look_at)
        self._progress.listed_at = self._list_began
        self._ledger.answered()

    def _states(self, raw: Sequence[Raw] = ()) -> list[Stated]:
        """Ask for the state of every domain, and say when that is next due. Cost: 1 call."""
        self._list_began = began = time.monotonic()
        options = self._options
        longest = math.inf if self._doubt.has_events else WITHOUT_EVENTS
        longest = min(options.resync_every, options.verify_every or math.inf, longest)
        interval = self._doubt.until_comparison(longest)
        self._next_list = began + interval * random.uniform(0.9, 1.0)
        self._board.await_answer(raw[0].arrived if raw else began)
        self._progress.counts["lists"] += 1
        return snapshot.states(self._session, include_inactive=True)

    # Questions

    def _ask(self, raw: list[Raw], due: dict[bytes, libvirt.virDomain]) -> None:
        """Ask about the domains that events named, and those that are due. Cost: 1 call."""
        for one in raw:
            if one.kind in _MOVES_STATE:
                due[one.uuid] = one.domain
        if len(due) > MOST_ASKED:
            self._list(raw)
        elif due:
            self._board.await_answer(raw[0].arrived if raw else time.monotonic())
            self._progress.counts["asks"] += 1
            stated = snapshot.states_of(self._session, list(due.values()))
            self._ledger.enter(due, stated, raw)
        else:
            self._ledger.enter(due, (), raw)

    def _read_facts(self) -> None:
        """Read what the host is. Cost: 2 calls; 4 more the first time."""
        self._board.await_answer(time.monotonic())
        self._facts.read(self._session.peer)
        self._ledger.answered()

    def _read_details(self) -> None:
        """Read the XML of the domain that has waited longest. Cost: 1 call."""
        began = time.monotonic()
        uuid, told = self._backlog.take()
        one, before = self._instances.stated(uuid), self._board.view.get(uuid_of(uuid))
        if one is None or before is None:  # a comparison found it, and it is not believed yet
            return
        self._board.await_answer(began)
        after = self._instances.read_again(one, before)
        self._ledger.answered()
        if after is None or not self._instances.is_believed(one):
            self._rechecks.put(uuid, one.domain, began)  # it is gone, or has changed meanwhile
        if after is not None:
            answer = Observation([after.uuid], {after.uuid: after}, datetime.now(UTC))
            self._ledger.publish(answer, told)
        now = time.monotonic()
        self._backlog.took(uuid, now - began, now)
