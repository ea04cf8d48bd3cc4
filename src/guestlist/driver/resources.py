"""What a host has and what of it is in use, under Nova's keys: `get_available_resource`.

In: the host's facts, what its instances use, and the file system of the instances. Out: Nova's
mapping. Asks no libvirt; runs `uptime` and looks at the file system, both of this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from guestlist.node import Hypervisor, Node
from guestlist.unpatched import subprocess
from guestlist.usage import Usage

_GIB = 1 << 30

_VM_MODE = {"linux": "xen", "xenpv": "xen", "xenpvh": "xen", "pv": "xen", "hv": "hvm"}
"""Nova's name of an OS type where Nova's differs from libvirt's."""


class Storage(NamedTuple):
    """A file system: bytes in all, free for its users, and in use; None is not known."""

    total: int | None = None
    free: int | None = None
    used: int | None = None


def storage_at(path: str | os.PathLike[str]) -> Storage:
    """Return the file system that a directory is on, or would be on.

    Raises:
        OSError: a directory cannot be looked at.
    """
    absolute = Path(path).absolute()
    existing = next(place for place in (absolute, *absolute.parents) if place.exists())
    found = os.statvfs(existing)
    size = found.f_frsize
    return Storage(
        size * found.f_blocks, size * found.f_bavail, size * (found.f_blocks - found.f_bfree)
    )


@contextlib.contextmanager
def uptime() -> Iterator[IO[str] | None]:
    """Run `uptime` meanwhile; what it prints can be read. None where it cannot be run."""
    try:
        process = subprocess.Popen(
            ["uptime"], stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"}
        )
    except OSError:  # it is not installed, or no process can be started
        yield None
        return
    with process:
        yield process.stdout


def available_resource(
    node: Node, used: Usage, storage: Storage, uptime: str | None
) -> dict[str, Any]:
    """Return Nova's mapping; see `ComputeDriver.get_available_resource`."""
    hypervisor = node.hypervisor
    left = None if storage.free is None else storage.free - used.disk_over_committed_bytes
    return {
        "vcpus": node.online_cpus,
        "memory_mb": node.memory_mib,
        "local_gb": _gib(storage.total),
        "vcpus_used": used.vcpus_used,
        "memory_mb_used": used.memory_used_kib // 1024,
        "local_gb_used": _gib(storage.used),
        "disk_available_least": _gib(left),
        "hypervisor_type": hypervisor.type,
        "hypervisor_version": hypervisor.version,
        "hypervisor_hostname": hypervisor.hostname,
        "cpu_info": json.dumps(_cpu_info(hypervisor)),
        "supported_instances": [
            (kind.arch, kind.domain_type, _VM_MODE.get(kind.os_type, kind.os_type))
            for kind in hypervisor.guest_kinds
        ],
        "stats": {"uptime": uptime},
        "unknown": used.unknown,
        "stale_for": used.stale_for,
    }


def _gib(size: int | None) -> float | None:
    return None if size is None else size / _GIB


def _cpu_info(hypervisor: Hypervisor) -> dict[str, Any]:
    processor = hypervisor.processor
    return {
        "arch": processor.arch,
        "model": processor.model,
        "vendor": processor.vendor,
        "topology": {
            "cells": processor.cells,
            "sockets": processor.sockets,
            "cores": processor.cores,
            "threads": processor.threads,
        },
        "features": list(processor.features),
    }
