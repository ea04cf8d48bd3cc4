"""Connected: all of `Host` except its questions: its options, its names, its state and its end.

In: a URI and options. Out: the sessions over one connection, which is opened when it is first asked
and closed by `close`, by `with`, or by a finalizer. Asks nothing about domains.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Self
from uuid import UUID

from guestlist import process, threads
from guestlist.capabilities import Location
from guestlist.connection import Connection
from guestlist.launcher import LaunchedBy, NovaLaunched
from guestlist.lookup import as_uuid
from guestlist.session import SessionOptions, Sessions
from guestlist.unpatched import threading


class Connected:
    """A libvirt host that a connection leads to. For the arguments see `Host`."""

    def __init__(
        self,
        uri: str | None = None,
        *,
        readonly: bool = False,
        launched_by: LaunchedBy | None = None,
        keepalive_interval: int = 1,
        keepalive_count: int = 5,
        open_timeout: float | None = 10.0,
        details_max_age: float = 300.0,
        details_deadline: float = 3.0,
        keep_xml: bool = False,
        prompts: bool = True,
    ) -> None:
        self._connection = Connection(
            uri,
            readonly=readonly,
            keepalive_interval=keepalive_interval,
            keepalive_count=keepalive_count,
            open_timeout=open_timeout,
            prompts=prompts,
            owner=weakref.ref(self),
        )
        launched_by = launched_by if launched_by is not None else NovaLaunched()
        if not details_deadline > 0:
            raise ValueError(
                f"details_deadline is {details_deadline!r}: it must be a number of seconds above 0"
            )
        self._sessions = Sessions(
            self._connection,
            SessionOptions(launched_by, details_max_age, details_deadline, keep_xml),
        )
        self._close = self._sessions.close
        _ = threading.Condition  # from now on it is too late to replace Python's threads

    @property
    def uri(self) -> str | None:
        """The URI asked for; None for libvirt's default."""
        return self._connection.uri

    @property
    def label(self) -> str:
        """The host's name in messages: `resolved_uri`, of bounded length."""
        return self._connection.label

    @property
    def resolved_uri(self) -> str:
        """The URI: as given, or as libvirt resolved its default; before that, words that say so."""
        return self._connection.resolved_uri

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, dead or alive. Opens nothing. Cost: none."""
        return self._connection.current is not None

    @property
    def bulk_listing(self) -> bool | None:
        """Whether this connection lists in one call; None before the first listing over it."""
        session = self._sessions.current
        return session.listing.bulk if session else None

    @property
    def location(self) -> Location:
        """Where this libvirt is, as its URI tells. Cost: none, once the connection is open."""
        return self._sessions.ask("connect", lambda session: session.peer.location())

    @property
    def is_local(self) -> bool:
        """Whether this libvirt is on this machine, as its URI tells: its paths are paths here.

        Cost: none, once the connection is open.
        """
        return self.location.is_local

    def discard_details(self, uuid: UUID | str) -> None:
        """Discard the details of a domain. Call it when you know that the domain's XML has changed.

        The next snapshot reads them again. Cost: none.
        """
        process.check()
        uuid = as_uuid(uuid)
        session = self._sessions.current
        if session is not None:
            session.discard(uuid.bytes)

    def close(self) -> None:
        """Close the connection; a later question opens another.

        Waits for the question of another thread. In a signal handler that has interrupted a
        question, and on the thread of the event loop, it returns at once, and the connection is
        closed when that question ends. In a forked process it does nothing.
        """
        if not process.belongs_to_parent():
            close = partial(self._close, self._connection.attempt)
            threads.finish(close, "guestlist-close", wait=self._connection.may_wait_here)

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close what was left open, on another thread, with a ResourceWarning."""
        if _is_finalizing() or not hasattr(self, "_close") or threads.is_over():
            return  # in the first case this module's names may be gone
        if process.belongs_to_parent():
            return
        if self._sessions.is_open:
            threads.later(self._close, "guestlist-close")
            text = f"unclosed {self!r}: it is closed now; close() it, or use 'with'"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __enter__(self) -> Self:
        """Return this host. Opens nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        return f"<Host {self.label}>"
