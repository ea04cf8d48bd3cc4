"""The bytes of an image: an open file or device, or a slice of one.

In: a descriptor, and where the image begins and ends. Out: bytes, and zeros behind the end, as
QEMU's own reads return there. Never reads behind the end of a slice: another image may follow.

Source: QEMU block/io.c (bdrv_aligned_preadv), block/raw-format.c (raw_apply_options).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from guestlist.records import Slice

SECTOR = 512


class Extent(NamedTuple):
    """`size` bytes of an open file, from `offset` on."""

    fd: int
    offset: int
    size: int

    def read(self, place: int, length: int) -> bytes:
        """Return `length` bytes from a place in the image; zeros behind its end."""
        there = max(0, min(length, self.size - place))
        found = os.pread(self.fd, there, self.offset + place) if there else b""
        return found.ljust(length, b"\0")


def bounds(slice: Slice | None, size: int) -> tuple[int, int] | str:
    """Return offset and size of a slice in a file of `size` bytes, or why QEMU does not open it.

    QEMU counts a file's last sector as whole. Without a slice the image is the whole file.
    """
    if slice is None:
        return 0, size
    if slice.offset is None or slice.size is None:
        return "slice is not in the XML"
    if slice.size % SECTOR:
        return "slice is not of whole sectors"
    if slice.offset + slice.size > -(-size // SECTOR) * SECTOR:
        return "slice is not within the file"
    return slice.offset, slice.size
