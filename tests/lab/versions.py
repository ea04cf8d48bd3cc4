"""The versions of what the tests run against, for pytest's header.

In: what is installed. Out: one line. Starts `libvirtd --version` and QEMU's; no daemon.
"""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import version

import libvirt
from lab.daemon import libvirtd
from lab.nova import nova_python
from lab.qemu import emulator

NONE = "none"
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def versions(series: str) -> str:
    """Return one line that names libvirt, QEMU and the Nova of that series; "none" where missing.

    Cost: two short processes.
    """
    return (
        f"libvirt: library {_dotted(libvirt.getVersion())}, binding {version('libvirt-python')}, "
        f"daemon {_of_program(libvirtd())}; QEMU: {_of_program(emulator())}; "
        f"Nova {series}: {_of_nova(series)}"
    )


def _dotted(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


def _of_program(path: str | None) -> str:
    if path is None:
        return NONE
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = _VERSION.search(said)
    return found[0] if found else NONE


def _of_nova(series: str) -> str:
    metadata = nova_python(series).parents[1].glob("lib/python*/site-packages/nova-*.dist-info")
    return next((path.stem.removeprefix("nova-") for path in metadata), NONE)
