"""qemu-img: the virtual size of an image in a format whose header is not read here.

In: an image that is open, and its format. Out: a size, or why there is none. The program is given
that one descriptor, nothing to read on its input, bounds on memory, output and time, no privileges
that it can do without, and no image that names other files. None is left running: not when its time
is up, and not when this process ends, however it does.

Threat model. A header may be a tenant's work: uploaded to Glance, or written by a QEMU that was
broken out of. guestlist often runs as root, and what qemu-img opens it opens as its user.

- An image that names other files makes qemu-img open them: any path, a FIFO, a tape drive. Such are
  vmdk descriptors, alone or inside a sparse file that claims no size. Nova refuses them as well
  (`vmdk_allowed_types`, CVE-2022-47951). So the caller looks for them first (`names_files`) and
  does not ask. That loses nothing: what such an image occupies could not be told from one file.
- Checking the extents of a descriptor instead is no way out: between the check and QEMU's own open
  a path can become another file, and each extent may name more.
- A QEMU that was broken out of can rewrite its image after that check. So qemu-img is not root:
  it runs as `nobody` where everybody may read the image, else as the image's owner, who for a
  running guest is QEMU's own user. Only an image of root's that is closed to others is read as
  root, and root alone can rewrite it. Always `nobody` would do for few images: qemu-img cannot take
  over an open descriptor, it opens /proc/self/fd/N again, with the rights of its user.
- The descriptor is that of the file whose type was checked: a path that becomes a FIFO, or a link,
  between check and open changes nothing.
- What it prints quotes the image; only a number is taken from it.
- A process that waits in the kernel for storage that is gone cannot be killed. It dies when the
  kernel lets go of it; until then a thread waits here to bury it.

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
    """It was not run, for a reason that says nothing of the image."""


class NoSize(Exception):
    """It was run, and told no size."""


def names_files(image: Extent, format: str) -> bool:
    """Whether an image may name other files for its guest's data, which QEMU would open."""
    if format != "vmdk":
        return False
    magic = image.read(0, 4)
    claims_a_size = any(image.read(12, 8))
    return magic != b"COWD" and not (magic == b"KDMV" and claims_a_size)


def virtual_bytes(
    program: str, image: Extent, format: str, *, is_slice: bool, seconds: float
) -> int:
    """The virtual size of an image, which the program may take so many seconds for.

    Raises:
        NotRun: it could not be run.
        NoSize: it refused the image, or its time was up.
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
    """The image, as QEMU's `json:` names it."""
    file: dict[str, Any] = {
        "driver": "host_device" if is_device else "file",
        "filename": f"/proc/self/fd/{image.fd}",
    }
    if is_slice:  # without, the file may grow meanwhile
        file = {"driver": "raw", "offset": image.offset, "size": image.size, "file": file}
    return "json:" + json.dumps({"driver": format, "file": file}, separators=(",", ":"))


def _confined(found: os.stat_result, seconds: float) -> list[str]:
    """The beginning of a command line that runs the rest within bounds."""
    privileges = ["--no-new-privs", "--pdeathsig=KILL"]
    if os.geteuid() == 0:
        everybody = found.st_mode & S_IROTH
        user, group = (_NOBODY, _NOBODY) if everybody else (found.st_uid, found.st_gid)
        privileges += [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    limits = [f"--as={_ADDRESS_SPACE}", f"--fsize={_OUTPUT}", f"--cpu={math.ceil(seconds)}"]
    setpriv, prlimit = _installed("setpriv"), _installed("prlimit")
    return [setpriv, *privileges, "--", prlimit, *limits, "--"]


def _installed(program: str, name: str | None = None) -> str:
    if (path := shutil.which(program)) is None:
        raise NotRun(f"{name or program} is not installed")
    return path


def _ended_well(command: list[str], output: int, image: int, seconds: float) -> bool:
    """Run a command to its end, or until its time is up; whether it said that all was well."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # 128 MiB of addresses a thread otherwise
        pass_fds=(image,),
        start_new_session=True,
    )
    with process:  # which waits for its end
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
    """`virtual-size` in what qemu-img printed, which quotes the image."""
    try:
        info: Any = json.loads(answer)
        size = info["virtual-size"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return size if type(size) is int and size >= 0 else None
