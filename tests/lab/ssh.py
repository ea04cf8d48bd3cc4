"""A program named ssh that libvirt starts: it behaves as the host's name says.

In: a directory, which the test puts first on PATH, and the socket of a daemon. Out: each start of
the program, with its arguments, and whether the process still exists.

    relay       carries the connection to the daemon
    silent      writes nothing, as over a network that is dead
    stubborn    the same; it ignores SIGTERM, and so does its child process
    password    asks on the terminal, and records what is typed there
    refused     has no key that the server accepts
    stranger    does not know the host's key
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

_PROGRAM = """\
#!{python} -ES
import os, select, signal, socket, subprocess, sys, time

def note(name, text):
    with open(os.path.join({directory!r}, name), "a") as file:
        file.write(text + "\\n")

host = sys.argv[sys.argv.index("--") + 1]

def fail(words):
    os.read(0, 1)  # as late as a real one: libvirt has asked by then
    sys.exit(words)

def stay():
    while True:
        signal.pause()

if host == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not os.fork():
        note("started", str(os.getpid()))
        stay()
note("started", " ".join([str(os.getpid()), *sys.argv[1:sys.argv.index("--")]]))
if host == "password":
    terminal = os.open("/dev/tty", os.O_RDWR)
    os.write(terminal, b"password: ")
    note("typed", os.read(terminal, 100).decode())
elif host == "refused":
    fail("me@refused: Permission denied (publickey,password).")
elif host == "stranger":
    fail("Host key verification failed.")
elif host == "relay":
    there = socket.socket(socket.AF_UNIX)
    there.connect({socket!r})
    here = socket.socket(fileno=0)
    while True:
        for one, other in ((here, there), (there, here)):
            if select.select([one], [], [], 0.001)[0]:
                data = one.recv(65536)
                if not data:
                    sys.exit()
                other.sendall(data)
stay()
"""


class Started(NamedTuple):
    """One start of the program."""

    pid: int
    words: list[str]

    @property
    def is_there(self) -> bool:
        """Return whether the process exists: it runs, or its parent has not waited for it."""
        return Path(f"/proc/{self.pid}").exists()


class Ssh:
    """The program, in a directory of its own."""

    def __init__(self, directory: Path, socket: str) -> None:
        self.directory = directory
        program = directory / "ssh"
        text = _PROGRAM.format(python=sys.executable, directory=str(directory), socket=socket)
        program.write_text(text)
        program.chmod(0o755)

    @property
    def path(self) -> str:
        """PATH with the program's directory first."""
        return f"{self.directory}{os.pathsep}{os.environ['PATH']}"

    @property
    def started(self) -> list[Started]:
        """Return each start so far, and each child, in order."""
        return [Started(int(pid), words) for pid, *words in map(str.split, self._lines("started"))]

    @property
    def typed(self) -> list[str]:
        """Return what was typed at its prompts."""
        return self._lines("typed")

    def _lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []
