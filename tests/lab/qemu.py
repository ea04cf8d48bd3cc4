"""A few real guests: QEMU without KVM, 16 MiB each, paused before their first instruction.

In: the URI of a daemon with QEMU (`Daemon.qemu_uri`). Out: running guests, without network, with
the devices that their `Domain` has and no other (`lab.images` makes disks). Refuses to install
anything: `qemu_available` says what is missing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import libvirt
from lab.daemon import Daemon
from lab.nodes import Domain, nova_instance

_BINARIES = {"qemu-system-x86_64": ("x86_64", "pc"), "qemu-system-aarch64": ("aarch64", "virt")}
MEMORY_KIB = 16 * 1024


def emulator() -> str | None:
    """Return the path of the QEMU that guests run in, or None."""
    return next((path for name in _BINARIES if (path := shutil.which(name))), None)


def qemu_available() -> str | None:
    """Return why no guest can be started here; None if one can."""
    return None if emulator() else f"none of {', '.join(_BINARIES)} is installed"


def guest_xml(domain: Domain, memory_kib: int = MEMORY_KIB) -> str:
    """Return the XML of a guest with name, UUID, metadata and devices of `domain`."""
    program = emulator()
    assert program is not None, qemu_available()
    arch, machine = _BINARIES[program.rsplit("/", 1)[-1]]
    metadata = f"<metadata>{domain.metadata}</metadata>" if domain.metadata else ""
    return f"""
<domain type='qemu'>
  <name>{domain.name}</name>
  <uuid>{domain.uuid}</uuid>
  {metadata}
  <memory unit='KiB'>{memory_kib}</memory>
  <vcpu>1</vcpu>
  <os><type arch='{arch}' machine='{machine}'>hvm</type></os>
  <devices>
    <emulator>{program}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {domain.devices}
  </devices>
</domain>
"""


def broken_guest_xml(domain: Domain) -> str:
    """Return the XML of a guest that cannot start: its QEMU reports an error and ends."""
    return guest_xml(domain).replace(
        "<domain type='qemu'>",
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<qemu:commandline><qemu:arg value='-nonsense'/></qemu:commandline>",
    )


@contextlib.contextmanager
def guests(uri: str, domains: int | Iterable[Domain]) -> Iterator[list[Domain]]:
    """Start these guests, or that many of Nova's; destroy and undefine them in the end.

    Active ones are started paused, transient ones are created paused. Cost: about half a second
    and 45 MB each to start, two seconds to end them all.
    """
    if isinstance(domains, int):
        domains = map(nova_instance, range(1, domains + 1))
    domains = list(domains)
    paused = libvirt.VIR_DOMAIN_START_PAUSED
    connection = libvirt.open(uri)
    try:
        for domain in domains:
            if domain.transient:
                connection.createXML(guest_xml(domain), paused)
                continue
            handle = connection.defineXML(guest_xml(domain))
            if domain.active:
                handle.createWithFlags(paused)
        yield domains
    finally:
        connection.close()
        # One connection each: a daemon serves five calls of a connection at a time.
        with ThreadPoolExecutor(max(len(domains), 1)) as pool:
            list(pool.map(lambda domain: _end(uri, domain), domains))


@contextlib.contextmanager
def stuck(daemon: Daemon, guest: Domain, at_most: float = 60.0) -> Iterator[None]:
    """Stop a guest's QEMU until the block ends: the process is there, its monitor does not answer.

    After `at_most` seconds QEMU goes on, so that a caller that waits for it does not wait for ever.
    """
    pid = daemon.guest_pid(guest.name)
    timer = threading.Timer(at_most, os.kill, (pid, signal.SIGCONT))
    os.kill(pid, signal.SIGSTOP)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        os.kill(pid, signal.SIGCONT)


def _end(uri: str, domain: Domain) -> None:
    connection = libvirt.open(uri)
    try:
        with contextlib.suppress(libvirt.libvirtError):
            connection.lookupByUUIDString(str(domain.uuid)).destroy()
        with contextlib.suppress(libvirt.libvirtError):
            connection.lookupByUUIDString(str(domain.uuid)).undefine()
    finally:
        connection.close()
