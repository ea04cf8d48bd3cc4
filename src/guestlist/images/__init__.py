"""How large disk images are: what their guests see, and what this machine has allocated for them.

In: the sources that a domain's XML names. Out: an `Image` for each: two numbers, or the reason why
a number is missing, in words that quote nothing of the image. The format, the slice and the
encryption are what the XML says, never what the bytes look like: a guest can write anything into
its raw disk, so a raw image is not even opened. An image that QEMU would not open has no size.
Opens regular files and block devices of this machine, to read; follows no backing file, opens no
file that an image names, asks no libvirt.

    __init__        one image: by its source, by what the last look remembered
    qcow2           qcow2 headers, by the rules of QEMU
    luks            LUKS headers, by the rules of QEMU
    qemu_img        the other formats: the program that is asked, and how it is confined
    storage_reads   one deadline over all images, also where storage hangs
    extent          the bytes of an image: of a file, or of a slice of one

Source: QEMU docs/interop/qcow2.txt, vhdx.h, qed.h and the other drivers in block/ (where a header
keeps the size, and what is written while a guest runs); libvirt src/qemu/qemu_block.c (the drivers
that a disk's XML becomes).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from stat import S_ISBLK, S_ISREG
from time import time_ns
from typing import NamedTuple

from guestlist.images import luks, qcow2, qemu_img
from guestlist.images.extent import SECTOR, Extent, bounds
from guestlist.images.storage_reads import StorageReads
from guestlist.records import Source, SourceKind

_ELSEWHERE = {
    SourceKind.DIR: "a directory",
    SourceKind.NETWORK: "on a network",
    SourceKind.NVME: "an NVMe device",
    SourceKind.VHOSTUSER: "behind vhost-user",
    SourceKind.VHOSTVDPA: "behind vhost-vdpa",
    SourceKind.VOLUME: "in a storage pool",
}

_SETTLED_NS = 10**9
"""Nanoseconds. Changes closer together may carry one time stamp: file systems' clocks tick."""

_KEPT_IN = {
    "parallels": ((0, 44),),
    "qcow": ((0, 48),),
    "qcow2": ((0, 512),),
    "qed": ((0, 16), (40, 16)),
    "vdi": ((0, 0x184),),
    "vhdx": ((0x10000, 64), (0x20000, 64)),
    "vmdk": ((0, 2048),),
    "vpc": ((0, 512),),
}
"""By format, the bytes (offset, length) that change when the virtual size changes.

A guest's writes leave them alone, except the first write after its start (vhdx, vmdk).
"""

_NO_ANSWER = "its storage does not answer"
_NOT_REACHED = "not reached in time"
_OTHER_FILES = "it names other files"


@dataclass(frozen=True, slots=True)
class Image:
    """The size of one image, without the images below it. `unknown` says why a number is None.

    For a file, `allocated_bytes` are those of that file. For a slice of a file they are known only
    where the file has no holes: then the slice has none. For a block device, and for a slice of
    one, they are all its bytes. They are not known where an image keeps its guest's data in another
    file.
    """

    virtual_bytes: int | None
    allocated_bytes: int | None
    unknown: str | None = None


