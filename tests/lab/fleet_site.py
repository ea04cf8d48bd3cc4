"""A fleet at work: real libvirtds under churn, an agent process for each, a real etcd, a reader.

In: a release of etcd, numbers. Out: a `Site`, whose parts can be killed, frozen and cut off, and
which says whether the store and the readers have what the hosts have.

The hosts are private daemons with libvirt's test driver. Domains named "instance-…" exist all the
time; "visitor-…" come and go. The first host's agent and the reader reach each member through a
relay of their own.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self
from uuid import UUID

from lab.churn import Mode, ThreadChurner, populated
from lab.command import COMMAND, environment
from lab.daemon import Daemon
from lab.etcd import Etcd as Lab
from lab.faketime import off_by
from lab.fleet_looks import Adding
from lab.nodes import nova_instance
from lab.relay import Relay
from lab.views import truth
from lab.waiting import wait_until

from guestlist.fleet.agent import HostKeys
from guestlist.fleet.etcd import auth, kv
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.endpoints import Tls
from guestlist.fleet.etcd.errors import EtcdError
from guestlist.fleet.etcd.span import Span
from guestlist.fleet.layout import Layout
from guestlist.fleet.reading import Fleet
from guestlist.fleet.rows import FleetRow, Standing
from guestlist.launcher import Launcher
from guestlist.records import Instance

FLEET = "f"
GUESTS = 12
RATE = 8.0
"""Changes a second on each host."""

_MODES: tuple[Mode, ...] = ("switch", "come-and-go", "switch")
_PEM = {"--cacert": "cacert.pem", "--cert": "clientcert.pem", "--key": "clientkey.pem"}


class Seen(NamedTuple):
    """What is compared of a guest: where it is, and what it does there."""

    host: str
    name: str
    id: int | None
    state: int
    reason: int


def seen(host: str, instance: Instance) -> Seen:
    """Return what is compared of a guest."""
    return Seen(host, instance.name, instance.id, int(instance.state), instance.reason)


class SiteHost:
    """One host: a daemon, its churn, and the process of its agent."""

    def __init__(self, number: int, lab: Lab, ttl: int, *, is_behind_relays: bool) -> None:
        self.name = f"h{number}"
        self.keys = HostKeys(FLEET, self.name)
        self.guests = [nova_instance(number * GUESTS + n) for n in range(GUESTS)]
        self.daemon = Daemon()
        self.relays = [Relay(each.port) for each in lab.members] if is_behind_relays else []
        self._mode = _MODES[number % len(_MODES)]
        self._lab, self._ttl = lab, ttl
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stack = contextlib.ExitStack()
        self.churner: ThreadChurner

    def __enter__(self) -> Self:
        self._stack.enter_context(self.daemon)
        for each in self.relays:
            self._stack.enter_context(each)
        self._stack.callback(self.kill_all)
        self._stack.enter_context(populated(self.uri, self.guests))
        uuids = [each.uuid for each in self.guests[: GUESTS // 2]]
        self.churner = ThreadChurner(self.uri, uuids, self._mode, rate=RATE)
        self._stack.enter_context(self.churner)
        self.churner.pause()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def uri(self) -> str:
        """The URI of its libvirt."""
        return self.daemon.uri()

    @property
    def endpoints(self) -> list[str]:
        """The members, as its agent reaches them."""
        return [f"127.0.0.1:{each.port}" for each in self.relays] or self._lab.endpoints

    @property
    def log(self) -> Path:
        """The log of all its agents."""
        return self._lab.folder / f"agent-{self.name}"

    @property
    def agent(self) -> subprocess.Popen[bytes]:
        """The agent that was started last."""
        return self._processes[-1]

    def start_agent(self, tls: Path | None = None, clock: str = "") -> subprocess.Popen[bytes]:
        """Start an agent beside those that run. `clock`: what faketime adds to its clock."""
        command = [*COMMAND, "agent", f"--fleet={FLEET}", f"--host={self.name}", "-c", self.uri]
        command += [f"--endpoints={','.join(self.endpoints)}", f"--ttl={self._ttl}"]
        if tls is not None:
            command += [f"{option}={tls / file}" for option, file in _PEM.items()]
        changes = off_by(clock) if clock else {}
        with self.log.open("ab") as log:
            made = subprocess.Popen(
                command,
                env=environment(**changes),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(made)
        return made

    def kill(self, process: subprocess.Popen[bytes] | None = None) -> None:
        """Kill an agent; None: the last one."""
        (process or self.agent).kill()
        (process or self.agent).wait()

    def kill_all(self) -> None:
        """Kill all agents."""
        for each in self._processes:
            self.kill(each)

    def freeze(self) -> None:
        """Stop the last agent's process, with its connections open."""
        self.agent.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen agent go on."""
        self.agent.send_signal(signal.SIGCONT)

    def says(self, text: str, count: int = 1) -> None:
        """Wait until the agents' log has a text so many times."""
        wait_until(lambda: self.log.read_text().count(text) >= count)

    def said(self, text: str) -> int:
        """Return how many times the agents' log has a text."""
        return self.log.read_text().count(text) if self.log.exists() else 0

    def hold(self) -> None:
        """Cut its agent off from all members, without a word."""
        for each in self.relays:
            each.hold()

    def release(self) -> None:
        """End that."""
        for each in self.relays:
            each.release()

    def has(self) -> dict[UUID, Seen]:
        """Return what its libvirt has now."""
        return {
            each.uuid: seen(self.name, each)
            for each in truth(self.uri, details=False).values()
            if each.launcher is not Launcher.DOM0
        }


