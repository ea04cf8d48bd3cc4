"""The keys under which a fleet is published in etcd. Pure.

In: names of hosts, UUIDs; or the rows of a read. Out: keys and spans; or what the rows publish,
where one row that cannot be read is an error of that row alone.

    /guestlist/v1/<fleet>/dom/<host>/<uuid>   a domain that the host has
    /guestlist/v1/<fleet>/gone/<host>/<uuid>  a domain that it had, for a while
    /guestlist/v1/<fleet>/host/<host>         what it has published so far, in every transaction
    /guestlist/v1/<fleet>/live/<host>         on its lease: it is not silent

The kind comes before the host, so that `host` and `live` are one small span, and the rights of a
host are two keys and two spans that end in "/". No domain is on the lease: the domains of a dead
host stay, and a reader shows how old they are.

A value of a later version that is not known, and whatever else cannot be a value of guestlist's,
becomes a `BadRow` that names the key: a reader loses no guest in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from uuid import UUID, SafeUUID

from guestlist.errors import GuestlistError, short
from guestlist.fleet import values
from guestlist.fleet.etcd.span import Span, prefix
from guestlist.fleet.rows import Publication, Tombstone
from guestlist.fleet.values import HostRecord, LiveRecord

if TYPE_CHECKING:
    from guestlist.fleet.etcd.kv import KeyValue

HOSTS_IN_A_PAGE = 50
"""Hosts whose domains a reader asks for at once: some 5,000 domains, 2 MiB."""

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:@-]{0,252}", re.ASCII)
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class InvalidName(GuestlistError, ValueError):
    """A name of a host or of a fleet that cannot be part of a key."""


def valid_name(name: str, what: str = "host") -> str:
    """Return a name of a host or a fleet, if it can be part of a key and the name of a user.

    Raises:
        InvalidName: it has other characters than letters, digits and "._:@-", or is too long.
    """
    if not _NAME.fullmatch(name):
        raise InvalidName(
            f"{short(name)!r} cannot name a {what}: use letters, digits and '._:@-', 253 at most, "
            "a letter or a digit first"
        )
    return name


def is_valid(name: str) -> bool:
    """Return whether a name can be that of a host or a fleet."""
    return _NAME.fullmatch(name) is not None


_R = TypeVar("_R")


class BadRow(NamedTuple):
    """A row that cannot be read: its key, the host where the key tells it, and a line why."""

    key: bytes
    host: str | None
    why: str

    def __str__(self) -> str:
        return f"{self.key!r}: {self.why}"


class Read(NamedTuple):
    """The rows of a page that could be read, in the order of the keys, and the others."""

    publications: list[Publication]
    tombstones: list[Tombstone]
    bad: list[BadRow]


class Layout:
    """The keys of one fleet.

    Raises:
        InvalidName: the name of the fleet cannot be part of a key.
    """

    def __init__(self, fleet: str) -> None:
        self.root = f"/guestlist/v1/{valid_name(fleet, 'fleet')}/".encode()
        """How each key of the fleet begins."""
        self._dom, self._gone = self.root + b"dom/", self.root + b"gone/"
        self._host, self._live = self.root + b"host/", self.root + b"live/"
        self._names: dict[bytes, str] = {}

    @property
    def everything(self) -> Span:
        """All keys of the fleet."""
        return prefix(self.root)

    @property
    def summary(self) -> Span:
        """The records of all hosts, and then who holds the leases."""
        return Span(self._host, prefix(self._live).end)

    def host(self, host: str) -> bytes:
        """Return the key of a host's record. Raises InvalidName, as all of these."""
        return self._host + valid_name(host).encode()

    def live(self, host: str) -> bytes:
        """Return the key on a host's lease."""
        return self._live + valid_name(host).encode()

    def domain(self, host: str, uuid: UUID) -> bytes:
        """Return the key of a domain of a host."""
        return self.domains(host).start + str(uuid).encode()

    def gone(self, host: str, uuid: UUID) -> bytes:
        """Return the key of the tombstone of a domain of a host."""
        return self.tombstones(host).start + str(uuid).encode()

    def domains(self, host: str) -> Span:
        """Return the span of a host's domains."""
        return prefix(b"%s%s/" % (self._dom, valid_name(host).encode()))

    def tombstones(self, host: str) -> Span:
        """Return the span of a host's tombstones."""
        return prefix(b"%s%s/" % (self._gone, valid_name(host).encode()))

    def own(self, host: str) -> tuple[Span, ...]:
        """Return all that a host writes: its two keys, and the spans of its domains."""
        keys = Span(self.host(host)), Span(self.live(host))
        return *keys, self.domains(host), self.tombstones(host)

    def pages_of_domains(
        self, hosts: Iterable[str], in_a_page: int = HOSTS_IN_A_PAGE
    ) -> list[Span]:
        """Return spans that together have the domains of all hosts, each of a few hosts.

        They leave no key out, also not those of hosts that are not named.
        """
        return _pages(self._dom, hosts, in_a_page)

    def pages_of_tombstones(
        self, hosts: Iterable[str], in_a_page: int = 10 * HOSTS_IN_A_PAGE
    ) -> list[Span]:
        """Return the same for the tombstones."""
        return _pages(self._gone, hosts, in_a_page)

    def host_of(self, key: bytes) -> tuple[str, str] | None:
        """Return "host" or "live" and the host of such a key; None: it is another key."""
        for start, kind in ((self._host, "host"), (self._live, "live")):
            if key.startswith(start):
                name = key[len(start) :].decode("ascii", "replace")
                return (kind, name) if _NAME.fullmatch(name) else None
        return None

    def read(self, rows: Iterable[KeyValue]) -> Read:
        """Read domains and tombstones. A row that cannot be read is in `bad`."""
        publications: list[Publication] = []
        tombstones: list[Tombstone] = []
        bad: list[BadRow] = []
        for row in rows:
            key = row.key
            start, _, text = key.rpartition(b"/")
            host = self._names.get(start) or self._name(start)
            if host is None or not _UUID.fullmatch(text):
                bad.append(BadRow(key, host, "the key is none of a domain"))
                continue
            uuid = _uuid(text)
            try:
                if start.startswith(self._dom):
                    created = row.create_revision
                    publications.append(values.publication(host, uuid, row.value, created))
                else:
                    tombstones.append(values.tombstone(host, uuid, row))
            except ValueError as error:
                bad.append(BadRow(key, host, values.why_not(row.value, error)))
        return Read(publications, tombstones, bad)

    def _name(self, start: bytes) -> str | None:
        """Return the host in the beginning of a key; None: it is another key."""
        for kind in (self._dom, self._gone):
            name = start[len(kind) :].decode("ascii", "replace")
            if start.startswith(kind) and _NAME.fullmatch(name):
                self._names[start] = name
                return name
        return None


