"""What a reader knows of one host of the fleet, without its domains. Pure.

In: the state of a host, and what its agent has told of itself. Out: a frozen value.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from guestlist.fleet.rows import HostState


class HostStatus(StrEnum):
    """Whether what a host publishes is what it has. A value keeps its meaning for ever."""

    CURRENT = "current"
    """It is not silent, and all its domains are published."""
    SYNCING = "syncing"
    """It is not silent, and its domains are not all published yet."""
    UNKNOWN = "unknown"
    """It is silent; what it published is kept."""


class HostSummary(NamedTuple):
    """A host of the fleet.

    `domains` is the number of domains that it publishes, and `agent` the version of its agent; None
    if that is not known, or if there is none.
    """

    state: HostState
    domains: int | None = None
    agent: str | None = None

    @property
    def host(self) -> str:
        """Its name."""
        return self.state.host

    @property
    def status(self) -> HostStatus:
        """Whether what it publishes is what it has."""
        if not self.state.live:
            return HostStatus.UNKNOWN
        return HostStatus.CURRENT if self.state.is_current else HostStatus.SYNCING

    @property
    def since(self) -> datetime | None:
        """The last sign of it, if it is silent."""
        return None if self.state.live else self.state.since

    @property
    def failure(self) -> str | None:
        """Why it is not current, in a line."""
        return self.state.failure
