"""Sizes of real images: the real qemu-img makes them, and tells the right answer."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guestlist import images as module
from guestlist.images import Image, Images, qemu_img
from guestlist.records import Source, SourceKind

MIB = 2**20
NOBODY = 65534

OTHERS = ["parallels", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc"]
"""The formats that qemu-img is asked about."""

FORMATS = ["qcow2", "luks", *OTHERS]

LUKS_PAYLOAD = 4096
"""In sectors, the place of the guest's data in the luks images here."""


pytestmark = pytest.mark.usefixtures("needs_qemu_img")


def run(*command: object) -> str:
    return subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True
    ).stdout


def create(path: Path, format: str, size: int = 16 * MIB, *options: object) -> Path:
    if format == "luks":
        path.write_bytes(luks(size))
    else:
        run("qemu-img", "create", "-q", "-f", format, *options, path, size)
    return written(path)


def luks(size: int) -> bytes:
    """An image, locked for good. QEMU would take two seconds to make one: it times its hashing."""
    header = struct.pack(
        ">6sH32s32s32sII20s32sI40s",
        *(b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256", LUKS_PAYLOAD, 64),
        *(bytes(20), bytes(32), 1000, str(uuid.UUID(int=1)).encode()),
    )
    for slot in range(8):
        header += struct.pack(">II32sII", 0xDEAD, 0, bytes(32), 8 + 504 * slot, 4000)
    return header.ljust(LUKS_PAYLOAD * 512 + size, b"\0")


def written(path: Path) -> Path:
    """Return the file when it is on the disk: before, the file system may allocate more or less."""
    with path.open("rb") as file:
        os.fsync(file)
    return path


def write(path: Path, format: str, *commands: str) -> None:
    """Write once, as a guest does."""
    run("qemu-io", "-f", format, *(word for line in commands for word in ("-c", line)), path)


def source(path: Path | str, format: str | None = None, kind: SourceKind = SourceKind.FILE):
    return Source(kind, str(path), format)


def measured(image: Source, images: Images | None = None) -> Image:
    return (images or Images()).measure([image])[image]


def told(path: Path, format: str) -> Image:
    """Return the right answer."""
    info = json.loads(run("qemu-img", "info", "-U", "--output=json", "-f", format, path))
    return Image(info["virtual-size"], info["actual-size"])


class Program:
    """Make a qemu-img that counts its runs, and then does what the shell `script` says.

    Any user may run it, and it may write into `folder`: qemu-img does not run as root.
    """

    def __init__(self, script: str = 'exec qemu-img "$@"') -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="guestlist-qemu-img-"))
        self.folder.chmod(0o777)
        self._log = self.folder / "runs"
        self._log.touch()
        self._log.chmod(0o666)
        self.path = self.folder / "qemu-img"
        self.path.write_text(f"#!/bin/sh\necho >>'{self._log}'\n{script}\n")
        self.path.chmod(0o755)

    @property
    def runs(self) -> int:
        return self._log.stat().st_size

    def images(self, deadline: float = 10.0) -> Images:
        return Images(qemu_img=str(self.path), deadline=deadline)

    def close(self) -> None:
        shutil.rmtree(self.folder)


@pytest.fixture
def programs() -> Iterator[Callable[..., Program]]:
    """Programs, gone with the test."""
    made = []

    def make(*script: str) -> Program:
        made.append(Program(*script))
        return made[-1]

    yield make
    for program in made:
        program.close()


@pytest.fixture
def program(programs: Callable[..., Program]) -> Program:
    return programs()


class Opened:
    """Count how often guestlist opened each path."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._open = os.open

    def __call__(self, path, *args, **kwargs) -> int:
        self.paths.append(path)
        return self._open(path, *args, **kwargs)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    spy = Opened()
    monkeypatch.setattr(module.os, "open", spy)
    return spy


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all files look as if they were written long ago."""
    monkeypatch.setattr(module, "time_ns", lambda: 2**62)


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A file of 32 MiB, and the block device over it."""
    file = tmp_path / "behind-the-device"
    with file.open("wb") as new:
        new.truncate(32 * MIB)
    try:
        device = run("losetup", "--find", "--show", file).strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no loop devices here")
    try:
        yield file, Path(device)
    finally:
        run("losetup", "--detach", device)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


# What the numbers are


@pytest.mark.parametrize("size", [0, 512, MIB, 5 * MIB + 512, 3 * 2**40])
@pytest.mark.parametrize("options", ["compat=0.10", "compat=1.1", "cluster_size=512", "lazy"])
def test_qcow2_is_as_large_as_qemu_says(tmp_path: Path, size: int, options: str):
    if options == "cluster_size=512":
        size = min(size, 64 * MIB)
    options = options.replace("lazy", "lazy_refcounts=on,extended_l2=on,cluster_size=64k")
    path = create(tmp_path / "image", "qcow2", size, "-o", options)
    assert measured(source(path, "qcow2")) == told(path, "qcow2")


@pytest.mark.parametrize("format", ["luks", *OTHERS])
def test_other_formats_are_as_large_as_qemu_says(tmp_path: Path, format: str):
    path = create(tmp_path / "image", format, 20 * MIB)
    answer = measured(source(path, format))
    assert answer == told(path, format)
    assert answer.virtual_bytes is not None
    assert answer.virtual_bytes >= 20 * MIB


def test_a_fixed_vpc_is_as_large_as_qemu_says(tmp_path: Path):
    path = create(tmp_path / "image", "vpc", 20 * MIB, "-o", "subformat=fixed")
    assert measured(source(path, "vpc")) == told(path, "vpc")


def test_what_a_guest_wrote_is_allocated(tmp_path: Path):
    path = create(tmp_path / "image", "qcow2")
    images, image = Images(), source(path, "qcow2")
    before = measured(image, images)
    write(path, "qcow2", "write 0 4M", "flush")
    after = measured(image, images)
    assert after == told(path, "qcow2")
    assert after.allocated_bytes >= before.allocated_bytes + 4 * MIB
    assert after.virtual_bytes == before.virtual_bytes == 16 * MIB


@pytest.mark.parametrize("format", [None, "raw"])
@pytest.mark.parametrize("size", [0, 1, 1000, 3 * MIB])
def test_raw_is_what_stat_says(tmp_path: Path, format: str | None, size: int, opened: Opened):
    path = tmp_path / "disk"
    path.write_bytes(b"guest" * 100)
    os.truncate(path, size)
    written(path)
    found = path.stat()
    assert measured(source(path, format)) == Image(size, found.st_blocks * 512)
    assert opened.paths == []


@pytest.mark.parametrize("format", [None, "raw"])
def test_a_guest_that_writes_a_header_into_its_raw_disk_fools_nobody(
    tmp_path: Path, format: str | None, opened: Opened
):
    other = create(tmp_path / "other", "qcow2", 2**40)
    disk = tmp_path / "disk"
    disk.write_bytes(other.read_bytes())
    assert measured(source(disk, format)).virtual_bytes == disk.stat().st_size
    assert str(disk) not in opened.paths


def test_a_raw_disk_is_not_qcow2_because_the_xml_says_so(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MIB))
    written(disk)
    answer = measured(source(disk, "qcow2"))
    assert answer == Image(None, disk.stat().st_blocks * 512, "not qcow2 that QEMU opens")


def test_the_first_qcow_is_not_qcow2(tmp_path: Path):
    path = create(tmp_path / "image", "qcow")
    assert measured(source(path, "qcow2")).unknown == "not qcow2 that QEMU opens"


@pytest.mark.parametrize(
    "size", [0, 1, 511, 513, 10 * MIB + 3, 2**59, 2**63 - 512, 2**63, 2**64 - 1]
)
def test_a_size_that_qemu_would_have_is_qemus(tmp_path: Path, size: int):
    """QEMU counts whole sectors; it refuses a size that does not fit into 63 bits."""
    path = create(tmp_path / "image", "qcow2", MIB)
    with path.open("r+b") as file:
        file.seek(24)
        file.write(size.to_bytes(8))
    written(path)
    answer = measured(source(path, "qcow2"))
    try:
        assert answer == told(path, "qcow2")
    except subprocess.CalledProcessError:
        assert size >= 2**59
        assert answer.virtual_bytes is None


@pytest.mark.parametrize("other", ["image", "other"])
def test_backing_files_are_not_followed_and_so_they_may_loop(tmp_path: Path, other: str):
    path = create(tmp_path / "image", "qcow2", 3 * MIB)
    create(tmp_path / "other", "qcow2", 5 * MIB)
    run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", path, "-f", "qcow2", tmp_path / "other")
    run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", tmp_path / other, "-f", "qcow2", path)
    assert measured(source(path, "qcow2")).virtual_bytes == 3 * MIB


def test_an_image_whose_backing_file_is_gone_has_its_own_size(tmp_path: Path):
    base = create(tmp_path / "base", "qcow2", 2 * MIB)
    path = create(tmp_path / "image", "qcow2", 7 * MIB, "-F", "qcow2", "-b", base)
    base.unlink()
    assert measured(source(path, "qcow2")).virtual_bytes == 7 * MIB


def test_what_an_image_with_a_data_file_occupies_is_not_known(tmp_path: Path):
    data = tmp_path / "data"
    path = create(tmp_path / "image", "qcow2", 7 * MIB, "-o", f"data_file={data}")
    data.unlink()
    answer = measured(source(path, "qcow2"))
    assert answer == Image(7 * MIB, None, "its data is in another file")


# What is not an image


def test_every_kind_of_source_has_an_answer(tmp_path: Path):
    by_kind = {kind: measured(Source(kind, "pool/volume")) for kind in SourceKind}
    assert by_kind.pop(SourceKind.NONE) == Image(0, 0)
    assert {kind: answer.unknown for kind, answer in by_kind.items()} == {
        SourceKind.FILE: "not an absolute path",
        SourceKind.BLOCK: "not an absolute path",
        SourceKind.DIR: "a directory",
        SourceKind.NETWORK: "on a network",
        SourceKind.VOLUME: "in a storage pool",
        SourceKind.NVME: "an NVMe device",
        SourceKind.VHOSTUSER: "behind vhost-user",
        SourceKind.VHOSTVDPA: "behind vhost-vdpa",
    }
    for answer in by_kind.values():
        assert answer.virtual_bytes is answer.allocated_bytes is None


def test_an_empty_drive_has_no_location(tmp_path: Path):
    assert measured(Source(SourceKind.NONE, None)) == Image(0, 0)


@pytest.mark.parametrize("missing", [Source(None, "/x"), Source(SourceKind.FILE, None)])
def test_what_the_xml_does_not_tell_is_unknown(missing: Source):
    assert measured(missing) == Image(None, None, "not in the XML")


LONG = "/" + "x" * 5000


@pytest.mark.parametrize("format", [None, "qcow2", "vmdk"])
@pytest.mark.parametrize("kind", [SourceKind.FILE, SourceKind.BLOCK])
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "not an absolute path"),
        ("-", "not an absolute path"),
        ("json:{}", "not an absolute path"),
        ("nbd://host/", "not an absolute path"),
        ("/nul\0/x", "not a path"),
        ("/lone \ud800 surrogate", "not a path"),
        ("/lone \udcff byte", "no such file"),
        ("/nonesuch/x", "no such file"),
        ("/dev/null/x", "no such file"),
        (LONG, os.strerror(errno.ENAMETOOLONG).lower()),
    ],
)
def test_a_path_that_cannot_be_opened_is_an_answer(path, why, kind, format, program: Program):
    assert measured(Source(kind, path, format), program.images()) == Image(None, None, why)
    assert program.runs == 0


def test_links_that_lead_nowhere_are_an_answer(tmp_path: Path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert measured(source(loop, "qcow2")).unknown == os.strerror(errno.ELOOP).lower()
    nowhere = tmp_path / "nowhere"
    nowhere.symlink_to(tmp_path / "gone")
    assert measured(source(nowhere, "qcow2")).unknown == "no such file"


def test_a_link_is_as_large_as_its_image(tmp_path: Path):
    path = create(tmp_path / "image", "qcow2", 7 * MIB)
    (tmp_path / "link").symlink_to(path)
    assert measured(source(tmp_path / "link", "qcow2")) == told(path, "qcow2")


@pytest.mark.parametrize("format", [None, "qcow2", "vmdk"])
def test_only_regular_files_are_opened(
    tmp_path: Path, format: str | None, program: Program, opened: Opened
):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (fifo, tmp_path, tmp_path / "socket", Path("/dev/null")):
            answer = measured(source(path, format), program.images())
            assert answer == Image(None, None, "not a regular file")
    assert opened.paths == []
    assert program.runs == 0


@pytest.mark.parametrize("format", [None, "qcow2", "vmdk"])
def test_only_block_devices_are_opened_as_such(tmp_path: Path, format: str | None, opened: Opened):
    file = create(tmp_path / "image", "qcow2")
    os.mkfifo(tmp_path / "fifo")
    for path in (file, tmp_path, tmp_path / "fifo", Path("/dev/null")):
        answer = measured(source(path, format, SourceKind.BLOCK))
        assert answer == Image(None, None, "not a block device")
    assert opened.paths == []


def test_a_file_that_becomes_a_fifo_before_it_is_opened_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, real = create(tmp_path / "image", "qcow2"), os.open

    def swapped(name, *args):
        path.unlink()
        os.mkfifo(path)
        return real(name, *args)

    monkeypatch.setattr(module.os, "open", swapped)
    assert measured(source(path, "qcow2")) == Image(None, None, "no such file")


def test_permission_denied_is_an_answer():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = create(Path(folder, "image"), "qcow2")
        path.chmod(0)
        closed = Path(folder, "closed")
        closed.mkdir()
        hidden = create(closed / "image", "raw")
        closed.chmod(0)
        with unprivileged():
            answers = Images().measure([source(path, "qcow2"), source(hidden), source(path)])
        closed.chmod(0o755)
    assert [answer.unknown for answer in answers.values()] == [
        "permission denied",
        "permission denied",
        None,  # its size is not in its content
    ]


@settings(deadline=None)
@given(st.binary(max_size=600))
@example(b"")
@example(b"QFI\xfb")
@example(b"QFI\xfb\0\0\0\x03" + b"\xff" * 600)
def test_no_header_raises(garbage: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        path.write_bytes(garbage)
        answer = measured(source(path, "qcow2"))
    assert (answer.virtual_bytes is None) == (answer.unknown == "not qcow2 that QEMU opens")
    assert answer.allocated_bytes is not None


# What is remembered


@pytest.mark.usefixtures("long_ago")
@pytest.mark.parametrize("format", FORMATS)
def test_an_image_that_does_not_change_is_opened_once(
    tmp_path: Path, format: str, opened: Opened, program: Program
):
    path = create(tmp_path / "image", format)
    images, image = program.images(), source(path, format)
    first = measured(image, images)
    times, runs = opened.paths.count(str(path)), program.runs
    assert times == 1
    assert runs == (0 if format in ("qcow2", "luks") else 1)
    assert [measured(image, images) for _ in range(5)] == [first] * 5
    assert opened.paths.count(str(path)) == times
    assert program.runs == runs


def test_a_change_that_has_just_been_may_not_be_the_last(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    """Two changes within a tick of the clock have one time stamp, which would hide the second."""
    path = create(tmp_path / "image", "qcow2")
    images, image, changed = Images(), source(path, "qcow2"), path.stat().st_ctime_ns
    for after, times in ((10**6, 1), (10**6, 2), (2 * 10**9, 3), (3 * 10**9, 3)):
        monkeypatch.setattr(module, "time_ns", lambda after=after: changed + after)
        measured(image, images)
        assert opened.paths.count(str(path)) == times


@pytest.mark.usefixtures("long_ago")
@pytest.mark.parametrize("format", ["raw", *FORMATS])
def test_an_image_written_over_is_measured_anew(tmp_path: Path, format: str):
    path = create(tmp_path / "image", format, 16 * MIB)
    other = create(tmp_path / "other", format, 32 * MIB)
    images, image = Images(), source(path, format)
    assert measured(image, images) == told(path, format)
    inode = path.stat().st_ino
    written(shutil.copyfile(other, path))
    assert path.stat().st_ino == inode
    answer = measured(image, images)
    assert answer == told(path, format)
    assert answer.virtual_bytes == told(other, format).virtual_bytes


@pytest.mark.usefixtures("long_ago")
@pytest.mark.parametrize("format", ["raw", *FORMATS])
def test_an_image_replaced_is_measured_anew(tmp_path: Path, format: str):
    path = create(tmp_path / "image", format, 16 * MIB)
    other = create(tmp_path / "other", format, 32 * MIB)
    images, image = Images(), source(path, format)
    assert measured(image, images) == told(path, format)
    expected = told(other, format)
    other.rename(path)
    assert measured(image, images) == expected


@pytest.mark.usefixtures("long_ago")
@pytest.mark.parametrize("format", ["raw", "qcow2", "qed"])
def test_a_resize_is_seen(tmp_path: Path, format: str):
    path = create(tmp_path / "image", format, 16 * MIB)
    images, image = Images(), source(path, format)
    for size in (16, 32, 64):
        run("qemu-img", "resize", "-f", format, path, size * MIB)
        written(path)
        answer = measured(image, images)
        assert answer.virtual_bytes == size * MIB
        assert answer == told(path, format)


@pytest.mark.usefixtures("long_ago")
def test_a_luks_image_grows_with_its_file(tmp_path: Path):
    path = create(tmp_path / "image", "luks", 16 * MIB)
    images, image = Images(), source(path, "luks")
    for size in (16, 32, 64):
        os.truncate(path, LUKS_PAYLOAD * 512 + size * MIB)
        assert measured(image, images).virtual_bytes == size * MIB
        assert measured(image, images) == told(path, "luks")


@pytest.mark.usefixtures("long_ago")
def test_a_fixed_vpc_grows_with_its_file(tmp_path: Path):
    path = create(tmp_path / "image", "vpc", 16 * MIB, "-o", "subformat=fixed")
    other = create(tmp_path / "other", "vpc", 32 * MIB, "-o", "subformat=fixed")
    images, image = Images(), source(path, "vpc")
    assert measured(image, images) == told(path, "vpc")
    written(shutil.copyfile(other, path))
    assert measured(image, images) == told(path, "vpc")


@pytest.mark.usefixtures("long_ago")
def test_an_image_cut_short_is_no_image_until_it_is_whole_again(tmp_path: Path):
    path = create(tmp_path / "image", "qcow2")
    whole = path.read_bytes()
    images, image = Images(), source(path, "qcow2")
    refused = "not qcow2 that QEMU opens"
    for length, why in ((104, None), (103, refused), (0, refused), (len(whole), None)):
        path.write_bytes(whole[:length])
        assert measured(image, images).unknown == why
    path.unlink()
    assert measured(image, images) == Image(None, None, "no such file")
    path.write_bytes(whole)
    assert measured(image, images).virtual_bytes == 16 * MIB


class Guest:
    """Keep an image open for writing, as QEMU does for a running guest."""

    def __init__(self, path: Path, format: str) -> None:
        self._qemu = subprocess.Popen(
            ["qemu-io", "-f", format, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *exc: object) -> None:
        self._qemu.communicate("quit\n")

    def write(self, offset: int) -> None:
        """Write a MiB, and wait until it is written."""
        assert self._qemu.stdin is not None
        assert self._qemu.stdout is not None
        self._qemu.stdin.write(f"write {offset} 1M\nflush\n")
        self._qemu.stdin.flush()
        while "1 MiB" not in (line := self._qemu.stdout.readline()):
            assert line, "qemu-io ended"


@pytest.mark.usefixtures("long_ago")
@pytest.mark.parametrize("format", OTHERS)
def test_a_guest_that_writes_does_not_make_qemu_img_run(
    tmp_path: Path, format: str, program: Program
):
    path = create(tmp_path / "image", format, 16 * MIB)
    images, image = program.images(), source(path, format)
    before = measured(image, images)
    assert program.runs == 1
    with Guest(path, format) as guest:
        guest.write(0)
        measured(image, images)
        runs = program.runs
        assert runs <= (2 if format in ("vhdx", "vmdk") else 1)  # the guest's start shows in these
        for place in range(1, 8):
            guest.write(place * MIB)
            after = measured(image, images)
        assert program.runs == runs
    assert after.virtual_bytes == before.virtual_bytes
    assert after.allocated_bytes > before.allocated_bytes


@pytest.mark.usefixtures("long_ago")
@pytest.mark.parametrize("options", [[], ["-o", "subformat=fixed"]])
def test_what_a_guest_writes_first_in_its_vpc_does_not_make_qemu_img_run(
    tmp_path: Path, options: list[str], program: Program
):
    path = create(tmp_path / "image", "vpc", 16 * MIB, *options)
    images, image = program.images(), source(path, "vpc")
    for pattern in range(3):
        write(path, "vpc", f"write -P {pattern} 0 64k", "flush")
        assert measured(image, images).virtual_bytes == told(path, "vpc").virtual_bytes
    assert program.runs == 1


@pytest.mark.usefixtures("long_ago")
def test_what_was_not_asked_for_is_forgotten(tmp_path: Path, program: Program):
    one, other = (source(create(tmp_path / name, "vdi"), "vdi") for name in ("one", "other"))
    images = program.images()
    images.measure([one, other])
    images.measure([one])
    assert program.runs == 2
    images.measure([one, other])
    assert program.runs == 3
    images.measure([])
    images.measure([one, other])
    assert program.runs == 5


@pytest.mark.usefixtures("long_ago")
def test_an_image_named_twice_is_measured_once(tmp_path: Path, program: Program):
    image = source(create(tmp_path / "image", "vdi"), "vdi")
    assert len(program.images().measure([image, image, image])) == 1
    assert program.runs == 1


@pytest.mark.usefixtures("long_ago")
def test_a_thousand_disks(tmp_path: Path, opened: Opened):
    template = create(tmp_path / "template", "qcow2", 7 * MIB).read_bytes()
    paths = [tmp_path / str(n) for n in range(1000)]
    for path in paths:
        path.write_bytes(template)
    images, wanted = Images(), [source(path, "qcow2") for path in paths]
    answers = images.measure(wanted)
    assert list(answers) == wanted
    assert {answer.virtual_bytes for answer in answers.values()} == {7 * MIB}
    ours = set(map(str, paths))
    assert sum(path in ours for path in opened.paths) == 1000
    images.measure(wanted)
    assert sum(path in ours for path in opened.paths) == 1000


@pytest.mark.usefixtures("long_ago")
def test_threads_may_share_the_memory(tmp_path: Path):
    wanted = [source(create(tmp_path / str(n), "qcow2", n * MIB), "qcow2") for n in range(1, 21)]
    wanted += [source(create(tmp_path / "vdi", "vdi"), "vdi")]
    images = Images()
    shares = [wanted[n:] + wanted[: n // 2] for n in range(len(wanted))] * 10
    expected = Images().measure(wanted)
    with ThreadPoolExecutor(8) as pool:
        for share, answers in zip(shares, pool.map(images.measure, shares), strict=True):
            assert answers == {image: expected[image] for image in share}


# How qemu-img is run


@pytest.mark.parametrize(
    "format", ["--help", "-", "raw,driver=nbd", "json:{}", "VMDK", "vm dk", "vmdk\n", "é", "\0"]
)
def test_a_format_is_a_word_or_qemu_img_does_not_see_it(
    tmp_path: Path, format: str, program: Program
):
    path = create(tmp_path / "image", "vmdk")
    answer = measured(source(path, format), program.images())
    assert answer == Image(None, path.stat().st_blocks * 512, "not a format")
    assert program.runs == 0


@pytest.mark.usefixtures("long_ago")
def test_a_failure_of_qemu_img_is_remembered_until_the_image_changes(
    tmp_path: Path, program: Program
):
    path = tmp_path / "image"
    path.write_bytes(b"nothing that QEMU knows" * 1000)
    written(path)
    images, image = program.images(), source(path, "vdi")
    for _ in range(3):
        answer = measured(image, images)
        assert answer == Image(None, path.stat().st_blocks * 512, "qemu-img cannot read it")
    assert program.runs == 1
    written(shutil.copyfile(create(tmp_path / "other", "vdi"), path))
    assert measured(image, images) == told(path, "vdi")
    assert program.runs == 2


@pytest.mark.parametrize("format", ["nonesuch", "nbd", "host_device", "iso"])
def test_a_format_that_qemu_does_not_have_or_not_for_files(tmp_path: Path, format: str):
    path = create(tmp_path / "image", "raw")
    assert measured(source(path, format)).unknown == "qemu-img cannot read it"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b"{",
        b'{"virtual-size": "7"}',
        b'{"virtual-size": -1}',
        b'{"virtual-size": true}',
        b'{"virtual-size": 7.5}',
        b'{"virtual-size": null}',
        b'{"virtual-size": NaN}',
        b'{"virtual-size": ' + b"9" * 5000 + b"}",
        b'{"virtual-size": 7, "filename": "\xff\xfe"}',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_none(tmp_path: Path, answer: bytes, programs: Callable[..., Program]):
    program = programs('cat "$(dirname "$0")/answer"')
    (program.folder / "answer").write_bytes(answer)
    image = source(create(tmp_path / "image", "vmdk"), "vmdk")
    assert measured(image, program.images()).unknown == "qemu-img cannot read it"


def test_qemu_img_has_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Callable[..., Program]
):
    images = programs("exec sleep 3600").images(deadline=0.4)
    image, run_program, runs = source(create(tmp_path / "i", "vmdk"), "vmdk"), subprocess.Popen, []

    def counted(command, **kwargs):
        runs.append(command)
        return run_program(command, **kwargs)

    monkeypatch.setattr(qemu_img.subprocess, "Popen", counted)
    for _ in range(3):
        assert measured(image, images).unknown == "qemu-img takes too long"
    assert len(runs) == 1


def test_qemu_img_has_bounds(tmp_path: Path, programs: Callable[..., Program]):
    program = programs(
        '(ulimit -v; ulimit -t; ulimit -f) >"$(dirname "$0")/limits"; exec qemu-img "$@"'
    )
    image = source(create(tmp_path / "image", "vmdk"), "vmdk")
    assert measured(image, program.images(deadline=5.5)).virtual_bytes == 16 * MIB
    limits = (program.folder / "limits").read_text().split()
    assert limits == [str(2**20), "3", str(2**20 // 512)]


def test_qemu_img_cannot_flood_us(tmp_path: Path, programs: Callable[..., Program]):
    image = source(create(tmp_path / "image", "vmdk"), "vmdk")
    assert measured(image, programs("exec yes").images()).unknown == "qemu-img cannot read it"


def test_qemu_img_finds_nothing_to_read_on_its_input(
    tmp_path: Path, programs: Callable[..., Program]
):
    image = source(create(tmp_path / "image", "vmdk"), "vmdk")
    program = programs('cat; exec qemu-img "$@"')
    assert measured(image, program.images()).virtual_bytes == 16 * MIB


@pytest.mark.usefixtures("long_ago")
def test_qemu_img_may_be_installed_later(tmp_path: Path, program: Program):
    path = create(tmp_path / "image", "vmdk")
    images, image = program.images(), source(path, "vmdk")
    away = program.path.rename(tmp_path / "away")
    answer = measured(image, images)
    assert answer == Image(None, path.stat().st_blocks * 512, "qemu-img is not installed")
    away.rename(program.path)
    assert measured(image, images) == told(path, "vmdk")


def test_without_its_bounds_qemu_img_does_not_run(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
):
    image = source(create(tmp_path / "image", "vmdk"), "vmdk")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    for missing in ("setpriv", "prlimit"):
        assert measured(image, program.images()).unknown == f"{missing} is not installed"
        (tmp_path / "bin" / missing).symlink_to(f"/usr/bin/{missing}")
    assert program.runs == 0


@pytest.mark.usefixtures("long_ago")
def test_that_qemu_img_could_not_be_run_says_nothing_of_the_image(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
):
    path = create(tmp_path / "image", "vmdk")
    images, image = program.images(), source(path, "vmdk")

    def no_memory(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    with monkeypatch.context() as patch:
        patch.setattr(qemu_img.subprocess, "Popen", no_memory)
        assert measured(image, images).unknown == "qemu-img could not be run"
    assert measured(image, images) == told(path, "vmdk")


def test_a_running_guests_lock_is_no_hindrance(tmp_path: Path):
    for format in ("qcow2", "vmdk"):
        path = create(tmp_path / format, format)
        with Guest(path, format) as guest:
            guest.write(0)
            assert measured(source(path, format)).virtual_bytes == 16 * MIB


# Block devices


def test_a_block_device_is_as_large_as_it_is(loop_device: tuple[Path, Path]):
    _, device = loop_device
    for format in (None, "raw"):
        answer = measured(source(device, format, SourceKind.BLOCK))
        assert answer == Image(32 * MIB, 32 * MIB)


@pytest.mark.parametrize("format", ["qcow2", "vdi"])
def test_an_image_on_a_block_device(loop_device: tuple[Path, Path], format: str, program: Program):
    file, device = loop_device
    images, image = program.images(), source(device, format, SourceKind.BLOCK)
    for size in (64 * MIB, 64 * MIB, 128 * MIB):
        run("qemu-img", "create", "-f", format, device, size)
        run("blockdev", "--flushbufs", device)
        assert measured(image, images) == Image(size, 32 * MIB)
        runs = program.runs
        measured(image, images)
        assert program.runs == runs
    assert file.stat().st_size == 32 * MIB


def test_an_image_that_is_not_on_the_block_device(loop_device: tuple[Path, Path]):
    _, device = loop_device
    answer = measured(source(device, "qcow2", SourceKind.BLOCK))
    assert answer == Image(None, 32 * MIB, "not qcow2 that QEMU opens")


def test_a_block_device_is_no_regular_file(loop_device: tuple[Path, Path], opened: Opened):
    _, device = loop_device
    assert measured(source(device)).unknown == "not a regular file"
    assert opened.paths == []
