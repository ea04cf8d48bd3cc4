"""The fleet without any engine: a live view of each host, and the rule over all of them.

In: hosts. Out: what a reader of the fleet has. What a store does elsewhere, `board` does here. The
clocks of hosts are never compared, nor looked at.

**Why no guest is lost** where hosts are listed one after the other, while guests migrate. Each
host's events come from before its first list on. Suppose that a list of the source came after the
guest had left it, and a list of the target before the guest came: then the target has sent an event
in between, which the target's view takes in; and once all hosts are listed, `confirm` lists each
of them again. A source that was listed in time says that the guest has left (`phases`), and the
guest is in transit until its target has published it.

**Two URIs of one host** would make a double run of each of its guests. So hosts that publish one
guest are asked what machine they are (`several.doubles`), and the second URI is dropped. A host
that fails to answer is asked again after its next list.

A host that hangs or fails costs no other: its views are opened a bounded number at a time, hosts
that are slow not counted (`several.asking`), and each has a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Self

from guestlist import event_loop, process, threads
from guestlist.errors import GuestlistError
from guestlist.fleet.board import Board
from guestlist.fleet.host_view import HostView, in_a_line
from guestlist.fleet.phases import HOLD
from guestlist.fleet.readers import LONGEST_QUEUE, FleetChanges
from guestlist.fleet.rows import FleetSnapshot, HostState
from guestlist.host import Host
from guestlist.inventory.lifetime import CLOSE_WAIT
from guestlist.several import doubles
from guestlist.several.asking import HostAnswer, HostFailure, ask_each
from guestlist.unpatched import threading
from guestlist.waiting import Bell, Outcome

MOST = 200
"""Hosts of which live views are kept: a connection and two threads each."""

AT_ONCE = 32
"""Hosts that are opened or listed at a time, those that are slow not counted."""

TIMEOUT, DEADLINE = 10.0, 30.0
"""Seconds that one host has to answer, and all hosts together."""

_TICK = 0.5
"""Seconds between two looks at which views are out of step, and which marks are old."""

_NOT_LISTED_AGAIN = "the host was not listed again after all other hosts had been listed"


class HostsFleet:
    """The fleet over live views of its hosts. A `Reader`. Threads may share it.

    It opens nothing before it is started: by `with`, or by `start`. Close it when you are done, or
    use `with`. A child that was forked gets `ForkedProcess` from all that reads it.

    Args:
        hosts: the roster: hosts by the names that rows have, or hosts whose URIs are their names.
        details: False: `Instance.details` is None, and XML is read only to tell who launched a
            domain.
        timeout: seconds that one host has to answer, whenever it is asked.
        at_once: hosts that are opened or listed at a time, those that are slow not counted.
        hold: seconds for which a guest may be in transit; see `phases.HOLD`.
        most: hosts that are accepted; None: no bound.
        tell: is called with the number of hosts that have answered or failed so far for the first
            time, and that of all.

    Raises:
        ValueError: more hosts than `most`, or two of one name.

    Cost: those of a live view for each host; and 5 calls, until they once succeed, to each host
    that publishes a guest which another host publishes too.
    """

    def __init__(
        self,
        hosts: Mapping[str, Host] | Iterable[Host],
        *,
        details: bool = True,
        timeout: float = TIMEOUT,
        at_once: int = AT_ONCE,
        hold: float = HOLD,
        most: int | None = MOST,
        tell: Callable[[int, int], object] = lambda _outcomes, _hosts: None,
    ) -> None:
        named = (
            list(hosts.items())
            if isinstance(hosts, Mapping)
            else [(each.uri or each.label, each) for each in hosts]
        )
        if most is not None and len(named) > most:
            raise ValueError(
                f"{len(named)} hosts: a live view is kept of {most} hosts at most; let each host "
                "publish to etcd instead ('guestlist agent'), or list them once"
            )
        if not len(dict(named)) == len({host for _, host in named}) == len(named):
            raise ValueError("two hosts of the fleet have the same name, or are the same Host")
        self._views = {
            host: HostView(name, host, details=details, hold=hold) for name, host in named
        }
        self._timeout, self._at_once = timeout, at_once
        self._tell = tell
        self._board = Board(each.state for each in self._views.values())
        self._is_started = self._is_closed = False
        self._first: Outcome[None] = Outcome()
        self._moved = Bell()
        self._identifying = threading.Lock()
        self._unsure: set[str] = set()
        """The hosts that publish a guest of another host, and were not compared with it yet."""

    # For readers

    def snapshot(self) -> FleetSnapshot:
        """Return the fleet as it is now. It never changes. Cost: no call, and no wait.

        A host that has neither answered nor failed yet (`wait_told`) is among those because of
        which the snapshot is not complete.
        """
        process.check()
        return self._board.snapshot()

    def watch(self, longest_queue: int = LONGEST_QUEUE) -> FleetChanges:
        """Return the news from now on, after the fleet as it is; starts the fleet. Cost: no call.

        `RowChange` for each guest whose row changes, `HostChange` for each host that falls silent,
        or is heard again; `Relisted` at the start, and in place of changes for which the reader was
        too slow.
        """
        process.check()
        self.start()
        return self._board.subscribe(longest_queue)

    def wait_told(self, timeout: float | None = None) -> bool:
        """Wait until each host has answered or failed; return whether that is so. Starts the fleet.

        A host that has failed is tried again until it answers.
        """
        process.check()
        self.start()
        return self._first.wait(timeout, or_if=lambda: self._is_closed) and not self._is_closed

    def confirm(self, deadline: float | None = DEADLINE) -> FleetSnapshot:
        """List all hosts again, and return the fleet with that; see this module's header.

        The snapshot is complete only if each host was in step before, has been listed since this
        was called, and is still in step.

        Cost: 1 call for each host that is in step.
        """
        process.check()
        return threads.run_uninterrupted(
            partial(self._confirm, deadline), "guestlist-fleet-confirm"
        )

    # Its life

    def start(self) -> None:
        """Start to follow the hosts, on threads of its own; harmless twice.

        Raises:
            ThreadUnavailable: the system gives no thread; the next call tries again.
        """
        process.claim()
        if not self._is_started and not self._is_closed:
            self._is_started = True
            try:
                threads.start(self._run, "guestlist-fleet")
            except GuestlistError:
                self._is_started = False
                raise

    def close(self) -> None:
        """End it, and every iteration over its news; harmless twice, and from any thread.

        Comes back within some `CLOSE_WAIT` seconds, whatever the hosts do.
        """
        if process.belongs_to_parent():
            return
        self._is_closed = True
        deadline = time.monotonic() + CLOSE_WAIT
        closings: list[Outcome[None]] = []
        for each in self._views.values():
            closings.append(Outcome())
            threads.later(partial(closings[-1].of, each.view.close), "guestlist-fleet-close")
        self._board.end()
        self._first.nudge()
        self._moved.ring()
        if not (event_loop.is_on_loop() or threads.is_over()):
            for closing in closings:
                closing.wait(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # On its own threads

    def _run(self) -> None:
        self._first.of(self._begin_all)
        while not self._moved.wait_for(lambda: self._is_closed, _TICK):
            if self._may_be_doubles and not self._identifying.locked():
                threads.start(self._drop_doubles, "guestlist-fleet-identify")
            for each in self._views.values():
                each.tick(self._board)

    def _begin_all(self) -> None:
        """Open the views, and return when each host has answered or failed, and is known."""
        self._tell(0, len(self._views))
        outcomes = self._ask(self._views.values(), self._begin)
        for number, outcome in enumerate(outcomes, 1):
            self._tell(number, len(self._views))
            if isinstance(outcome, HostFailure):
                self._views[outcome.host].fail(self._board, outcome.error)
        self._drop_doubles()

    def _begin(self, each: HostView) -> None:
        if not self._is_closed:
            each.begin(self._board, self._timeout)

    def _list_again(self, each: HostView) -> None:
        each.list_again(self._board, self._timeout)

    def _confirm(self, deadline: float | None) -> FleetSnapshot:
        in_step = [each for each in self._views.values() if each.state.is_current]
        failures = {each.name: _NOT_LISTED_AGAIN for each in self._views.values()}
        for outcome in self._ask(in_step, self._list_again, deadline):
            name = self._views[outcome.host].name
            if isinstance(outcome, HostAnswer):
                del failures[name]
            else:
                failures[name] = in_a_line(outcome.error)
        for each in in_step:
            each.drain(self._board)
        self._drop_doubles()
        fleet = self._board.snapshot()
        return FleetSnapshot(
            fleet.values(),
            [
                HostState(each.host, False, True, failures[each.host], each.since)
                if each.is_current and each.host in failures and each.same_as is None
                else each
                for each in fleet.hosts
            ],
            fleet.revision,
        )

    @property
    def _may_be_doubles(self) -> bool:
        """Whether `_drop_doubles` has something to do."""
        return self._board.has_shared or any(
            each.is_identified or each.may_identify
            for each in self._views.values()
            if each.name in self._unsure
        )

    def _drop_doubles(self) -> None:
        """Drop hosts that are other hosts of the fleet under another URI. One thread at a time."""
        with self._identifying:
            self._unsure |= self._board.take_shared()
            unsure = [each for each in self._views.values() if each.name in self._unsure]
            for _ in self._ask([each for each in unsure if each.may_identify], HostView.identify):
                pass  # a host that does not answer is taken for a host of its own until it does
            self._unsure -= {each.name for each in unsure if each.is_identified}
            first: dict[doubles.Identity, HostView] = {}
            for each in self._views.values():
                if each.identity is not None and each.state.same_as is None:
                    earlier = first.setdefault(each.identity, each)
                    if earlier is not each:
                        each.drop(self._board, earlier.name)

    def _ask(
        self,
        views: Iterable[HostView],
        question: Callable[[HostView], None],
        deadline: float | None = None,
    ) -> Iterable[HostAnswer[None] | HostFailure]:
        return ask_each(
            [each.host for each in views],
            lambda host: question(self._views[host]),
            timeout=self._timeout,
            at_once=self._at_once,
            deadline=deadline,
        )


def over(
    hosts: Mapping[str, Host] | Iterable[Host],
    *,
    details: bool = True,
    timeout: float = TIMEOUT,
    at_once: int = AT_ONCE,
) -> HostsFleet:
    """Return the fleet over live views of these hosts; see `HostsFleet`."""
    return HostsFleet(hosts, details=details, timeout=timeout, at_once=at_once)


def look(
    hosts: Mapping[str, Host] | Iterable[Host],
    *,
    details: bool = True,
    timeout: float = TIMEOUT,
    at_once: int = AT_ONCE,
    deadline: float = DEADLINE,
    tell: Callable[[int, int], object] = lambda _outcomes, _hosts: None,
) -> FleetSnapshot:
    """Return the fleet as it is now: each host is subscribed to, all are listed, then once more.

    Never silently wrong: a host that did not answer, or that answered only after the others had
    been listed again, is among those because of which the snapshot is not complete.

    Args:
        hosts: as for `HostsFleet`, any number; their connections are left alone.
        details: as for `HostsFleet`.
        timeout: seconds that one host has to answer.
        at_once: as for `HostsFleet`.
        deadline: seconds for all hosts together.
        tell: as for `HostsFleet`.

    Cost: for each host, those of a live view's start, and 1 call.
    """
    end = time.monotonic() + deadline
    with HostsFleet(
        hosts, details=details, timeout=timeout, at_once=at_once, most=None, tell=tell
    ) as fleet:
        fleet.wait_told(deadline)
        return fleet.confirm(max(0.0, end - time.monotonic()))
