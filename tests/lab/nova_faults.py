"""Faults between Nova and its hosts: what an audit has to find, each on a server of its own.

In: Nova's operations (`lab.nova_life`) and hosts. Out: planted faults, of all kinds that an audit
knows. A fault is planted in a server that no operation touches, by the steps that bring it about in
practice, and stays.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from lab.daemon import Daemon
from lab.images import make_image
from lab.nova_api import NovaApi
from lab.nova_life import Host, Life, Server, domain_of

from guestlist.audit.findings import Finding, Kind


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault that is there since `when` (monotonic), and what an audit should call it.

    `uuids` are those that it involves: a finding about another one of them is no false alarm.
    """

    what: str
    kind: Kind
    uuid: UUID | None
    uuids: frozenset[UUID]
    hosts: tuple[str, ...]
    subject: str | None
    when: float

    def is_told(self, finding: Finding) -> bool:
        """Return whether the finding is this fault."""
        return (finding.kind, finding.uuid, finding.subject) == (self.kind, self.uuid, self.subject)


@dataclass(eq=False, slots=True)
class Faults:
    """Faults to plant. `announce` is called with the UUIDs of a fault before it is planted."""

    nova: NovaApi
    life: Life
    announce: Callable[[Sequence[UUID]], object]

    def planting(
        self,
        one: Host,
        two: Host,
        far: Host,
        real: tuple[Host, Daemon] | None = None,
        system: Host | None = None,
    ) -> Iterator[Planted]:
        """Yield each fault when it is planted.

        `one` and `two` are neighbours. `real` has QEMU. `system` is the libvirtd of the system, in
        whose network this process is.
        """
        other = real[0] if real else far
        yield self._active_twice(one, two, paused=False)
        yield self._active_twice(two, one, paused=True)
        yield self._confirmed_with_both_running(one, two)
        yield self._moved_behind_novas_back(two, one)
        yield self._migrated_and_not_written(one, two)
        yield self._unknown(one, active=True)
        yield self._unknown(far, active=False)
        yield self._deleted(two, active=True)
        yield self._deleted(other, active=False)
        yield self._missing(one, "active")
        yield self._missing(far, "stopped")
        yield self._shares_a_name(one, two)
        yield self._left_behind(two, one)
        if real:
            yield self._disk_gone(*real)
        if system:
            yield self._tap(system)
        yield self._runs_though_shut_off(one)  # from here on an audit waits before its second round
        yield self._runs_though_shut_off(other)
        yield self._runs_though_deleted_softly(two)
        yield self._power_differs(two, "active", lambda host, server: host.destroy(server.domain))
        yield self._power_differs(one, "paused", lambda host, server: host.resume(server.domain))
        yield self._power_differs(other, "active", lambda host, server: host.suspend(server.domain))

    def _planted(
        self,
        what: str,
        kind: Kind,
        *servers: Server,
        hosts: Sequence[Host],
        subject: str | None = None,
    ) -> Planted:
        uuids = frozenset(each.uuid for each in servers)
        names = tuple(each.name for each in hosts)
        return Planted(what, kind, servers[0].uuid, uuids, names, subject, time.monotonic())

    def _reserved(self, host: Host, state: str = "active", devices: str = "") -> Server:
        server = self.life.settled(host, state, devices)
        self.announce([server.uuid])
        return server

    def _runs_though_shut_off(self, host: Host) -> Planted:
        server = self._reserved(host, "stopped")
        host.start(server.domain)
        what = "started by hand, Nova says SHUTOFF"
        return self._planted(what, Kind.RUNNING_THOUGH_SHUTOFF, server, hosts=[host])

    def _runs_though_deleted_softly(self, host: Host) -> Planted:
        server = self._reserved(host)
        run(self.life.soft_delete(server))
        host.start(server.domain)
        what = "started by hand, Nova says SOFT_DELETED"
        return self._planted(what, Kind.RUNNING_THOUGH_SHUTOFF, server, hosts=[host])

    def _active_twice(self, home: Host, other: Host, *, paused: bool) -> Planted:
        server = self._reserved(home)
        other.define(server.domain)
        other.start(server.domain, paused=paused)
        what = "a second copy is paused" if paused else "a second copy runs"
        return self._planted(what, Kind.ACTIVE_ON_TWO_HOSTS, server, hosts=[home, other])

    def _confirmed_with_both_running(self, home: Host, other: Host) -> Planted:
        server = self._reserved(home)
        run(self.life.resize(server))
        run(self.life.confirm(server))
        home.define(server.domain)
        home.start(server.domain)
        what = "a resize was confirmed, the old copy runs"
        return self._planted(what, Kind.ACTIVE_ON_TWO_HOSTS, server, hosts=[home, other])

    def _moved_behind_novas_back(self, home: Host, other: Host) -> Planted:
        server = self._reserved(home)
        other.define(server.domain)
        other.start(server.domain)
        home.destroy(server.domain)
        home.undefine(server.domain)
        return self._planted("migrated by virsh", Kind.WRONG_HOST, server, hosts=[other])

    def _migrated_and_not_written(self, home: Host, other: Host) -> Planted:
        server = self._reserved(home)
        run(self.life.live_migrate(server))
        number = self.nova.migration(server.uuid, "live-migration", "error", home.name, other.name)
        assert number
        self.nova.update(server.uuid, host=home.name)
        what = "a live migration failed after its end"
        return self._planted(what, Kind.WRONG_HOST, server, hosts=[other])

    def _unknown(self, host: Host, *, active: bool) -> Planted:
        uuid = uuid4()
        server = Server(uuid, host, domain_of(uuid, f"instance-{uuid.int % 2**31 + 2**31:08x}"))
        self.announce([uuid])
        host.define(server.domain)
        if active:
            host.start(server.domain)
        what = f"Nova never had it, {'active' if active else 'shut off'}"
        return self._planted(what, Kind.UNKNOWN_TO_NOVA, server, hosts=[host])

    def _deleted(self, host: Host, *, active: bool) -> Planted:
        server = self._reserved(host)
        run(self.life.delete(server))
        host.define(server.domain)
        if active:
            host.start(server.domain)
        what = f"deleted, the domain is {'active' if active else 'shut off'}"
        return self._planted(what, Kind.DELETED_IN_NOVA, server, hosts=[host])

    def _missing(self, host: Host, state: str) -> Planted:
        server = self._reserved(host, state)
        host.destroy(server.domain)
        host.undefine(server.domain)
        what = f"undefined by hand, Nova says {state}"
        return self._planted(what, Kind.MISSING, server, hosts=[host])

    def _power_differs(
        self, host: Host, state: str, change: Callable[[Host, Server], object]
    ) -> Planted:
        server = self._reserved(host, state)
        change(host, server)
        what = f"changed by hand, Nova says {state}"
        return self._planted(what, Kind.POWER_STATE, server, hosts=[host])

    def _shares_a_name(self, one: Host, two: Host) -> Planted:
        first, second = self._reserved(one), self._reserved(two)
        two.destroy(second.domain)
        two.undefine(second.domain)
        second.domain = replace(second.domain, name=first.domain.name)
        two.define(second.domain)
        two.start(second.domain)
        what = "defined under another server's name"
        return self._planted(what, Kind.SHARED_NAME, second, first, hosts=[two, one])

    def _left_behind(self, home: Host, other: Host) -> Planted:
        server = self._reserved(home)
        other.define(server.domain)
        what = "a second definition, shut off"
        return self._planted(what, Kind.SHARED_UUID, server, hosts=[home, other])

    def _disk_gone(self, host: Host, daemon: Daemon) -> Planted:
        image = make_image(daemon, written=0)
        server = self._reserved(host, "paused", image.disk())
        image.path.unlink()
        what = "its image was removed"
        return self._planted(what, Kind.DISK_GONE, server, hosts=[host], subject=str(image.path))

    def _tap(self, host: Host) -> Planted:
        name = f"tap{uuid4()}"[:14]  # Nova names the tap device after the port, in so many letters
        _command("ip", "tuntap", "add", "dev", name, "mode", "tap")
        _command("ip", "link", "set", name, "up")
        what = "its domain is gone"
        kind, none = Kind.TAP_WITHOUT_DOMAIN, frozenset[UUID]()
        return Planted(what, kind, None, none, (host.name,), name, time.monotonic())


def _command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def run(steps: Iterator[None]) -> None:
    """Do an operation without a pause."""
    for _ in steps:
        pass
