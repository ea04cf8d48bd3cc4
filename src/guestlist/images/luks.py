"""LUKS headers: where the guest's data begins.

In: the first bytes of an image. Out: the offset of its payload; None for a header that QEMU
refuses, and for a cipher that a QEMU may lack. Opens no key slot. QEMU has no LUKS2: libvirt gives
LUKS2 to librbd only.

Source: QEMU crypto/block-luks.c (qcrypto_block_luks_check_header, _parse_header) as of 7.2; the
LUKS On-Disk Format Specification 1.2.3.
"""

from __future__ import annotations

import struct
from itertools import combinations

from guestlist.images.extent import SECTOR

LENGTH = 592
"""Bytes of the header."""

_HEADER = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")
_MAGIC = b"LUKS\xba\xbe"
_SLOTS = 8
_STRIPES = 4000
_ENABLED, _DISABLED = 0x00AC71F3, 0x0000DEAD
_HEADER_SECTORS = 8
"""Sectors at the start, in which neither a key slot nor the payload may begin."""

_KEY_BYTES = {
    b"aes": {16, 24, 32},
    b"serpent": {16, 24, 32},
    b"twofish": {16, 24, 32},
    b"cast5": {16},
}
"""By cipher, the lengths of its key in bytes. Mode xts has two keys in one."""

_XTS_KEY_BYTES = {b"aes": {32, 64}, b"serpent": {32, 64}, b"twofish": {32, 64}}
_HASHES = {b"sha1", b"sha224", b"sha256", b"sha384", b"sha512", b"ripemd160"}
_ESSIV_KEY_BYTES = {b"sha1": 20, b"sha256": 32, b"sha224": 28, b"sha384": 48, b"sha512": 64}


def payload(header: bytes) -> int | None:
    """Return the payload's offset in bytes, of a header of `LENGTH`; None where QEMU refuses it."""
    fields = _HEADER.unpack_from(header)
    magic, version, *names, payload_sector, key_bytes, _, _, iterations, _ = fields
    if magic != _MAGIC or version != 1 or not all(b"\0" in name for name in names):
        return None
    cipher, mode, hash = (name.partition(b"\0")[0] for name in names)
    if payload_sector < _HEADER_SECTORS or iterations == 0:
        return None
    if not _readable(cipher, mode, hash, key_bytes):
        return None
    if not _sound_slots(header, payload_sector, key_bytes):
        return None
    return int(payload_sector) * SECTOR


def _readable(cipher: bytes, mode: bytes, hash: bytes, key_bytes: int) -> bool:
    """Return whether every QEMU has the cipher, its mode and the hashes."""
    mode, _, generator = mode.partition(b"-")
    generator, _, generator_hash = generator.partition(b":")
    keys = _XTS_KEY_BYTES if mode == b"xts" else _KEY_BYTES
    if mode not in (b"cbc", b"ecb", b"xts") or key_bytes not in keys.get(cipher, ()):
        return False
    if hash not in _HASHES or (generator_hash and generator_hash not in _HASHES):
        return False
    if generator == b"essiv":  # the hash makes the key of a second cipher
        return _ESSIV_KEY_BYTES.get(generator_hash) in _KEY_BYTES[cipher]
    return generator in (b"plain", b"plain64")


def _sound_slots(header: bytes, payload_sector: int, key_bytes: int) -> bool:
    """Return whether all key slots are well-formed, and none overlaps with anything."""
    length = -(-key_bytes * _STRIPES // SECTOR)
    starts = []
    for slot in range(_SLOTS):
        place = _HEADER.size + slot * _SLOT.size
        active, iterations, _, start, stripes = _SLOT.unpack_from(header, place)
        if stripes != _STRIPES or active not in (_ENABLED, _DISABLED):
            return False
        if active == _ENABLED and iterations == 0:
            return False
        if not _HEADER_SECTORS <= start <= payload_sector - length:
            return False
        starts.append(start)
    return all(abs(one - other) >= length for one, other in combinations(starts, 2))
