"""Headers of qcow2 and LUKS images, with any content: a size where QEMU opens the image, else none.

The real qemu-img is asked about each."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guestlist.images import Images
from guestlist.records import Source, SourceKind

MIB = 2**20
EXAMPLES = settings.default.max_examples


@pytest.fixture(scope="module", autouse=True)
def _tools(needs_qemu_img: None) -> Iterator[None]:
    yield
    originals.cache_clear()


def create(*words: object) -> None:
    command = ["qemu-img", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


QCOW2 = {
    "version 2": ["compat=0.10"],
    "version 3": ["compat=1.1"],
    "small clusters": ["cluster_size=512"],
    "large clusters": ["cluster_size=2M"],
    "extended L2": ["extended_l2=on,cluster_size=16k"],
    "zstd": ["compression_type=zstd"],
    "lazy": ["lazy_refcounts=on,refcount_bits=1"],
    "backing file": [],
    "snapshots": [],
    "bitmaps": [],
    "data file": [],
    "LUKS": [],
}


@cache
def originals() -> dict[str, bytes]:
    """A good image of each kind, and the LUKS volume "volume"."""
    images = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "image"
        secret = ("--object", "secret,id=s,data=x")
        for kind, options in QCOW2.items():
            words: list[object] = ["-o", *options] if options else []
            if kind == "backing file":
                words = ["-u", "-F", "raw", "-b", folder / "base"]
            if kind == "data file":
                words = ["-o", f"data_file={folder}/data"]
            if kind == "LUKS":
                words = [
                    *secret,
                    "-o",
                    "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,"
                    "encrypt.hash-alg=sha512",
                ]
            create("create", "-q", "-f", "qcow2", *words, path, 10 * MIB)
            if kind == "snapshots":
                create("snapshot", "-c", "one", path)
            if kind == "bitmaps":
                create("bitmap", "--add", path, "b")
            images[kind] = path.read_bytes()
        create(
            "create",
            "-q",
            "-f",
            "luks",
            *secret,
            "-o",
            "key-secret=s,iter-time=10,hash-alg=sha512",
            path,
            MIB,
        )
        images["volume"] = path.read_bytes()
    return images


def of_qemu(path: Path, format: str) -> int | None:
    """Return the virtual size that QEMU tells, or None where QEMU does not open the image."""
    command = ["qemu-img", "info", "-U", "--output=json", "-f", format, path]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    return json.loads(done.stdout)["virtual-size"] if done.returncode == 0 else None


def of_guestlist(path: Path, format: str) -> int | None:
    image = Source(SourceKind.FILE, str(path), format)
    answer = Images(deadline=120).measure([image])[image]
    assert (answer.virtual_bytes is None) <= (answer.unknown is not None)
    return answer.virtual_bytes


FIELDS = {
    "magic": (0, 4),
    "version": (4, 4),
    "backing offset": (8, 8),
    "backing length": (16, 4),
    "cluster bits": (20, 4),
    "size": (24, 8),
    "crypt method": (32, 4),
    "L1 entries": (36, 4),
    "L1 offset": (40, 8),
    "refcount offset": (48, 8),
    "refcount clusters": (56, 4),
    "snapshots": (60, 4),
    "snapshots offset": (64, 8),
    "incompatible": (72, 8),
    "compatible": (80, 8),
    "autoclear": (88, 8),
    "refcount order": (96, 4),
    "length": (100, 4),
    "compression": (104, 1),
    "padding": (105, 7),
    "extension": (112, 4),
    "extension length": (116, 4),
    "extension text": (120, 8),
    "second extension": (128, 4),
    "second extension length": (132, 4),
}

EXTENSIONS = [0, 0xE2792ACA, 0x0537BE77, 0x23852875, 0x44415441, 0x6803F857, 0xDEADBEEF]

numbers = st.one_of(
    st.integers(0, 130),
    st.integers(0, 64).map(lambda bit: 1 << bit),
    st.integers(0, 64).map(lambda bit: (1 << bit) - 1),
    st.integers(0, 40).map(lambda n: n * 65536),
    st.sampled_from(EXTENSIONS),
    st.integers(0, 2**64 - 1),
)
changes = st.lists(st.tuples(st.sampled_from(sorted(FIELDS)), numbers), min_size=1, max_size=3)


def changed(image: bytes, changes: list[tuple[str, int]]) -> bytes:
    header = bytearray(image)
    for name, value in changes:
        offset, length = FIELDS[name]
        header[offset : offset + length] = (value % (1 << 8 * length)).to_bytes(length)
    return bytes(header)


def agree(content: bytes, format: str) -> tuple[int | None, int | None]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        path.write_bytes(content)
        return of_guestlist(path, format), of_qemu(path, format)


def is_about_a_data_file(content: bytes) -> bool:
    """qemu-img then decides by its version, and a guest's QEMU by the content of that file."""
    return len(content) > 95 and content[7] == 3 and bool(content[79] & 4 or content[95] & 2)


def has_countless_snapshots(content: bytes) -> bool:
    """qemu-img lists them all, and guestlist reads 1 MiB of its answer: some 4,800 snapshots."""
    return int.from_bytes(content[60:64]) > 4_000


