"""Disk images: files for the disks of QEMU guests, with something in them.

In: the daemon whose guests use them. Out: qcow2 or raw files in the daemon's directory, owned by
its user, of a given size and with a given number of bytes written; they go with the daemon. Only
the file system tells what they occupy: qcow2 adds its own tables, and a raw file has holes.
Installs nothing: `qemu_img_available` says what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab.daemon import Daemon
from lab.quick import refuse_if_quick

MIB = 1 << 20

_TOOLS = ("qemu-img", "qemu-io")

Format = Literal["qcow2", "raw"]


def qemu_img_available() -> str | None:
    """Return why no image can be made here, or None if one can."""
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


@dataclass(frozen=True, slots=True)
class Image:
    """A file that is a guest's disk."""

    path: Path
    format: Format

    def disk(self, target: str = "vda") -> str:
        """Return XML of a virtio disk on it, to put into `<devices>`."""
        return (
            f"<disk type='file' device='disk'><driver name='qemu' type='{self.format}'/>"
            f"<source file='{self.path}'/><target dev='{target}' bus='virtio'/></disk>"
        )

    @property
    def allocated(self) -> int:
        """The bytes that the file occupies."""
        return self.path.stat().st_blocks * 512


def make_image(
    daemon: Daemon, *, size: int = 64 * MIB, written: int = MIB, format: Format = "qcow2"
) -> Image:
    """Make an image of `size` bytes, the first `written` of them in use.

    Cost: two processes, some 50 ms.
    """
    file, name = tempfile.mkstemp(prefix="disk-", suffix=f".{format}", dir=daemon.directory)
    os.close(file)
    path = Path(name)
    _run("qemu-img", "create", "-q", "-f", format, name, str(size))
    if written:
        _run("qemu-io", "-f", format, "-c", f"write 0 {written}", name)
    daemon.give(path)
    return Image(path, format)


def write(image: Image, source: Path) -> None:
    """Write the first sector of a file to the beginning of an image. Cost: a process."""
    _run("qemu-io", "-f", image.format, "-c", f"write -s {source} 0 512", str(image.path))


def _run(*command: str) -> None:
    refuse_if_quick(command[0])
    subprocess.run(command, check=True, capture_output=True)