def host_record(row: KeyValue) -> HostRecord | BadRow:
    """Read a host's record."""
    return _record(row, values.host_record)


def live_record(row: KeyValue) -> LiveRecord | BadRow:
    """Read the value of the key on a host's lease."""
    return _record(row, values.live_record)


def _record(row: KeyValue, read: Callable[[bytes], _R]) -> _R | BadRow:
    try:
        return read(row.value)
    except ValueError as error:
        name = row.key.rpartition(b"/")[2].decode("ascii", "replace")
        host = name if _NAME.fullmatch(name) else None
        return BadRow(row.key, host, values.why_not(row.value, error))


def _uuid(text: bytes) -> UUID:
    """Return the UUID of a valid text: a fifth of the time that its constructor takes."""
    uuid = object.__new__(UUID)
    _set_int(uuid, int(text.replace(b"-", b""), 16))
    _set_safe(uuid, _NOT_KNOWN)
    return uuid


_set_int = UUID.__dict__["int"].__set__
_set_safe = UUID.__dict__["is_safe"].__set__
_NOT_KNOWN = SafeUUID.unknown  # to look up a member of an enumeration takes as long as the rest


def _pages(start: bytes, hosts: Iterable[str], in_a_page: int) -> list[Span]:
    """Cut the span of a kind before every so many hosts, in the order of keys: "a-b/" < "a/"."""
    names = sorted(b"%s%s/" % (start, valid_name(host).encode()) for host in set(hosts))
    cuts = [start, *names[in_a_page::in_a_page], prefix(start).end]
    return [Span(*pair) for pair in pairwise(cuts)]
