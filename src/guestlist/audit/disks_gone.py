"""Disks whose file or device is not on this machine any more.

In: domains of a hypervisor that uses the files of this machine, with their details. Out: the disks
that are gone, and how many could not be looked at. Only what the XML names is looked at: the source
of each disk, and the images below it. A disk is gone if there is no such file (ENOENT); after any
other error it is not known. Opens no file, follows no backing file that an image names, asks no
libvirt.

Left out, because their absence says nothing: drives for media (CD-ROM, floppy), volumes of storage
pools, disks on a network, descriptors that a program has handed to libvirt, the overlay that
libvirt itself makes and removes for a transient disk, and devices of an inactive domain, which Nova
attaches to the machine at each start (nova/virt/libvirt/driver.py, `_hard_reboot`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from guestlist.audit.rows import LostDisk
from guestlist.images.storage_reads import StorageReads
from guestlist.records import Disk, DiskDevice, Instance, SourceKind

_JUDGED = DiskDevice.DISK, DiskDevice.LUN
_MOUNTS = Path("/proc/self/mountinfo")


class Gone(NamedTuple):
    """The disks that are gone, and the number of files and devices that could not be looked at."""

    disks: tuple[LostDisk, ...]
    unknown: int


class _Found(Enum):
    """What a look at a path found. Without its directory, its file system may not be mounted."""

    THERE = auto()
    GONE = auto()
    GONE_WITH_DIRECTORY = auto()
    UNKNOWN = auto()


class DisksGone:
    """Looks for the files and devices of disks. Threads may share one.

    Args:
        deadline: seconds for all disks of one question. A file whose storage does not answer is not
            known, and is not looked at again until its storage answers.
    """

    def __init__(self, deadline: float = 3.0) -> None:
        self._deadline = deadline
        self._reads: StorageReads[str, _Found] = StorageReads(str)

    def among(
        self,
        instances: Iterable[Instance],
        read_again: Callable[[frozenset[UUID]], Iterable[Instance]],
    ) -> Gone:
        """Return the disks of these domains that are gone, in the order of the domains.

        The XML is older than the look at its disks: meanwhile the domain may be gone, and its disks
        with it, or have another disk, and not every change sends an event. So a disk is gone only
        if XML that is read afterwards names it. A domain whose details are not known has no disks.

        Args:
            instances: the domains.
            read_again: returns those with these UUIDs that are still there, with XML that is read
                now. It is called only if a disk is gone; what it raises is raised here.

        Cost: a thread, and a stat for each file.
        """
        first = self._missing(instances)
        suspects = frozenset(disk.domain for disk in first.disks)
        if not suspects:
            return first
        again = self._missing(read_again(suspects))
        before = {(disk.domain, disk.location) for disk in first.disks}
        still = (disk for disk in again.disks if (disk.domain, disk.location) in before)
        return Gone(tuple(still), first.unknown)

    def _missing(self, instances: Iterable[Instance]) -> Gone:
        named = [
            (instance.uuid, disk.target, path)
            for instance in instances
            if instance.details is not None
            for disk in instance.details.disks
            for path in paths(disk, active=instance.active)
        ]
        wanted = dict.fromkeys(path for _, _, path in named)
        if not wanted:
            return Gone((), 0)
        look = partial(_look, has_devices=has_machines_devices(_MOUNTS))
        found, _ = self._reads.each(wanted, look, self._deadline)
        gone = {
            path: seen is _Found.GONE_WITH_DIRECTORY
            for path, seen in found.items()
            if seen in (_Found.GONE, _Found.GONE_WITH_DIRECTORY)
        }
        return Gone(
            tuple(
                LostDisk(uuid, target, path, has_directory=gone[path])
                for uuid, target, path in named
                if path in gone
            ),
            len(wanted) - sum(seen is not _Found.UNKNOWN for seen in found.values()),
        )


def paths(disk: Disk, *, active: bool) -> Iterator[str]:
    """Yield the paths on this machine that a disk needs, as far as the XML names them. Pure."""
    if disk.device not in _JUDGED:
        return
    kinds = (SourceKind.FILE, SourceKind.BLOCK) if active else (SourceKind.FILE,)
    for source in disk.backing if disk.transient and active else (disk.source, *disk.backing):
        path = source.location or ""
        if source.kind in kinds and source.fd_group is None and path.startswith("/"):
            yield path


def _look(path: str, _seconds: float, *, has_devices: bool) -> _Found:
    try:
        os.stat(path)  # noqa: PTH116  a Path costs more than the call
    except FileNotFoundError:
        return _Found.GONE_WITH_DIRECTORY if _has_directory(path, has_devices) else _Found.GONE
    except (OSError, ValueError):  # ValueError: what no file name can be made of
        return _Found.UNKNOWN
    return _Found.THERE


def _has_directory(path: str, has_devices: bool) -> bool:
    """Return whether the directory is there in which the file should be.

    It is the one that a link leads to. An empty one is most likely where a file system is mounted
    at other times. One that this user may not list does not count.
    """
    directory = os.path.dirname(os.path.realpath(path))  # noqa: PTH120  as above
    if f"{directory}/".startswith("/dev/") and not has_devices:
        return False
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


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
