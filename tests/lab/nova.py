"""A released Nova's compute driver, in a process of its own: started as nova-compute does it.

In: the URI of a libvirt (a daemon's, or that of a proxy that counts), Nova's concurrency mode, and
configuration. Out: what the driver's methods answer, as plain values, with the log records and
processes that each caused; and what the process holds. Nova's own loader loads the driver, from an
environment that `./dev nova-env SERIES` makes. Nothing of Nova is imported here.

`in_nova/ground.py` (`lend_what_is_missing`) says what is not Nova's own.
"""

from __future__ import annotations

import configparser
import contextlib
import itertools
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import uuid as uuid_module
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from lab.nova_nursery import Forked, nursery
from lab.quick import refuse_if_quick

SERIES = os.environ.get("GUESTLIST_NOVA", "2026.2")
"""The series of OpenStack that is tested."""

MODES = ("threading", "eventlet") if SERIES > "2025.2" else ("eventlet",)
"""Its concurrency modes."""

HOST = "lab"
"""The name that the compute host has in Nova's database."""

START_SECONDS = 60.0
"""Seconds that a process may take to start."""
ANSWER_SECONDS = 60.0
"""Seconds that a request may take."""

Mode = Literal["threading", "eventlet"]
Configuration = Mapping[str, Mapping[str, object]]

CONTEXT = {"$": "context"}
"""As an argument: an admin's request context."""
LIBVIRT_HOST = {"$": "host"}
"""As an argument: the driver's `_host`."""
VOLUMES = {"$": "volumes"}
"""As an argument: the instances of this host with their volumes, for `get_all_volume_usage`."""

VOLATILE = {
    "disk_available_least",
    "local_gb_used",
    "memory_mb",
    "memory_mb_used",
    "numa_topology",
    "stats",
    "uuid",
}
"""Keys of `get_available_resource` that may differ between two calls: other programs of the machine
change them, its memory may change if it is a guest itself, and each state directory has a UUID."""

_IN_NOVA = Path(__file__).parent / "in_nova"
_ENVIRONMENTS = Path(__file__).parents[2] / ".nova"

# $1: the process's id; $2: its directory. `cat` returns when the parent's end of the pipe closes.
_GUARD = """
cat >/dev/null
kill -KILL "$1" 2>/dev/null
rm -rf "$2"
"""


def nova_python(series: str = SERIES) -> Path:
    """Return the path of the Python of that series' environment, which may not exist."""
    return _ENVIRONMENTS / series / "bin" / "python"


def nova_available(series: str = SERIES) -> str | None:
    """Return why no Nova of that series can run here; None if one can."""
    if nova_python(series).exists():
        return None
    return f"no Nova {series} here: ./dev nova-env {series}"


def instance(uuid: str | uuid_module.UUID) -> dict[str, str]:
    """Return what stands for an instance from Nova's database, as an argument."""
    return {"$": "instance", "uuid": str(uuid)}


