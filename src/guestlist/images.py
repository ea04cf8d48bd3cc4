"""How large disk images are: what their guests see, and what this machine has allocated for them.

In: the sources that a domain's XML names. Out: an `Image` for each: two numbers, or why there is
none, in words that hold no text of the image. The format is what the XML says, never what the bytes
look like: a guest writes what it likes into its raw disk, so a raw image is not even opened. Opens
regular files and block devices of this machine, to read; follows no backing file, asks no libvirt
(a vmdk may name more files, which qemu-img opens as the guest's own QEMU does). A file system that
hangs, as NFS does without its server, hangs the call: in the kernel, where no deadline reaches.

Source: QEMU docs/interop/qcow2.txt, vhdx.h, qed.h and the other drivers in block/ (where a header
keeps the size, and what is written while a guest runs); CVE-2015-5162 (images that make qemu-img
eat memory).
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from stat import S_ISBLK, S_ISREG
from time import time_ns
from typing import Any, NamedTuple

from guestlist.records import Source, SourceKind

_ELSEWHERE = {
    SourceKind.DIR: "a directory",
    SourceKind.NETWORK: "on a network",
    SourceKind.NVME: "an NVMe device",
    SourceKind.VHOSTUSER: "behind vhost-user",
    SourceKind.VHOSTVDPA: "behind vhost-vdpa",
    SourceKind.VOLUME: "in a storage pool",
}

_QEMU_IMG_ADDRESS_SPACE = 2**30
_QEMU_IMG_OUTPUT = 2**20

_SETTLED_NS = 10**9
"""Changes closer together than this may carry one time stamp: file systems' clocks tick."""

_KEPT_IN = {
    "parallels": ((0, 44),),
    "qcow": ((0, 48),),
    "qed": ((0, 16), (40, 16)),
    "vdi": ((0, 0x184),),
    "vhdx": ((0x10000, 64), (0x20000, 64)),
    "vmdk": ((0, 2048),),
    "vpc": ((0, 512),),
}
"""By format, the bytes (offset, length) that change when the virtual size does.

A guest's writes leave them alone, but for the first after it started (vhdx, vmdk).
"""

_is_format = re.compile(r"[a-z0-9_][a-z0-9_-]*").fullmatch


@dataclass(frozen=True, slots=True)
class Image:
    """The size of one image, without the images below it.

    Of a file, `allocated_bytes` are those of that file: of a split vmdk, those of its first part.
    Of a block device they are all it has. `unknown` says why a number is None.
    """

    virtual_bytes: int | None
    allocated_bytes: int | None
    unknown: str | None = None


class Images:
    """Measures images, and remembers what it had to open them for. Threads may share one.

    Args:
        qemu_img: the program that is asked about formats other than raw and qcow2.
        deadline: how many seconds one run of it may last; and how many of the CPU it may use.
    """

    def __init__(self, qemu_img: str = "qemu-img", deadline: float = 10.0) -> None:
        self._qemu_img = qemu_img
        self._deadline = deadline
        self._known: dict[Source, _Known] = {}

    def measure(self, sources: Iterable[Source]) -> dict[Source, Image]:
        """The size of each image. Those of the call before that are not among them are forgotten.

        Raises nothing on account of an image, however hostile.

        Cost: no libvirt call. Of each file a stat, 3 µs in all. Where that shows a change and the
        format is not raw, its header is read, 15 µs; where that shows that the virtual size may be
        another and the format is not qcow2 either, qemu-img runs, 10 to 70 ms. Block devices are
        opened every time. A failure of qemu-img is remembered like an answer; that it could not be
        run is not. Two threads that ask at once may both do the work, and neither waits.
        """
        before, known, images = self._known, {}, {}
        for source in dict.fromkeys(sources):
            images[source], read = self._image(source, before.get(source))
            if read is not None and read.lasting:
                known[source] = read
        self._known = known
        return images

    def _image(self, source: Source, before: _Known | None) -> tuple[Image, _Known | None]:
        if image := _elsewhere(source):
            return image, None
        path = source.location or ""
        measure = self._file if source.kind is SourceKind.FILE else self._device
        try:
            return measure(path, source.format or "raw", before)
        except OSError as error:
            return Image(None, None, _in_words(error)), None
        except ValueError:  # a NUL in it, or what no file name can be made of
            return Image(None, None, "not a path"), None

    def _file(self, path: str, format: str, before: _Known | None) -> tuple[Image, _Known | None]:
        found = os.stat(path)  # noqa: PTH116  a Path costs more than the call
        if not S_ISREG(found.st_mode):
            return Image(None, None, "not a regular file"), None
        if format == "raw":
            return Image(found.st_size, found.st_blocks * 512), None
        if before is not None and before.stamp == _stamp(found):
            return Image(before.virtual_bytes, found.st_blocks * 512, before.unknown), before
        with _opened(path, S_ISREG) as (fd, found):
            read = self._read(fd, found.st_size, path, format, before)
        read = read._replace(stamp=_stamp(found) if _settled(found) else None)
        return Image(read.virtual_bytes, found.st_blocks * 512, read.unknown), read

    def _device(self, path: str, format: str, before: _Known | None) -> tuple[Image, _Known | None]:
        if not S_ISBLK(os.stat(path).st_mode):  # noqa: PTH116
            return Image(None, None, "not a block device"), None
        with _opened(path, S_ISBLK) as (fd, _):
            size = os.lseek(fd, 0, os.SEEK_END)
            if format == "raw":
                return Image(size, size), None
            read = self._read(fd, size, path, format, before)
        return Image(read.virtual_bytes, size, read.unknown), read

    def _read(self, fd: int, size: int, path: str, format: str, before: _Known | None) -> _Known:
        """What an open image's header says, or what qemu-img said while the header was the same."""
        if format == "qcow2":
            virtual_bytes = _qcow2_bytes(os.pread(fd, 512, 0))
            return _Known(virtual_bytes, None if virtual_bytes is not None else "not qcow2")
        marks = _marks(fd, format, size)
        if before is not None and before.marks == marks:
            return before
        return self._asked(path, format)._replace(marks=marks)

    def _asked(self, path: str, format: str) -> _Known:
        """What qemu-img says, within bounds. An absolute path is no option and has no protocol."""
        if not _is_format(format):
            return _Known(None, "not a format")
        program, prlimit = shutil.which(self._qemu_img), shutil.which("prlimit")
        if program is None or prlimit is None:
            missing = "qemu-img" if program is None else "prlimit"
            return _Known(None, f"{missing} is not installed", lasting=False)
        limits = (
            f"--as={_QEMU_IMG_ADDRESS_SPACE}",
            f"--fsize={_QEMU_IMG_OUTPUT}",
            f"--cpu={math.ceil(self._deadline)}",
        )
        question = ("info", "--force-share", "--output=json", "-f", format, path)
        try:
            with tempfile.TemporaryFile() as output:
                done = subprocess.run(
                    (prlimit, *limits, "--", program, *question),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.DEVNULL,
                    timeout=self._deadline,
                    check=False,
                )
                output.seek(0)
                virtual_bytes = _told(output.read()) if done.returncode == 0 else None
        except subprocess.TimeoutExpired:
            return _Known(None, "qemu-img takes too long")
        except OSError:
            return _Known(None, "qemu-img could not be run", lasting=False)
        return _Known(
            virtual_bytes, None if virtual_bytes is not None else "qemu-img cannot read it"
        )


