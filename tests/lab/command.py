"""The command `guestlist` as a process, and hosts to give it.

In: the words of a command line. Out: the process when it has ended. The command gets the tests' own
environment, without the variables that would change its behaviour.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from lab.nodes import Domain, node

import guestlist
from guestlist.cli.exits import Exit

TEST_HOST = "test:///default"
"""libvirt's built-in host, inside the command's own process: one domain, named test."""

NO_HOST = "test+unix:///default?socket=/nonexistent/libvirt-sock"
"""A URI to which no connection can be opened."""

COMMAND = [sys.executable, "-m", "guestlist"]
PACKAGE = Path(guestlist.__file__).parents[1]

MAIN = "from guestlist.cli import main; raise SystemExit(main())"
"""The command as a Python program."""

_THEIRS = {"COLUMNS", "NO_COLOR", "LIBVIRT_DEFAULT_URI", "PYTHONPATH", "ETCDCTL_ENDPOINTS"}


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of the command, with these changes."""
    ours = {name: value for name, value in os.environ.items() if name not in _THEIRS}
    return {**ours, "PYTHONPATH": str(PACKAGE), **changes}


@contextlib.contextmanager
def started(
    command: Sequence[str], **changes: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command until the block ends; yield it and the file that has its output.

    `changes` are those to the environment.
    """
    with tempfile.TemporaryDirectory(prefix="gl-") as place:
        log = Path(place) / "log"
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(**changes),
            ) as process,
        ):
            try:
                yield process, log
            finally:
                process.kill()


def run(
    *words: str, stdout: int | IO[str] = subprocess.PIPE, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run `guestlist words…`, with these changes to the environment, to its end."""
    return subprocess.run(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**changes),
        check=False,
    )


def refused(*words: str) -> str:
    """Return what the command says to words that make no sense: one line on standard error.

    Raises:
        AssertionError: it does not refuse them, or says more.
    """
    ended = run(*words)
    assert (ended.returncode, ended.stdout) == (Exit.USAGE, "")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def served(place: Path, domains: Sequence[Domain], name: str = "node") -> str:
    """Return the URI of a host with these domains, inside the command's own process."""
    path = place / f"{name}.xml"
    path.write_text(node(domains))
    return f"test://{path}"


@contextlib.contextmanager
def deaf_socket() -> Iterator[socket.socket]:
    """Open a socket that lets clients in and never answers, for the length of the block."""
    with (
        tempfile.TemporaryDirectory(prefix="gl-", dir="/tmp") as place,
        socket.socket(socket.AF_UNIX) as listening,
    ):
        listening.bind(f"{place}/libvirt-sock")
        listening.listen()
        yield listening


def uri_of(listening: socket.socket) -> str:
    """Return the URI of a host behind that socket."""
    return f"test+unix:///default?socket={listening.getsockname()}"
