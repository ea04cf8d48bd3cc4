"""What the store has of a fleet: its hosts and their guests, from etcd's own records. Pure.

In: keys and values, as a list or a watch brings them. Out: the roster and the claims, kept in step.
A key or a value that cannot be read is noted with its host, which is not complete from then on; the
others are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from guestlist.fleet.claims import Claims
from guestlist.fleet.etcd.kv import KeyValue
from guestlist.fleet.layout import Layout, is_valid
from guestlist.fleet.roster import Roster
from guestlist.fleet.rows import HostState
from guestlist.fleet.stored import number_of, publication, publications, read_keys
from guestlist.fleet.values import are_domains, host_record, tombstone, why_not

KINDS = (b"dom", b"gone", b"host", b"live")
"""The kinds of keys that are read; what a later guestlist may add is left alone."""

_OF_HOSTS = (b"host", b"live")
"""Those of which a host has one key, which ends with its name."""

_AT_A_TIME = 200

NAMES_NO_HOST = "its key does not end with the name of a host"


class Place(NamedTuple):
    """Where a key belongs: its kind ("dom"), its host, and what stands behind the host."""

    kind: bytes
    host: str
    rest: bytes


class Content:
    """The hosts of a fleet, and what they publish. One thread at a time."""

    def __init__(self, layout: Layout) -> None:
        self.roster = Roster()
        self.claims = Claims()
        self.newest: KeyValue | None = None
        """The key of a host, record or lease, that was written last; set by who lists the fleet."""
        self._start = len(layout.root)
        self._domains = layout.root + b"dom/"

    def place(self, key: bytes) -> Place:
        """Return where a key of the fleet belongs."""
        kind, _, rest = key[self._start :].partition(b"/")
        if kind in _OF_HOSTS:
            return Place(kind, _text(rest), b"")
        host, _, rest = rest.partition(b"/")
        return Place(kind, _text(host), rest)

    def state(self, host: str) -> HostState | None:
        """Return the state of a host; None if the store has nothing of it."""
        return self.roster[host].state() if host in self.roster else None

    def states(self) -> dict[str, HostState]:
        """Return the state of each host of which the store has something."""
        return {each.host: each.state() for each in self.roster}

    def put_domains(self, rows: Sequence[KeyValue]) -> None:
        """Take a page of domains, as `put` does: a million of them in a few seconds."""
        found, values, created = _columns(rows)
        keys = read_keys(found, self._domains)
        if keys is None or not are_domains(values):
            self._put_each(rows)
            return
        hosts: list[str] = []
        for name, count in keys.hosts:
            host = self.roster[_text(name)]
            host.domains += count
            hosts += [host.host] * count
        self.claims.publish_all(keys.numbers, publications(hosts, keys.numbers, created, values))

    def _put_each(self, rows: Iterable[KeyValue]) -> None:
        """Take a page of domains of which one, at least, cannot be read."""
        for row in rows:
            name, _, rest = row.key[len(self._domains) :].partition(b"/")
            host = self.roster[_text(name)]
            host.domains += 1
            try:
                number = number_of(rest)
                self.claims.publish(number, publication(host.host, number, row))
            except ValueError as error:
                host.cannot_read(row.key, why_not(row.value, error))

    def put(self, row: KeyValue, *, is_new: bool) -> None:
        """Take a key with its value, in the place of what it was.

        `is_new` says that the store did not have the key before.
        """
        kind, name, rest = self.place(row.key)
        if kind not in KINDS:
            return
        host = self.roster[name]
        if kind in _OF_HOSTS and not is_valid(name):
            host.cannot_read(row.key, NAMES_NO_HOST)
            return
        try:
            if kind == b"live":
                host.term = row.create_revision
            elif kind == b"host":
                host.record = host_record(row.value)
            elif kind == b"dom":
                host.domains += is_new
                number = number_of(rest)
                self.claims.withdraw(number, name)
                self.claims.publish(number, publication(name, number, row))
            elif kind == b"gone":
                host.tombstones += is_new
                number = number_of(rest)
                self.claims.unbury(number, name)
                self.claims.bury(number, tombstone(name, UUID(int=number), row))
        except ValueError as error:
            if kind == b"host":
                host.record = None
            host.cannot_read(row.key, why_not(row.value, error))
        else:
            host.can_read(row.key)

    def delete(self, key: bytes) -> None:
        """Take it that a key is gone."""
        kind, name, rest = self.place(key)
        if kind not in KINDS:
            return
        host = self.roster[name]
        host.can_read(key)
        try:
            if kind == b"live":
                host.term = None
            elif kind == b"host":
                host.record = None
            elif kind == b"dom":
                host.domains -= 1
                self.claims.withdraw(number_of(rest), name)
            elif kind == b"gone":
                host.tombstones -= 1
                self.claims.unbury(number_of(rest), name)
        except ValueError:
            pass  # its value was never taken
        self.roster.drop_if_empty(name)


def _text(name: bytes) -> str:
    """Return a host's name, as the key has it; what is no UTF-8 in it becomes escapes."""
    return name.decode("utf-8", "backslashreplace")


def _columns(rows: Iterable[KeyValue]) -> tuple[list[bytes], list[bytes], list[int]]:
    """Return the keys, the values and the revisions of creation of rows.

    protobuf makes an object of a row each time that it is looked at, so each is looked at once; and
    no more are kept than Python's collector of garbage lets pass.
    """
    keys: list[bytes] = []
    values: list[bytes] = []
    created: list[int] = []
    rest = iter(rows)
    while some := list(islice(rest, _AT_A_TIME)):
        keys += [row.key for row in some]
        values += [row.value for row in some]
        created += [row.create_revision for row in some]
    return keys, values, created
