"""Elements and attributes to values: a value that can be trusted, or None.

In: elements of a parsed document, or None where the document has no such element. Out: values of
one type each, of bounded length. Nothing here raises because of what a document holds, and nothing
invents a value: text that does not have libvirt's form becomes None. `Unknown` collects the names
of such values.

Source: libvirt src/util/virutil.c (virScaleInteger), src/conf/domain_conf.c (virDomainParseMemory),
src/util/viruuid.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from uuid import UUID

from lxml import etree

LONGEST = 4096
"""Characters. Longer text is no path, no name and no address: it is not read."""

INT64_MAX = 2**63 - 1
UINT32_MAX = 2**32 - 1


class Unknown:
    """The names of what could not be read, in the order of reading, each name once.

    The names are guestlist's own and never quote the document.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._names)

    def add(self, name: str) -> None:
        """Add a name."""
        self._names[name] = None

    def add_all(self, label: str, names: Iterable[str]) -> None:
        """Add names of parts of one thing: "LABEL: NAME" each."""
        for name in names:
            self._names[f"{label}: {name}"] = None


def inside(element: etree._Element) -> list[etree._Element]:
    """Return the elements directly inside, entity references included; as a list, which is fast."""
    return element[:]  # type: ignore[index,return-value]  # the stubs know no slices


def first(element: etree._Element, tag: str) -> etree._Element | None:
    """Return the first element directly inside that has this tag; None if there is none."""
    for child in inside(element):
        if child.tag == tag:
            return child
    return None


def firsts(element: etree._Element) -> dict[str, etree._Element]:
    """Return the elements directly inside, by tag; of several with one tag the first.

    `find` walks the children again for each name that it looks for, and takes 1.4 µs each time:
    this takes as long for all of them.
    """
    found = {}
    for child in element[::-1]:  # type: ignore[index]
        found[child.tag] = child
    return found


def text_of(element: etree._Element | None) -> str | None:
    """Return the text of an element that holds nothing else.

    An entity reference in the element counts as something else.
    """
    if element is None or len(element):
        return None
    text = element.text
    return text if text and len(text) <= LONGEST else None


def attribute(element: etree._Element | None, name: str) -> str | None:
    """Return an attribute's text; None where it is missing, empty or too long."""
    if element is None:
        return None
    text = element.get(name)
    return text if text and len(text) <= LONGEST else None


def optional(element: etree._Element | None, name: str, gaps: list[str], gap: str) -> str | None:
    """Return the text of an attribute that may be missing; `gap` names one that is no text."""
    text = None if element is None else element.get(name)
    if text is None or 0 < len(text) <= LONGEST:
        return text
    gaps.append(gap)
    return None


def bounded(text: str | None) -> str | None:
    """Return the text as it stands; None where it is empty or too long."""
    return text if text and len(text) <= LONGEST else None


_DIGITS = 19
"""Digits of the largest number."""

_is_number = re.compile(r"[ \t\r\n]*\+?0*([0-9]{1,19})[ \t\r\n]*").fullmatch


def number(text: str | None, limit: int = INT64_MAX) -> int | None:
    """Read a number in ASCII digits, 0 to `limit`; the only sign may be a plus, as in libvirt."""
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
"""Bytes in each of libvirt's units. Without a unit the size is in KiB.
The keys are in lower case: libvirt ignores case.
"""

for _power, _letter in enumerate("kmgtpe", 1):
    _UNITS[_letter] = _UNITS[f"{_letter}ib"] = 1024**_power
    _UNITS[f"{_letter}b"] = 1000**_power

_SAFE_DIGITS = 16
"""A number of KiB with fewer digits is less than 2^63 bytes."""


def kib(element: etree._Element | None) -> int | None:
    """Read a size of memory, rounded up to KiB as libvirt does.

    Beyond 2^63 bytes it is None: libvirt refuses it.
    """
    text = text_of(element)
    if element is None or text is None:
        return None
    unit = element.get("unit", "")
    if unit == "KiB" and text.isascii() and text.isdigit() and len(text) < _SAFE_DIGITS:
        return int(text)  # as libvirt writes it
    value, scale = number(text), _UNITS.get(unit.lower()) if unit.isascii() else None
    if value is None or scale is None or value * scale > INT64_MAX:
        return None
    return -(-value * scale // 1024)


_is_uuid = re.compile(r"[0-9a-fA-F]{32}").fullmatch
_WRITTEN_UUID = len("6695eb01-f6a4-8304-79aa-97f2502e193f")


def uuid_from(text: str | None) -> UUID | None:
    """Read a UUID, with or without dashes. `UUID()` alone would accept braces and underscores."""
    if text is None:
        return None
    return _known_uuid(text) if len(text) == _WRITTEN_UUID else _uuid(text)


def _uuid(text: str) -> UUID | None:
    digits = text.strip().replace("-", "")
    return UUID(int=int(digits, 16)) if _is_uuid(digits) else None


_known_uuid = lru_cache(maxsize=4_096)(_uuid)
"""Remembers: a domain's XML is read again and again, and many instances share an image."""
