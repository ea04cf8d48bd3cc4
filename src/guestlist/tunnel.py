"""The program that carries a connection (ssh, for example), with the processes that it starts.

In: an attempt to connect that is about to begin. Out: the process that libvirt starts for it, and
the end of that process when the attempt is given up or this process ends. libvirt's client ends the
program only when the attempt returns; while ssh waits for a password, or for a network that is
silent, the attempt never returns.

libvirt itself waits for the program: when the program is gone the attempt fails, and libvirt takes
the exit status. So nothing here waits for a child. Without /proc no program is found, and none is
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
from typing import TypeVar

from guestlist import threads, uris
from guestlist.unpatched import threading, time

T = TypeVar("T")

_CARRIED = "ssh", "ext"
"""Transports for which libvirt starts a program."""

LONGEST_START = 1.0
"""Seconds within which libvirt starts the program; a few thousandths are usual."""

PATIENCE = 0.5
"""Seconds that a program has to end by itself: ssh restores the terminal before it ends."""

_PAUSE = 0.002
"""Seconds between two looks at the processes."""

_starting = threading.Lock()
_begun: set[int] = set()
"""Programs of attempts that have not returned."""

_known: set[int] = set()
"""Programs of all attempts, also of connections that are open."""


class GivenUp(Exception):
    """The attempt was given up before libvirt was asked to start its program."""


class Tunnel:
    """The program of one attempt to connect, as soon as it is known."""

    def __init__(self) -> None:
        self._process: int | None = None
        self._is_open = False
        self._is_given_up = False
        self._may_open = threading.Event()

    def carry(self, uri: str | None, open: Callable[[str | None], T]) -> T:
        """Open a connection on this thread, while another thread finds libvirt's new program.

        One attempt at a time starts its program: so a program that appears is this attempt's.

        Raises:
            GivenUp: `end` was called before it was this attempt's turn.
        """
        if uris.transport(uri) not in _CARRIED:
            return open(uri)
        threads.start(self._find, "guestlist-tunnel")
        self._may_open.wait()
        try:
            if self._is_given_up:
                raise GivenUp
            return open(uri)
        finally:
            self._is_open = True
            _begun.discard(self._process or 0)  # from now on libvirt alone ends the program

    def end(self, wait: Callable[[float], object]) -> None:
        """End the program of an attempt that is given up, so that the attempt returns.

        A program that libvirt starts later is ended as soon as it is found.

        Args:
            wait: waits for the attempt for a number of seconds at most; it is given `PATIENCE`.
        """
        self._is_given_up = True  # before the look at the process: `_find` does these in turn
        self._end(lambda: wait(PATIENCE))

    def _end(self, wait: Callable[[], object]) -> None:
        process = self._process
        if process is not None and not self._is_open and _carries(process):
            _end([process], wait)

    def _find(self) -> None:
        self._look()
        if self._is_given_up:
            self._end(lambda: _wait_for([self._process or 0]))

    def _look(self) -> None:
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
    """End the programs of attempts that have not returned. Waits `PATIENCE` seconds at most."""
    _end_those_of(_begun)


def end_all() -> None:
    """End all programs that carry connections of this process, open connections included.

    For the end of the process: a program whose network is silent would stay. Waits `PATIENCE`
    seconds at most, and not at all where there is no program.
    """
    _end_those_of(_known)


atexit.register(end_begun)


def _end_those_of(started: Iterable[int]) -> None:
    processes = [process for process in tuple(started) if _carries(process)]
    if processes:
        _end(processes, lambda: _wait_for(processes))


def _end(processes: Iterable[int], wait: Callable[[], object]) -> None:
    """Send SIGTERM to processes and their descendants, wait, and send SIGKILL to what is left."""
    family = {one: _birth(one) for process in processes for one in (process, *_family(process))}
    _signal(family, signal.SIGTERM)
    _signal(family, signal.SIGCONT)  # a program that asked from the background was stopped
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
        return {int(name) for name in os.listdir("/proc") if name.isdigit()}
    return set()


def _stat(process: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, parent and on; none: it ended."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/stat") as stat:
        return stat.read().rpartition(")")[2].split()
    return []


def _parent(process: int) -> int | None:
    fields = _stat(process)
    return int(fields[1]) if fields else None


def _birth(process: int) -> str | None:
    """Return when a process was started; None: it has ended.

    No two processes of one number have that instant in common.
    """
    fields = _stat(process)
    return fields[19] if fields and fields[0] != "Z" else None


def _family(process: int) -> list[int]:
    """Return the descendants of a process: its children, and theirs."""
    children: dict[int | None, list[int]] = {}
    for one in _processes():
        children.setdefault(_parent(one), []).append(one)
    family = list(children.get(process, ()))
    for one in family:
        family.extend(children.get(one, ()))
    return family


def _carries(process: int) -> bool:
    """Return whether a process carries a connection of this process.

    Such a process is a child, and one socket, not the parent's, is its standard input and output.
    """
    if _parent(process) != os.getpid():
        return False
    ends = _standard_ends(process)
    return len(ends) == 1 and ends != _standard_ends(os.getpid()) and "socket:" in "".join(ends)


def _standard_ends(process: int) -> set[str]:
    """Return the names of a process's standard input and output."""
    with contextlib.suppress(OSError):
        return {os.readlink(f"/proc/{process}/fd/{end}") for end in "01"}
    return set()
