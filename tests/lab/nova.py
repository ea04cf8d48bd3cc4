"""A released Nova's libvirt driver, driven from here.

In: a URI, a concurrency mode, the name of a driver. Out: what its methods answer, with the seconds,
the processes and the log that each cost; calls on the wire are counted by the proxy that the URI
leads to. Nova lives in an environment of its own (`./dev nova-env`), and each driver in a process of
its own (`nova_worker.py`): Nova's concurrency mode is chosen for a whole process.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

SERIES = "2026.2"

Mode = Literal["threading", "eventlet"]
NOVAS = "libvirt.LibvirtDriver"
OURS = "guestlist.LibvirtDriver"

LONGEST_ANSWER = 40.0
_ROOT = Path(__file__).resolve().parents[2]
_WORKER = Path(__file__).with_name("nova_worker.py")


def nova_available(series: str = SERIES) -> str | None:
    """Why there is no Nova here, or None if there is."""
    if _python(series).exists():
        return None
    return f"no environment with Nova {series}: ./dev nova-env {series}"


def _python(series: str) -> Path:
    return _ROOT / ".nova" / series / "bin" / "python"


class NovaError(Exception):
    """Nova's method raised. `kind` is the name of the exception's type."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Told:
    """What one request gave, and cost. `log` has (level, logger, text) each."""

    answer: Any
    seconds: float
    programs: int
    log: list[tuple[str, str, str]]


class NovaDriver:
    """A driver, loaded by Nova's own loader, after `init_host`; a context manager.

    Args:
        uri: `[libvirt] connection_uri`.
        mode: Nova's concurrency mode.
        compute_driver: `[DEFAULT] compute_driver`.
        options: of nova.conf, by group; `[guestlist]`'s may be changed later (`reload`).
        series: the environment.
        init: whether `init_host` is called.
    """

    def __init__(
        self,
        uri: str,
        mode: Mode = "threading",
        compute_driver: str = OURS,
        options: Mapping[str, Mapping[str, object]] | None = None,
        series: str = SERIES,
        init: bool = True,
    ) -> None:
        self._uri, self._mode, self._compute_driver = uri, mode, compute_driver
        self._options = {group: dict(values) for group, values in (options or {}).items()}
        self._series, self._init = series, init
        self._numbers = itertools.count()
        self._replies: dict[int, queue.SimpleQueue[Any]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="gl-nova-", dir="/tmp"))
        (self.directory / "instances").mkdir()
        self._conf = self.directory / "nova.conf"
        self._conf.write_text(self._text())
        self._socket, theirs = socket.socketpair()
        self._errors = (self.directory / "stderr").open("w+")
        self._process = subprocess.Popen(
            [
                _python(self._series),
                "-P",
                "-W",
                "ignore",
                _WORKER,
                self._conf,
                str(theirs.fileno()),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            cwd="/",
            env={
                **os.environ,
                "OS_NOVA_DISABLE_EVENTLET_PATCHING": "no" if self._mode == "eventlet" else "yes",
                "PYTHONUNBUFFERED": "1",
                "PYTHONHASHSEED": "0",  # Nova's objects list what changed in no order
            },
        )
        theirs.close()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            if self._init:
                self.tell("init_host")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()
        self._errors.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # Requests

    def told(self, what: str, *arguments: Any, **options: Any) -> Told:
        """Have a request served, see `nova_worker.Worker`.

        Raises:
            NovaError: it raised.
            EOFError: the process is gone; the message has what it printed last.
            TimeoutError: there is no answer.
        """
        number = next(self._numbers)
        reply: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._replies[number] = reply
        request = {"id": number, "what": what, "arguments": arguments, "options": options}
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        try:
            came = reply.get(timeout=LONGEST_ANSWER)
        except queue.Empty:
            self._process.send_signal(signal.SIGUSR1)  # it prints what its threads are doing
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            raise TimeoutError(f"{what} {arguments}: no answer; {self.printed()}") from None
        if came is None:
            raise EOFError(f"{what} {arguments}: the process is gone; {self.printed()}")
        if "error" in came:
            raise NovaError(*came["error"])
        log = [(level, logger, text) for level, logger, text in came["log"]]
        return Told(came["answer"], came["seconds"], came["programs"], log)

    def tell(self, what: str, *arguments: Any, **options: Any) -> Any:
        """The answer alone."""
        return self.told(what, *arguments, **options).answer

    def call(self, method: str, *arguments: Any) -> Any:
        """A method of the driver, or ("_host.…") of what it has. {"uuid": …} is an instance."""
        return self.tell("call", method, *arguments)

    def reload(self, **options: object) -> None:
        """Change options of `[guestlist]`, as an operator does with SIGHUP."""
        self._options.setdefault("guestlist", {}).update(options)
        self.tell("reload", self._text())

    def printed(self) -> str:
        """The end of what the process has printed."""
        self._errors.flush()
        return (self.directory / "stderr").read_text()[-12_000:]

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                came = json.loads(line)
                self._replies.pop(came["id"]).put(came)
        for reply in list(self._replies.values()):
            reply.put(None)

    def _text(self) -> str:
        groups: dict[str, dict[str, object]] = {
            "DEFAULT": {
                "compute_driver": self._compute_driver,
                "host": "here",
                "instances_path": self.directory / "instances",
                "my_ip": "127.0.0.1",
                "state_path": self.directory,
                "transport_url": "fake://",
            },
            "database": {"connection": f"sqlite:///{self.directory}/nova.sqlite"},
            "libvirt": {"connection_uri": self._uri, "virt_type": "qemu"},
            "guestlist": {},
        }
        for group, values in self._options.items():
            groups.setdefault(group, {}).update(values)
        return "\n".join(
            f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in values.items())
            for group, values in groups.items()
        )
