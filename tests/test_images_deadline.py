"""Images that do not answer: only their own numbers are missing, and nothing stays behind."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lab.hanging import Hanging, hanging, hanging_available
from lab.needs import require
from lab.nodes import nova_instance

from guestlist.cli.exits import Exit
from guestlist.images import Image, Images, storage_reads
from guestlist.records import Source, SourceKind
from test_cli_ls import served
from test_cli_running import run
from test_cli_usage import disk

MIB = 2**20
FOREVER = "exec sleep 3600"


pytestmark = pytest.mark.usefixtures("needs_qemu_img")


@pytest.fixture
def hung() -> Iterator[Hanging]:
    require(hanging_available())
    try:
        with hanging() as there:
            yield there
    except PermissionError:
        require("this machine mounts nothing")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that any user may use: qemu-img does not run as root."""
    with tempfile.TemporaryDirectory(prefix="gl-images-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def program(folder: Path, script: str) -> str:
    path = folder / "qemu-img"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def create(path: Path, format: str, size: int = 4 * MIB) -> Path:
    command = ["qemu-img", "create", "-q", "-f", format, str(path), str(size)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return path


def source(path: Path, format: str) -> Source:
    return Source(SourceKind.FILE, str(path), format)


def descriptor(folder: Path, *, inside_sparse: bool = False) -> Path:
    """A vmdk whose only extent is a FIFO."""
    fifo = folder / "fifo"
    if not fifo.exists():
        os.mkfifo(fifo, 0o666)
    text = (
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        f'createType="monolithicFlat"\nRW 2048 FLAT "{fifo}" 0\nddb.adapterType = "ide"\n'
    ).encode()
    path = folder / f"disk-{inside_sparse}.vmdk"
    if inside_sparse:
        header = struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, 0, 128, 1, 20)
        text = header.ljust(512, b"\0") + text.ljust(20 * 512, b"\0")
    path.write_bytes(text)
    path.chmod(0o644)
    return path


def ended(pid: int) -> bool:
    """Return whether a process ends within a minute."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 60)[0])
    finally:
        os.close(fd)


def none_at_work() -> bool:
    """Return whether all threads of `measure` end, each within a minute."""
    threads = at_work()
    for thread in threads:
        thread.join(60)
    return not any(thread.is_alive() for thread in threads)


def at_work() -> list[threading.Thread]:
    """Return the threads of `measure` that have not ended."""
    return [each for each in threading.enumerate() if each.name == "guestlist-images"]


# Storage that hangs


def test_storage_that_hangs_costs_its_own_numbers(hung: Hanging, folder: Path):
    raw, qcow2, vdi = (create(folder / name, name) for name in ("raw", "qcow2", "vdi"))
    local = [source(raw, "raw"), source(qcow2, "qcow2"), source(vdi, "vdi")]
    away = [source(hung.path / f"{n}", format) for n in range(8) for format in ("raw", "qcow2")]
    images = Images(deadline=6)
    answers = images.measure([*away, *local])
    assert list(answers) == [*away, *local]
    assert [answers[each].virtual_bytes for each in local] == [4 * MIB] * 3
    reasons = {answers[each].unknown for each in away}
    assert reasons <= {"its storage does not answer", "not reached in time"}
    assert hung.looked_at.is_set()


def test_storage_that_hangs_is_not_looked_at_again_and_again(hung: Hanging, folder: Path):
    images, there = Images(deadline=0.2), source(hung.path / "disk", "raw")
    local = source(create(folder / "image", "qcow2"), "qcow2")
    for _ in range(5):
        answers = images.measure([there, local])
        assert answers[there] == Image(None, None, "its storage does not answer")
        assert len(at_work()) <= 2
    many = [source(hung.path / f"{n}", "raw") for n in range(storage_reads._MOST_LEFT * 3)]
    for _ in range(5):
        images.measure(many)
    assert len(at_work()) <= storage_reads._MOST_LEFT


def test_storage_that_is_back_is_looked_at_again(folder: Path):
    require(hanging_available())
    images = Images(deadline=0.2)
    with hanging() as there:
        image = source(there.path / "disk", "raw")
        assert images.measure([image])[image].unknown == "its storage does not answer"
    assert none_at_work()
    assert images.measure([image])[image].unknown == "no such file"


def test_the_memory_of_an_image_survives_that_it_did_not_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("guestlist.images.time_ns", lambda: 2**62)
    runs = folder / "runs"
    runs.touch(0o666)
    runs.chmod(0o666)
    images = Images(program(folder, f'echo >>{runs}; exec qemu-img "$@"'), deadline=60)
    image = source(create(folder / "image", "vdi"), "vdi")
    images.measure([image])
    with monkeypatch.context() as patch:
        patch.setattr(images, "_deadline", 0)
        patch.setattr(storage_reads, "_GRACE", 0)
        images.measure([image, *(source(folder / f"{n}", "raw") for n in range(1000))])
    assert none_at_work()
    assert images.measure([image])[image].virtual_bytes == 4 * MIB
    assert runs.stat().st_size == 1


# qemu-img that hangs


def test_one_deadline_over_all_images(folder: Path):
    paths = [folder / f"image-{n}" for n in range(40)]
    first = create(paths[0], "vdi").read_bytes()
    for path in paths:
        path.write_bytes(first)
        path.chmod(0o644)
    pids = folder / "pids"
    pids.mkdir()
    pids.chmod(0o777)
    wanted = [source(path, "vdi") for path in paths]
    qcow2 = source(create(folder / "qcow2", "qcow2"), "qcow2")
    images = Images(program(folder, f"touch {pids}/$$; {FOREVER}"), deadline=3)
    answers = images.measure([*wanted, qcow2])
    assert {answers[each].virtual_bytes for each in wanted} == {None}
    reasons = {answers[each].unknown for each in wanted}
    assert reasons <= {"qemu-img takes too long", "not reached in time"}
    assert len(list(pids.iterdir())) < 40
    assert none_at_work()
    assert all(ended(int(each.name)) for each in pids.iterdir())


def test_what_was_not_reached_is_reached_the_next_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(storage_reads, "_GRACE", 0)
    images = Images(deadline=0)
    wanted = [source(create(folder / "image", "qcow2"), "qcow2")]
    wanted += [source(folder / f"{n}", "raw") for n in range(5000)]
    assert "not reached in time" in {each.unknown for each in images.measure(wanted).values()}
    assert none_at_work()
    monkeypatch.setattr(images, "_deadline", 60)
    assert images.measure(wanted)[wanted[0]].virtual_bytes == 4 * MIB


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_qemu_img_outlives_us(folder: Path, end: signal.Signals):
    os.mkfifo(folder / "pid", 0o666)
    (folder / "pid").chmod(0o666)
    path = create(folder / "image", "vdi")
    code = (
        "from guestlist.images import Images; from guestlist.records import Source, SourceKind; "
        f"Images({program(folder, f'echo $$ >{folder}/pid; {FOREVER}')!r}, deadline=600)"
        f".measure([Source(SourceKind.FILE, {str(path)!r}, 'vdi')])"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as guestlist:
        pid = int((folder / "pid").read_text())
        guestlist.send_signal(end)
        assert guestlist.wait(60) != 0
    assert ended(pid)


# What qemu-img may open, and as which user


@pytest.mark.parametrize("inside_sparse", [False, True])
def test_an_image_that_names_other_files_is_not_shown_to_qemu_img(
    folder: Path, inside_sparse: bool
):
    path = descriptor(folder, inside_sparse=inside_sparse)
    images = Images(program(folder, f"touch {folder}/asked"))
    answer = images.measure([source(path, "vmdk")])[source(path, "vmdk")]
    assert (answer.virtual_bytes, answer.unknown) == (None, "it names other files")
    assert not (folder / "asked").exists()


@pytest.mark.parametrize("kind", ["monolithicSparse", "streamOptimized"])
def test_a_vmdk_that_is_one_file_has_its_size(folder: Path, kind: str):
    path = folder / "disk.vmdk"
    options = ["-o", f"subformat={kind}"]
    command = ["qemu-img", "create", "-q", "-f", "vmdk", *options, str(path), "4M"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    answer = Images().measure([source(path, "vmdk")])[source(path, "vmdk")]
    assert answer.virtual_bytes == 4 * MIB


@pytest.mark.parametrize(("owner", "mode", "user"), [(2, 0o644, 65534), (2, 0o600, 2)])
def test_qemu_img_is_not_root(folder: Path, owner: int, mode: int, user: int):
    if os.geteuid() != 0:
        pytest.skip("we are not either")
    script = f'cat /proc/self/status >{folder}/status; exec qemu-img "$@"'
    path = create(folder / "image", "vdi")
    os.chown(path, owner, owner)
    path.chmod(mode)
    folder.chmod(0o777)
    images = Images(program(folder, script), deadline=60)
    assert images.measure([source(path, "vdi")])[source(path, "vdi")].virtual_bytes == 4 * MIB
    lines = (folder / "status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == [str(user)] * 4
    assert status["Groups"].split() == []
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"


# What the command says


def test_usage_tells_the_others_numbers(tmp_path: Path, folder: Path, hung: Hanging):
    good = create(folder / "good.qcow2", "qcow2")
    vmdk = descriptor(folder)
    host = served(
        tmp_path,
        [
            replace(nova_instance(1), devices=disk(good, format="qcow2")),
            *(replace(nova_instance(n), devices=disk(vmdk, format="vmdk")) for n in range(2, 8)),
            replace(nova_instance(8), devices=disk(hung.path / "disk", format="qcow2")),
        ],
    )
    done = run("usage", "-c", host, "-f", "json", "--timeout", "9")
    assert done.returncode == Exit.OK
    [told] = json.loads(done.stdout)
    assert told["total"]["disk_virtual_bytes"] == 4 * MIB
    assert len(told["unknown"]) == 7
    assert "instance-00000008: disk vda: its storage does not answer" in told["unknown"]
    assert "instance-00000002: disk vda: it names other files" in told["unknown"]
    assert "daemon" not in done.stderr
