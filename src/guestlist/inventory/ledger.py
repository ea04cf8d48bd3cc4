"""The ledger of one connection: it enters libvirt's answers into the view, in order.

In: an answer and the events that arrived with it. Out: the next view on the board, its changes told
to the readers; domains that must be asked about again, in `rechecks`; and `Drift`, where only a
comparison has found a change. Asks nothing itself, except who launched a new domain (`instances`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from uuid import UUID

from guestlist.event import Event, Lifecycle
from guestlist.handle import Stated
from guestlist.inventory.board import Board
from guestlist.inventory.changes import Change
from guestlist.inventory.doubt import Doubt, Standing
from guestlist.inventory.drift import Drift
from guestlist.inventory.feed import Inbox, Raw
from guestlist.inventory.instances import Instances, uuid_of
from guestlist.inventory.merging import Observation, merge
from guestlist.inventory.progress import Progress
from guestlist.inventory.rechecks import Rechecks
from guestlist.records import Instance

log = logging.getLogger(__name__)


class Ledger:
    """Enters answers into the view over one connection. One thread."""

    def __init__(
        self,
        instances: Instances,
        rechecks: Rechecks,
        doubt: Doubt,
        *,
        board: Board,
        inbox: Inbox,
        progress: Progress,
        logs_drift: str | None,
    ) -> None:
        self._instances = instances
        self._rechecks = rechecks
        self._doubt = doubt
        self._board = board
        self._inbox = inbox
        self._progress = progress
        self._logs_drift = logs_drift  # the host's name there; None: it is not logged

    def answered(self) -> None:
        """Note that the call is answered. Events that came meanwhile are not."""
        self._board.await_answer(self._inbox.waiting_since)

    def enter(
        self, asked: Iterable[bytes] | None, stated: Iterable[Stated], raw: list[Raw]
    ) -> None:
        """Enter an answer: about the domains `asked`, None for all; and the events before it.

        Raises:
            ConnectionLost: there is drift, and no event has come: see `Doubt.drifted`.
        """
        suspects = self._rechecks.suspects
        found = self._found(stated, {one.uuid for one in raw if one.event == Lifecycle.STOPPED})
        events = [one.of(uuid_of(one.uuid)) for one in raw]
        keys = None if asked is None else [uuid_of(uuid) for uuid in asked]
        if keys is None:
            self._forget(self._board.view, found)
        elif len(found) < len(keys):
            self._forget(keys, found)
        changes = self.publish(Observation(keys, found, datetime.now(UTC)), events)
        self.answered()
        self._note(raw, events)
        if suspects:
            self._find_drift(changes, suspects)

    def publish(self, answer: Observation, events: Iterable[Event]) -> tuple[Change, ...]:
        """Merge an answer into the view, and tell the readers what changes."""
        view, changes = merge(self._board.view, answer, events)
        if changes:
            self._board.publish(view, changes)
            self._progress.counts["changes"] += len(changes)
        return changes

    def _found(self, stated: Iterable[Stated], ran: Container[bytes]) -> dict[UUID, Instance]:
        """Return the domains that were found, and note when each must be looked at again.

        The domains in `ran` have stopped since the last answer, also where that had them shut off
        already. Unless the view rests on a list and all events since, any domain may have.
        """
        found = {}
        now = time.monotonic()
        view, standing = self._board.view, self._doubt.standing
        for one in stated:
            uuid = uuid_of(one.uuid)
            before = view.get(uuid)
            instance = self._instances.of(one, before)
            if instance is not None:
                found[uuid] = instance
                self._instances.note(one)
                if standing is Standing.FIRST:
                    before = instance  # a first list tells of no change
                elif standing is not Standing.LISTED or one.uuid in ran:
                    before = None
                self._rechecks.settle(one, before, instance, now)
        return found

    def _forget(self, uuids: Iterable[UUID], found: Container[UUID]) -> None:
        """Forget those of these domains that were not found: they are gone."""
        gone = [uuid.bytes for uuid in uuids if uuid not in found]
        for uuid in gone:
            self._rechecks.drop(uuid)
        self._instances.forget(gone)

    def _note(self, raw: list[Raw], events: list[Event]) -> None:
        """Keep what events tell beside the states."""
        now = time.monotonic()
        for one, event in zip(raw, events, strict=True):
            self._progress.reactions.append(now - one.arrived)
            self._progress.heard.append(event)
            self._instances.tell(one.uuid, event, one.arrived)
        if raw:
            self._progress.counts["events"] += len(raw)
            self._doubt.heard()

    def _find_drift(self, changes: Iterable[Change], suspects: Container[bytes]) -> None:
        """Report the changes that only a comparison has found."""
        heard = self._progress.heard
        drifts = [
            Drift(
                change.before,
                change.after,
                tuple(event for event in heard if event.uuid == change.uuid),
                change.learned_at,
            )
            for change in changes
            if change.uuid.bytes in suspects and not change.events
        ]
        for drift in drifts:
            if self._logs_drift:
                log.warning("%s: the view had drifted: %s", self._logs_drift, drift)
            self._progress.counts["drifts"] += 1
            self._progress.drifts.append(drift)
        if drifts:
            self._doubt.drifted()
