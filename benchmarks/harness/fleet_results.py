"""What `./dev bench fleet` measured, as records. Seconds, bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

WAYS = ("bare", "snapshot", "rows")
"""The ways to read a fleet; see `fleet_readers`."""


@dataclass
class Read:
    """Readings in one way: seconds of each, those of a processor that the reader and the etcd used,
    and the largest memory of the reader.
    """

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


@dataclass
class Sized:
    """A fleet of one size: the etcd's memory before and while it is read; and its file."""

    hosts: int
    guests: int
    written_seconds: float = 0.0
    file: int = 0
    etcd_before: int = 0
    etcd_most: int = 0
    read: dict[str, Read] = field(default_factory=dict)


@dataclass
class Followed:
    """Changes of domains on a host, and seconds until a reader of the fleet had each.

    Counted from the call that made the change. `missed`: another change came before the agent had
    published the first.
    """

    rate: float = 0.0
    lags: list[float] = field(default_factory=list)
    missed: int = 0
    changes: int = 0


@dataclass
class Agents:
    """What one agent costs: its memory, its part of a core, and calls to etcd a minute.

    `idle`: no domain changes; `busy`: at the rate of `Followed`.
    """

    domains: int = 0
    memory: int = 0
    idle_share: float = 0.0
    busy_share: float = 0.0
    etcd_idle_share: float = 0.0
    etcd_busy_share: float = 0.0
    idle_seconds: float = 0.0
    idle_revisions: int = 0
    busy_revisions: int = 0
    busy_seconds: float = 0.0


@dataclass
class Costs:
    """What calls cost an etcd of one member: seconds of a processor each; bytes of a connection.

    `check` compares fence and chain, `keep` keeps the lease, `write` writes one domain.
    """

    check: float = 0.0
    keep: float = 0.0
    write: float = 0.0
    connection: float = 0.0


@dataclass
class Results:
    """All that was measured."""

    setting: dict[str, str] = field(default_factory=dict)
    rounds: int = 0
    sizes: dict[int, Sized] = field(default_factory=dict)
    followed: Followed = field(default_factory=Followed)
    agents: Agents = field(default_factory=Agents)
    costs: Costs = field(default_factory=Costs)
