"""Elements and attributes to values: a value that can be believed, or None.

In: elements of a parsed document, or None where there is none. Out: values of one type each, of
bounded length. Nothing here raises on what a document holds, and nothing is made up: what does not
have libvirt's form is None. `Unknown` collects the names of what was.

Source: libvirt src/util/virutil.c (virScaleInteger), src/conf/domain_conf.c (virDomainParseMemory),
src/util/viruuid.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from lxml import etree

LONGEST = 4096
"""Characters. Longer text is no path, no name and no address: it is not read."""

INT64_MAX = 2**63 - 1
UINT32_MAX = 2**32 - 1

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


class Unknown:
    """What could not be read, in the order of reading, each name once.

    The names are ours and never quote the document.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = dict.fromkeys(names)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._names)

    def add(self, name: str) -> None:
        """One more."""
        self._names[name] = None

    def unless(self, name: str, value: _T | None) -> _T | None:
        """The value; where there is none, its name is added."""
        if value is None:
            self.add(name)
        return value


def children(element: etree._Element | None) -> Iterator[etree._Element]:
    """The elements directly inside; no entity references, and none of None."""
    return iter(()) if element is None else element.iterchildren(tag=etree.Element)


def firsts(element: etree._Element | None) -> dict[str, etree._Element]:
    """The elements directly inside, by tag; of several with one tag the first.

    `find` walks the children again for each name that is asked for, at 1.6 µs: six of them cost
    more than this does.
    """
    if element is None:
        return {}
    return {child.tag: child for child in element.iterchildren(reversed=True)}


def namespace_of(element: etree._Element) -> str:
    """Its namespace URI; empty where it has none. `etree.QName` would raise on recovered names."""
    return element.tag[1:].partition("}")[0] if element.tag.startswith("{") else ""


def text_of(element: etree._Element | None) -> str | None:
    """The text of an element that holds nothing else: an entity reference counts as something."""
    if element is None or len(element):
        return None
    text = element.text
    return text if text and len(text) <= LONGEST else None


def attribute(element: etree._Element | None, name: str) -> str | None:
    """An attribute's text."""
    if element is None:
        return None
    text = element.get(name)
    return text if text and len(text) <= LONGEST else None


def bounded(text: str | None) -> str | None:
    """The text as it stands; None where it is empty or too long to be true."""
    return text if text and len(text) <= LONGEST else None


_DIGITS = 19
"""Digits of the largest number."""

_is_number = re.compile(r"[ \t\r\n]*\+?0*([0-9]{1,19})[ \t\r\n]*").fullmatch


def number(text: str | None, limit: int = INT64_MAX) -> int | None:
    """A number in ASCII digits, 0 to `limit`; the only sign may be a plus, as in libvirt."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):  # as most are
        found = _is_number(text)
        if found is None:
            return None
        text = found[1]
    value = int(text)
    return value if value <= limit else None


_UNITS = {"": 1024, "b": 1, "byte": 1, "bytes": 1}
"""Bytes in each of libvirt's units, lower case: libvirt minds no case. Without one it is KiB."""

for _power, _letter in enumerate("kmgtpe", 1):
    _UNITS[_letter] = _UNITS[f"{_letter}ib"] = 1024**_power
    _UNITS[f"{_letter}b"] = 1000**_power


def kib(element: etree._Element | None) -> int | None:
    """A size of memory, rounded up to KiB as libvirt does; None beyond 2^63 bytes, as there."""
    if element is None:
        return None
    value, unit = number(text_of(element)), element.get("unit", "")
    scale = _UNITS.get(unit.lower()) if unit.isascii() else None
    if value is None or scale is None or value * scale > INT64_MAX:
        return None
    return -(-value * scale // 1024)


_is_uuid = re.compile(r"[0-9a-fA-F]{32}").fullmatch


def uuid_from(text: str | None) -> UUID | None:
    """A UUID, with or without its dashes. `UUID()` alone would take braces and underscores too."""
    digits = (text or "").strip().replace("-", "")
    return UUID(int=int(digits, 16)) if _is_uuid(digits) else None


def word(kind: type[_E], text: str) -> _E | None:
    """The member of an enumeration that has this value."""
    return kind._value2member_map_.get(text)  # type: ignore[return-value]
