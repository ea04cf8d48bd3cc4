"""What differs between the hosts and Nova, in one look at each. Pure.

In: looks at hosts, and one look at Nova. Out: differences, each with the doubts that these looks
leave: what could explain it besides a fault. Copies that Nova keeps by right are no difference
(`expected`), and a server that Nova is changing has none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from guestlist.audit import expected
from guestlist.audit.findings import Kind
from guestlist.audit.names import HostNames
from guestlist.audit.rows import HostLook, LostDisk, NovaLook, Server
from guestlist.errors import short
from guestlist.records import Instance
from guestlist.states import DomainState

_DOWN = "Nova does not tell where the server is"
_MOVING = "the record of a migration of the server says that it has not ended"
_CHANGING = "Nova is changing the server"
_SHELVED = "the compute service may still be removing it"
_NOT_MOUNTED = "its directory is not there either: its file system may only not be mounted here"
_MISNAMED = "the host that was asked may be another one than Nova calls by that name"
STARTING = "a guest may be about to start on this host"
"""The doubt about a tap device: Nova makes the device before libvirt has the domain."""


class Key(NamedTuple):
    """What makes two differences the same one. `subject` is the path of a disk, or a tap device."""

    kind: Kind
    uuid: UUID | None
    hosts: tuple[str, ...]
    subject: str | None


@dataclass(frozen=True, slots=True)
class Copy:
    """One domain, and the look that found it."""

    look: HostLook
    domain: Instance


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, in one look at the hosts and one at Nova.

    `copies` are the domains that it is about. `server` is Nova's record of them, None without one.
    `host` is the look at a host that it is about where no domain is. `doubts` are what else could
    explain it; empty: only a fault can.
    """

    kind: Kind
    uuid: UUID | None
    copies: tuple[Copy, ...] = ()
    server: Server | None = None
    host: HostLook | None = None
    subject: str | None = None
    doubts: tuple[str, ...] = ()

    @property
    def looks(self) -> tuple[HostLook, ...]:
        """The looks at the hosts that it is about, each once."""
        found = {each.look.host: each.look for each in self.copies}
        if self.host is not None:
            found[self.host.host] = self.host
        return tuple(found.values())

    @property
    def key(self) -> Key:
        """What makes it the same one in another look."""
        hosts = tuple(look.host for look in self.looks)
        return Key(self.kind, self.uuid, hosts, self.subject)

    def doubted(self, *doubts: str) -> Difference:
        """Return it with more doubts."""
        return replace(self, doubts=self.doubts + doubts) if doubts else self


def differences(
    hosts: Sequence[HostLook], nova: NovaLook, *, names: HostNames
) -> dict[Key, Difference]:
    """Return what differs, by key. If servers were asked for by id, the others are left out."""
    found = _Comparison(hosts, nova, names).found()
    return {each.key: each.doubted(*_moving(each.server)) for each in found}


