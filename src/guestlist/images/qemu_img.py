"""qemu-img: the virtual size of an image in a format whose header is not read here.

In: an open image, and its format. Out: a size, or the reason why there is none. The program gets
that one descriptor, an empty input, bounds on memory, output and time, only the privileges that it
needs, and no image that names other files. It never stays behind: it ends when its time is up, and
when this process ends in any way.

Threat model. A header may be the work of a tenant: uploaded to Glance, or written by a tenant who
broke out of QEMU. guestlist often runs as root, and qemu-img opens files with the rights of its
user.

- An image that names other files makes qemu-img open them: any path, a FIFO, a tape drive. Such
  images are vmdk descriptors, alone or inside a sparse file that claims no size. Nova refuses them
  as well (`vmdk_allowed_types`, CVE-2022-47951). So the caller looks for them first (`names_files`)
  and does not ask. Nothing is lost: one file does not tell what such an image occupies.
- Checking the extents of a descriptor is not enough: between the check and QEMU's own open a path
  can become another file, and each extent may name more files.
- A tenant who broke out of QEMU can rewrite the image after that check. So qemu-img is not root: it
  runs as user 65534 where all users may read the image, else as the image's owner, which for a
  running guest is QEMU's own user. Only an image that belongs to root and is closed to others is
  read as root, and only root can rewrite it. User 65534 could read few images: qemu-img cannot take
  over an open descriptor, it opens /proc/self/fd/N again, with the rights of its user.
- The descriptor is that of the file whose type was checked: a path that becomes a FIFO or a link
  between check and open changes nothing.
- What it prints quotes the image; only a number is taken from it.
- A process that waits in the kernel for storage that is gone cannot be killed. It ends when the
  kernel lets it go; until then a thread waits here for its end.

Source: QEMU block/vmdk.c (vmdk_open, vmdk_open_vmdk4, vmdk_parse_extents); setpriv(1), prlimit(1);
CVE-2015-5162 (images that make qemu-img eat memory).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import signal
import tempfile
from stat import S_IROTH, S_ISBLK
from typing import Any

from guestlist.images.extent import Extent
from guestlist.unpatched import subprocess

_ADDRESS_SPACE = 2**30
_OUTPUT = 2**20
_NOBODY = 65534

_is_format = re.compile(r"[a-z0-9_][a-z0-9_-]*").fullmatch


class NotRun(Exception):
    """The program was not run, for a reason that says nothing about the image."""


class NoSize(Exception):
    """The program was run, and told no size."""


def names_files(image: Extent, format: str) -> bool:
    """Return whether an image may name other files for its guest's data: QEMU would open them."""
    if format != "vmdk":
        return False
    magic = image.read(0, 4)
    claims_a_size = any(image.read(12, 8))
    return magic != b"COWD" and not (magic == b"KDMV" and claims_a_size)


def virtual_bytes(
    program: str, image: Extent, format: str, *, is_slice: bool, seconds: float
) -> int:
    """Return the virtual size of an image; the program may take that many seconds.

    Raises:
        NotRun: the program could not be run.
        NoSize: the program refused the image, or its time was up.
        OSError: the image could not be looked at.

    Cost: a process, 10 to 70 ms.
    """
    if not _is_format(format):
        raise NoSize("not a format")
    found = os.fstat(image.fd)
    asked = _installed(program, "qemu-img")
    question = _question(image, format, is_slice=is_slice, is_device=S_ISBLK(found.st_mode))
    command = [
        *_confined(found, seconds),
        *(asked, "info", "--force-share", "--output=json", question),
    ]
    try:
        with tempfile.TemporaryFile() as output:
            if not _ended_well(command, output.fileno(), image.fd, seconds):
                raise NoSize("qemu-img cannot read it")
            output.seek(0)
            size = _told(output.read())
    except OSError as error:
        raise NotRun("qemu-img could not be run") from error
    if size is None:
        raise NoSize("qemu-img cannot read it")
    return size


def _question(image: Extent, format: str, *, is_slice: bool, is_device: bool) -> str:
    """Return the image as QEMU's `json:` names it."""
    file: dict[str, Any] = {
        "driver": "host_device" if is_device else "file",
        "filename": f"/proc/self/fd/{image.fd}",
    }
    if is_slice:  # without, the file may grow meanwhile
        file = {"driver": "raw", "offset": image.offset, "size": image.size, "file": file}
    return "json:" + json.dumps({"driver": format, "file": file}, separators=(",", ":"))


def _confined(found: os.stat_result, seconds: float) -> list[str]:
    """Return the beginning of a command line that runs the rest within bounds."""
    privileges = ["--no-new-privs", "--pdeathsig=KILL"]
    if os.geteuid() == 0:
        readable_by_all = found.st_mode & S_IROTH
        user, group = (_NOBODY, _NOBODY) if readable_by_all else (found.st_uid, found.st_gid)
        privileges += [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    limits = [f"--as={_ADDRESS_SPACE}", f"--fsize={_OUTPUT}", f"--cpu={math.ceil(seconds)}"]
    setpriv, prlimit = _installed("setpriv"), _installed("prlimit")
    return [setpriv, *privileges, "--", prlimit, *limits, "--"]


def _installed(program: str, name: str | None = None) -> str:
    if (path := shutil.which(program)) is None:
        raise NotRun(f"{name or program} is not installed")
    return path


def _ended_well(command: list[str], output: int, image: int, seconds: float) -> bool:
    """Run a command to its end, or until its time is up; return whether it succeeded."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # 128 MiB of addresses a thread otherwise
        pass_fds=(image,),
        start_new_session=True,
    )
    with process:  # this waits for its end
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise NoSize("qemu-img takes too long") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if status in (-signal.SIGXCPU, -signal.SIGKILL):  # its processor time was up
        raise NoSize("qemu-img takes too long")
    return status == 0


def _told(answer: bytes) -> int | None:
    """Return `virtual-size` of what qemu-img printed; the rest of it quotes the image."""
    try:
        info: Any = json.loads(answer)
        size = info["virtual-size"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return size if type(size) is int and size >= 0 else None
