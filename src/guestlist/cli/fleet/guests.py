"""The guests of a fleet that the options of `guestlist fleet` choose, as rows in order.

In: options; then rows of a fleet. Out: which of them match; and text. Asks no host and no etcd.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import NamedTuple

from guestlist.cli.fleet.options import asks_hosts
from guestlist.cli.ls.selection import Included, Selection
from guestlist.cli.show.columns import SAID_SHORTER, DomainRow, chosen, in_order
from guestlist.cli.show.fleet_columns import BRIEF, GUEST_COLUMNS
from guestlist.fleet.rows import FleetRow
from guestlist.records import Instance, Owner

NOT_PUBLISHED = {"disks", "macs", "ips", "nova_name", "flavor", "project", "user"}
"""The columns of which an etcd has nothing, of no guest."""

_LEFT_OUT = NOT_PUBLISHED | {"active", "created_at", "age_seconds"}
"""What a table of all columns leaves out for an etcd."""


class Filter(NamedTuple):
    """Which guests to show. Without hosts, projects or states: those of any."""

    inactive: bool
    foreign: bool
    hosts: tuple[str, ...]
    projects: frozenset[str]
    states: frozenset[str]

    @classmethod
    def of(cls, options: argparse.Namespace) -> Filter:
        """Return the filter that the options describe."""
        states = frozenset(options.state or ())
        return cls(
            inactive=options.all or bool(states) or getattr(options, "inactive", True),
            foreign=options.all or options.foreign,
            hosts=tuple(options.on or ()),
            projects=frozenset(options.project or ()),
            states=states,
        )

    @property
    def details(self) -> bool:
        """Whether it needs the details of a guest."""
        return bool(self.projects)

    def is_on(self, host: str) -> bool:
        """Return whether a host is one of those whose guests to show."""
        return not self.hosts or any(fnmatchcase(host, each) for each in self.hosts)

    def projects_without(self, guests: Collection[FleetRow]) -> list[str]:
        """Return the projects that were asked for and to which none of the guests belongs."""
        if not self.projects:
            return []
        return sorted(self.projects.difference(*(_projects(row.instance) for row in guests)))

    def matches(self, row: FleetRow) -> bool:
        """Return whether a guest is one of those to show."""
        instance = row.instance
        return (
            (self.inactive or instance.active)
            and (self.foreign or instance.ours)
            and (not self.states or str(instance.state) in self.states)
            and self.is_on(row.host)
            and (not self.projects or not self.projects.isdisjoint(_projects(instance)))
        )


def _projects(instance: Instance) -> Iterable[str]:
    """Return the name and the id of the project that a guest belongs to, as far as known."""
    nova = instance.details and instance.details.nova
    owner: Owner | None = nova.owner if nova else None
    known = (owner.project_name, owner.project_id) if owner else ()
    return [each for each in known if each is not None]


def selection(options: argparse.Namespace) -> Selection:
    """Return how the options want guests to be shown."""
    return Selection(
        included=Included(include_inactive=True, include_foreign=True, include_dom0=False),
        columns=options.columns or chosen(_usual_columns(options), GUEST_COLUMNS),
        sort=GUEST_COLUMNS[options.sort] if options.sort else None,
        reverse=options.reverse,
        form=options.format,
        headers=options.headers,
        exact=options.exact,
    )


def rows(guests: Iterable[FleetRow], wanted: Selection) -> list[DomainRow]:
    """Return guests as rows, in the order that is wanted; by default by name."""
    now = datetime.now(UTC)
    found = [DomainRow(row.host, row.instance, now, row) for row in guests]
    return in_order(found, wanted.sort, reverse=wanted.reverse)


def _usual_columns(options: argparse.Namespace) -> list[str]:
    """Return the columns that are shown if none were chosen by name."""
    if options.format in GUEST_COLUMNS:
        return [options.format]
    if options.format != "table":
        return list(GUEST_COLUMNS if options.long else BRIEF)
    if options.long and not asks_hosts(options):
        return [name for name in GUEST_COLUMNS if name not in _LEFT_OUT]
    if options.long:
        return [name for name in GUEST_COLUMNS if name not in SAID_SHORTER]
    mixed = options.all or options.foreign
    return ["host", "id", "name", "uuid", "state", "standing", *(["launcher"] if mixed else [])]
