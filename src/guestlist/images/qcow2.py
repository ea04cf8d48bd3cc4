"""qcow2 headers, checked by the rules by which QEMU opens an image.

In: an image's bytes. Out: its virtual size and what is special about it; None for a header that
QEMU refuses. Reads the first cluster at most. QEMU also checks what stands behind it (a table of
snapshots, a directory of bitmaps); that is not read here, and `undecided` says that it is there.
Names of backing and data files are not read either.

Source: QEMU block/qcow2.c (qcow2_do_open, qcow2_read_extensions, qcow2_validate_table),
block/qcow2.h, docs/interop/qcow2.txt.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from guestlist.images import luks
from guestlist.images.extent import SECTOR, Extent

_MAGIC = b"QFI\xfb"
_FIELDS = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_LENGTH_2, _LENGTH_3 = 72, 104
_LONGEST_FIELDS = 512

_DATA_FILE, _COMPRESSION, _EXTENDED_L2 = 1 << 2, 1 << 3, 1 << 4
_KNOWN_FEATURES = 0x1F
"""Dirty, corrupt, data file, compression type, extended L2 entries."""

_WITH_BITMAPS, _RAW_DATA_FILE = 1 << 0, 1 << 1
"""Autoclear features."""

_ZLIB, _ZSTD = 0, 1
_CRYPT_LUKS = 2

_BACKING_FORMAT, _CRYPTO, _BITMAPS, _DATA_FILE_NAME = 0xE2792ACA, 0x0537BE77, 0x23852875, 0x44415441
"""Header extensions. QEMU checks only the length of others."""

_MOST_EXTENSIONS = 4096
_MOST_REFCOUNT_BYTES = 8 << 20
_MOST_L1_BYTES = 32 << 20
_MOST_SNAPSHOTS = 65536
_SNAPSHOT_BYTES = 40
_MOST_BITMAPS = 65535
_MOST_BITMAP_DIRECTORY_BYTES = _MOST_BITMAPS * 1048
_LONGEST_BACKING_FORMAT = 15
_LONGEST_BACKING_NAME = 1023
_INT64_MAX = 2**63 - 1


class Header(NamedTuple):
    """What an image's header says.

    `encrypted`: with LUKS. `data_elsewhere`: the guest's data is in another file. `undecided`: QEMU
    may still refuse the image for what stands behind the header.
    """

    virtual_bytes: int
    encrypted: bool
    data_elsewhere: bool
    undecided: bool


class _Fields(NamedTuple):
    magic: bytes
    version: int
    backing_offset: int
    backing_length: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_entries: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshots: int
    snapshots_offset: int
    incompatible: int
    compatible: int
    autoclear: int
    refcount_order: int
    length: int

    @property
    def cluster(self) -> int:
        return 1 << self.cluster_bits

    @property
    def extensions_end(self) -> int:
        return self.backing_offset or self.cluster


class _Refused(Exception):
    pass


def header(image: Extent) -> Header | None:
    """Return the image's header; None where QEMU would not open the image.

    Cost: two reads: 512 bytes, and the bytes up to the end of the header's extensions.
    """
    try:
        return _header(image)
    except _Refused:
        return None


def _demand(holds: bool) -> None:
    if not holds:
        raise _Refused


def _header(image: Extent) -> Header:
    start = image.read(0, _LONGEST_FIELDS)
    fields = _Fields(*_FIELDS.unpack_from(start))
    _demand(fields.magic == _MAGIC and fields.version in (2, 3))
    _demand(9 <= fields.cluster_bits <= 21)
    if fields.version == 2:
        fields = fields._replace(
            incompatible=0, compatible=0, autoclear=0, refcount_order=4, length=_LENGTH_2
        )
    else:
        _demand(fields.length >= _LENGTH_3)
    _demand(fields.length <= fields.cluster and fields.backing_offset <= fields.cluster)
    _check_features(fields, start[_LENGTH_3])
    _check_tables(fields)
    undecided = fields.snapshots > 0
    names_data_file = unlockable = False
    for kind, place, length in _extensions(image, fields):
        if kind == _BACKING_FORMAT:
            _demand(length <= _LONGEST_BACKING_FORMAT)
        elif kind == _CRYPTO:
            _check_crypto(image, fields, place, length)
            unlockable = True
        elif kind == _BITMAPS:
            undecided |= _check_bitmaps(image, fields, place, length)
        names_data_file |= kind == _DATA_FILE_NAME
    _demand(unlockable or fields.crypt_method != _CRYPT_LUKS)
    data_elsewhere = bool(fields.incompatible & _DATA_FILE)
    _demand(names_data_file if data_elsewhere else not fields.autoclear & _RAW_DATA_FILE)
    if fields.backing_offset:
        most = min(_LONGEST_BACKING_NAME, fields.cluster - fields.backing_offset)
        _demand(fields.backing_length <= most)
    return Header(
        virtual_bytes=fields.size // SECTOR * SECTOR,
        encrypted=fields.crypt_method == _CRYPT_LUKS,
        data_elsewhere=data_elsewhere,
        undecided=undecided,
    )


def _check_features(fields: _Fields, compression: int) -> None:
    if fields.length == _LENGTH_3 or fields.version == 2:
        compression = _ZLIB  # such headers are older than the field
    _demand(compression in (_ZLIB, _ZSTD))
    _demand((compression != _ZLIB) == bool(fields.incompatible & _COMPRESSION))
    _demand(not fields.incompatible & ~_KNOWN_FEATURES)
    # A subcluster, of which a cluster has 32, is no smaller than the smallest cluster.
    _demand(not fields.incompatible & _EXTENDED_L2 or fields.cluster_bits >= 14)
    _demand(fields.refcount_order <= 6)
    _demand(fields.crypt_method <= _CRYPT_LUKS)


def _check_tables(fields: _Fields) -> None:
    _demand(fields.refcount_clusters > 0)
    for offset, entries, each, most in (
        (fields.refcount_offset, fields.refcount_clusters, fields.cluster, _MOST_REFCOUNT_BYTES),
        (
            fields.snapshots_offset,
            fields.snapshots,
            _SNAPSHOT_BYTES,
            _MOST_SNAPSHOTS * _SNAPSHOT_BYTES,
        ),
        (fields.l1_offset, fields.l1_entries, 8, _MOST_L1_BYTES),
    ):
        _demand(entries <= most // each)
        _demand(offset % fields.cluster == 0 and offset <= _INT64_MAX - entries * each)
    entry_bits = 4 if fields.incompatible & _EXTENDED_L2 else 3
    covered_by_entry = 1 << (2 * fields.cluster_bits - entry_bits)
    _demand(fields.size <= fields.l1_entries * covered_by_entry)
    _demand(fields.size <= _INT64_MAX)


def _extensions(image: Extent, fields: _Fields) -> list[tuple[int, int, int]]:
    """Return kind, place and length of each header extension."""
    found: list[tuple[int, int, int]] = []
    place, end = fields.length, fields.extensions_end
    if place >= end:
        return found
    area = image.read(0, end + 8)
    while place < end:
        kind, length = struct.unpack_from(">II", area, place)
        place += 8
        _demand(place <= end and length <= end - place)
        if kind == 0:
            break
        found.append((kind, place, length))
        _demand(len(found) <= _MOST_EXTENSIONS)
        place += -(-length // 8) * 8
    return found


def _check_crypto(image: Extent, fields: _Fields, place: int, length: int) -> None:
    _demand(fields.crypt_method == _CRYPT_LUKS and length == 16)
    offset, size = struct.unpack(">QQ", image.read(place, 16))
    _demand(offset % fields.cluster == 0 and size >= luks.LENGTH)
    _demand(luks.payload(image.read(offset, luks.LENGTH)) is not None)


def _check_bitmaps(image: Extent, fields: _Fields, place: int, length: int) -> bool:
    """Return whether there are bitmaps, which QEMU reads."""
    _demand(length == 24)
    if not fields.autoclear & _WITH_BITMAPS:
        return False
    bitmaps, reserved, size, offset = struct.unpack(">IIQQ", image.read(place, 24))
    _demand(reserved == 0 and 0 < bitmaps <= _MOST_BITMAPS)
    _demand(offset % fields.cluster == 0 and size <= _MOST_BITMAP_DIRECTORY_BYTES)
    return True
