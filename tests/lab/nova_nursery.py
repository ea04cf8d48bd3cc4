"""Nova processes that are forked from one that has imported Nova; see `in_nova/nursery.py`.

In: a Nova environment's Python, its environment variables, and what a new process gets. Out: the
process. There is one nursery for each Python and concurrency mode; it ends with this process.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_SCRIPT = Path(__file__).parent / "in_nova" / "nursery.py"


class Forked:
    """A process of a nursery, as far as `subprocess.Popen` is used here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        self._was_waited_for = False

    def poll(self) -> int | None:
        """Return None while the process runs; then 0: its exit status is not known."""
        if not self._was_waited_for:
            ended, *_ = select.select([self._descriptor], [], [], 0)
            return 0 if ended else None
        return 0

    def kill(self) -> None:
        """Kill the process, unless it has ended."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def wait(self) -> None:
        """Return when the process has ended; for good."""
        if not self._was_waited_for:
            select.select([self._descriptor], [], [])
            self._was_waited_for = True
            os.close(self._descriptor)


class Nursery:
    """A process that has imported Nova, and forks. Threads may share it."""

    def __init__(self, python: Path, environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with this process
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [python, _SCRIPT, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,
            )
        atexit.register(self._end)

    def fork(
        self,
        directory: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        desk: socket.socket,
    ) -> Forked:
        """Return a new process, which gets the socket.

        Raises:
            RuntimeError: Nova could not be imported.
        """
        wanted = {
            "directory": str(directory),
            "arguments": list(arguments),
            "environment": dict(environment),
        }
        with self._lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._control, [json.dumps(wanted).encode()], [desk.fileno()])
            if answer := self._control.recv(64):
                return Forked(int(answer))
        self._errors.seek(0)
        raise RuntimeError(f"Nova cannot be imported:\n{self._errors.read().decode()}")

    def _end(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


_nurseries: dict[tuple[Path, str], Nursery] = {}
_making = threading.Lock()


def nursery(python: Path, mode: str, environment: Mapping[str, str]) -> Nursery:
    """Return the nursery of a Nova environment in a concurrency mode; make it the first time."""
    with _making:
        made = _nurseries.get((python, mode))
        if made is None:
            made = _nurseries[python, mode] = Nursery(python, environment)
        return made
