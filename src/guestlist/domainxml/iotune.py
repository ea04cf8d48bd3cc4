"""The limits of one disk: its `<iotune>`.

In: the element. Out: an `IoTune`, or None where it sets no limit. Does not decide which limits make
sense together: libvirt has decided.

Source: libvirt docs/formatdomain.rst ("Hard drives, floppy disks, CDROMs"); src/conf/domain_conf.c
(virDomainDiskDefIotuneParse).
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

from lxml import etree

from guestlist.domainxml.values import inside, number, text_of
from guestlist.records import IoTune

_NAMES = frozenset(field.name for field in fields(IoTune))


def iotune(element: etree._Element, gaps: list[str]) -> IoTune | None:
    """Read an `<iotune>`; None where no limit is set. `gaps` gets the names of what is unknown."""
    texts: dict[str, str | None] = {}
    for child in inside(element):
        tag = child.tag
        if tag in _NAMES and tag not in texts:  # the first of several
            texts[tag] = text_of(child)
    limits, unknown = _limits(*texts.items())
    gaps += unknown
    return limits


@lru_cache(maxsize=128)
def _limits(*texts: tuple[str, str | None]) -> tuple[IoTune | None, tuple[str, ...]]:
    """Return the limits and the names of their gaps; remembered, since many disks share a flavor's.

    libvirt writes a limit of 0 for none.
    """
    limits: dict[str, int] = {}
    group, gaps = None, []
    for name, text in texts:
        value = number(text)
        if name == "group_name":
            group = text
        elif value:
            limits[name] = value
        if (text if name == "group_name" else value) is None:
            gaps.append(f"iotune {name}")
    return (IoTune(**limits, group_name=group) if limits else None), tuple(gaps)
