"""The limits of one disk: its `<iotune>`.

In: the element. Out: an `IoTune`, or None where it sets no limit. Does not decide which limits make
sense together: libvirt has decided.

Source: libvirt docs/formatdomain.rst ("Hard drives, floppy disks, CDROMs"); src/conf/domain_conf.c
(virDomainDiskDefIotuneParse).
"""

from __future__ import annotations

from dataclasses import fields

from lxml import etree

from guestlist.domainxml.values import firsts, number, text_of
from guestlist.records import IoTune

_NUMBERS = tuple(field.name for field in fields(IoTune) if field.name != "group_name")


def iotune(element: etree._Element, gaps: list[str]) -> IoTune | None:
    """Read an `<iotune>`; None where no limit is set. `gaps` gets the names of what is unknown."""
    parts = firsts(element)
    limits = {}
    for name in _NUMBERS:
        if name in parts:
            value = number(text_of(parts[name]))
            if value is None:
                gaps.append(f"iotune {name}")
            elif value:
                limits[name] = value
    if not limits:
        return None
    group = text_of(parts.get("group_name"))
    if group is None and "group_name" in parts:
        gaps.append("iotune group_name")
    return IoTune(**limits, group_name=group)