@settings(deadline=None, max_examples=int(os.environ.get("GUESTLIST_HEADERS", 3 * EXAMPLES)))
@given(st.sampled_from(sorted(QCOW2)), changes)
@example("version 3", [("size", 1 << 62)])
@example("version 3", [("size", 1 << 40)])
@example("version 3", [("incompatible", 1 << 60)])
@example("version 3", [("cluster bits", 40)])
@example("version 3", [("refcount order", 9)])
@example("version 3", [("length", 5)])
@example("version 3", [("crypt method", 7)])
@example("version 3", [("L1 offset", 12345)])
@example("version 3", [("snapshots", 1 << 30)])
@example("version 3", [("snapshots", 1)])
@example("backing file", [("snapshots", 4852)])
@example("version 3", [("backing offset", 1 << 40)])
@example("version 3", [("refcount clusters", 0)])
@example("version 3", [("extension length", 1 << 31)])
@example("backing file", [("backing length", 1024)])
@example("bitmaps", [("extension text", 0)])
def test_qcow2_has_a_size_where_qemu_opens_it(kind: str, changes: list[tuple[str, int]]):
    content = changed(originals()[kind], changes)
    ours, qemu = agree(content, "qcow2")
    if is_about_a_data_file(content) or has_countless_snapshots(content):
        assert ours is None or qemu in (None, ours)
    else:
        assert ours == qemu


@pytest.mark.parametrize("kind", QCOW2)
@pytest.mark.parametrize("length", [0, 4, 71, 72, 103, 104, 111, 112, 300, 512, 4096, 70000])
def test_qcow2_cut_short_has_a_size_where_qemu_opens_it(kind: str, length: int):
    content = originals()[kind][:length]
    ours, qemu = agree(content, "qcow2")
    if not is_about_a_data_file(content):
        assert ours == qemu


@pytest.mark.parametrize("kind", QCOW2)
def test_qcow2_as_qemu_makes_it_has_its_size(kind: str):
    ours, qemu = agree(originals()[kind], "qcow2")
    assert ours == 10 * MIB
    assert qemu == ours or kind == "data file"  # which is gone


def test_a_table_of_snapshots_that_qemu_refuses_is_no_image():
    content = bytearray(originals()["snapshots"])
    (table,) = struct.unpack_from(">Q", content, 64)
    content[table + 36 : table + 40] = b"\xff" * 4  # the length of its extra data
    assert agree(bytes(content), "qcow2") == (None, None)


LUKS = {
    "magic": (0, 6),
    "version": (6, 2),
    "cipher": (8, 32),
    "mode": (40, 32),
    "hash": (72, 32),
    "payload": (104, 4),
    "key bytes": (108, 4),
    "iterations": (164, 4),
    "slot 0": (208, 4),
    "slot 0 iterations": (212, 4),
    "slot 0 place": (248, 4),
    "slot 0 stripes": (252, 4),
    "slot 3": (352, 4),
    "slot 3 place": (392, 4),
    "slot 7 place": (584, 4),
    "slot 7 stripes": (588, 4),
}
CIPHERS = [b"aes", b"serpent", b"twofish", b"cast5", b"camellia"]
HASHES = [b"sha1", b"sha256", b"sha512", b"md5", b"ripemd160"]
MODES = [b"xts-plain64", b"cbc-plain", b"ecb-plain64", b"xts-plain64:sha256", b"xts-plain64:none"]
MODES += [b"cbc-essiv:sha256", b"cbc-essiv:sha1", b"cbc-essiv", b"xts"]
words = st.sampled_from([*CIPHERS, *HASHES, *MODES, b"a" * 32, b""])
luks_values = st.one_of(
    words.map(lambda word: word.ljust(32, b"\0")),
    st.sampled_from(
        [0, 1, 2, 7, 8, 16, 24, 32, 48, 64, 4000, 0xDEAD, 0xAC71F3, 504, 512, 4040]
    ).map(lambda number: number.to_bytes(4)),
    st.integers(0, 2**32 - 1).map(lambda number: number.to_bytes(4)),
)


@settings(deadline=None, max_examples=int(os.environ.get("GUESTLIST_HEADERS", 2 * EXAMPLES)))
@given(st.dictionaries(st.sampled_from(sorted(LUKS)), luks_values, min_size=1, max_size=3))
@example({"version": b"\0\2"})
@example({"payload": (1 << 31).to_bytes(4)})
@example({"payload": (2).to_bytes(4)})
@example({"magic": b"SKUL\xba\xbe"})
@example({"hash": b"sha1".ljust(32, b"\0")})
@example({"hash": b"md5".ljust(32, b"\0")})
@example({"mode": b"cbc-essiv:sha256".ljust(32, b"\0"), "key bytes": (32).to_bytes(4)})
def test_luks_has_no_size_where_qemu_refuses_it(values: dict[str, bytes]):
    content = bytearray(originals()["volume"])
    for name, value in values.items():
        offset, length = LUKS[name]
        content[offset : offset + length] = value[-length:] if length < 32 else value.ljust(32)[:32]
    ours, qemu = agree(bytes(content), "luks")
    assert ours in (None, qemu)
    if qemu is not None and content[8:11] == b"aes" and content[40:51] == b"xts-plain64":
        is_md5 = content[72:76] == b"md5\0"  # which not every QEMU has
        assert ours == qemu or is_md5 or content[108:112] == bytes([0, 0, 0, 48])
