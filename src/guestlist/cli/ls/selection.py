"""What `guestlist ls` shows, once or live: which domains, which columns, in which order.

In: the options. Out: the selection; and from instances that a caller brings, rows and text. Asks no
host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

from guestlist.cli.filters import Filter
from guestlist.cli.show import terminal
from guestlist.cli.show.columns import (
    BRIEF,
    COLUMNS,
    SAID_SHORTER,
    Column,
    DomainRow,
    chosen,
    in_order,
    record,
    with_aliases,
)
from guestlist.cli.show.render import rendered
from guestlist.launcher import NovaLaunched

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence
    from uuid import UUID

    from guestlist.records import Instance


class Included(TypedDict):
    """The domains besides those that run and are ours: the options of `Host.snapshot`."""

    include_inactive: bool
    include_foreign: bool
    include_dom0: bool


KINDS = ("inactive", "foreign", "dom0")
"""The options of `guestlist ls` that set those of `Included`, in the same order."""

ALL_DOMAINS = Included(include_inactive=True, include_foreign=True, include_dom0=True)


_OF_NAMED_DOMAINS = {"host", "name", "uuid"}


class NamedDomain(NamedTuple):
    """What a listing alone tells of a domain; has a row's place if `Selection.names_only`."""

    name: str
    uuid: UUID


class Selection(NamedTuple):
    """What the options of `guestlist ls` ask for."""

    included: Included
    filter: Filter
    columns: Sequence[Column[DomainRow]]
    sort: Column[DomainRow] | None
    reverse: bool
    form: str
    headers: bool
    exact: bool

    @classmethod
    def of(cls, options: argparse.Namespace) -> Selection:
        """Return the selection that the options describe."""
        chosen_ones = Filter.of(options)
        kinds = chosen_ones.kinds
        return cls(
            included=Included(
                include_inactive=options.all or options.inactive or "inactive" in kinds,
                include_foreign=options.all or options.foreign or "foreign" in kinds,
                include_dom0=options.all or options.dom0 or "dom0" in kinds,
            ),
            filter=chosen_ones,
            columns=with_aliases(
                options.columns or chosen(_usual_columns(options)), options.aliases
            ),
            sort=COLUMNS[options.sort] if options.sort else None,
            reverse=options.reverse,
            form=options.format,
            headers=options.headers,
            exact=options.exact,
        )

    @property
    def given(self) -> list[str]:
        """The options that widen the list, of those in `KINDS`."""
        return [kind for kind, yes in zip(KINDS, self.included.values(), strict=True) if yes]

    @property
    def details(self) -> bool:
        """Whether a column that is shown or sorted by, or a filter, needs a domain's details."""
        return self.filter.details or any(column.details for column in self._used)

    @property
    def names_only(self) -> bool:
        """Whether no column that is shown or sorted by, and no filter, needs more than a name."""
        return self.filter.names_only and all(
            column.name in _OF_NAMED_DOMAINS for column in self._used
        )

    @property
    def _used(self) -> Sequence[Column[DomainRow]]:
        return [*self.columns, *([self.sort] if self.sort else [])]

    def matching(
        self, domains: Sequence[Instance | NamedDomain]
    ) -> Sequence[Instance | NamedDomain]:
        """Return those of the domains that the filter admits, in their order."""
        if not self.filter.is_given:
            return domains
        if self.names_only:
            return [one for one in domains if self.filter.name_matches(one.name)]
        return [one for one in domains if self.filter.matches(cast("Instance", one))]

    def why_nothing(self, looked_at: int) -> str:
        """Return why a host has nothing to show, though this many of its domains were looked at."""
        return self.filter.without_match(looked_at, widest=all(self.included.values()))

    def rows(
        self, listed: Iterable[tuple[str, Iterable[Instance | NamedDomain]]]
    ) -> list[DomainRow]:
        """Return the domains of each host, given with the host's name, as rows in order."""
        now = None
        if not self.names_only:
            from datetime import UTC, datetime  # noqa: PLC0415  a list of names tells no age

            now = datetime.now(UTC)
        rows = [
            DomainRow(host, cast("Instance", one), now)  # of a NamedDomain no column reads more
            for host, domains in listed
            for one in domains
        ]
        return in_order(rows, self.sort, reverse=self.reverse)

    def text(self, rows: Iterable[DomainRow]) -> str:
        """Return the rows in the format asked for."""
        records = [record(self.columns, row) for row in rows]
        return rendered(self.form, self.columns, records, headers=self.headers, exact=self.exact)

    def table_lines(self, rows: Iterable[DomainRow]) -> Iterator[str]:
        """Return the rows as the lines of a table that fits the terminal."""
        from guestlist.cli.show import table  # noqa: PLC0415  not for other formats

        return table.lines(
            self.columns,
            [record(self.columns, row) for row in rows],
            headers=self.headers,
            width=terminal.width(),
            colours=terminal.has_colours(),
        )


def ours(options: argparse.Namespace) -> NovaLaunched:
    """Return what "ours" means by these options."""
    return NovaLaunched(options.name_template, verify=options.verify)


def _usual_columns(options: argparse.Namespace) -> list[str]:
    """Return the columns that are shown if none were chosen by name."""
    if options.format in COLUMNS:
        return [options.format]
    if options.format != "table":
        return list(COLUMNS if options.long else BRIEF)
    several = len(set(options.connect or ())) > 1
    host = ["host"] if several else []
    if options.long:
        return host + [name for name in COLUMNS if name not in {"host", *SAID_SHORTER}]
    if options.usual_columns:
        named: Sequence[str] = options.usual_columns
        return [*named] if "host" in named else [*host, *named]
    mixed = options.all or options.foreign or options.dom0 or options.launcher
    return [*host, *("id", "name", "state", "uuid"), *(["launcher"] if mixed else [])]
