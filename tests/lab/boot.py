"""Guests that run a program: a boot sector, written here, which QEMU runs without KVM.

In: a daemon, and a domain. Out: the XML of a guest with a disk to boot from, whose program changes
memory, fills the disk, or lets the watchdog fire. The firmware starts it about a second after the
guest's start. The images go with the daemon.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

from lab.daemon import Daemon
from lab.images import MIB, Image, make_image, write
from lab.nodes import Domain
from lab.qemu import guest_xml

_SECTOR = 512

# 16-bit code, which the firmware loads at 7c00h.
_CHANGES_MEMORY = bytes.fromhex(
    "fc"  # cld
    "b80010"  # again: mov ax, 1000h
    "8ec0"  # next: mov es, ax
    "43"  # inc bx
    "50"  # push ax
    "89d8"  # mov ax, bx
    "31ff"  # xor di, di
    "b90080"  # mov cx, 8000h
    "f3ab"  # rep stosw: 64 KiB of a number that is another one each time
    "58"  # pop ax
    "050010"  # add ax, 1000h
    "3d0090"  # cmp ax, 9000h
    "75ea"  # jne next
    "ebe5"  # jmp again
)
"""Changes half a MiB of memory, again and again."""

_FILLS_DISK = bytes.fromhex(
    "31c0"  # xor ax, ax
    "8ed8"  # mov ds, ax
    "be207c"  # again: mov si, 7c20h
    "b80043"  # mov ax, 4300h: write
    "b280"  # mov dl, 80h: the first disk
    "cd13"  # int 13h
    "668106287c80000000"  # add dword [7c28h], 128
    "ebeb"  # jmp again
).ljust(0x20, b"\0") + bytes.fromhex(
    "10000100007c0000"  # at 7c20h: one sector, from 0000:7c00
    "8000000000000000"  # to sector 128
)
"""Writes a sector in each 64 KiB of its disk, one after the other."""

_LETS_WATCHDOG_FIRE = bytes.fromhex(
    "ba4304"  # mov dx, 443h: the watchdog ib700
    "b00f"  # mov al, 0fh: 0 s
    "ee"  # out dx, al
    "ebfe"  # jmp $
)


def _boot_disk(daemon: Daemon, code: bytes) -> Image:
    """Make a raw image of one MiB with this code in its boot sector."""
    file, name = tempfile.mkstemp(prefix="boot-", suffix=".raw", dir=daemon.directory)
    os.write(file, code.ljust(_SECTOR - 2, b"\0") + b"\x55\xaa")
    os.ftruncate(file, MIB)
    os.close(file)
    daemon.give(Path(name))
    return Image(Path(name), "raw")


def busy_guest(daemon: Daemon, domain: Domain) -> str:
    """Return the XML of a guest that changes its memory without end."""
    return _guest(domain, _boot_disk(daemon, _CHANGES_MEMORY).disk())


def guest_with_watchdog(daemon: Daemon, domain: Domain) -> str:
    """Return the XML of a guest whose watchdog fires at once, and pauses it."""
    watchdog = "<watchdog model='ib700' action='pause'/>"
    return _guest(domain, _boot_disk(daemon, _LETS_WATCHDOG_FIRE).disk() + watchdog)


def guest_with_full_disk(daemon: Daemon, domain: Domain, policy: str = "stop") -> str:
    """Return the XML of a guest that writes to its disk until there is no space left.

    The disk is a qcow2 image in the first MiB of its file, and has no more room than that: as on a
    full file system, QEMU cannot allocate what the guest writes.

    Args:
        policy: libvirt's `error_policy`: "stop" pauses the guest, "report" tells it.
    """
    boot = _boot_disk(daemon, _FILLS_DISK)
    image = make_image(daemon, written=0)
    write(image, boot.path)
    os.truncate(image.path, MIB)
    return _guest(
        domain,
        f"<disk type='file' device='disk'>"
        f"<driver name='qemu' type='qcow2' error_policy='{policy}'/>"
        f"<source file='{image.path}'>"
        f"<slices><slice type='storage' offset='0' size='{MIB}'/></slices></source>"
        f"<target dev='vda' bus='virtio'/></disk>",
    )


def guest_with_disk(daemon: Daemon, domain: Domain) -> str:
    """Return the XML of a guest that fills its disk (vda), which has room for it."""
    image = make_image(daemon, written=0)
    write(image, _boot_disk(daemon, _FILLS_DISK).path)
    return _guest(domain, image.disk())


def _guest(domain: Domain, devices: str) -> str:
    return guest_xml(dataclasses.replace(domain, devices=domain.devices + devices))
