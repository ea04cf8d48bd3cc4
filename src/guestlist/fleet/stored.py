"""The records of the store as publications and tombstones, decoded when they are looked at. Pure.

In: keys and values of etcd. Out: what the rule takes. A value is checked when it comes, and kept as
it came: a record of a million domains is made only for the domains that are shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from struct import iter_unpack
from typing import NamedTuple, cast
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
    created: int
    """The revision at which its key was created."""
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

    @property
    def born(self) -> int:
        """The revision at which the domain was first published, or that it runs again."""
        return max(self.created, values.domain(self.value).began)

    def made(self) -> Publication:
        """Return it with its record made: decoded once, where each property decodes again."""
        return values.publication(self.host, self.uuid, self.value, self.created)


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
    hosts: Iterable[str], numbers: Iterable[int], created: Iterable[int], values: Iterable[bytes]
) -> list[Publication]:
    """Return the publications of domains whose values have been checked."""
    return list(map(_stored, hosts, numbers, created, values))


class Keys(NamedTuple):
    """What the keys of a page say: their hosts, each with its number of keys, and all UUIDs."""

    hosts: list[tuple[bytes, int]]
    numbers: list[int]


def read_keys(keys: Sequence[bytes], root: bytes) -> Keys | None:
    """Return what keys of domains say, in etcd's order; None: ask each key by itself.

    `root` is what stands before their hosts. In order the keys of a host are neighbours, so only
    the first of them is looked at: the others begin as it does. They also end with a UUID and
    nothing before it, because no key is shorter than that, and all together are no longer.
    """
    if keys != sorted(keys):
        return None
    hosts: list[tuple[bytes, int]] = []
    start = length = 0
    while start < len(keys):
        host = keys[start][len(root) : -TAIL]
        if b"/" in host or not keys[start].startswith(b"%b%b/" % (root, host)):
            return None
        end = bisect_left(keys, b"%b%b0" % (root, host), start)  # "0" comes after "/"
        hosts.append((host, end - start))
        length += len(keys[start]) * (end - start)
        start = end
    if length != sum(map(len, keys)):
        return None
    numbers = _numbers(b"".join([key[1 - TAIL :] for key in keys]), len(keys))
    return None if numbers is None else Keys(hosts, numbers)


def _numbers(text: bytes, count: int) -> list[int] | None:
    """Return so many UUIDs as numbers; None if the text is anything else."""
    length = TAIL - 1
    dashes = (text[at::length] == b"-" * count for at in (8, 13, 18, 23))
    if len(text) != length * count or not all(dashes):
        return None
    digits = text.translate(None, b"-")
    if len(digits) != 32 * count or digits.translate(None, _OF_UUIDS):
        return None
    return list(starmap(int.from_bytes, iter_unpack("16s", bytes.fromhex(digits.decode("ascii")))))


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
