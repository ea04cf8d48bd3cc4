"""The machine and the versions that a figure belongs to; without them a figure means nothing."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import time
from pathlib import Path

import libvirt

from guestlist.capabilities import version_text


def setting(connection: libvirt.virConnect, command: str) -> dict[str, str]:
    """Return what to write beside the figures taken over this connection, by name."""
    return {
        "Command": command,
        "Date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "Kernel": f"{platform.system()} {platform.release()}",
        "libvirt": (
            f"client library {version_text(libvirt.getVersion())}, "
            f"daemon {version_text(connection.getLibVersion())}, driver {connection.getType()}"
        ),
        "libvirt-python": _binding_version(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }


class Others:
    """The other processes on this machine: while they are busy, figures are worth little."""

    def __init__(self) -> None:
        """Begin to watch."""
        self._start, self._before = time.monotonic(), _others_seconds()

    def share(self) -> str:
        """Return their share since then, in words. Call it when our own children have ended."""
        if self._before is None or (now := _others_seconds()) is None:
            return "unknown"
        share = (now - self._before) / (time.monotonic() - self._start)
        return f"{max(0.0, share):.0%} of one core meanwhile"


def _others_seconds() -> float | None:
    """Return processor seconds of all other processes but our children's; None without /proc."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, path.read_text().split()[1:9])
    ours = os.times()
    machine = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return machine - ours.user - ours.system - ours.children_user - ours.children_system


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _binding_version() -> str:
    try:
        return importlib.metadata.version("libvirt-python")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
