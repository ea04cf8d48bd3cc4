"""The guests of a fleet that the options of `guestlist fleet` choose, as rows in order.

In: options; then rows of a fleet. Out: which of them match; and text. Asks no host and no etcd.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Hashable, Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, cast

from guestlist.cli import filters
from guestlist.cli.fleet.options import asks_hosts
from guestlist.cli.ls.selection import Included, Selection
from guestlist.cli.show.columns import SAID_SHORTER, DomainRow, chosen, in_order
from guestlist.cli.show.fleet_columns import BRIEF, GUEST_COLUMNS
from guestlist.cli.waiting_changes import WaitingChanges
from guestlist.fleet.rows import FleetRow, FleetSnapshot, RowChange, Standing

if TYPE_CHECKING:
    from uuid import UUID

NOT_PUBLISHED = {"disks", "macs", "ips", "nova_name", "flavor", "project", "user"}
"""The columns of which an etcd has nothing, of no guest."""

_LEFT_OUT = NOT_PUBLISHED | {"active", "created_at", "age_seconds"}
"""What a table of all columns leaves out for an etcd."""


class Filter(NamedTuple):
    """Which guests to show. Without hosts: those of any."""

    inactive: bool
    foreign: bool
    hosts: tuple[str, ...]
    domains: filters.Filter

    @classmethod
    def of(cls, options: argparse.Namespace) -> Filter:
        """Return the filter that the options describe."""
        domains = filters.Filter.of(options)
        return cls(
            inactive=options.all
            or "inactive" in domains.kinds
            or getattr(options, "inactive", True),
            foreign=options.all or options.foreign or "foreign" in domains.kinds,
            hosts=tuple(options.on or ()),
            domains=domains,
        )

    @property
    def details(self) -> bool:
        """Whether it needs the details of a guest."""
        return self.domains.details

    def is_on(self, host: str) -> bool:
        """Return whether a host is one of those whose guests to show."""
        return not self.hosts or any(fnmatchcase(host, each) for each in self.hosts)

    def projects_without(self, guests: Collection[FleetRow]) -> list[str]:
        """Return the projects that were asked for and to which none of the guests belongs."""
        wanted = self.domains.projects
        if not wanted:
            return []
        return sorted(wanted.difference(*(filters.projects(row.instance) for row in guests)))

    def unjudged(self, guests: Collection[FleetRow]) -> str | None:
        """Return how many guests cannot be judged, in words; None if each can."""
        return self.domains.unjudged(row.instance for row in filter(self._could_match, guests))

    def matches(self, row: FleetRow) -> bool:
        """Return whether a guest is one of those to show."""
        return self._could_match(row) and self.domains.matches(row.instance)

    def passed(self, change: RowChange, waiting: WaitingChanges[RowChange]) -> Iterable[RowChange]:
        """Return the changes to show now: of guests that match before a change or after it."""
        known = [row for row in (change.before, change.after) if row is not None]
        row = change.row
        return waiting.passed(
            change,
            row.instance.uuid,
            row.instance,
            matches=any(map(self.matches, known)),
            is_unjudged=self._could_match(row) and self.domains.is_unjudged(row.instance),
            is_there=change.after is not None,
        )

    def passed_by_list(
        self, snapshot: FleetSnapshot, waiting: WaitingChanges[RowChange]
    ) -> Iterable[RowChange]:
        """Return the changes that waited and that a new list lets through."""

        def judge(uuid: Hashable) -> bool | None:
            row = snapshot.get(cast("UUID", uuid))
            if row is None or self.matches(row):  # if it is gone, nothing of it is lost
                return True
            waits = row.instance.details is None and self._could_match(row)
            return None if waits and self.domains.is_unjudged(row.instance) else False

        return waiting.passed_by_list(judge)

    def _could_match(self, row: FleetRow) -> bool:
        """Return whether a guest is one to show, as far as its domain is not looked at."""
        return self._is_listed(row) and self.is_on(row.host)

    def _is_listed(self, row: FleetRow) -> bool:
        instance = row.instance
        return (self.inactive or instance.active) and (self.foreign or instance.ours)


def selection(options: argparse.Namespace) -> Selection:
    """Return how the options want guests to be shown."""
    return Selection(
        included=Included(include_inactive=True, include_foreign=True, include_dom0=False),
        filter=filters.Filter(),
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
    return ["host", "name", "state", "uuid", *(["launcher"] if mixed else []), "standing"]


def with_usual_columns(
    options: argparse.Namespace, wanted: Selection, rows: Iterable[DomainRow]
) -> Selection:
    """Return how to show rows: a table of the usual columns tells how guests stand if one must.

    So a table of guests that are all where they belong fits a line of 80.
    """
    if options.columns or options.long or options.format != "table" or any(map(_stands_out, rows)):
        return wanted
    return wanted._replace(columns=[each for each in wanted.columns if each.name != "standing"])


def _stands_out(row: DomainRow) -> bool:
    return row.guest is not None and row.guest.standing is not Standing.RESIDENT
