"""The columns of `guestlist ls`: a row each.

In: an instance, and the host it is on. Out: values under the names that JSON, YAML and CSV carry.
To add a column is to add a row to `COLUMNS`; from then on its name is a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from guestlist.records import Instance

Value = str | int | bool | None
Record = dict[str, Value]


class Column(NamedTuple):
    """A column: its name, what it says, where the value comes from, and how a table shows it.

    On a narrow terminal it gives way down to `least` cells (None: never), by being cut or, where it
    `folds`, by going on below. `colours` are SGR attributes by the text they colour.
    """

    name: str
    about: str
    value: Callable[[str, Instance], Value]
    least: int | None = None
    folds: bool = False
    colours: Mapping[str, str] = {}


_STATE_COLOURS = {"running": "32", "paused": "33", "crashed": "31", "shut off": "2"}

COLUMNS = {
    column.name: column
    for column in (
        Column("host", "URI of the host", lambda host, _: host, least=8, folds=True),
        Column("id", "libvirt's id of an active domain", lambda _, one: one.id),
        Column("name", "libvirt's name", lambda _, one: one.name, least=8, folds=True),
        Column("uuid", "UUID, the same in Nova", lambda _, one: str(one.uuid), least=6),
        Column(
            "state",
            "running, paused, shut off, … as virsh says it",
            lambda _, one: str(one.state),
            least=7,
            colours=_STATE_COLOURS,
        ),
        Column(
            "active", "whether libvirt calls it active: it has an id", lambda _, one: one.active
        ),
        Column("launcher", "nova, libguestfs, dom0, …", lambda _, one: str(one.launcher), least=6),
    )
}


def chosen(names: Iterable[str]) -> tuple[Column, ...]:
    """The columns of these names, in their order, each once.

    Raises:
        KeyError: there is no column of that name.
    """
    return tuple(COLUMNS[name] for name in dict.fromkeys(names))


def record(columns: Iterable[Column], host: str, instance: Instance) -> Record:
    """The values of one instance, by column."""
    return {column.name: column.value(host, instance) for column in columns}


def help_text() -> str:
    """What `--columns help` prints."""
    return "".join(f"{column.name:<10}{column.about}\n" for column in COLUMNS.values())
