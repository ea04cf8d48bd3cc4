"""The records of the store as publications and tombstones, decoded when they are looked at. Pure.

In: keys and values of etcd. Out: what the rule takes. A value is checked when it comes, and kept as
it came: a record of a million domains is made only for the domains that are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import iter_unpack
from typing import cast
from uuid import UUID

import msgspec

from guestlist.fleet import values
from guestlist.fleet.etcd.kv import KeyValue
from guestlist.fleet.rows import Phase, Publication
from guestlist.records import Instance

TAIL = len("/00000000-0000-0000-0000-000000000000")
"""Bytes of a key behind the host."""


class StoredPublication(msgspec.Struct, frozen=True, gc=False):
    """A `rows.Publication` over a value of the store, which has been checked.

    Two are equal if the same host published the same value.
    """

    host: str
    number: int
    """The UUID of the domain, as a number."""
    born: int
    value: bytes

    @property
    def uuid(self) -> UUID:
        """The UUID of the domain."""
        return UUID(int=self.number)

    @property
    def instance(self) -> Instance:
        """The record of the domain, made now."""
        return values.instance_of(self.uuid, values.domain(self.value))

    @property
    def phase(self) -> Phase:
        """What the copy is to a live migration."""
        return values.domain(self.value).phase

    @property
    def arrived(self) -> bool:
        """Whether the guest came by a live migration not long ago."""
        return values.domain(self.value).arrived

    def made(self) -> Publication:
        """Return it with its record made: decoded once, where each property decodes again."""
        value = values.domain(self.value)
        instance = values.instance_of(UUID(int=self.number), value)
        return Publication(self.host, instance, value.phase, value.arrived, self.born)


def made(publication: Publication) -> Publication:
    """Return a publication with its record made."""
    return publication.made() if isinstance(publication, StoredPublication) else publication


def publication(host: str, number: int, row: KeyValue) -> Publication:
    """Return the publication of a domain.

    Raises:
        ValueError: the value is not one of guestlist's, or is of another version.
    """
    value = row.value
    values.domain(value)
    return _stored(host, number, row.create_revision, value)


_stored = cast("Callable[[str, int, int, bytes], Publication]", StoredPublication)


def publications(
    hosts: Iterable[str], numbers: Iterable[int], rows: Iterable[KeyValue], page: Iterable[bytes]
) -> list[Publication]:
    """Return the publications of domains whose values (`page`) have been checked."""
    born = [row.create_revision for row in rows]
    return list(map(_stored, hosts, numbers, born, page))


def numbers_of(keys: Sequence[bytes]) -> list[int] | None:
    """Return the numbers of the UUIDs that keys end with, all at once; None: one does not."""
    count = len(keys)
    text = b"".join([key[-TAIL:] for key in keys])
    dashes = (text[at::TAIL] == b"-" * count for at in (9, 14, 19, 24))
    if len(text) != TAIL * count or text[::TAIL] != b"/" * count or not all(dashes):
        return None
    digits = text.translate(None, b"/-")
    if len(digits) != 32 * count or digits.translate(None, _OF_UUIDS):
        return None
    halves = iter_unpack(">QQ", bytes.fromhex(digits.decode("ascii")))
    return [high << 64 | low for high, low in halves]


def number_of(text: bytes) -> int:
    """Return the number of the UUID that a key ends with.

    Raises:
        ValueError: it is none, or not written as etcd's other keys are.
    """
    if len(text) == 36 and text[8:24:5] == b"----" and not text.translate(None, _OF_UUIDS):
        digits = text.replace(b"-", b"")
        if len(digits) == 32:
            return int(digits, 16)
    raise ValueError("its key does not end with a UUID")


_OF_UUIDS = b"0123456789abcdef-"
"""The characters of a UUID in a key."""