class _Comparison:
    """One comparison of looks at hosts with a look at Nova."""

    def __init__(self, hosts: Sequence[HostLook], nova: NovaLook, names: HostNames) -> None:
        self._hosts = hosts
        self._nova = nova
        self._names = names
        self._copies = _by_uuid(hosts)
        self._looks = {look.host: look for look in hosts}
        self._failed = [look.host for look in hosts if look.domains is None]

    def found(self) -> Iterator[Difference]:
        """Yield each difference."""
        for uuid, copies in self._copies.items():
            if self._is_asked(uuid):
                yield from self._of_domain(uuid, copies)
        for uuid, server in self._nova.servers.items():
            if uuid not in self._copies:
                yield from self._of_missing(server)
        yield from self._of_names()
        for look in self._hosts:
            for disk in look.lost_disks or ():
                yield from self._of_disk(look, disk)
            yield from self._of_taps(look)

    def _is_asked(self, uuid: UUID) -> bool:
        """Return whether Nova would have told of this UUID."""
        return self._nova.asked is None or uuid in self._nova.asked

    def _of_domain(self, uuid: UUID, copies: list[Copy]) -> Iterator[Difference]:
        server = self._nova.servers.get(uuid)
        if server is None:
            if ours := [each for each in copies if each.domain.ours]:
                yield Difference(Kind.UNKNOWN_TO_NOVA, uuid, tuple(ours), doubts=self._nova.missing)
                yield from self._active_twice(uuid, ours, None, self._nova.missing)
        elif server.status == expected.DELETED:
            yield Difference(Kind.DELETED_IN_NOVA, uuid, tuple(copies), server)
            yield from self._active_twice(uuid, copies, server)
        elif server.status == expected.UNKNOWN:
            yield from self._active_twice(uuid, copies, server, self._nova.missing or (_DOWN,))
        elif expected.at_work(server):
            running = [each for each in copies if each.domain.state is DomainState.RUNNING]
            yield from self._active_twice(uuid, running, server, [_CHANGING])
        else:
            yield from self._of_places(server, copies)
            yield from self._of_power(server, copies)

    def _active_twice(
        self, uuid: UUID, copies: Iterable[Copy], server: Server | None, doubts: Iterable[str] = ()
    ) -> Iterator[Difference]:
        active = tuple(each for each in copies if each.domain.active)
        if len(active) > 1:
            kind = Kind.ACTIVE_ON_TWO_HOSTS
            yield Difference(kind, uuid, active, server, doubts=tuple(dict.fromkeys(doubts)))

    def _of_places(self, server: Server, copies: list[Copy]) -> Iterator[Difference]:
        """Yield where the copies are that should be elsewhere, or not be."""
        home = self._names.home(server)
        rights = _rights(copies, home, server, self._names)
        twice = list(self._active_twice(server.uuid, copies, server, rights))
        yield from twice
        if not server.has_host:
            return
        at_home = [each for each in copies if each.look.host == home]
        for each in copies:
            is_told = each.domain.active and (twice or expected.has_no_place(server))
            if each in at_home or is_told or self._is_by_right(each, server):
                continue
            if not self._names.can_place(each.look.host):
                continue
            doubts = tuple(_rights([each], home, server, self._names))
            if at_home and not each.domain.active:
                both = (at_home[0], each)
                yield Difference(Kind.SHARED_UUID, server.uuid, both, server, doubts=doubts)
            else:
                yield Difference(Kind.WRONG_HOST, server.uuid, (each,), server, doubts=doubts)

    def _is_by_right(self, copy: Copy, server: Server) -> bool:
        """Return whether Nova keeps this copy away from home, shut off."""
        if copy.domain.active:
            return False
        if expected.has_no_place(server) or expected.awaits_decision(server):
            return True
        return any(
            expected.is_evacuated(each) and self._names.is_source(copy.look.host, each)
            for each in server.migrations or ()
        )

    def _of_power(self, server: Server, copies: list[Copy]) -> Iterator[Difference]:
        """Yield the copies whose state is another than Nova says."""
        home = self._names.home(server)
        if expected.is_shut_off(server):
            for each in copies:
                if each.domain.active:
                    shelved = [_SHELVED] if expected.has_no_place(server) else []
                    doubts = (*shelved, *_rights([each], home, server, self._names))
                    kind = Kind.RUNNING_THOUGH_SHUTOFF
                    yield Difference(kind, server.uuid, (each,), server, doubts=doubts)
            if any(each.domain.active for each in copies):
                return
        judged = [each for each in copies if each.look.host == home or len(copies) == 1]
        for each in judged:
            if expected.power_differs(server, each.domain.state):
                another = self._other_copy(server, each, home)
                yield Difference(Kind.POWER_STATE, server.uuid, (each,), server, doubts=another)

    def _other_copy(self, server: Server, copy: Copy, home: str | None) -> tuple[str, ...]:
        """Return the doubt that the host where Nova has the server has a copy, and was not seen."""
        if copy.look.host != home and home in self._failed:
            return (f"{home}, which failed, may have the copy that counts",)
        name = server.hypervisor_hostname or server.host
        if home is None and name and self._names.can_place(copy.look.host):
            return (f"{short(name)}, which was not asked, may have the copy that counts",)
        return ()

    def _of_missing(self, server: Server) -> Iterator[Difference]:
        home = self._looks.get(self._names.home(server) or "")
        if home is None or home.domains is None or expected.at_work(server):
            return
        if expected.is_on_a_host(server):
            doubts = [] if self._names.can_place(home.host) else [_MISNAMED]
            doubts += [f"{host}, which failed, may run it" for host in self._failed]
            for name in self._names.not_asked[:1]:
                doubts.append(f"a host that was not asked may run it, such as {short(name)}")
            yield Difference(Kind.MISSING, server.uuid, (), server, home, doubts=tuple(doubts))

    def _of_names(self) -> Iterator[Difference]:
        """Yield the domains that have the name of another server's domain.

        Two servers of two cells may have one name by right: then Nova has it for both.
        """
        by_name: dict[str, list[Copy]] = defaultdict(list)
        for uuid, copies in self._copies.items():
            if self._is_asked(uuid) and (copies[0].domain.ours or uuid in self._nova.servers):
                by_name[copies[0].domain.name].append(copies[0])
        for name, copies in by_name.items():
            if len(copies) > 1:
                rightful = [each for each in copies if self._may_be_named(each, name)]
                for each in copies:
                    others = [other for other in rightful or copies if other is not each]
                    if each not in rightful and others:
                        yield self._shared_name(each, others)

    def _may_be_named(self, copy: Copy, name: str) -> bool:
        server = self._nova.servers.get(copy.domain.uuid)
        return server is not None and (
            server.instance_name in (None, name)
            or expected.at_work(server)
            or expected.awaits_decision(server)  # in another cell Nova gives it another name
        )

    def _shared_name(self, copy: Copy, others: Sequence[Copy]) -> Difference:
        uuid = copy.domain.uuid
        server = self._nova.servers.get(uuid)
        doubts = () if server else self._nova.missing
        return Difference(Kind.SHARED_NAME, uuid, (copy, *others), server, doubts=doubts)

    def _of_disk(self, look: HostLook, disk: LostDisk) -> Iterator[Difference]:
        """Yield the disk, unless Nova is at work on it or the domain is not at home."""
        server = self._nova.servers.get(disk.domain)
        if server is None or server.status in (expected.UNKNOWN, expected.DELETED):
            return
        copies = tuple(each for each in self._copies[disk.domain] if each.look is look)
        is_at_home = self._names.home(server) == look.host or not server.has_host
        if copies and not expected.at_work(server) and is_at_home:
            doubts = () if disk.has_directory else (_NOT_MOUNTED,)
            subject = disk.location
            yield Difference(
                Kind.DISK_GONE, server.uuid, copies, server, subject=subject, doubts=doubts
            )

    def _of_taps(self, look: HostLook) -> Iterator[Difference]:
        if not look.taps:
            return
        starting = any(may_start(each, look.host, self._names) for each in self._servers())
        doubts = (*([STARTING] if starting else []), *self._nova.missing)
        for tap in look.taps:
            yield Difference(Kind.TAP_WITHOUT_DOMAIN, None, host=look, subject=tap, doubts=doubts)

    def _servers(self) -> Iterable[Server]:
        return self._nova.servers.values()


