"""The agent: what one host has, published in etcd for all who read the fleet.

In: a host's live view, an etcd, the names of the fleet and of the host. Out: one key for each
domain, written when it changes; a key on a lease: the host is not silent; a record that says
whether all is published. After a failure of any kind it reads what the store has and writes the
difference. Never compares the clocks of two machines, and never writes another host's keys.

    keys         the keys of one host                                                       (pure)
    owner        which process publishes a host, and whether it lives
    term         the host's term: one agent at a time, on a lease
    chain        the host's writes: fenced by the term, chained to the write before
    content      what the store should have of the host
    viewing      the live view, as the agent follows it
    publishing   what it has, and what is written next                                      (pure)
    pace         spacing of writes, patience after failures                                 (pure)
    trouble      what keeps an agent from publishing, in the log
    state        what an agent is doing                                                     (pure)
    working      the thread: one turn after the other
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Self

from guestlist import threads
from guestlist.fleet.agent.keys import HostKeys
from guestlist.fleet.agent.owner import Owner
from guestlist.fleet.agent.state import AgentState, Stage
from guestlist.fleet.agent.working import Options, Worker
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.phases import HOLD
from guestlist.inventory import Inventory
from guestlist.waiting import Bell, Outcome

__all__ = ["TTL", "Agent", "AgentState", "HostKeys", "Owner", "Stage"]

log = logging.getLogger(__name__)

TTL = 30
"""Seconds after which a host whose agent has died is no longer live."""

LONGEST_END = 0.9
"""Seconds that closing waits for the last call to etcd."""

LONGEST_LAST_CALL = 0.4
"""Seconds that a call to etcd may take once the agent is being closed."""


class Agent:
    """Publishes one host. A context manager that starts it, and closes it. Threads may share it.

    It has one thread. It reads the changes of the view, which it leaves to its owner; the etcd is
    its own, and is closed with it. Of two agents for one host one publishes; the other waits, says
    so, and takes over when the first has ended.

    Args:
        live: the host's live view, not started yet; the agent starts it, and does not close it.
        etcd: the store.
        keys: the names of the fleet and of the host.
        ttl: seconds after which a host whose agent has died is no longer live.
        hold: seconds for which it is told that a guest has left, or arrived; at least two `ttl`.
        owner: the process that publishes, as others see it; None: this one.

    Raises:
        ValueError: `ttl` is below 2 s.
        RuntimeError: the view was started already.
    """

    def __init__(
        self,
        live: Inventory,
        etcd: Etcd,
        keys: HostKeys,
        *,
        ttl: int = TTL,
        hold: float = HOLD,
        owner: Owner | None = None,
    ) -> None:
        if ttl < 2:
            raise ValueError(f"a lease of {ttl} s is too short: 2 s at least")
        self._etcd = etcd
        self._state = AgentState(Stage.WAITING_FOR_LIBVIRT)
        self._moved = Bell()
        options = Options(owner or Owner.of_this_process(), ttl, hold)
        self._worker = Worker(live, etcd, keys, options, self._take)
        self._ended: Outcome[None] = Outcome()
        self._is_started = False
        self.on_failure: Callable[[], object] = lambda: None
        """Is called, on the agent's thread, when an error of its own has ended it."""

    @property
    def state(self) -> AgentState:
        """What it is doing. Cost: none."""
        return self._state

    def start(self) -> None:
        """Start to publish, on a thread of its own; harmless twice.

        Raises:
            ThreadUnavailable: the system gives no thread.
        """
        if not self._is_started:
            threads.start(self._run, "guestlist-agent")
            self._is_started = True

    def wait_for(
        self, holds: Callable[[AgentState], object], timeout: float | None = None
    ) -> AgentState:
        """Wait until a state is reached, and return it.

        Raises:
            TimeoutError: it is not reached after `timeout` seconds.
        """
        seen: list[AgentState] = []

        def is_reached() -> bool:
            state = self._state
            if holds(state):
                seen.append(state)
            return bool(seen)

        if not self._moved.wait_for(is_reached, timeout):
            raise TimeoutError(f"after {timeout:g} s the agent is: {self._state}")
        return seen[0]

    def wait_ended(self) -> None:
        """Wait until its thread has ended.

        Raises:
            Exception: what ended it, other than `close`.
        """
        self._ended.get()

    def close(self) -> None:
        """End it, within a second: the host is not live any more, and its guests stay.

        Harmless twice, and from any thread. If etcd does not answer, the lease expires by itself.
        """
        self._etcd.timeout = LONGEST_LAST_CALL
        self._worker.end()
        if self._is_started:
            self._ended.wait(LONGEST_END)
        self._etcd.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        self._ended.of(self._work)
        self._moved.ring()

    def _work(self) -> None:
        try:
            self._worker.run()
        except BaseException:
            log.exception("the agent has ended by an error of its own")
            self.on_failure()
            raise

    def _take(self, state: AgentState) -> None:
        self._state = state
        self._moved.ring()