class NovaError(Exception):
    """An exception in Nova's process. `kind` is the name of its type."""

    def __init__(self, kind: str, message: str, trace: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.message, self.trace = kind, message, trace


class Record(NamedTuple):
    """A log record; the message includes the traceback of an exception."""

    level: str
    logger: str
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a request, a value or an error, and its cost.

    A thread that served no request (an executor's, libvirt's) counts for all requests that were
    under way.
    """

    value: Any
    error: NovaError | None
    seconds: float
    log: tuple[Record, ...]
    processes: tuple[str, ...]
    """The command lines of the processes that it started."""

    def result(self) -> Any:
        """Return the value, or raise the error."""
        if self.error:
            raise self.error
        return self.value


class NovaProcess:
    """A process in a Nova environment, with a directory, a nova.conf and a log; a context manager.

    `config` is added to what the laboratory sets. If the process that started it dies, a guard ends
    it and removes the directory.
    """

    script: str

    def __init__(
        self,
        uri: str,
        *,
        mode: Mode = "threading",
        compute_driver: str = "libvirt.LibvirtDriver",
        config: Configuration | None = None,
        series: str = SERIES,
    ) -> None:
        self._uri = uri
        self._mode = mode
        self._compute_driver = compute_driver
        self._extra: dict[str, dict[str, object]] = {}
        self._add(config or {})
        self._series = series

    def __enter__(self) -> Self:
        refuse_if_quick("Nova")
        if reason := nova_available(self._series):
            raise RuntimeError(reason)
        self.directory = Path(tempfile.mkdtemp(prefix="gl-nova-", dir="/tmp"))
        (self.directory / "instances").mkdir()
        try:
            self._write_configuration()
            self._make_database()
            self._start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._clean_up()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def log(self) -> str:
        """Return all that Nova has logged."""
        path = self.directory / "nova.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def output(self) -> str:
        """Return what the process wrote on standard output and standard error."""
        return (self.directory / "output").read_text(errors="replace")

    def call(self, name: str, *args: object, **kwargs: object) -> Any:
        """Return what a method of the driver returns, as plain JSON values.

        A set is a sorted list, an instance its UUID, any other object a dictionary of its public
        attributes. `name` may be dotted ("_host.get_memory_mb_used"), or "module:name".

        Raises:
            NovaError: the method raised.
        """
        return self.ask(name, *args, **kwargs).result()

    def ask(self, name: str, *args: object, **kwargs: object) -> Answer:
        """Call a method as `call` does; return the result with its cost."""
        return self.begin(name, *args, **kwargs).result(ANSWER_SECONDS)

    def begin(self, name: str, *args: object, **kwargs: object) -> Future[Answer]:
        """Call a method as `ask` does, and do not wait for it."""
        return self._send("call", name=name, args=args, kwargs=kwargs)

    def see(self, name: str) -> Any:
        """Return an attribute of the driver, as plain JSON values; names are as for `call`."""
        return self._request("see", name=name)

    def mount_state(self) -> Answer:
        """Look for mounted volumes, as Nova does when its connection has opened."""
        return self.ask("nova.virt.libvirt.volume.mount:_HostMountState", LIBVIRT_HOST, 0)

    def add_instance(
        self,
        uuid: str | uuid_module.UUID,
        name: str,
        *,
        volumes: Mapping[str, str | uuid_module.UUID] | None = None,
        power_state: int = 1,
        vm_state: str = "active",
        task_state: str | None = None,
        vcpus: int = 1,
        memory_mb: int = 64,
    ) -> None:
        """Add an instance of this host to Nova's database; `volumes` by device ("/dev/vdb").

        `Instance.name` is `name` if Nova's template makes that name.
        """
        self._request(
            "add_instance",
            uuid=str(uuid),
            name=name,
            volumes={device: str(volume) for device, volume in (volumes or {}).items()},
            power_state=power_state,
            vm_state=vm_state,
            task_state=task_state,
            vcpus=vcpus,
            memory_mb=memory_mb,
        )

    def alter_instance(self, uuid: str | uuid_module.UUID, **columns: object) -> None:
        """Change what Nova's database has of an instance."""
        self.call("nova.db.main.api:instance_update", CONTEXT, str(uuid), columns)

    def vitals(self) -> dict[str, Any]:
        """Return what the process has: `threads`, `fds`, and whether it has imported `eventlet`."""
        return dict(self._request("vitals"))

    def longest_gap(self) -> float:
        """Return the longest time, in seconds, since the last call, in which no other thread ran.

        It is the time between two ticks of a thread (in eventlet mode a green one) that ticks every
        10 ms. It is longer if something blocked the hub.
        """
        return float(self._request("longest_gap"))

    def configure(self, config: Configuration) -> None:
        """Write these options into nova.conf. The process does not read them yet."""
        self._add(config)
        self._write_configuration()

    def _add(self, config: Configuration) -> None:
        for group, options in config.items():
            self._extra.setdefault(group, {}).update(options)

    def _options(self) -> dict[str, dict[str, object]]:
        """Return the options that the laboratory sets."""
        return {
            "DEFAULT": {
                "host": HOST,
                "my_ip": "127.0.0.1",
                "state_path": self.directory,
                "log_file": self.directory / "nova.log",
                "use_stderr": False,
                "transport_url": "fake:/",
                "compute_driver": self._compute_driver,
            },
            "database": {"connection": f"sqlite:///{self.directory}/nova.sqlite"},
            "oslo_concurrency": {"lock_path": self.directory},
            "libvirt": {"connection_uri": self._uri, "virt_type": "qemu"},
        }

    def _write_configuration(self) -> None:
        file = configparser.RawConfigParser()
        for options in (self._options(), self._extra):
            for group, values in options.items():
                if group != "DEFAULT" and not file.has_section(group):
                    file.add_section(group)
                for name, value in values.items():
                    file.set(group, name, str(value).replace("$", "$$"))
        with (self.directory / "nova.conf").open("w") as stream:
            file.write(stream)

    def _make_database(self) -> None:
        """Copy a database with Nova's schema. `nova-manage` makes it once for an environment."""
        database, kept = self.directory / "nova.sqlite", self._python.parents[1] / "nova.sqlite"
        if not kept.exists():
            with contextlib.closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")  # a writer does not block readers
            manage = [self._python, self._python.with_name("nova-manage")]
            sync = [*manage, *self._configuration, "db", "sync", "--local_cell"]
            subprocess.run(sync, check=True, capture_output=True)
            own = kept.with_suffix(f".{os.getpid()}")
            shutil.copyfile(database, own)
            own.rename(kept)
            (self.directory / "nova.log").unlink(missing_ok=True)
        shutil.copyfile(kept, database)

    @property
    def _python(self) -> Path:
        return nova_python(self._series)

    @property
    def _configuration(self) -> tuple[str | Path, ...]:
        return "--config-file", self.directory / "nova.conf"

    @property
    def _environment(self) -> dict[str, str]:
        ours = {name: each for name, each in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
        return {
            **ours,  # pip has compiled Nova beside its source
            "NO_PROXY": "*",
            "OS_NOVA_DISABLE_EVENTLET_PATCHING": str(self._mode == "threading"),
            "PYTHONHASHSEED": "0",  # Nova's objects list their changes in the order of a set
        }

    def _spawn(self, desk: socket.socket) -> subprocess.Popen[bytes] | Forked:
        """Start the process, and give it the socket."""
        with (self.directory / "output").open("wb") as output:
            return subprocess.Popen(
                [self._python, _IN_NOVA / self.script, *self._configuration],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[desk.fileno()],
                cwd=self.directory,
                env={**self._environment, "LAB_SOCKET": str(desk.fileno())},
                start_new_session=True,
            )

    def _watch_over(self) -> None:
        """Start the guard of the process."""
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _start(self) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[int, Future[Answer]] = {0: Future()}
        self._lock = threading.Lock()
        started = self._pending[0]
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = self._spawn(theirs)
        self._watch_over()
        self._reader = threading.Thread(target=self._read, name="nova-driver", daemon=True)
        self._reader.start()
        try:
            answer = started.result(START_SECONDS)
        except TimeoutError:
            raise RuntimeError(f"Nova does not start:\n{self.output()}{self.log()}") from None
        if answer.error:
            answer.error.add_note(answer.error.trace + self.log())
            raise answer.error

    def _clean_up(self) -> None:
        if process := getattr(self, "_process", None):
            process.kill()
            process.wait()
        if guard := getattr(self, "_guard", None):
            guard.stdin.close()
            guard.wait()
        if hasattr(self, "_reader"):
            self._reader.join()
            self._socket.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _request(self, what: str, **arguments: object) -> Any:
        return self._send(what, **arguments).result(ANSWER_SECONDS).result()

    def _send(self, what: str, **arguments: object) -> Future[Answer]:
        future: Future[Answer] = Future()
        with self._lock:
            number = next(self._numbers)
            self._pending[number] = future
            request = {"id": number, "do": what, **arguments}
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        return future

    def _read(self) -> None:
        with self._socket.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                reply = json.loads(line)
                with self._lock:
                    future = self._pending.pop(reply["id"])
                future.set_result(_answer(reply))
        with self._lock:
            lost, self._pending = list(self._pending.values()), {}
        for future in lost:
            future.set_exception(
                RuntimeError(f"Nova's process ended:\n{self.output()}{self.log()}")
            )


class NovaDriver(NovaProcess):
    """A driver that answers, any number of requests at a time.

    A series up to 2025.2 has one mode, "eventlet".

    Raises:
        RuntimeError: there is no such environment.
        NovaError: the driver did not load or start; its log is in the notes.

    Cost: 1 to 3 seconds, and 3 more for the first in this process; some 20 calls to libvirt.
    """

    script = "drive.py"

    def _spawn(self, desk: socket.socket) -> Forked:
        (self.directory / "output").touch()
        environment = self._environment
        arguments = [str(each) for each in (_IN_NOVA / self.script, *self._configuration)]
        forks = nursery(self._python, self._mode, environment)
        return forks.fork(self.directory, arguments, environment, desk)

    def events(self) -> list[tuple[str, str]]:
        """Return the lifecycle events that the driver passed on to Nova: UUID and transition."""
        return [(uuid, name) for uuid, name in self._request("events")]

    def reload(self, config: Configuration) -> list[str]:
        """Change nova.conf and make Nova read it again, as SIGHUP does.

        Returns the mutable options that Nova took over, as "group.option".
        """
        self.configure(config)
        return list(self._request("reload"))

    def catch_up(self) -> bool:
        """Make guestlist take in all that has happened at libvirt; return whether it did."""
        return bool(self._request("catch_up"))

    def viewed(self, uuid: str | uuid_module.UUID) -> int | None:
        """Return a domain's state in the live view; None while the view disputes it."""
        state: int | None = self._request("viewed", uuid=str(uuid))
        return state

    @contextlib.contextmanager
    def events_stopped(self) -> Iterator[None]:
        """Within, libvirt's event loop in that process hands out no event."""
        self._request("stop_events")
        try:
            yield
        finally:
            self._request("let_events_go")

    def stop(self) -> None:
        """Stop the driver (`cleanup_host`). The process goes on and answers."""
        self._request("stop")


def _answer(reply: dict[str, Any]) -> Answer:
    return Answer(
        value=reply["value"],
        error=NovaError(*reply["error"]) if reply["error"] else None,
        seconds=reply["seconds"],
        log=tuple(Record(*record) for record in reply["log"]),
        processes=tuple(reply["processes"]),
    )
