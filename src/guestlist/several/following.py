"""Many hosts, each followed by a live view of its own; their news in one place.

In: hosts. Out: what each view tells, in the view's order, handed to one function: usually the `put`
of a `NewsQueue`. One thread for each host reads the view's changes, and waits while that function
does. Meanwhile the view keeps a bounded number of changes, and tells how many it gave up
(`Resynced.missed`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from guestlist import threads
from guestlist.errors import GuestlistError, NotSynced
from guestlist.host import Host
from guestlist.inventory import Inventory
from guestlist.inventory.changes import News, Resynced
from guestlist.several.asking import no_answer

_LOOK = 0.1
"""Seconds between two looks at why a view is not in step, until it is or a reason is known."""


class FollowedHost:
    """A host and its live view. `name` is its URI, as given or as libvirt resolved it."""

    def __init__(self, host: Host, *, details: bool) -> None:
        self.live = Inventory(host, details=details)
        self._uri = host.uri
        self.name = host.resolved_uri

    def update_name(self) -> None:
        """Take the name that libvirt gave its default URI; it is known while it is connected."""
        self.name = self._uri or self.live.resolved_uri

    def close(self) -> None:
        """Close the view, which ends the thread that reads it; see `Inventory.close`."""
        self.live.close()


class HostNews(NamedTuple):
    """What one view told; an error if the view did not come in step at the start."""

    followed: FollowedHost
    news: News | GuestlistError


def follow(
    followed: Iterable[FollowedHost],
    timeout: float,
    *,
    tell: Callable[[HostNews], object],
    fail: Callable[[Exception], object],
    include_foreign: bool = False,
    include_dom0: bool = False,
) -> None:
    """Start a thread for each view that tells its news until the view is closed.

    The first news of a host is a `Resynced`; or an error, once, if the view is not in step after
    `timeout` seconds or the reason is known earlier. The view goes on trying until it is closed.

    Args:
        followed: the hosts, whose views this starts.
        timeout: seconds until a host that is not in step is told of.
        tell: is called on the threads of the views, in the order of each view. May wait.
        fail: is called with any other exception of such a thread, which then ends.
        include_foreign: as for `Inventory.changes`.
        include_dom0: as for `Inventory.changes`.

    Raises:
        ThreadUnavailable: the system gives no thread. The views before that one are followed.

    Cost: no call besides those of the views.
    """
    for each in followed:
        job = partial(
            _read,
            each,
            timeout,
            tell=tell,
            fail=fail,
            include_foreign=include_foreign,
            include_dom0=include_dom0,
        )
        threads.start(job, "guestlist-follow")


def _read(
    followed: FollowedHost,
    timeout: float,
    *,
    tell: Callable[[HostNews], object],
    fail: Callable[[Exception], object],
    include_foreign: bool,
    include_dom0: bool,
) -> None:
    """Tell the news of one view until it is closed."""
    try:
        changes = followed.live.changes(include_foreign=include_foreign, include_dom0=include_dom0)
        try:
            await_step(followed.live, timeout)
        except NotSynced:
            pass  # it was closed
        except GuestlistError as error:
            tell(HostNews(followed, error))
        if changes.snapshot is not None:  # in step before its changes were asked for
            followed.update_name()
            tell(HostNews(followed, Resynced(changes.snapshot, 0, datetime.now(UTC))))
        for news in changes:
            if isinstance(news, Resynced):
                followed.update_name()
            tell(HostNews(followed, news))
    except Exception as error:
        fail(error)


def await_step(live: Inventory, timeout: float) -> None:
    """Return when the view is in step for the first time.

    Raises:
        GuestlistError: the view is not in step, for this reason. Raised as soon as the reason is
            known; `ConnectionLost` after `timeout` seconds without any; `NotSynced` once the view
            was closed.

    Cost: no call besides those of the view.
    """
    deadline = time.monotonic() + timeout
    while True:
        look = time.monotonic() + min(_LOOK, timeout)
        try:
            live.wait_synced(min(_LOOK, timeout))
        except NotSynced:
            if time.monotonic() < look:  # it was closed, and waits no more
                raise
            if time.monotonic() >= deadline:
                raise no_answer(live.label, timeout) from None
        else:
            return
