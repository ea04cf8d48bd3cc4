"""What `./dev bench exporter` measured, as records."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Scrapes:
    """Scrapes of one host of the test driver, one a second, a round of statistics with each."""

    scrapes: int
    calls: dict[str, int]
    """Calls on the wire, by procedure."""
    missing: int
    """Domains of the host that the last scrape lacks."""
    resident_bytes: int
    cpu_seconds: float
    """Processor time of the exporter for all these scrapes."""
    seconds: list[float]


@dataclass(slots=True)
class Rival:
    """One of two exporters that take turns."""

    scrapes: int = 0
    calls: int = 0
    """Calls on the wire of `counted` scrapes."""
    counted: int = 0
    daemon_cpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Duel:
    """guestlist and Debian's exporter on one host."""

    domains: int
    ours: Rival = field(default_factory=Rival)
    theirs: Rival = field(default_factory=Rival)
    families: int = 0
    """Metric families of Debian's exporter, of a QEMU guest with a disk."""
    series: int = 0
    lacking: list[str] = field(default_factory=list)
    """Series of Debian's exporter that guestlist has not, by name and labels."""


@dataclass(slots=True)
class Writing:
    """Bodies that are made from values of every guest that are new each time."""

    guests: int
    series: int
    plain_bytes: int
    gzip_bytes: int
    resident_bytes: int
    plain_seconds: list[float]
    gzip_seconds: list[float]
    """Plain and compressed together."""
    library_seconds: list[float]
    """What prometheus_client takes for the same samples."""


@dataclass(slots=True)
class Fault:
    """Scrapes while something does not answer."""

    seconds: list[float] = field(default_factory=list)
    marked: int = 0
    """Stuck guests that the last scrape marks."""
    wrongly_marked: int = 0
    incomplete: int = 0
    """Guests that are not stuck, and lack statistics or a state in the last scrape."""
    listed: int = 0
    """Guests whose state the last scrape tells."""
    is_up: float | None = None


@dataclass(slots=True)
class Silent:
    """Scrapes beside clients that say nothing."""

    clients: int = 0
    threads_before: int = 0
    threads_most: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Used:
    """What an exporter holds at one moment."""

    descriptors: int
    threads: int
    resident_bytes: int


@dataclass(slots=True)
class Soak:
    """Scrapes of one host under churn."""

    scrapes: int = 0
    changes: int = 0
    start: Used | None = None
    end: Used | None = None
    most: Used | None = None
    fell: int = 0
    duplicates: int = 0
    compared: int = 0
    """Pairs of values of one counter and one id of a domain that were compared."""
    slowest: float = 0.0
    down: int = 0
    """Scrapes that libvirt did not answer in time."""


@dataclass(slots=True)
class Results:
    """Everything that was measured."""

    setting: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    sizes: dict[int, Scrapes] = field(default_factory=dict)
    migrating: dict[int, float] = field(default_factory=dict)
    """Calls a scrape, by the number of guests that migrate."""
    duel: Duel | None = None
    writing: Writing | None = None
    guests: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)
    silent: dict[str, Silent] = field(default_factory=dict)
    minutes: float = 0.0
    soaks: dict[str, Soak] = field(default_factory=dict)
