"""What `guestlist ls` is to show, once or live: whom, which columns, in what order.

In: the options. Out: the same, made up; and rows and text from instances that somebody brings.
Asks nobody.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict

from guestlist.cli import hidden, hosts, table, terminal
from guestlist.cli.columns import (
    BRIEF,
    COLUMNS,
    SAID_SHORTER,
    Column,
    Guest,
    chosen,
    in_order,
    record,
)
from guestlist.cli.render import rendered
from guestlist.launcher import NovaLaunched
from guestlist.records import Instance


class Included(TypedDict):
    """Whom to list besides the running ones that are ours: the options of `Host.snapshot`."""

    include_inactive: bool
    include_foreign: bool
    include_dom0: bool


EVERYBODY = Included(include_inactive=True, include_foreign=True, include_dom0=True)


@dataclass(frozen=True, slots=True)
class Selection:
    """What the options of `guestlist ls` ask for."""

    included: Included
    columns: Sequence[Column[Guest]]
    sort: Column[Guest] | None
    reverse: bool
    form: str
    headers: bool
    exact: bool

    @classmethod
    def of(cls, options: argparse.Namespace) -> Selection:
        """Read it off the options."""
        return cls(
            included=Included(
                include_inactive=options.all or options.inactive,
                include_foreign=options.all or options.foreign,
                include_dom0=options.all or options.dom0,
            ),
            columns=options.columns or chosen(_usual_columns(options)),
            sort=COLUMNS[options.sort] if options.sort else None,
            reverse=options.reverse,
            form=options.format,
            headers=options.headers,
            exact=options.exact,
        )

    @property
    def given(self) -> list[str]:
        """The options that widen the list, of those in `hidden.WHY`."""
        return [kind for kind, yes in zip(hidden.WHY, self.included.values(), strict=True) if yes]

    @property
    def details(self) -> bool:
        """Whether a column that is shown or sorted by wants the details of a domain."""
        wanted = [*self.columns, *([self.sort] if self.sort else [])]
        return any(column.details for column in wanted)

    def rows(self, listed: Iterable[tuple[str, Iterable[Instance]]]) -> list[Guest]:
        """The instances of each host, by its name, as rows in order."""
        now = datetime.now(UTC)
        rows = [Guest(host, one, now) for host, instances in listed for one in instances]
        return in_order(rows, self.sort, reverse=self.reverse)

    def text(self, rows: Iterable[Guest]) -> str:
        """The rows in the format asked for."""
        records = [record(self.columns, row) for row in rows]
        return rendered(self.form, self.columns, records, headers=self.headers, exact=self.exact)

    def table_lines(self, rows: Iterable[Guest]) -> Iterator[str]:
        """The rows as the lines of a table that fits the terminal."""
        return table.lines(
            self.columns,
            [record(self.columns, row) for row in rows],
            headers=self.headers,
            width=terminal.width(),
            colours=terminal.has_colours(),
        )


def ours(options: argparse.Namespace) -> NovaLaunched:
    """What "ours" means, as the options have it."""
    return NovaLaunched(options.name_template, verify=options.verify)


def _usual_columns(options: argparse.Namespace) -> list[str]:
    """The columns where none were chosen by name."""
    if options.format in COLUMNS:
        return [options.format]
    if options.format != "table":
        return list(COLUMNS if options.long else BRIEF)
    several = len(hosts.distinct(options.connect)) > 1
    host = ["host"] if several else []
    if options.long:
        return host + [name for name in COLUMNS if name not in {"host", *SAID_SHORTER}]
    mixed = options.all or options.foreign or options.dom0
    return [*host, *("id", "name", "state", "uuid"), *(["launcher"] if mixed else [])]