class Site:
    """The whole; a context manager that starts it, in step.

    Args:
        release: the etcd's.
        members: of the etcd.
        hosts: how many.
        ttl: of each agent's lease.
        tls: with TLS, authentication, and a certificate and a role for each host.
        quota: bytes that the etcd's file may have.
    """

    def __init__(
        self,
        release: str,
        *,
        members: int = 3,
        hosts: int = 3,
        ttl: int = 10,
        tls: bool = False,
        quota: int | None = None,
    ) -> None:
        self.lab = Lab(release, members=members, tls=tls, auth=tls, quota=quota)
        self.hosts = [
            SiteHost(number, self.lab, ttl, is_behind_relays=not number) for number in range(hosts)
        ]
        self.relays = [Relay(each.port) for each in self.lab.members]
        """Between the reader and the members."""
        self.layout = Layout(FLEET)
        self.etcd: Etcd
        """A client of the site's own, as root, past all relays."""
        self.fleet: Fleet
        """The reader."""
        self._tls = tls
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.lab)
            self.etcd = self._stack.enter_context(Etcd(self.lab.endpoints, tls=self.tls("root")))
            for each in self.relays:
                self._stack.enter_context(each)
            for host in self.hosts:
                self._stack.enter_context(host)
            if self._tls:
                self._give_rights()
            endpoints = [f"127.0.0.1:{each.port}" for each in self.relays]
            reader = Fleet(endpoints, fleet=FLEET, tls=self.tls("reader"), timeout=2.0)
            self.fleet = self._stack.enter_context(reader)
            for host in self.hosts:
                host.start_agent(self.pem(host.name))
            wait_until(self.is_in_step)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def always(self) -> set[UUID]:
        """The guests that exist all the time."""
        return {each.uuid for host in self.hosts for each in host.guests}

    def pem(self, user: str) -> Path | None:
        """Return the folder with a user's certificate; None without TLS."""
        return self.lab.certificate(user) if self._tls else None

    def tls(self, user: str) -> Tls | None:
        """Return a user's certificate for a client."""
        pem = self.pem(user)
        if pem is None:
            return None
        ca, certificate, key = (pem / each for each in _PEM.values())
        return Tls(ca, certificate, key)

    def _give_rights(self) -> None:
        everything = auth.Right(auth.Access.READ, self.layout.everything)
        rights = {"reader": [everything]}
        for host in self.hosts:
            own = self.layout.own(host.name)
            rights[host.name] = [auth.Right(auth.Access.READWRITE, each) for each in own]
        for user, some in rights.items():
            auth.add_role(self.etcd, user)
            for each in some:
                auth.grant(self.etcd, user, each)
            auth.add_user(self.etcd, user)
            auth.grant_role(self.etcd, user, user)

    # Churn

    def resume(self) -> None:
        """Let the domains of all hosts change."""
        for host in self.hosts:
            host.churner.resume()

    def pause(self) -> int:
        """Let them stay as they are; return the changes so far."""
        return sum(host.churner.pause() for host in self.hosts)

    def churn_for(self, seconds: float) -> None:
        """Let changes go on for so long, and for ten changes of each host at least."""
        end = time.monotonic() + seconds
        for host in self.hosts:
            host.churner.wait_changes(10)
        time.sleep(max(0.0, end - time.monotonic()))

    # What should be

    def is_live(self, host: SiteHost) -> bool:
        """Return whether the store has a host's live key."""
        return kv.get(self.etcd, host.keys.live) is not None

    def term(self, host: SiteHost) -> int:
        """Return the term of a host; 0: none."""
        found = kv.get(self.etcd, host.keys.live)
        return found.create_revision if found else 0

    def revision(self) -> int:
        """Return the store's revision."""
        return kv.read(self.etcd, Span(b"/none"), count_only=True).revision

    def is_in_step(self, adding: Adding | None = None) -> bool:
        """Return whether store and readers have exactly what the hosts have.

        A guest that ended while its agent was away may be there as one that is on its way, or
        unknown: its host says so for a while.
        """
        real = {uuid: each for host in self.hosts for uuid, each in host.has().items()}
        try:
            if self._stored() != real:
                return False
            found = self.fleet.snapshot()
        except EtcdError:
            return False
        if not found.complete or {each.host for each in found.hosts} != self._names:
            return False
        rows = dict(found)
        return _settled(rows) == real and (adding is None or adding.rows == rows)

    @property
    def _names(self) -> set[str]:
        return {each.name for each in self.hosts}

    def _stored(self) -> dict[UUID, Seen]:
        stored: dict[UUID, Seen] = {}
        for host in self.hosts:
            page = kv.read(self.etcd, self.layout.domains(host.name))
            read = self.layout.read(page.rows)
            assert not read.bad, read.bad
            stored |= {
                each.instance.uuid: seen(host.name, each.instance) for each in read.publications
            }
        return stored

    def judge(self, row: FleetRow) -> str | None:
        """Return what is wrong with a row of a complete list, whatever happens now."""
        host = next((each for each in self.hosts if each.name == row.host), None)
        if host is None:
            return "a host that is none"
        is_own = row.uuid in {each.uuid for each in host.guests}
        if is_own or row.instance.name.startswith("visitor-"):
            return None
        return "never there"


def _settled(rows: Mapping[UUID, FleetRow]) -> dict[UUID, Seen]:
    passing = Standing.UNKNOWN, Standing.IN_TRANSIT
    return {
        uuid: seen(row.host, row.instance)
        for uuid, row in rows.items()
        if row.standing not in passing
    }
