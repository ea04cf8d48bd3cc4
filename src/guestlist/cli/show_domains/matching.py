"""Which domains the words of a command line mean.

In: words, and the domains of a host. Out: for each word the UUIDs of the domains that it means.
Looks nothing up itself and asks no host.

Source: libvirt src/util/viruuid.c (virUUIDParse: which spellings are a UUID);
tools/virsh-util.c (virshLookupDomainInternal: an id first, then a UUID, then a name).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from guestlist.handle import Handle
    from guestlist.records import Instance

_BLANKS = " \t\n\v\f\r"

_is_id = re.compile("[0-9]{1,10}").fullmatch
"""libvirt's ids have 31 bits."""

_is_uuid = re.compile("(?:[ -]*[0-9a-fA-F]{2}){16}").fullmatch


class Matches(NamedTuple):
    """What the words mean on one host: UUIDs by word; words that are another domain's name, too."""

    by_word: Mapping[str, Sequence[bytes]]
    also_names: Sequence[str] = ()

    @property
    def uuids(self) -> frozenset[bytes]:
        """All UUIDs."""
        return frozenset(uuid for uuids in self.by_word.values() for uuid in uuids)


def matches(words: Iterable[str], by: str | None, domains: Sequence[Handle]) -> Matches:
    """Return what the words mean among all domains of a host.

    Args:
        words: the words.
        by: "id", "uuid" or "name", to take the words for nothing else; None: as virsh does.
        domains: all domains of the host.
    """
    ids = {one.id: one.uuid for one in domains}
    uuids = {one.uuid for one in domains}
    names: dict[str, list[bytes]] = {}
    for one in domains:
        names.setdefault(one.name, []).append(one.uuid)

    def meanings(word: str) -> Iterator[tuple[str, Sequence[bytes]]]:
        if _is_id(word) and (uuid := ids.get(int(word))) is not None:
            yield "id", [uuid]
        if (uuid := uuid_of(word)) in uuids and uuid is not None:
            yield "uuid", [uuid]
        yield "name", names.get(word, [])

    by_word = {
        word: next((found for way, found in meanings(word) if by in (None, way)), ())
        for word in words
    }
    also = [
        word
        for word, found in by_word.items()
        if by is None and not set(names.get(word, found)) <= set(found)
    ]
    return Matches(by_word, also)


def matches_in_nova(words: Iterable[str], instances: Iterable[Instance]) -> Matches:
    """Return which instances the owners gave a name that is one of the words."""
    by_word: dict[str, list[bytes]] = {word: [] for word in words}
    for one in instances:
        name = one.details and one.details.nova and one.details.nova.name
        if name in by_word:
            by_word[name].append(one.uuid.bytes)
    return Matches(by_word)


def uuid_of(word: str) -> bytes | None:
    """Return the UUID that libvirt would read; None if libvirt would take the word for none.

    libvirt takes 32 hexadecimal digits in pairs, blanks and dashes before each pair, blanks around.
    """
    digits = word.strip(_BLANKS)
    return bytes.fromhex(digits.replace("-", "")) if _is_uuid(digits) else None
