"""Sizes of what a domain's XML makes of an image (a slice, LUKS), compared with libvirt's own.

The guests are real and run; `getAllDomainStats` and `blockInfo` are the referees."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import libvirt
import pytest
from lab.daemon import Daemon
from lab.nodes import nova_instance
from lab.qemu import guests

from guestlist import domainxml
from guestlist.images import Image, Images
from guestlist.nova.questions import HostQuestions
from guestlist.records import Slice, Source, SourceKind

MIB = 2**20
KEY = "6dd3e4a5-1d76-44ce-961f-f119f5aad935"

ENCRYPTION = f"<encryption format='luks'><secret type='passphrase' uuid='{KEY}'/></encryption>"


def qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, timeout=120)


class Made(NamedTuple):
    """A file with an image in it, and the XML of a disk on that image."""

    path: Path
    xml: str


class Studio:
    """Makes images for the guests of a daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._count = 0

    def path(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="images-", dir=self._daemon.directory)) / "image"

    def disk(
        self, path: Path, format: str, *, inside: str = "", beside: str = "", shared: bool = False
    ) -> str:
        self._count += 1
        self._daemon.give(path.parent)
        self._daemon.give(path)
        return (
            f"<disk type='file' device='disk'><driver name='qemu' type='{format}'/>"
            f"<source file='{path}'>{inside}</source>{beside}"
            f"{'<shareable/>' if shared else ''}"
            f"<target dev='vd{chr(97 + self._count)}' bus='virtio'/></disk>"
        )


@pytest.fixture
def studio(needs_qemu: None, needs_qemu_img: None, daemon: Daemon) -> Studio:
    return Studio(daemon)


def slice_of(offset: int, size: int) -> str:
    return f"<slices><slice type='storage' offset='{offset}' size='{size}'/></slices>"


def full(path: Path, size: int) -> Path:
    path.write_bytes(b"x" * size)
    with path.open("rb") as file:
        os.fsync(file)
    return path


def sparse(path: Path, size: int) -> Path:
    path.touch()
    os.truncate(path, size)
    return path


def put(path: Path, offset: int, image: Path) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(image.read_bytes())


def luks(path: Path, size: int) -> Path:
    options = "key-secret=s,iter-time=10,hash-alg=sha512"
    holder = "secret,id=s,data=x"
    qemu_img("create", "-q", "-f", "luks", "--object", holder, "-o", options, path, size)
    return path


@contextlib.contextmanager
def unlocked(connection: libvirt.virConnect) -> Iterator[None]:
    xml = f"<secret ephemeral='yes' private='no'><uuid>{KEY}</uuid></secret>"
    secret = connection.secretDefineXML(xml)
    try:
        secret.setValue(b"x")
        yield
    finally:
        secret.undefine()


class Compared(NamedTuple):
    ours: list[Image]
    running: list[int]
    shut_off: list[int]
    sources: list[Source]


def compared(daemon: Daemon, *disks: str) -> Compared:
    """Return what guestlist and libvirt say of the disks of a guest, running and then shut off."""
    domain = replace(nova_instance(1), devices="".join(disks))
    connection = libvirt.open(daemon.qemu_uri)
    try:
        with unlocked(connection), guests(daemon.qemu_uri, [domain]):
            handle = connection.lookupByUUID(domain.uuid.bytes)
            details = domainxml.parse(handle.XMLDesc())
            assert details.unknown == ()
            sources = [disk.source for disk in details.disks]
            images = Images(deadline=120).measure(sources)
            [(_, told)] = connection.domainListGetStats([handle], libvirt.VIR_DOMAIN_STATS_BLOCK)
            running = [told[f"block.{n}.capacity"] for n in range(told["block.count"])]
            handle.destroy()
            shut_off = [handle.blockInfo(disk.target)[0] for disk in details.disks]
    finally:
        connection.close()
    return Compared([images[source] for source in sources], running, shut_off, sources)


def test_a_slice_of_a_raw_file_is_as_large_as_its_guest_sees(daemon: Daemon, studio: Studio):
    path = full(studio.path(), 16 * MIB)
    one = studio.disk(path, "raw", inside=slice_of(MIB, 2 * MIB), shared=True)
    other = studio.disk(path, "raw", inside=slice_of(4 * MIB, 5 * MIB + 512), shared=True)
    ours, running, _, sources = compared(daemon, one, other)
    assert [image.virtual_bytes for image in ours] == running == [2 * MIB, 5 * MIB + 512]
    assert [image.allocated_bytes for image in ours] == running  # the file has no holes
    assert len(set(sources)) == 2


def test_what_a_slice_of_a_sparse_file_occupies_is_unknown(daemon: Daemon, studio: Studio):
    path = sparse(studio.path(), 16 * MIB)
    ours, running, _, _ = compared(daemon, studio.disk(path, "raw", inside=slice_of(MIB, 2 * MIB)))
    assert running == [2 * MIB]
    assert ours == [Image(2 * MIB, None, "what a slice of a sparse file occupies")]


