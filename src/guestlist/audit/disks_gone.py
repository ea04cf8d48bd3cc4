"""Disks whose file or device is not on this machine any more.

In: domains of a hypervisor that uses the files of this machine, with their details. Out: the disks
that are gone, and how many could not be looked at. Only what the XML names is looked at: the source
of each disk, and the images below it. A disk is gone if there is no such file (ENOENT); after any
other error it is not known. Opens no file, follows no backing file that an image names, asks no
libvirt.

Left out, because their absence says nothing: drives for media (CD-ROM, floppy), volumes of storage
pools, disks on a network, descriptors that a program has handed to libvirt, and the overlay that
libvirt itself makes and removes for a transient disk of an active domain.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from guestlist.audit.rows import LostDisk
from guestlist.images.storage_reads import StorageReads
from guestlist.records import Disk, DiskDevice, Instance, SourceKind

_JUDGED = DiskDevice.DISK, DiskDevice.LUN
_HERE = SourceKind.FILE, SourceKind.BLOCK
_MOUNTS = Path("/proc/self/mountinfo")


class Gone(NamedTuple):
    """The disks that are gone, and the number of files and devices that could not be looked at."""

    disks: tuple[LostDisk, ...]
    unknown: int


class DisksGone:
    """Looks for the files and devices of disks. Threads may share one.

    Args:
        deadline: seconds for all disks of one question. A file whose storage does not answer is not
            known, and is not looked at again until its storage answers.
    """

    def __init__(self, deadline: float = 3.0) -> None:
        self._deadline = deadline
        self._reads: StorageReads[str, bool | None] = StorageReads(str)

    def among(self, instances: Iterable[Instance]) -> Gone:
        """Return the disks of these domains that are gone, in the order of the domains.

        A domain whose details are not known has no disks here.

        Cost: no libvirt call. A thread; a stat for each file.
        """
        wanted = [
            (instance, disk.target, location)
            for instance in instances
            if instance.details is not None
            for disk in instance.details.disks
            for location in locations(disk, active=instance.active)
        ]
        paths = dict.fromkeys(location for _, _, location in wanted)
        look = partial(_look, devices_known=has_machines_devices(_MOUNTS))
        found, _ = self._reads.each(paths, look, self._deadline) if paths else ({}, None)
        return Gone(
            tuple(
                LostDisk(instance.uuid, target, location, has_directory)
                for instance, target, location in wanted
                if (has_directory := found.get(location)) is not None
            ),
            len(paths) - len(found),
        )


def locations(disk: Disk, *, active: bool) -> Iterator[str]:
    """Yield the paths on which a disk depends, as far as the XML names them. Pure."""
    if disk.device not in _JUDGED:
        return
    sources = disk.backing if disk.transient and active else (disk.source, *disk.backing)
    for source in sources:
        location = source.location or ""
        if source.kind in _HERE and source.fd_group is None and location.startswith("/"):
            yield location


def _look(path: str, _seconds: float, *, devices_known: bool) -> bool | None:
    """Return None if the path is there, or not known; else whether its directory is there.

    The directory is the one that a link leads to.
    """
    try:
        os.stat(path)  # noqa: PTH116  a Path costs more than the call
    except OSError as error:
        if error.errno != errno.ENOENT:
            return None
    except ValueError:  # what no file name can be made of
        return None
    else:
        return None
    directory = os.path.dirname(os.path.realpath(path))  # noqa: PTH120  as above
    if not devices_known and f"{directory}/".startswith("/dev/"):
        return False
    return os.path.isdir(directory)  # noqa: PTH112  as above


def has_machines_devices(mounts: Path) -> bool:
    """Return whether /dev has the devices of the machine: in a container it has only a few.

    Source: proc(5), /proc/pid/mountinfo.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    kinds = [
        line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ")[4] == "/dev"
    ]
    return kinds[-1:] == ["devtmpfs"]
