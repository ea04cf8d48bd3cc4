"""The live view, as the agent follows it: what it tells, and whether it is in step.

In: a live view. Out: its news, one after the other, and what the host should publish after them
(`Content`). Waits for news; makes no call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from guestlist.errors import one_line
from guestlist.fleet.agent.content import Content
from guestlist.fleet.endings import Endings
from guestlist.inventory import Inventory
from guestlist.inventory.changes import Resynced, Stale
from guestlist.inventory.subscribers import Changes

LOOK = 0.1
"""Seconds between two looks for an event that tells what became of a domain, while one may come."""

MOST_NEWS = 1_000
"""News that are taken at a time."""


class Viewing:
    """A live view, and what the agent has taken of it. `close` may be called on any thread.

    Raises:
        RuntimeError: the view was started already.
    """

    def __init__(self, live: Inventory, content: Content) -> None:
        self._live = live
        self._content = content
        self._endings = Endings.of(live)
        self._changes: Changes | None = None
        self._is_closed = False
        self._has_relisted = False
        self.is_in_step = False
        """Whether the last news says so; False before the first."""

    def begin(self) -> None:
        """Take the whole view now, and the changes from now on; again, in place of those before."""
        before, self._changes = self._changes, self._subscribe()
        if before is not None:
            before.close()
        if self._is_closed:
            self._changes.close()
        snapshot = self._changes.snapshot
        self.is_in_step = snapshot is not None and self._live.failure is None
        if snapshot is not None:
            self._content.compare(snapshot)

    def has_relisted(self) -> bool:
        """Return whether the whole view came in place of changes, since this was last asked."""
        has, self._has_relisted = self._has_relisted, False
        return has

    def wait(self, seconds: float, changed: Callable[[Iterable[UUID]], object]) -> bool:
        """Take the news that there are; wait for the first. False: there will be no more.

        `changed` is called with the domains that each news may change.
        """
        assert self._changes is not None
        if self._content.expects_event:
            seconds = min(seconds, LOOK)
        try:
            for n in range(MOST_NEWS):
                news = self._changes.get(0 if n else max(0.0, seconds))
                if news is None:
                    return False
                if isinstance(news, (Resynced, Stale)):
                    self.is_in_step = isinstance(news, Resynced)
                    self._has_relisted |= self.is_in_step
                changed(self._content.take(news))
        except TimeoutError:
            pass
        for event in self._endings.take():
            changed(self._content.hear(event))
        return True

    @property
    def failure(self) -> str | None:
        """Why the view is not in step; None: it is, or no reason is known."""
        failure = None if self.is_in_step else self._live.failure
        return None if failure is None else one_line(failure)

    def is_answered(self, within: float) -> bool:
        """Return whether libvirt has confirmed the view within so many seconds."""
        stale_for = self._live.stale_for
        return self.is_in_step and stale_for is not None and stale_for <= within

    def close(self) -> None:
        """Let `wait` return False."""
        self._is_closed = True
        if self._changes is not None:
            self._changes.close()

    def _subscribe(self) -> Changes:
        return self._live.changes(include_foreign=True, include_dom0=True)
