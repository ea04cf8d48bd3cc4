"""What `./dev bench callers` measures: its questions, its ways, and the figures of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from benchmarks.harness.parsing import Parsed
from benchmarks.harness.race import Seconds

METHODS = (
    "list_instances",
    "list_instance_uuids",
    "get_num_instances",
    "instance_exists",
    "get_info",
    "get_all_block_devices",
    "get_vcpus_used",
    "get_memory_mb_used",
    "get_disk_over_committed_size_total",
    "get_all_volume_usage",
    "get_host_uptime",
    "get_available_resource",
)
"""The questions, in the order of the tables."""

LIMITED_METHODS = ("get_disk_over_committed_size_total", "get_available_resource")
"""The questions for which `qemu-img` is run."""

WAYS = {
    "guestlist": "guestlist",
    "new": "a new Host",
    "per domain": "per domain",
    "new per domain": "per domain, a new connection",
    "limited": "as Nova runs qemu-img",
}
"""The ways to ask, as the page names them."""

Counts = dict[str, dict[int, int]]
"""Counts, by figure and number of domains."""


@dataclass(slots=True)
class Measured:
    """All that was measured on one hypervisor driver."""

    calls: Counts = field(default_factory=dict)
    programs: Counts = field(default_factory=dict)
    seconds: Seconds = field(default_factory=dict)

    def sizes(self) -> list[int]:
        """The numbers of domains, in ascending order."""
        return sorted({size for by_size in self.calls.values() for size in by_size})

    def median(self, way: str, method: str, size: int) -> float | None:
        """Return the median of the seconds; None where the question was not asked."""
        times = self.seconds.get(figure(way, method), {}).get(size)
        return median(times) if times else None

    def ratio(self, above: str, below: str, method: str, size: int) -> float | None:
        """Return how many times as long one way takes as the other."""
        over, under = self.median(above, method, size), self.median(below, method, size)
        return over / under if over and under else None


@dataclass(slots=True)
class Hanging:
    """What guestlist did while one of the guests hung: the seconds of each turn, by method.

    `same` tells whether a method gave the answers of before, `named` lists the guests that the log
    named, `volumes` how many volumes each answer of `get_all_volume_usage` had.
    """

    guests: int
    guest: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    same: dict[str, bool] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)
    volumes: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Results:
    """All that was measured in one run."""

    setting: Mapping[str, str]
    rounds: int
    test: Measured
    qemu: Measured
    hanging: Hanging | None
    parsing: Mapping[str, Parsed] = field(default_factory=dict)


def figure(way: str, method: str) -> str:
    """Return the name of the figure of a method that is asked in a way."""
    return f"{way}: {method}"