class Images:
    """Measures images, and remembers what it read in them. Threads may share one.

    Args:
        qemu_img: the program that is asked about formats other than raw, qcow2 and LUKS.
        deadline: seconds that one `measure` may take, for all images; one run of that program
            takes half of it at most.
    """

    def __init__(self, qemu_img: str = "qemu-img", deadline: float = 10.0) -> None:
        self._qemu_img = qemu_img
        self._deadline = deadline
        self._known: dict[Source, _Measured] = {}
        self._reads: StorageReads[Source, tuple[Image, _Measured | None]] = StorageReads(_path)

    def measure(self, sources: Iterable[Source]) -> dict[Source, Image]:
        """Return the size of each image. What was remembered of other images is dropped.

        An image never makes this raise, however hostile it is. An image whose storage does not
        answer in time is unknown and says so; so is each image that was not reached in time. The
        thread that waits for such storage stays, and until it is back that image is not looked at
        again.

        Cost: no libvirt call. A thread; for each file a stat, 5 µs in all. Where the stat shows a
        change and the format is not raw, the header is read, 30 µs. Where the header shows that the
        virtual size may have changed and the format is neither qcow2 nor LUKS, qemu-img runs, 10 to
        70 ms, four side by side; it is also asked about a qcow2 image with snapshots or bitmaps
        inside. Block devices are opened every time. A refusal of qemu-img is remembered like an
        answer; a failure to run it is not. Two threads that ask at once may both do the work.
        """
        wanted = list(dict.fromkeys(sources))
        before = self._known
        look = partial(self._image, before)
        found, silent = self._reads.each(wanted, look, self._deadline)
        images, known = {}, {}
        for source in wanted:
            if source in found:
                images[source], read = found[source]
                if read is not None and read.lasting:
                    known[source] = read
            else:
                why = _NO_ANSWER if source in silent else _NOT_REACHED
                images[source] = Image(None, None, why)
                if source in before:
                    known[source] = before[source]
        self._known = known
        return images

    def _image(
        self, known: dict[Source, _Measured], source: Source, seconds: float
    ) -> tuple[Image, _Measured | None]:
        """Return the image, and what to remember of it. It may take that many seconds."""
        if image := _elsewhere(source):
            return image, None
        format = _format(source)
        if format is None:
            return Image(None, None, "its encryption is not QEMU's"), None
        is_file = source.kind is SourceKind.FILE
        look = _Look(self, source, format, known.get(source), seconds)
        try:
            return look.at_file() if is_file else look.at_device()
        except OSError as error:
            return Image(None, None, _in_words(error)), None
        except ValueError:  # a NUL in it, or what no file name can be made of
            return Image(None, None, "not a path"), None

    def ask(self, image: Extent, format: str, seconds: float, *, is_slice: bool) -> _Measured:
        """Ask qemu-img about an image."""
        most = self._deadline / 2
        seconds = min(most, seconds)
        try:
            size = qemu_img.virtual_bytes(
                self._qemu_img, image, format, is_slice=is_slice, seconds=seconds
            )
        except qemu_img.NotRun as reason:
            return _Measured(None, str(reason), lasting=False)
        except qemu_img.NoSize as reason:
            return _Measured(None, str(reason), lasting=seconds == most)
        return _Measured(size, None)


class _Look(NamedTuple):
    """One look at one image."""

    images: Images
    source: Source
    format: str
    before: _Measured | None
    seconds: float

    def at_file(self) -> tuple[Image, _Measured | None]:
        path = _path(self.source)
        found = os.stat(path)  # noqa: PTH116  a Path costs more than the call
        if not S_ISREG(found.st_mode):
            return Image(None, None, "not a regular file"), None
        if self.format == "raw":
            return _image(self._raw(found.st_size), self._allocated(found)), None
        if self.before is not None and self.before.stamp == _stamp(found):
            return _image(self.before, self._allocated(found)), self.before
        with _opened(path, S_ISREG) as (fd, found):
            read = self._read(fd, found.st_size)
        read = read._replace(stamp=_stamp(found) if _settled(found) else None)
        return _image(read, self._allocated(found)), read

    def at_device(self) -> tuple[Image, _Measured | None]:
        path = _path(self.source)
        if not S_ISBLK(os.stat(path).st_mode):  # noqa: PTH116
            return Image(None, None, "not a block device"), None
        with _opened(path, S_ISBLK) as (fd, _):
            size = os.lseek(fd, 0, os.SEEK_END)
            read = self._raw(size) if self.format == "raw" else self._read(fd, size)
        slice = self.source.slice
        return _image(read, size if slice is None else slice.size), read

    def _raw(self, size: int) -> _Measured:
        inside = bounds(self.source.slice, size)
        return _Measured(None, inside) if isinstance(inside, str) else _Measured(inside[1], None)

    def _allocated(self, found: os.stat_result) -> int | None:
        allocated = found.st_blocks * SECTOR
        if self.source.slice is None:
            return allocated
        return self.source.slice.size if allocated >= found.st_size else None

    def _read(self, fd: int, size: int) -> _Measured:
        """Return what the header of an open image says, or qemu-img said of the same one."""
        inside = bounds(self.source.slice, size)
        if isinstance(inside, str):
            return _Measured(None, inside)
        image = Extent(fd, *inside)
        read: _Measured | None = None
        if self.format == "luks":
            read = _luks(image)
        elif self.format == "qcow2":
            read = _qcow2(image, encrypted=self.source.encryption is not None)
        elif qemu_img.names_files(image, self.format):
            read = _Measured(None, _OTHER_FILES)
        return read or self._asked(image)

    def _asked(self, image: Extent) -> _Measured:
        marks = _marks(image, self.format)
        if self.before is not None and self.before.marks == marks:
            return self.before
        is_slice = self.source.slice is not None
        read = self.images.ask(image, self.format, self.seconds, is_slice=is_slice)
        return read._replace(marks=marks)


