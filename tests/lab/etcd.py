"""Real etcds on loopback, of one member or three, that a test stops, cuts off and restores.

In: a release of Debian, whose etcd `./dev` has unpacked; TLS, rights, limits. Out: an `Etcd`: the
endpoints of its members, and what can be done to them. Data are in a temporary folder; no process
outlives its test. `./dev` installs nothing, since the package starts a server.

Each member is reached by other members through a relay of its own, so that it can be cut off.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography import x509
from lab.certificates import Authority
from lab.quick import refuse_if_quick
from lab.relay import Relay
from lab.waiting import wait_until

RELEASES = ("bookworm", "trixie", "sid")
"""Debian's releases, each with an etcd of its own: 3.4.23, 3.5.16, 3.5.30 or later."""

_PROGRAMS = Path(__file__).parents[2] / ".cache" / "debian"

_WARDEN = """
cat >/dev/null
for each in "$1"/*.pid; do
    [ ! -f "$each" ] || kill -9 "$(cat "$each")"
done
rm -rf "$1"
"""
"""$1: the folder of an etcd. Reads until the parent's end of the pipe closes, then cleans up."""

ROOT_PASSWORD = "secret"  # noqa: S105  of an etcd that lives for one test


def etcd_program(release: str, name: str = "etcd") -> Path:
    """Return the path of a program of etcd's, as `./dev` unpacks it."""
    return _PROGRAMS / f"etcd-{release}" / "usr" / "bin" / name


def etcd_available(release: str) -> str | None:
    """Return why the etcd of a release cannot be run here; None: it can."""
    if etcd_program(release).exists():
        return None
    return f"the etcd of Debian {release} is missing (./dev test unpacks it)"


