"""Tap devices of this machine without a domain.

In: sysfs, and domains with their details. Out: the names of tap devices that neither a domain nor a
process has. Only names that Nova or libvirt gives count: `tap` and the beginning of a port's UUID,
or `vnet` and a number. Sees the network namespace of its own process. Opens no device, asks no
libvirt, changes nothing.

A device counts only if it is persistent (others end with the process that opened them), and up
without a carrier (no process has it open). A device that is down does not tell, and is left out.

Source: Linux drivers/net/tun.c (tun_flags; the carrier goes with the last process), net/core/
net-sysfs.c (carrier_show); Nova nova/network/model.py (NIC_NAME_LEN), libvirt src/util/
virnetdevtap.h (VIR_NET_GENERATED_VNET_PREFIX).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from guestlist.records import Instance

SYSFS = Path("/sys/class/net")

_PERSISTENT = 0x0800  # IFF_PERSIST
_is_ours = re.compile(r"tap[0-9a-f]{8}-[0-9a-f]{2}|vnet[0-9]{1,10}").fullmatch


class Tap(NamedTuple):
    """A tap device. `ifindex` is another one if the device was removed and made again."""

    name: str
    ifindex: str


def idle(sysfs: Path = SYSFS) -> frozenset[Tap]:
    """Return the persistent tap devices with a name of Nova's or libvirt's that no process has.

    Raises:
        OSError: sysfs cannot be read.

    Cost: 3 small files for each device with such a name.
    """
    names = filter(_is_ours, os.listdir(sysfs))  # noqa: PTH208  names alone
    return frozenset(tap for name in names if (tap := _idle(sysfs / name)) is not None)


def without_domain(
    before: frozenset[Tap], after: frozenset[Tap], instances: Iterable[Instance]
) -> tuple[str, ...] | None:
    """Return the devices that no domain names, and that were idle before and after the list.

    None if it is not known of an active domain which devices it has. Pure.
    """
    named: set[str | None] = set()
    for instance in instances:
        details = instance.details
        if details is None or not details.devices_known:
            if instance.active:
                return None
            continue
        named.update(nic.target for nic in details.nics)
    return tuple(sorted(tap.name for tap in before & after if tap.name not in named))


def _idle(device: Path) -> Tap | None:
    with contextlib.suppress(OSError, ValueError):  # it is no tap device, is down, or is gone
        flags = int((device / "tun_flags").read_text(), 16)
        if flags & _PERSISTENT and (device / "carrier").read_text().strip() == "0":
            return Tap(device.name, (device / "ifindex").read_text().strip())
    return None
