"""Guests that run a program: a boot sector, written here, which QEMU runs without KVM.

In: a daemon, and a domain. Out: the XML of a guest with a disk to boot from, whose program changes
memory, fills or uses the disk, or lets the watchdog fire. The firmware starts it about a second
after the guest's start. The images go with the daemon.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

import libvirt
from lab.daemon import Daemon
from lab.images import MIB, Image, make_image, write
from lab.nodes import Domain
from lab.qemu import MEMORY_KIB, guest_xml

_SECTOR = 512
_PHYSICAL = 2
"""VIR_MEMORY_PHYSICAL."""

# 16-bit code, which the firmware loads at 7c00h.
_CHANGES_MEMORY = bytes.fromhex(
    "fa"  # cli
    "31c0"  # xor ax, ax
    "8ed8"  # mov ds, ax
    "0f0116407c"  # lgdt [7c40h]
    "0f20c0"  # mov eax, cr0
    "0c01"  # or al, 1
    "0f22c0"  # mov cr0, eax: es can reach all memory
    "bb0800"  # mov bx, 8
    "8ec3"  # mov es, bx
    "24fe"  # and al, 0feh
    "0f22c0"  # mov cr0, eax
    "6643"  # again: inc ebx
    "66bf00001000"  # mov edi, 100000h
    "66b90000a000"  # mov ecx, 0a00000h
    "6689d8"  # mov eax, ebx
    "6766f3ab"  # rep stosd: 40 MiB of a number that is another one each time
    "ebe9"  # jmp again
).ljust(0x40, b"\0") + bytes.fromhex(
    "0f00487c00000000"  # at 7c40h: the table is at 7c48h
    "0000000000000000"
    "ffff00000092cf00"  # from 0, 4 GiB
)
"""Changes 40 MiB of memory, from 1 MiB on, again and again."""

_LAST_CHANGED = (41 << 20) - 4
_BUSY_MEMORY_KIB = 64 << 10

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

_USES_DISK = bytes.fromhex(
    "31c0"  # xor ax, ax
    "8ed8"  # mov ds, ax
    "fb"  # sti
    "f4"  # again: hlt, until the clock ticks
    "be407c"  # mov si, 7c40h
    "b80043"  # mov ax, 4300h: write
    "b280"  # mov dl, 80h: the first disk
    "cd13"  # int 13h
    "be407c"  # mov si, 7c40h
    "b80042"  # mov ax, 4200h: read the same
    "b280"  # mov dl, 80h
    "cd13"  # int 13h
    "fb"  # sti
    "668306487c01"  # add dword [7c48h], 1
    "ebe2"  # jmp again
).ljust(0x40, b"\0") + bytes.fromhex(
    "10000100007c0000"  # at 7c40h: one sector, at 0000:7c00
    "8000000000000000"  # sector 128
)
"""Writes a sector and reads it, 18 times a second, and is idle between them."""

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
    """Return the XML of a guest of 64 MiB that changes most of them, again and again."""
    return _guest(domain, _boot_disk(daemon, _CHANGES_MEMORY).disk(), _BUSY_MEMORY_KIB)


def is_busy(domain: libvirt.virDomain) -> bool:
    """Return whether the program of a busy guest has changed all that it changes, once."""
    return any(domain.memoryPeek(_LAST_CHANGED, 4, _PHYSICAL))


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


def disk_in_use(daemon: Daemon) -> Image:
    """Make a disk to boot from, whose program writes a sector and reads it 18 times a second."""
    image = make_image(daemon, written=0)
    write(image, _boot_disk(daemon, _USES_DISK).path)
    return image


def _guest(domain: Domain, devices: str, memory_kib: int = MEMORY_KIB) -> str:
    return guest_xml(dataclasses.replace(domain, devices=domain.devices + devices), memory_kib)
