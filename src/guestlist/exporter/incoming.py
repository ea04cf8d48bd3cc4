"""Guests that migrate here and do not run here yet: the targets of migrations.

In: the domains of a scrape with their states, and the lifecycle events. Out: the domains that this
host must not announce, because they run on another host. Two hosts that announce one guest make
each query that joins `on(domain)` an error.

`guestlist.migration` says how a migration looks to libvirt. Only a domain that is paused
(migrating) or paused (starting up) is in question, and its last event decides. Where no event was
heard, because the exporter has just begun, one call decides: on the target libvirt refuses to tell
about the job, at once, without the guest's monitor ("available only on the source host"). A call
that does not come back is therefore one to a source.

A failed post-copy (paused, post-copy failed) is announced by both hosts: an operator must see it.

Source: libvirt src/qemu/qemu_driver.c (qemuDomainGetJobStatsInternal).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from guestlist.event import Lifecycle
from guestlist.exporter.by_domain import ByDomain
from guestlist.exporter.job_calls import JobCalls
from guestlist.inventory import Inventory
from guestlist.inventory.lifetime import listen
from guestlist.migration import (
    PAUSED_MIGRATING,
    PAUSED_POSTCOPY,
    PAUSED_STARTING_UP,
    STARTED_MIGRATED,
    STOPPED_FAILED,
    STOPPED_MIGRATED,
    Told,
)
from guestlist.states import DomainState
from guestlist.unpatched import threading

if TYPE_CHECKING:
    import libvirt

_NOT_ACTIVE = DomainState.NOSTATE, DomainState.SHUTOFF
"""States that a domain may have for a moment before it starts up."""

LONGEST_START = 10.0
"""Seconds after which a domain of which nothing was heard, and that still starts up, is asked
about. A start takes less than a second, and libvirt answers only when it is over."""

_LEAVES: frozenset[Told] = frozenset({STOPPED_MIGRATED, STOPPED_FAILED})
"""The domain is gone, and may arrive again."""


class Seen(Protocol):
    """A domain at one instant: an `Instance`, for example."""

    @property
    def uuid(self) -> UUID:
        """Its UUID."""

    @property
    def id(self) -> int | None:
        """Its id; None while it is inactive."""

    @property
    def state(self) -> DomainState:
        """Its state."""

    @property
    def reason(self) -> int:
        """Why it is in that state: libvirt's number."""


def is_in_question(state: DomainState, reason: int) -> bool:
    """Return whether a domain in this state may be the target of a migration."""
    return state is DomainState.PAUSED and reason in (PAUSED_MIGRATING, PAUSED_STARTING_UP)


def runs_elsewhere(state: DomainState, reason: int) -> bool:
    """Return whether the guest of this source has moved to its target: post-copy."""
    return state is DomainState.PAUSED and reason == PAUSED_POSTCOPY


def is_incoming(
    state: DomainState, reason: int, last: Told | None, refused: bool | None
) -> bool | None:
    """Return whether a domain is the target of a migration and does not run here yet.

    None: nothing tells so far, and libvirt must be asked about the job of the domain.

    Args:
        state: the domain's state.
        reason: why it is in that state, libvirt's number.
        last: the last lifecycle event under this id, or before it; None: none was heard.
        refused: whether libvirt refused to tell about the job; None: it was not asked, or did not
            tell.
    """
    if not is_in_question(state, reason):
        return False
    if last in _LEAVES:
        return True if reason == PAUSED_MIGRATING else refused
    return refused if last is None else last == STARTED_MIGRATED