@functools.cache
def etcd_version(release: str) -> tuple[int, ...]:
    """Return the version of the etcd of a release."""
    said = subprocess.run(
        [etcd_program(release), "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", said)
    assert found is not None, said
    return tuple(int(each) for each in found.groups())


class Member:
    """One member: a process that can be stopped, frozen and cut off."""

    def __init__(self, name: str, folder: Path, options: Sequence[str]) -> None:
        self.name = name
        self.port = free_port()
        """Its port for clients."""
        self.peer_port = free_port()
        self.relay = Relay(self.peer_port)
        self.data = folder / f"{name}.data"
        self.log = folder / f"{name}.log"
        self._pid_file = folder / f"{name}.pid"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Its address for clients, as "127.0.0.1:2379"."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, program: Path, cluster: str, scheme: str) -> None:
        """Start it with the data that it has; return at once."""
        client = f"{scheme}://127.0.0.1:{self.port}"
        command = [
            str(program),
            f"--name={self.name}",
            f"--data-dir={self.data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls=http://127.0.0.1:{self.peer_port}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{self.relay.port}",
            f"--initial-cluster={cluster}",
            "--initial-cluster-token=guestlist",
            "--logger=zap",
            "--log-level=warn",
            *self._options,
        ]
        quiet = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=quiet, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._pid_file.write_text(str(self.pid))

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once: kill -9."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop its process, with its connections open: SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def rss(self) -> int:
        """Return the bytes of memory that it uses."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait()
            self._pid_file.unlink(missing_ok=True)


class Etcd:
    """An etcd; a context manager that starts it, and ends it.

    Args:
        release: the release of Debian that it is from.
        members: 1 or 3.
        tls: speaks TLS with clients; a client needs a certificate of `authority`, whose CN is the
            name of the user.
        auth: has the user root (password `ROOT_PASSWORD`), and authentication is on.
        quota: bytes that its file may have.
        options: more options of etcd.
    """

    def __init__(
        self,
        release: str = "bookworm",
        *,
        members: int = 1,
        tls: bool = False,
        auth: bool = False,
        quota: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        refuse_if_quick("etcd")
        self.release = release
        self.authority = Authority("etcd of the laboratory")
        self.folder = Path(tempfile.mkdtemp(prefix="gl-etcd-", dir="/tmp"))
        self._warden = subprocess.Popen(
            ["sh", "-c", _WARDEN, "sh", self.folder], stdin=subprocess.PIPE, start_new_session=True
        )
        self._scheme = "https" if tls else "http"
        self._auth = auth
        given = [*options]
        if quota is not None:
            given.append(f"--quota-backend-bytes={quota}")
        if tls:
            given[:0] = self._tls_options()
        self.members = [Member(f"m{n}", self.folder, given) for n in range(members)]

    def __enter__(self) -> Self:
        for each in self.members:
            each.relay.__enter__()
        try:
            self.start()
            if self._auth:
                self._turn_auth_on()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.members:
            each.kill()
            each.relay.__exit__()
        self._warden.communicate()

    @property
    def endpoints(self) -> list[str]:
        """The addresses of its members, for clients."""
        return [each.endpoint for each in self.members]

    def start(self) -> None:
        """Start the members that do not run, with the data that they have; wait until it serves."""
        for each in self.members:
            if not each.is_running:
                each.start(etcd_program(self.release), self._cluster, self._scheme)
        wait_until(lambda: self.is_serving() or any(not each.is_running for each in self.members))
        dead = [each for each in self.members if not each.is_running]
        assert not dead, "\n".join(each.log.read_text() for each in dead)

    def stop(self) -> None:
        """End all members in order."""
        for each in self.members:
            each.stop()

    def kill(self) -> None:
        """End all members at once."""
        for each in self.members:
            each.kill()

    def is_serving(self) -> bool:
        """Return whether every member answers, and has a leader."""
        return all(self.leader(each) is not None for each in self.members)

    def leader(self, of: Member | None = None) -> Member | None:
        """Return the leader, as one member knows it (None: the first that runs); None: none."""
        asked = of or next(each for each in self.members if each.is_running)
        done = self._run("etcdctl", "endpoint", "status", "-w", "fields", endpoints=[asked])
        found = re.search(r'"Leader" : (\d+)', done.stdout)
        ids = self.ids()
        return ids.get(int(found[1])) if found and done.returncode == 0 else None

    def ids(self) -> dict[int, Member]:
        """Return the members that answer, by their numbers."""
        found = {}
        for each in self.members:
            if each.is_running:
                done = self._run("etcdctl", "endpoint", "status", "-w", "fields", endpoints=[each])
                if number := re.search(r'"MemberID" : (\d+)', done.stdout):
                    found[int(number[1])] = each
        return found

    def cut_off(self, member: Member) -> None:
        """Let a member and the others not hear each other; clients still reach it."""
        number = next(each for each, of in self.ids().items() if of is member)
        mark = b"X-Server-From: %x\r\n" % number
        member.relay.hold()
        for each in self.members:
            if each is not member:
                each.relay.hold(lambda first: mark in first)

    def heal(self) -> None:
        """End all that `cut_off` did."""
        for each in self.members:
            each.relay.release()

    def compact(self, revision: int) -> None:
        """Compact at a revision."""
        self._must("compact", str(revision), "--physical=true")

    def defragment(self) -> None:
        """Defragment every member."""
        self._must("defrag")

    def disarm(self) -> None:
        """End all alarms."""
        self._must("alarm", "disarm")

    def save(self) -> Path:
        """Save a snapshot of the first member; return its file."""
        path = self.folder / f"snapshot-{len(list(self.folder.glob('snapshot-*')))}"
        self._must("snapshot", "save", str(path), endpoints=self.members[:1])
        return path

    def restore(self, snapshot: Path) -> None:
        """Stop it, put the state of a snapshot in place of its data, and start it again."""
        self.kill()
        for each in self.members:
            shutil.rmtree(each.data)
            self._must(
                "snapshot",
                "restore",
                str(snapshot),
                f"--name={each.name}",
                f"--data-dir={each.data}",
                f"--initial-cluster={self._cluster}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{each.relay.port}",
                "--initial-cluster-token=guestlist",
            )
        self.start()

    def renew_certificates(self) -> None:
        """Let another authority issue all certificates, and start again with these."""
        self.stop()
        self.authority = Authority("renewed etcd of the laboratory")
        for each in (self.folder / "server", *self.folder.glob("client-*")):
            shutil.rmtree(each)
        self._tls_options()
        self.start()

    def certificate(self, user: str) -> Path:
        """Return a folder with a client's certificate for a user: cacert, clientcert, clientkey."""
        folder = self.folder / f"client-{user}"
        if not folder.exists():
            self.authority.put(folder, client=self.authority.issue(user))
        return folder

    @property
    def _cluster(self) -> str:
        return ",".join(f"{each.name}=http://127.0.0.1:{each.relay.port}" for each in self.members)

    def _tls_options(self) -> list[str]:
        here = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        issued = self.authority.issue("localhost", also=here)
        pki = self.authority.put(self.folder / "server", server=issued)
        return [
            f"--cert-file={pki / 'servercert.pem'}",
            f"--key-file={pki / 'serverkey.pem'}",
            f"--trusted-ca-file={pki / 'cacert.pem'}",
            "--client-cert-auth",
        ]

    def _turn_auth_on(self) -> None:
        self._must("user", "add", f"root:{ROOT_PASSWORD}")
        self._must("role", "add", "root", check=False)
        self._must("user", "grant-role", "root", "root")
        self._must("auth", "enable")
        self._is_guarded = True

    _is_guarded = False

    def _must(
        self, *words: str, endpoints: Sequence[Member] | None = None, check: bool = True
    ) -> str:
        done = self._run("etcdctl", *words, endpoints=endpoints)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def _run(
        self, program: str, *words: str, endpoints: Sequence[Member] | None = None
    ) -> subprocess.CompletedProcess[str]:
        asked = self.members if endpoints is None else endpoints
        urls = ",".join(f"{self._scheme}://{each.endpoint}" for each in asked)
        options = [f"--endpoints={urls}", "--dial-timeout=2s", "--command-timeout=5s"]
        if self._scheme == "https":
            pki = self.certificate("root")
            options += [
                f"--cacert={pki / 'cacert.pem'}",
                f"--cert={pki / 'clientcert.pem'}",
                f"--key={pki / 'clientkey.pem'}",
            ]
        if self._is_guarded:
            options.append(f"--user=root:{ROOT_PASSWORD}")
        return subprocess.run(
            [etcd_program(self.release, program), *options, *words],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            check=False,
        )


def free_port() -> int:
    """Return a port of loopback on which nothing listens now."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return int(listening.getsockname()[1])
