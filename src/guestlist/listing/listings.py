"""The listing of a connection that comes and goes: each peer is given one of its own.

In: a connection, and what "ours" means. Out: a `Listing` to ask, with what was learned over the
same peer and nothing of the last one's: after a reconnect the daemon may be another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from guestlist.connection import Connection
from guestlist.details import DetailsMemory
from guestlist.details.bounded import BoundedReader
from guestlist.launcher import LaunchedBy
from guestlist.listing import Listing
from guestlist.peer import Peer

T = TypeVar("T")


class Listings:
    """The listings over one connection. Threads may share it, and take turns."""

    def __init__(
        self,
        connection: Connection,
        launched_by: LaunchedBy,
        details_max_age: float,
        details_deadline: float,
        *,
        keep_xml: bool = False,
    ) -> None:
        self.connection = connection
        self.launched_by = launched_by
        self._details_max_age = details_max_age
        self._details_deadline = details_deadline
        self._bounded = BoundedReader(connection, details_deadline)
        self._keep_xml = keep_xml
        self._listing: Listing | None = None

    @property
    def current(self) -> Listing | None:
        """The listing over the open peer; None where there is none, or it was not asked yet."""
        listing = self._listing
        return listing if listing and listing.peer is self.connection.current else None

    def ask(self, what: str, question: Callable[[Listing], T]) -> T:
        """Lend the listing of the open peer, alone; errors and the rest as `Connection.ask`."""
        return self.connection.ask(what, lambda peer: question(self._over(peer)))

    def _over(self, peer: Peer) -> Listing:
        listing = self._listing
        if listing is None or listing.peer is not peer:
            memory = DetailsMemory(
                peer,
                self.connection,
                self._bounded,
                self._details_max_age,
                keep_xml=self._keep_xml,
            )
            listing = self._listing = Listing(peer, self.launched_by, memory)
        return listing

    def apart(self, details_max_age: float) -> Listings:
        """The same over another connection like this one."""
        return Listings(
            self.connection.like_this(), self.launched_by, details_max_age, self._details_deadline
        )

    def close(self) -> None:
        """Close the connection, and what is idle beside it; see `Connection.close`."""
        self._bounded.close()
        self.connection.close()