def may_start(server: Server, host: str, names: HostNames) -> bool:
    """Return whether Nova may be about to start the server's guest on this host."""
    if not (expected.at_work(server) or expected.is_moving(server)):
        return False
    if names.home(server) == host:
        return True
    if server.migrations is None:  # where to, a question by id tells
        return server.status in ("MIGRATING", "RESIZE", "REVERT_RESIZE", "REBUILD")
    moves = [each for each in server.migrations if expected.is_under_way(each)]
    return any(names.is_dest(host, each) or names.is_source(host, each) for each in moves)


def _moving(server: Server | None) -> tuple[str, ...]:
    return (_MOVING,) if server is not None and expected.is_moving(server) else ()


def _rights(
    copies: Iterable[Copy], home: str | None, server: Server, names: HostNames
) -> Iterator[str]:
    """Yield why Nova may keep the active copies that are not at home."""
    for each in copies:
        if each.look.host == home or not each.domain.active:
            continue
        if expected.awaits_decision(server):
            yield "a resize waits for the user's decision, and Nova keeps the old copy"
        for move in server.migrations or ():
            if expected.is_evacuated(move) and names.is_source(each.look.host, move):
                yield (
                    "the guest was evacuated, and the old copy is deleted when the compute service "
                    f"of {each.look.host} starts"
                )


def _by_uuid(hosts: Iterable[HostLook]) -> Mapping[UUID, list[Copy]]:
    """Return the copies of each domain, in the order of the hosts."""
    copies: dict[UUID, list[Copy]] = defaultdict(list)
    for look in hosts:
        for domain in look.domains or ():
            copies[domain.uuid].append(Copy(look, domain))
    return copies
