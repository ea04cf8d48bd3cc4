"""The agent's thread: it takes the host's term, publishes what changes, and doubts when it must.

In: a live view, a connection to etcd, the names of the fleet and the host. Out: the host's keys in
the store, kept in step with the view, and an `AgentState` after each turn. One thread, which makes
one call to etcd at a time; the view keeps a bounded number of changes meanwhile. Memory grows with
the domains of the host only.

A turn takes all news of the view, and then does what is due, in this order:

1. take the host's term, where the agent has none and libvirt has told something to publish;
2. read all keys of the host, where anything about the store is in doubt: a new term, an answer that
   was lost, a fence or a chain that does not hold;
3. check fence and chain, and keep the lease, some five times in its time to live;
4. write what differs, and the host's record: at once after a pause, else `SPACING` after the last.

The lease is kept only while the view is in step, and while nothing has waited to be published for
more than two times its time to live: a host whose agent cannot publish is not live.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterable
from typing import NamedTuple
from uuid import UUID

from guestlist.fleet.agent import term as terms
from guestlist.fleet.agent.chain import MOST_OPERATIONS, Chain, ChainBroken
from guestlist.fleet.agent.content import Content
from guestlist.fleet.agent.keys import HostKeys
from guestlist.fleet.agent.owner import Owner
from guestlist.fleet.agent.pace import SPACING, Patience
from guestlist.fleet.agent.publishing import Publishing
from guestlist.fleet.agent.state import AgentState, Stage
from guestlist.fleet.agent.term import TermLost
from guestlist.fleet.agent.trouble import Trouble
from guestlist.fleet.agent.viewing import Viewing
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import Denied, EtcdError, NoSpace, Refused, Unreachable
from guestlist.inventory import Inventory
from guestlist.unpatched import time

log = logging.getLogger(__name__)

STOPPED = "its agent was stopped"
"""What the record of a host says whose agent ended in order."""

CHECK = 0.3
"""After which part of a lease's time to live, at most, fence and chain are checked and the lease is
kept."""

LOOK = 1.0
"""Seconds between two looks at what only asking tells: whether another agent has left the host, or
why libvirt has never answered."""

LONGEST_WAIT = 60.0
"""Seconds that the thread sleeps at most."""

_DID_NOTHING = NoSpace, Unreachable, Denied, Refused
"""Failures after which the store is as it was before."""


class Options(NamedTuple):
    """`ttl`: seconds for which the lease lives unless it is kept; `hold`: as for `Phases`."""

    owner: Owner
    ttl: int
    hold: float


class Worker:
    """The work of one agent, on one thread: call `run` there, and `end` on any other."""

    def __init__(
        self,
        live: Inventory,
        etcd: Etcd,
        keys: HostKeys,
        options: Options,
        tell: Callable[[AgentState], object],
    ) -> None:
        self._etcd, self._keys, self._options = etcd, keys, options
        self._tell = tell
        self._label = f"host {keys.host!r}"
        self._owner = options.owner
        self._content = Content(keys)
        self._viewing = Viewing(live, self._content)
        self._publishing = Publishing(self._content.entry)
        self._patience = Patience(random.random)
        self._chain: Chain | None = None
        self._is_ending = False
        self._is_in_doubt = True
        self._is_syncing = True
        """Whether the store may lack something that does not lag, but was never written."""
        self._said: tuple[bool, str | None] | None = None
        """What the host's record says: synced, and why not. None: not known."""
        self._has_reported = False
        """Whether the record says why libvirt does not answer: no term is taken to say it again."""
        self._trouble = Trouble(self._label)
        self._is_standing_by = False
        self._retry_at = self._check_at = self._write_at = 0.0
        self._writes = self._reads = self._kept = 0

    def run(self) -> None:
        """Work until `end` is called or the view is closed; then give the host up."""
        self._viewing.begin()
        try:
            while not self._is_ending:
                self._turn()
                self._show(self._stage)
                if not self._viewing.wait(self._next_due() - time.monotonic(), self._touch):
                    break
        except BaseException:
            self._is_in_doubt = True
            raise
        finally:
            self._viewing.close()
            self._give_up()
            self._show(Stage.ENDED)

    def end(self) -> None:
        """Let `run` return."""
        self._is_ending = True
        self._viewing.close()

    def _touch(self, changed: Iterable[UUID]) -> None:
        """Note that domains have changed."""
        self._content.note_born(changed, self._publishing.born)
        self._publishing.touch(changed, time.monotonic())

    def _next_due(self) -> float:
        now = time.monotonic()
        if self._chain is None or self._retry_at > now:
            return self._retry_at
        due = [now + LONGEST_WAIT, self._check_at]
        says_it = self._said is not None and self._said[0] == self._viewing.is_in_step
        if self._publishing.waiting or self._content.has_strays or not says_it:
            due.append(self._write_at)
        if (mark := self._content.next_due) is not None:
            due.append(mark)
        return min(due)

    # A turn

    def _turn(self) -> None:
        now = time.monotonic()
        self._publishing.touch(self._content.expire(), now)
        if now < self._retry_at:
            return
        try:
            self._advance(now)
        except TermLost as lost:
            log.warning("%s: %s", self._label, lost)
            self._chain = None
            self._pause()
        except ChainBroken as broken:
            log.warning("%s: %s; all its keys are read again", self._label, broken)
            self._is_in_doubt = True
            self._pause()
        except EtcdError as error:
            self._is_in_doubt |= not isinstance(error, _DID_NOTHING)
            self._trouble.note_error(error)
            self._pause(writes_only=isinstance(error, NoSpace) and self._chain is not None)

    def _advance(self, now: float) -> None:
        if self._chain is None:
            self._chain = self._take_term(now)
        if self._chain is None:
            return
        if self._is_in_doubt:
            self._read(self._chain, now)
        self._is_syncing |= self._viewing.has_relisted()
        if now >= self._check_at:
            self._check(self._chain, now)
        if now >= self._write_at:
            self._write(self._chain, now)
            self._patience.succeeded()
            self._trouble.end()

    def _take_term(self, now: float) -> Chain | None:
        """Return the chain of a new term; None where there is none to take yet."""
        self._retry_at = now + self._patience.jitter(LOOK)
        is_mute = self._viewing.failure is None or self._has_reported
        if is_mute and not self._is_well(self._options.ttl):
            return None
        term = terms.seek(self._etcd, self._keys.live, self._owner, self._options.ttl)
        self._is_standing_by = isinstance(term, terms.Holder)
        if isinstance(term, terms.Holder):
            where = self._owner.describe(term.owner)
            self._trouble.note(f"another agent publishes this host ({where}); waiting for its end")
        if not isinstance(term, terms.Term):
            return None
        self._retry_at = self._write_at = 0.0
        self._check_at = now + self._patience.jitter(term.ttl * CHECK)
        self._is_in_doubt = True
        log.info("%s: this agent publishes it from now on (term %d)", self._label, term.number)
        return Chain(self._etcd, self._keys, term)

    def _read(self, chain: Chain, now: float) -> None:
        """Read what the store has, and compare all of it with what it should have."""
        contents = chain.read()
        self._reads += 1
        if self._content.is_of_another(contents):
            self._content.begin(contents, max(self._options.hold, 2.0 * chain.term.ttl))
            self._viewing.begin()
        self._publishing.found(*self._content.found(contents, chain.term.number), now)
        self._publishing.touch(self._content.uuids, now)
        self._content.note_born(self._content.uuids, self._publishing.born)
        self._is_in_doubt, self._is_syncing, self._said = False, True, None

    def _check(self, chain: Chain, now: float) -> None:
        """Compare fence and chain, and keep the lease if the host is well."""
        chain.check()
        ttl = chain.term.ttl
        since = self._publishing.waiting_since
        if not self._is_well(ttl):
            log.warning("%s: lets its lease expire: libvirt does not answer", self._label)
        elif since is not None and now - since > 2 * ttl:
            log.warning("%s: lets its lease expire: nothing can be published", self._label)
        else:
            terms.keep(self._etcd, chain.term)
            self._kept += 1
        self._check_at = now + self._patience.jitter(ttl * CHECK)

    def _is_well(self, ttl: int) -> bool:
        """Return whether libvirt answers, so that the host may be live."""
        return self._viewing.is_answered(within=ttl / 2)

    def _verdict(self, *, is_last: bool) -> tuple[bool, str | None]:
        """Return what the record should say after a write: synced, and why not."""
        if not self._viewing.is_in_step:
            return False, self._viewing.failure
        return is_last or not self._is_syncing, None

    def _write(self, chain: Chain, now: float) -> None:
        """Write the next batch and the record, if either is new."""
        has_strays = self._content.has_strays
        batch = self._publishing.batch(0 if has_strays else MOST_OPERATIONS)
        if again := self._content.runs_again(batch):
            self._content.begin_runs(again, chain.check() + 1)
            batch = self._publishing.batch(MOST_OPERATIONS)
        is_last = batch.is_last and not self._content.has_more_strays
        verdict = self._verdict(is_last=is_last)
        if batch.changes or has_strays or verdict != self._said:
            count = self._publishing.domains + batch.more_domains
            record = self._content.record(chain.term.number, count, *verdict)
            revision = chain.write(self._content.operations(batch), record)
            self._publishing.written(batch, revision)
            self._content.wrote(revision)
            self._content.note_born(batch.changes, self._publishing.born)
            self._writes += 1
            self._write_at = now + SPACING
            self._report(verdict)
        self._is_syncing &= not is_last

    # What happened

    def _report(self, verdict: tuple[bool, str | None]) -> None:
        """Log what the record says, if it is new."""
        is_synced, failure = verdict
        if is_synced and verdict != self._said:
            log.info("%s: %d domains published", self._label, self._publishing.domains)
        elif failure is not None and verdict != self._said:
            log.warning("%s: is published as not current: %s", self._label, failure)
        self._said = verdict
        self._has_reported = failure is not None

    def _pause(self, *, writes_only: bool = False) -> None:
        """Let the next attempt wait; or only writes, where a full store still keeps leases."""
        until = time.monotonic() + self._patience.failed()
        if writes_only:
            self._write_at = until
        else:
            self._retry_at = until

    def _give_up(self) -> None:
        """Say in the record that the agent ends, and end the lease, as far as that is possible."""
        chain, self._chain = self._chain, None
        if chain is None:
            return
        with contextlib.suppress(EtcdError, TermLost, ChainBroken):
            if not self._is_in_doubt:
                count = self._publishing.domains
                chain.end(self._content.record(chain.term.number, count, False, STOPPED))
        terms.end(self._etcd, chain.term)

    @property
    def _stage(self) -> Stage:
        if self._chain is None:
            if self._is_standing_by:
                return Stage.STANDING_BY
            return Stage.TAKING if self._viewing.is_in_step else Stage.WAITING_FOR_LIBVIRT
        if self._trouble.text is not None or self._is_in_doubt:
            return Stage.CUT_OFF
        if not self._viewing.is_in_step:
            return Stage.STALE
        return Stage.SYNCED if self._said == (True, None) else Stage.SYNCING

    def _show(self, stage: Stage) -> None:
        chain = self._chain
        self._tell(
            AgentState(
                stage,
                chain.term.number if chain else 0,
                chain.last if chain else 0,
                self._publishing.domains,
                self._publishing.waiting,
                self._trouble.text or self._viewing.failure,
                self._writes,
                self._reads,
                self._kept,
            )
        )
