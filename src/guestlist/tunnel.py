"""The program through which a connection travels: ssh, and what it has started.

In: an attempt to connect, about to begin. Out: the process that libvirt starts for it, and its end,
where the attempt is given up or this process ends. libvirt's client ends that program only when the
attempt returns, and while ssh waits for a password, or for a network that is silent, it never does.

libvirt waits for the program itself: when it is gone the attempt fails, and libvirt takes the
status. So nothing here waits for a child. Where there is no /proc no program is found, and none
ended.

Source: libvirt src/rpc/virnetsocket.c (virNetSocketNewConnectCommand: one socket is the program's
standard input and output; virNetSocketDispose: virProcessAbort).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from guestlist import threads, uris
from guestlist.unpatched import threading, time

T = TypeVar("T")

_PROC = Path("/proc")
_CARRIED = "ssh", "ext"

LONGEST_START = 1.0
"""Seconds within which libvirt starts the program; a few thousandths are usual."""

PATIENCE = 0.5
"""Seconds that a program has to end by itself: ssh puts the terminal in order before it does."""

_PAUSE = 0.002

_starting = threading.Lock()
_begun: set[int] = set()
_known: set[int] = set()


class Tunnel:
    """The program of one attempt to connect, once it is known."""

    def __init__(self) -> None:
        self._process: int | None = None
        self._is_open = False
        self._may_open = threading.Event()

    def carry(self, uri: str | None, open: Callable[[str | None], T]) -> T:
        """Open a connection on this thread, while another finds the program that libvirt starts.

        One attempt at a time starts its program: that is how it is known to be this attempt's.
        """
        if uris.transport(uri) not in _CARRIED:
            return open(uri)
        threads.start(self._find, "guestlist-tunnel")
        self._may_open.wait()
        try:
            return open(uri)
        finally:
            self._is_open = True
            _begun.discard(self._process or 0)  # from now on the program is libvirt's alone

    def end(self, wait: Callable[[float], object]) -> None:
        """End what an attempt that is given up has started, so that the attempt returns.

        Args:
            wait: waits for the attempt, so many seconds at most: `PATIENCE`.
        """
        process = self._process
        if process is not None and not self._is_open and _carries(process):
            _end([process], lambda: wait(PATIENCE))

    def _find(self) -> None:
        with _starting:
            before = _processes()
            self._may_open.set()
            deadline = time.monotonic() + LONGEST_START
            while not self._is_open and time.monotonic() < deadline:
                for process in _processes() - before:
                    if _carries(process):
                        self._process = process
                        _known.add(process)
                        if not self._is_open:
                            _begun.add(process)
                        return
                time.sleep(_PAUSE)


def end_begun() -> None:
    """End those whose attempts have not returned. Waits `PATIENCE` seconds at most."""
    _end_those_of(_begun)


def end_all() -> None:
    """End each such program of this process, of a connection that is open, too.

    For the end of the process: one whose network is silent would stay. Waits `PATIENCE` seconds at
    most, and not at all where there is none.
    """
    _end_those_of(_known)


atexit.register(end_begun)


def _end_those_of(started: Iterable[int]) -> None:
    processes = [process for process in tuple(started) if _carries(process)]
    if processes:
        _end(processes, lambda: _wait_for(processes))


def _end(processes: Iterable[int], wait: Callable[[], object]) -> None:
    family = {one: _birth(one) for process in processes for one in (process, *_family(process))}
    _signal(family, signal.SIGTERM)
    _signal(family, signal.SIGCONT)  # one that was stopped, as it asked in the background
    wait()
    _signal(family, signal.SIGKILL)


def _wait_for(processes: Iterable[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(map(_carries, processes)) and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def _signal(family: dict[int, str | None], number: signal.Signals) -> None:
    for process, birth in family.items():
        if birth is not None and _birth(process) == birth:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)


# What the kernel knows of a process


def _processes() -> set[int]:
    with contextlib.suppress(OSError):
        return {int(each.name) for each in _PROC.iterdir() if each.name.isdigit()}
    return set()


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, …; none where it is gone."""
    with contextlib.suppress(OSError):
        return (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    return []


def _parent(process: int) -> int | None:
    fields = _stat(process)
    return int(fields[1]) if fields else None


def _birth(process: int) -> str | None:
    """When it was started: no two processes of one number have that in common. None: it is gone."""
    fields = _stat(process)
    return fields[19] if fields and fields[0] != "Z" else None


def _family(process: int) -> list[int]:
    """Its children, and theirs."""
    children: dict[int | None, list[int]] = {}
    for one in _processes():
        children.setdefault(_parent(one), []).append(one)
    family = list(children.get(process, ()))
    for one in family:
        family.extend(children.get(one, ()))
    return family


def _carries(process: int) -> bool:
    """Whether it is our child, and one socket, not our own, is its standard input and output."""
    if _parent(process) != os.getpid():
        return False
    ends = _standard_ends(process)
    return len(ends) == 1 and ends != _standard_ends(os.getpid()) and "socket:" in "".join(ends)


def _standard_ends(process: int) -> set[str]:
    """What its standard input and output are."""
    with contextlib.suppress(OSError):
        return {str((_PROC / str(process) / "fd" / end).readlink()) for end in "01"}
    return set()
