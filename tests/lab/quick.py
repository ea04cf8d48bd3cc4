"""The quick run (`./dev test quick`): no test in it uses a daemon, QEMU or Nova.

In: the variable `GUESTLIST_QUICK`, which `lab.needs` sets and child processes inherit. Out: an
error if something heavy is started all the same, by the laboratory or as a program of this process.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import PurePath

QUICK = "GUESTLIST_QUICK"
"""The environment variable that says that this is a quick run."""


PROGRAMS = re.compile(r"etcd|etcdctl|libvirtd|qemu-.*|prometheus.*")
"""The names of heavy programs; `etcd1` is the name of a host."""


def begin() -> None:
    """Make this run, and those of its child processes, a quick one. There is no way back."""
    os.environ[QUICK] = "1"
    sys.addaudithook(_refuse_programs)


def _refuse_programs(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse to start a heavy program; to ask for its version is no use of it."""
    if event != "subprocess.Popen":
        return
    program, words, *_ = arguments
    if isinstance(words, (list, tuple)) and "--version" in words:
        return
    for word in (program, *(words if isinstance(words, (list, tuple)) else [words])):
        name = PurePath(os.fsdecode(word)).name if isinstance(word, (str, bytes, PurePath)) else ""
        if PROGRAMS.fullmatch(name):
            refuse_if_quick(name)


def refuse_if_quick(what: str) -> None:
    """Refuse to start `what` in a quick run. Everything heavy calls this before it starts.

    Raises:
        RuntimeError: this is a quick run. The test lacks a mark that keeps it out.
    """
    if os.environ.get(QUICK):
        raise RuntimeError(
            f"a test of the quick run starts {what}: let it use a fixture `needs_…` of "
            "lab.needs, or mark it with `needs`"
        )
