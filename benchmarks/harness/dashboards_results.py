"""What `./dev bench dashboards` found, as records: its JSON file has them all."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Series:
    """One line of a panel. `values`: one a second; None: there is none."""

    legend: str
    values: list[float | None]

    @property
    def known(self) -> list[float]:
        """Return the values that there are."""
        return [value for value in self.values if value is not None]


@dataclass(slots=True)
class Panel:
    """A panel of a dashboard: what it asks, and what Prometheus answers.

    `place` is Grafana's: left, top, width and height in the units of its grid.
    """

    title: str
    kind: str
    unit: str
    description: str
    place: tuple[int, int, int, int]
    queries: list[str] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)


@dataclass(slots=True)
class Dashboard:
    """A dashboard. `variables`: the values that Grafana offers for each, by name."""

    title: str
    variables: dict[str, list[str]]
    panels: list[Panel]


@dataclass(slots=True)
class Results:
    """All that was found. `happenings`: seconds after the start, and what happened then."""

    seconds: int
    setting: dict[str, str] = field(default_factory=dict)
    scrapes: list[float | None] = field(default_factory=list)
    """Prometheus's `up`, one a second: 0 is a scrape that failed."""
    happenings: list[tuple[int, str]] = field(default_factory=list)
    dashboards: dict[str, Dashboard] = field(default_factory=dict)
    recorded: dict[str, list[Series]] = field(default_factory=dict)
