"""A file system that hangs: each access to a file on it waits, as on NFS without its server.

In: nothing. Out: a directory, until the block ends; then each access that waits fails. A process
that waits can be killed, as on NFS. Refuses to run without root and FUSE: `hanging_available` says
what is missing.

Source: Linux include/uapi/linux/fuse.h; fs/fuse/dev.c (request_wait_answer: a request that its
server has not read yet can be killed, one that it has read cannot).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_INIT = 26
_HEADER = struct.Struct("<IIQQIIII")
_MNT_FORCE, _MNT_DETACH = 1, 2


def hanging_available() -> str | None:
    """Return why no file system can hang here; None if one can."""
    if os.geteuid() != 0:
        return "only root may mount"
    return None if Path("/dev/fuse").exists() else "no FUSE"


class Hanging:
    """The file system. `looked_at` is set as soon as a process waits for a file on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.looked_at = threading.Event()


@contextlib.contextmanager
def hanging() -> Iterator[Hanging]:
    """Mount a file system that hangs until the block ends.

    Raises:
        OSError: this machine refuses the mount.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(prefix="gl-hangs-") as name:
        there = Hanging(Path(name))
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"gl-hangs", name.encode(), b"fuse.gl-hangs", 6, options) != 0:
            os.close(device)
            raise OSError(ctypes.get_errno(), "mount")
        _answer_the_mount(device)
        watch = threading.Thread(target=_watch, args=(device, there), daemon=True)
        watch.start()
        try:
            yield there
        finally:
            libc.umount2(name.encode(), _MNT_DETACH | _MNT_FORCE)  # each access that waits fails
            watch.join()
            os.close(device)


def _answer_the_mount(device: int) -> None:
    _, opcode, unique, *_ = _HEADER.unpack_from(os.read(device, 1 << 17))
    assert opcode == _INIT
    reply = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0)
    os.write(device, struct.pack("<IiQ", 16 + len(reply), 0, unique) + reply)


def _watch(device: int, there: Hanging) -> None:
    """Wait for the first request, and do not read it."""
    poll = select.poll()
    poll.register(device, select.POLLIN)
    poll.poll()  # also returns when the mount ends
    there.looked_at.set()