class _Known(NamedTuple):
    """What an image said when it was open. Holds while its stamp is the same, or else its marks.

    Not `lasting`: it says nothing of the image, and is not kept.
    """

    virtual_bytes: int | None
    unknown: str | None
    stamp: tuple[int, ...] | None = None
    marks: tuple[int | bytes, ...] | None = None
    lasting: bool = True


def _elsewhere(source: Source) -> Image | None:
    """The answer for a source that names no file and no device of this machine."""
    if source.kind is SourceKind.NONE:
        return Image(0, 0)
    if source.kind in _ELSEWHERE:
        return Image(None, None, _ELSEWHERE[source.kind])
    if source.kind is None or source.location is None:
        return Image(None, None, "not in the XML")
    return None if source.location.startswith("/") else Image(None, None, "not an absolute path")


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """What no change of a file leaves as it was."""
    times = found.st_mtime_ns, found.st_ctime_ns
    return found.st_dev, found.st_ino, found.st_size, *times


def _settled(found: os.stat_result) -> bool:
    """Whether the next change will have another stamp."""
    return time_ns() - found.st_ctime_ns > _SETTLED_NS


def _marks(fd: int, format: str, size: int) -> tuple[int | bytes, ...]:
    """What a resize changes of an image, and its guest's writes do not.

    The size of the file is no such thing where the file grows as its guest writes.
    """
    found = os.fstat(fd)
    grows = format in _KEPT_IN
    places = _KEPT_IN.get(format, ((0, 4096),))
    if format == "vpc" and os.pread(fd, 8, 0) != b"conectix":
        grows, places = False, ()  # fixed: it begins with its guest's data
    kept = (os.pread(fd, length, offset) for offset, length in places)
    return found.st_dev, found.st_ino, -1 if grows else size, *kept


@contextmanager
def _opened(path: str, expected: Callable[[int], bool]) -> Iterator[tuple[int, os.stat_result]]:
    """The file, if it is still of the type that was `expected`. Opening a FIFO does not block."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not expected(found.st_mode):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        yield fd, found
    finally:
        os.close(fd)


def _qcow2_bytes(header: bytes) -> int | None:
    """The virtual size in a qcow2 image's first 512 bytes; None where QEMU would not have them."""
    # Not for the hosts that have none: it takes 80 ms, cryptography included.
    from oslo_utils.imageutils.format_inspector import QcowInspector  # noqa: PLC0415

    inspector = QcowInspector()
    inspector.eat_chunk(header)
    if not inspector.format_match or inspector.qemu_header_info["version"] not in (2, 3):
        return None
    size = inspector.virtual_size
    return size // 512 * 512 if size < 2**63 else None


def _told(answer: bytes) -> int | None:
    """`virtual-size` in what qemu-img printed, which quotes the image."""
    try:
        info: Any = json.loads(answer)
        size = info["virtual-size"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return size if type(size) is int and size >= 0 else None


def _in_words(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ESTALE:
            return "gone"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
        case number:
            return os.strerror(number or errno.EIO).lower()
