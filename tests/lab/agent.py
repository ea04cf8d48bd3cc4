"""A guest whose agent connects and disconnects: QEMU runs a boot sector that opens the channel.

In: a daemon. Out: a running guest with the channel of a guest agent. The boot sector drives the
virtio-serial device itself: it opens the channel's port, and closes or opens it again at each key
(`press_key`). Nothing answers on the channel. It is code for x86 with a BIOS: `agent_available`
says what is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import libvirt
from lab.daemon import Daemon
from lab.nodes import Domain
from lab.qemu import emulator, guest_xml, qemu_available

_BOOT_SECTOR = bytes.fromhex(
    # The virtqueue's memory, 0x10000 to 0x12fff, is zero; ds and es begin there.
    "b80010"  # mov ax, 0x1000
    "8ed8 8ec0"  # mov ds, ax; mov es, ax
    "31ff 31c0 b90018 fc f3ab"  # xor di, di; xor ax, ax; mov cx, 0x1800; cld; rep stosw
    # PCI BIOS: find device 1af4:1003, let it use ports and memory, read where its ports begin.
    "b802b1 b90310 baf41a 31f6 cd1a"  # mov ax, 0xb102; mov cx, 0x1003; mov dx, 0x1af4; si = 0
    "b80cb1 bf0400 b90700 cd1a"  # mov ax, 0xb10c; mov di, 4; mov cx, 7; int 0x1a
    "b809b1 bf1000 cd1a"  # mov ax, 0xb109; mov di, 0x10; int 0x1a
    "83e1fc 89cb"  # and cx, -4; mov bx, cx
    # Legacy virtio: a driver is here (3), it knows of many ports (2), queue 3 is at page 0x10.
    "8d5712 b003 ee"  # lea dx, [bx+0x12]; mov al, 3; out dx, al
    "8d5704 66b802000000 66ef"  # lea dx, [bx+4]; mov eax, 2; out dx, eax
    "8d570e b80300 ef"  # lea dx, [bx+0xe]; mov ax, 3; out dx, ax
    "8d5708 66b810000000 66ef"  # lea dx, [bx+8]; mov eax, 0x10; out dx, eax
    "8d5712 b007 ee"  # lea dx, [bx+0x12]; mov al, 7; out dx, al
    # Descriptor 0 is 8 bytes at 0x12800: port 1, event 6 (the port is opened or closed).
    "c706 0000 0028 c706 0200 0100"  # mov word [0], 0x2800; mov word [2], 1
    "c606 0800 08"  # mov byte [8], 8
    "c606 0028 01 c606 0428 06"  # mov byte [0x2800], 1; mov byte [0x2804], 6
    # Turn open into closed or closed into open, offer the descriptor, tell the device, await a key.
    "8036 0628 01"  # xor byte [0x2806], 1
    "ff06 0202"  # inc word [0x202]
    "8d5710 b80300 ef"  # lea dx, [bx+0x10]; mov ax, 3; out dx, ax
    "31c0 cd16 ebea"  # xor ax, ax; int 0x16; jmp to the xor
)

_CHANNEL = """\
<controller type='virtio-serial' model='virtio-transitional'/>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""

_KEY_A = 30
"""Linux's code of a key."""


def agent_available() -> str | None:
    """Return why no such guest can run here; None if one can."""
    if reason := qemu_available():
        return reason
    return None if str(emulator()).endswith("x86_64") else "qemu-system-x86_64 is not installed"


@contextlib.contextmanager
def agent_guest(daemon: Daemon, domain: Domain) -> Iterator[libvirt.virDomain]:
    """Start the guest, paused; its agent connects some time after `resume`."""
    image = daemon.directory / f"{domain.name}.img"
    image.write_bytes(_BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 16))
    daemon.give(image)
    disk = (
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
        f"<source file='{image}'/><target dev='hda' bus='ide'/></disk>"
    )
    connection = libvirt.open(daemon.qemu_uri)
    xml = guest_xml(replace(domain, devices=disk + _CHANNEL))
    try:
        handle = connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
        yield handle
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            connection.lookupByUUIDString(str(domain.uuid)).destroy()
        connection.close()


def press_key(handle: libvirt.virDomain) -> None:
    """Let the agent of a running guest connect if it is not connected, else disconnect."""
    handle.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 0, [_KEY_A], 1, 0)
