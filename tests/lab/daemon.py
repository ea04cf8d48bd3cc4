"""A private libvirtd: run by an ordinary user, in a directory of its own, removed without a trace.

In: an installed libvirtd. Out: a socket, URIs that lead to it, and a process that may
be killed, stopped, continued and restarted. Refuses to be privileged: if root starts it, it runs as
the user `USER`. Home, XDG directories, sockets, pid file and log are its own, so several daemons
run side by side, and none touches the libvirt of this machine.

If the process that started it dies, a guard ends the daemon and its guests and removes the
directory. The guard is a shell that waits until its end of a pipe is closed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from lab.quick import refuse_if_quick

READY_SECONDS = 30.0
POLL_SECONDS = 0.005

USER = "nobody"
"""The user that runs the daemon if root starts it."""

_PLACES = {
    "HOME": "h",
    "XDG_RUNTIME_DIR": "r",
    "XDG_CONFIG_HOME": "c",
    "XDG_CACHE_HOME": "k",
    "XDG_DATA_HOME": "d",
    "TMPDIR": "t",
}

# Rootless, perhaps inside a container: no cgroups, no security driver, no virtlogd.
_QEMU_CONF = """\
stdio_handler = "file"
security_driver = "none"
seccomp_sandbox = 0
cgroup_controllers = []
namespaces = []
remember_owner = 0
max_core = 0
"""

# $1: the daemon's directory. Reads until the parent's end of the pipe closes, then cleans up.
_GUARD = """
cat >/dev/null
for file in "$1"/*.pid "$1"/r/libvirt/qemu/run/*.pid
do kill -KILL "$(cat "$file")"
done 2>/dev/null
rm -rf "$1"
"""


def libvirtd() -> str | None:
    """Return the path of libvirtd, or None."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which("libvirtd", path=path)


def daemon_available() -> str | None:
    """Return why no private daemon can be started here; None if one can."""
    if libvirtd() is None:
        return "libvirtd is not installed"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(USER)
        except KeyError:
            return f"root must run it as user {USER!r}, who does not exist here"
    return None


class Daemon:
    """A running libvirtd; a context manager.

    `max_clients` and `max_client_requests` (calls served at a time per connection; libvirt's
    default is 5) go into its configuration, as do the lines of `extra`. `listen`: it also
    listens on the network, as those lines say.

    Raises:
        RuntimeError: libvirtd is not installed; or it did not listen within `READY_SECONDS`, and
            the message has its log.

    Cost: about 50 ms to start, the same to restart.
    """

    def __init__(
        self,
        *,
        max_clients: int = 500,
        max_client_requests: int = 5,
        extra: str = "",
        listen: bool = False,
    ) -> None:
        self._settings = {"max_clients": max_clients, "max_client_requests": max_client_requests}
        self._extra = extra
        self._listen = listen
        self._owner = pwd.getpwnam(USER) if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._directory: Path | None = None

    def __enter__(self) -> Self:
        refuse_if_quick("a daemon")
        if reason := daemon_available():
            raise RuntimeError(reason)
        self._directory = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
        try:
            self._furnish()
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "guard", str(self.directory)],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            self._start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._clean_up()

    # Where it is

    @property
    def directory(self) -> Path:
        """The directory with everything that it owns."""
        if self._directory is None:
            raise RuntimeError("this daemon has not been started")
        return self._directory

    @property
    def socket(self) -> str:
        """The path of its socket; the same after a restart."""
        return str(self.directory / "s" / "libvirt-sock")

    @property
    def qemu_uri(self) -> str:
        """The URI of its QEMU driver: real guests."""
        return f"qemu+unix:///session?socket={self.socket}"

    def uri(self, node: str | Path = "default") -> str:
        """Return the URI of its test driver.

        `node` is "default" (one host, shared by all connections for as long as one is open), the
        path of a node file that the daemon's user can read, or node XML, which goes into a file.
        The host of a node file is private to each connection.
        """
        if str(node).lstrip().startswith("<"):
            node = self.write_node(str(node))
        return f"test+unix:///{str(node).lstrip('/')}?socket={self.socket}"

    def write_node(self, xml: str) -> Path:
        """Write node XML to a file that the daemon can read; it is removed with the daemon."""
        path = self.directory / f"node-{next(self._numbers)}.xml"
        path.write_text(xml)
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        """Give a file in its directory to its user: the daemon and its guests may then write it."""
        if self._owner:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    # What happens to it

    @property
    def pid(self) -> int:
        return self._running.pid

    def guest_pid(self, name: str) -> int:
        """Return the process id of a running QEMU guest."""
        return int((self._guests / f"{name}.pid").read_text())

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def end(self) -> str | None:
        """How it ended, as in "SIGSEGV" or "exit code 1"; None while it runs."""
        code = self._running.poll()
        if code is None:
            return None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """Kill it at once, as a crash would. Its QEMU guests run until this context ends."""
        self._running.kill()
        self._running.wait()

    def stop(self) -> None:
        """Stop the process (SIGSTOP): its sockets stay open, and it answers no call."""
        self._running.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Continue the process (SIGCONT)."""
        self._running.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it, if it still runs, and start it again on the same socket."""
        if self.alive:
            self.kill()
        self._start()

    def log(self) -> str:
        """Return its log: warnings and errors."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # How it is done

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this daemon has not been started")
        return self._process

    @property
    def _guests(self) -> Path:
        return self.directory / _PLACES["XDG_RUNTIME_DIR"] / "libvirt" / "qemu" / "run"

    def _furnish(self) -> None:
        configuration = self.directory / "libvirtd.conf"
        qemu = self.directory / _PLACES["XDG_CONFIG_HOME"] / "libvirt" / "qemu.conf"
        for place in [*_PLACES.values(), "s"]:
            (self.directory / place).mkdir(mode=0o700)
        qemu.parent.mkdir(mode=0o700)
        qemu.write_text(_QEMU_CONF)
        lines = [
            f'unix_sock_dir = "{self.directory / "s"}"',
            'auth_unix_ro = "none"',
            'auth_unix_rw = "none"',
            f'log_outputs = "3:file:{self.directory / "log"}"',
            *(f"{name} = {value}" for name, value in self._settings.items()),
            self._extra,
        ]
        configuration.write_text("\n".join(lines) + "\n")
        for path in [self.directory, *self.directory.rglob("*")]:
            self.give(path)

    def _start(self) -> None:
        program = libvirtd()
        assert program is not None
        places = {name: str(self.directory / place) for name, place in _PLACES.items()}
        command = [program, "-f", f"{self.directory}/libvirtd.conf"]
        command += ["-p", f"{self.directory}/libvirtd.pid", *(["--listen"] if self._listen else [])]
        owner = self._owner
        Path(self.socket).unlink(
            missing_ok=True
        )  # the file that a dead daemon left would look like a daemon that listens
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env={"PATH": os.environ.get("PATH", os.defpath), **places},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=owner.pw_uid if owner else None,
                group=owner.pw_gid if owner else None,
                extra_groups=[] if owner else None,
            )
        self._await_ready()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.alive:
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(self.socket)
                return
            time.sleep(POLL_SECONDS)
        output = (self.directory / "output").read_text(errors="replace")
        raise RuntimeError(f"libvirtd does not listen on {self.socket}:\n{output}{self.log()}")

    def _clean_up(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for file in self._guests.glob("*.pid"):
            _end_guest(file)
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        shutil.rmtree(self.directory, ignore_errors=True)


def _end_guest(pid_file: Path) -> None:
    """Kill the QEMU that wrote this file, and no process that has got its id since."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        if b"qemu" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