class _Measured(NamedTuple):
    """What an image said when it was open. It holds while its stamp, or its marks, are the same.

    What is not `lasting` says nothing about the image, and is not kept.
    """

    virtual_bytes: int | None
    unknown: str | None
    stamp: tuple[int, ...] | None = None
    marks: tuple[int | bytes, ...] | None = None
    lasting: bool = True
    data_elsewhere: bool = False


def _image(read: _Measured, allocated_bytes: int | None) -> Image:
    if read.unknown is None and read.data_elsewhere:
        return Image(read.virtual_bytes, None, "its data is in another file")
    if read.unknown is None and allocated_bytes is None:
        return Image(read.virtual_bytes, None, "what a slice of a sparse file occupies")
    return Image(read.virtual_bytes, allocated_bytes, read.unknown)


def _path(source: Source) -> str:
    return source.location or ""


def _format(source: Source) -> str | None:
    """Return the format by which QEMU opens an image; None where QEMU has none for its encryption.

    libvirt treats an encrypted raw image as a LUKS image. A qcow2 image has LUKS inside, and its
    virtual size does not include it.
    """
    format = source.format or "raw"
    match format, source.encryption:
        case _, None:
            return format
        case (("raw" | "luks"), "luks"):
            return "luks"
        case "qcow2", "luks":
            return format
    return None


def _qcow2(image: Extent, *, encrypted: bool) -> _Measured | None:
    """Return what a qcow2 image's header says; None where only qemu-img can tell."""
    header = qcow2.header(image)
    if header is None or (encrypted and not header.encrypted):
        return _Measured(None, "not qcow2 that QEMU opens")
    if not header.undecided:
        return _Measured(header.virtual_bytes, None, data_elsewhere=header.data_elsewhere)
    return _Measured(None, _OTHER_FILES) if header.data_elsewhere else None


def _luks(image: Extent) -> _Measured:
    """Return what a LUKS header says: the guest sees what is behind it."""
    offset = luks.payload(image.read(0, luks.LENGTH))
    size = -(-image.size // SECTOR) * SECTOR
    if offset is None or offset > size:
        return _Measured(None, "not LUKS that QEMU opens")
    return _Measured(size - offset, None)


def _elsewhere(source: Source) -> Image | None:
    """Return the answer for a source that names no file and no device of this machine."""
    if source.kind is SourceKind.NONE:
        return Image(0, 0)
    if source.kind in _ELSEWHERE:
        return Image(None, None, _ELSEWHERE[source.kind])
    if source.kind is None or source.location is None:
        return Image(None, None, "not in the XML")
    if source.fd_group is not None:
        return Image(None, None, "opened for libvirt by another program")
    return None if source.location.startswith("/") else Image(None, None, "not an absolute path")


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """Return numbers of a file: each change of the file changes one of them."""
    times = found.st_mtime_ns, found.st_ctime_ns
    return found.st_dev, found.st_ino, found.st_size, *times


def _settled(found: os.stat_result) -> bool:
    """Return whether the next change is sure to have another stamp."""
    return time_ns() - found.st_ctime_ns > _SETTLED_NS


def _marks(image: Extent, format: str) -> tuple[int | bytes, ...]:
    """Return what a resize changes in an image, and its guest's writes leave alone.

    The size of the file is not part of it where the file grows as its guest writes.
    """
    found = os.fstat(image.fd)
    grows = format in _KEPT_IN
    places = _KEPT_IN.get(format, ((0, 4096),))
    if format == "vpc" and image.read(0, 8) != b"conectix":
        grows, places = False, ()  # fixed: it begins with its guest's data
    kept = (image.read(offset, length) for offset, length in places)
    return found.st_dev, found.st_ino, -1 if grows else image.size, *kept


@contextmanager
def _opened(path: str, expected: Callable[[int], bool]) -> Iterator[tuple[int, os.stat_result]]:
    """Open the file, if it is still of the `expected` type. Opening a FIFO does not block."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not expected(found.st_mode):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        yield fd, found
    finally:
        os.close(fd)


def _in_words(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ESTALE:
            return "no such file"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
        case number:
            return os.strerror(number or errno.EIO).lower()