class Incoming:
    """The targets of migrations on one host. Threads may share it.

    Attach it before the view is started, and ask it at each scrape.
    """

    kinds: Mapping[int, int] = {0: 0}

    def __init__(self, calls: JobCalls, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls = calls
        self._clock = clock
        self._last: ByDomain[Told] = ByDomain()
        self._settled: dict[UUID, int] = {}
        """The id under which an active domain was seen when it was not in question."""
        self._refused: dict[UUID, tuple[int | None, bool | None]] = {}
        """What libvirt answered about the job of a domain, under which id."""
        self._since: dict[UUID, tuple[int | None, float]] = {}
        """Under which id, and since when (monotonic), a domain has been in question."""
        self._lock = threading.Lock()

    def attach(self, view: Inventory) -> None:
        """Hear the lifecycle events of a live view. Cost: no call.

        Raises:
            RuntimeError: the view was started already.
        """
        listen(view, self)

    def withheld(self, domains: Iterable[Seen], deadline: float = 0.5) -> frozenset[UUID]:
        """Return the domains that do not run here, of all that a scrape has.

        They are neither announced nor asked. That includes a domain that starts up and of which
        nothing was heard before: its start takes less than a second.

        Args:
            domains: all domains of the host, also the inactive ones; what is kept of others is
                dropped.
            deadline: seconds that the calls may take together.

        Cost: no call, as a rule; 2 for a domain that is in question and of which no event was heard
        (the exporter has just begun, or the event is still on its way), once for each id.
        """
        existing: set[UUID] = set()
        settled: dict[UUID, int] = {}
        questions: list[Seen] = []
        elsewhere: list[UUID] = []
        for each in domains:
            existing.add(each.uuid)
            if is_in_question(each.state, each.reason):
                questions.append(each)
            elif each.id is not None and each.state not in _NOT_ACTIVE:
                settled[each.uuid] = each.id
                if runs_elsewhere(each.state, each.reason):
                    elsewhere.append(each.uuid)
        with self._lock:
            self._last.keep_only(existing)
            self._remember(settled, questions)
            asked = [each for each in questions if self._wants_answer(each)]
        silent = self._ask(asked, deadline)
        with self._lock:
            incoming = [
                each.uuid
                for each in questions
                if each.uuid not in silent and self._verdict(each) is not False
            ]
        return frozenset((*incoming, *elsewhere))

    def _remember(self, settled: dict[UUID, int], questions: list[Seen]) -> None:
        """Keep what is known of the domains in question, and forget the others."""
        now = self._clock()
        since: dict[UUID, tuple[int | None, float]] = {}
        refused: dict[UUID, tuple[int | None, bool | None]] = {}
        for each in questions:
            uuid = each.uuid
            if uuid in self._settled:
                settled[uuid] = self._settled[uuid]
            if uuid in self._refused and self._refused[uuid][0] == each.id:
                refused[uuid] = self._refused[uuid]
            known = self._since.get(uuid)
            since[uuid] = known if known and known[0] == each.id else (each.id, now)
        self._settled, self._since, self._refused = settled, since, refused

    def _wants_answer(self, each: Seen) -> bool:
        """Return whether nothing tells of a domain but a call."""
        if self._verdict(each) is not None:
            return False
        starts_for = self._clock() - self._since[each.uuid][1]
        return each.reason != PAUSED_STARTING_UP or starts_for > LONGEST_START

    def _verdict(self, each: Seen) -> bool | None:
        if each.id is not None and self._settled.get(each.uuid) == each.id:
            return False
        _, refused = self._refused.get(each.uuid, (None, None))
        return is_incoming(each.state, each.reason, self._last.get(each.uuid), refused)

    def _ask(self, domains: list[Seen], deadline: float) -> Collection[UUID]:
        """Ask about the jobs of domains, remember the answers, and return who does not answer.

        Only a source does not, whose guest is stuck. That is not remembered: where the whole daemon
        hangs a target does not answer either.
        """
        found = self._calls.ask([each.uuid for each in domains], deadline)
        with self._lock:
            for each in domains:
                if each.uuid in found.jobs:
                    self._refused[each.uuid] = each.id, found.jobs[each.uuid].is_target
        return found.silent

    # As a listener of the view

    def begin(self, kinds: Collection[int]) -> None:  # noqa: ARG002  the listener's
        """Forget the events of the connection before: later ones may be missing."""
        with self._lock:
            self._last.clear()

    def hear(self, kind: int, domain: libvirt.virDomain, *facts: int) -> None:  # noqa: ARG002
        """Keep the last event of a domain."""
        event, detail = facts
        uuid = UUID(bytes=domain.UUID())
        with self._lock:
            if event == Lifecycle.UNDEFINED:
                self._last.discard(uuid)
            elif event != Lifecycle.DEFINED or uuid not in self._last:
                self._last.put(uuid, (event, detail))

    def end(self) -> None:
        """Nothing: what was heard is true until the next connection."""
