"""What an agent is doing, for a log line, a metric or a test. Pure.

In: facts. Out: a frozen value, and its words.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Stage(StrEnum):
    """What the agent of a host is doing."""

    WAITING_FOR_LIBVIRT = "waiting for libvirt"
    """libvirt has not told yet which domains there are."""
    TAKING = "taking the host"
    """It asks the store for the host's term."""
    STANDING_BY = "standing by"
    """Another agent publishes this host."""
    SYNCING = "syncing"
    """It has the term, and the store lacks something still."""
    SYNCED = "synced"
    """All domains are published, up to the lag of a write."""
    CUT_OFF = "cut off"
    """It has a term, and the store refuses or does not answer."""
    STALE = "stale"
    """libvirt cannot be asked: what is published stays as it was."""
    ENDED = "ended"
    """It was closed."""


class AgentState(NamedTuple):
    """What an agent is doing, and what it has done.

    `term` and `revision` are the store's: the term that it holds (0: none), and its last write.
    `domains` are published, `waiting` have changed and are not written yet. `failure` is the line
    that says what hinders it. `writes` counts transactions, `reads` how often it read back what the
    store has, `kept` how often it kept its lease.
    """

    stage: Stage
    term: int = 0
    revision: int = 0
    domains: int = 0
    waiting: int = 0
    failure: str | None = None
    writes: int = 0
    reads: int = 0
    kept: int = 0