@pytest.mark.parametrize("format", ["qcow2", "vmdk", "vdi"])
def test_an_image_in_a_slice_is_not_the_one_before_it(daemon: Daemon, studio: Studio, format: str):
    path, image = sparse(studio.path(), 16 * MIB), studio.path()
    for offset, size in ((0, 10 * MIB), (MIB, 64 * MIB), (4 * MIB, 30 * MIB)):
        qemu_img("create", "-q", "-f", format, image, size)
        put(path, offset, image)
    disk = studio.disk(path, format, inside=slice_of(MIB, 2 * MIB))
    ours, running, _, _ = compared(daemon, disk)
    assert [image.virtual_bytes for image in ours] == running == [64 * MIB]


def test_what_follows_a_slice_is_not_read(studio: Studio):
    path, image = sparse(studio.path(), 4 * MIB), studio.path()
    qemu_img("create", "-q", "-f", "qcow2", image, 10 * MIB)
    put(path, MIB, image)
    image = Source(SourceKind.FILE, str(path), "qcow2", Slice(MIB, MIB))
    before = Source(SourceKind.FILE, str(path), "qcow2", Slice(MIB - 512, 512))
    answers = Images().measure([image, before])
    assert answers[image].virtual_bytes == 10 * MIB
    assert answers[before].unknown == "not qcow2 that QEMU opens"


@pytest.mark.parametrize(
    ("slice", "why"),
    [
        (Slice(MIB, 100), "slice is not of whole sectors"),
        (Slice(3 * MIB, 2 * MIB), "slice is not within the file"),
        (Slice(2**62, 512), "slice is not within the file"),
        (Slice(None, 512), "slice is not in the XML"),
        (Slice(0, None), "slice is not in the XML"),
    ],
)
@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_slice_that_qemu_refuses_has_no_size(studio: Studio, slice: Slice, why: str, format: str):
    path = sparse(studio.path(), 4 * MIB)
    source = Source(SourceKind.FILE, str(path), format, slice)
    answer = Images().measure([source])[source]
    assert answer.virtual_bytes is None
    assert answer.unknown == why


@pytest.mark.parametrize("place", ["inside", "beside"])
@pytest.mark.parametrize("sliced", [False, True])
def test_the_guest_of_a_luks_volume_does_not_see_its_header(
    daemon: Daemon, studio: Studio, place: str, sliced: bool
):
    path = luks(studio.path(), 3 * MIB)
    inside = ""
    if sliced:
        volume, path = path, sparse(studio.path(), 16 * MIB)
        put(path, MIB, volume)
        inside = slice_of(MIB, volume.stat().st_size)
    xml = studio.disk(
        path,
        "raw",
        inside=inside + (ENCRYPTION if place == "inside" else ""),
        beside=ENCRYPTION if place == "beside" else "",
    )
    ours, running, shut_off, _ = compared(daemon, xml)
    assert [image.virtual_bytes for image in ours] == running == [3 * MIB]
    if not sliced:
        assert shut_off == running


def test_luks_inside_qcow2_takes_nothing_of_its_size(daemon: Daemon, studio: Studio):
    path = studio.path()
    options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
    options += ",encrypt.hash-alg=sha512"
    holder = "secret,id=s,data=x"
    qemu_img("create", "-q", "-f", "qcow2", "--object", holder, "-o", options, path, 7 * MIB)
    ours, running, shut_off, _ = compared(daemon, studio.disk(path, "qcow2", inside=ENCRYPTION))
    assert [image.virtual_bytes for image in ours] == running == shut_off == [7 * MIB]


def test_what_is_encrypted_otherwise_or_not_at_all_has_no_size(studio: Studio):
    path = studio.path()
    qemu_img("create", "-q", "-f", "qcow2", path, MIB)
    raw = Source(SourceKind.FILE, str(path), "raw", encryption="luks2")
    vdi = Source(SourceKind.FILE, str(path), "vdi", encryption="luks")
    bare = Source(SourceKind.FILE, str(path), "raw", encryption="luks")
    plain = Source(SourceKind.FILE, str(path), "qcow2", encryption="luks")
    group = Source(SourceKind.FILE, str(path), "qcow2", fd_group="group")
    answers = Images().measure([raw, vdi, bare, plain, group])
    assert {answer.virtual_bytes for answer in answers.values()} == {None}
    assert [answer.unknown for answer in answers.values()] == [
        "its encryption is not QEMU's",
        "its encryption is not QEMU's",
        "not LUKS that QEMU opens",
        "not qcow2 that QEMU opens",
        "opened for libvirt by another program",
    ]


def test_nova_asks_in_its_own_way_about_slices_and_headers_that_qemu_refuses(
    daemon: Daemon, studio: Studio
):
    good, refused, sliced = studio.path(), studio.path(), sparse(studio.path(), 4 * MIB)
    for path in (good, refused):
        qemu_img("create", "-q", "-f", "qcow2", path, 5 * MIB)
    put(sliced, MIB, good)
    with refused.open("r+b") as file:
        file.seek(24)
        file.write((1 << 62).to_bytes(8))
    disks = [studio.disk(path, "qcow2") for path in (good, refused)]
    disks.append(studio.disk(sliced, "qcow2", inside=slice_of(MIB, MIB)))
    domain = replace(nova_instance(0x77), active=False, devices="".join(disks))
    with guests(daemon.qemu_uri, [domain]):
        questions = HostQuestions(daemon.qemu_uri, name_template="instance-%08x")
        try:
            told = questions.qcow2_images()
        finally:
            questions.close()
    assert {path: sizes[0] for path, sizes in told.items()} == {str(good): 5 * MIB}
