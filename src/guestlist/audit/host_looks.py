"""The hosts of an audit, asked side by side.

In: hosts. Out: a look at each: all its domains, of any launcher, active or not; and for a host on
this machine the disks that are gone and the tap devices without a domain. A host that fails is a
look without domains, and delays no other. Connections stay open between two looks. Changes nothing.

**Two URIs of one host.** Each of its domains would seem active on two hosts. Hosts that have a
domain in common are asked who they are (`several.doubles`). If two are one, the look leaves out the
one without a name, and the log says so. If both have a name in the file of hosts, one name leads to
the wrong host and nothing tells which: then both are failures.

**Which hosts are this machine.** A hypervisor driver that keeps the files of its guests here, at a
URI without another machine's name. Only the daemon of the system (qemu:///system) owns tap devices;
that of a session does not. The devices of all daemons of this machine count, so all of them are
asked wherever tap devices are judged.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from guestlist import uris
from guestlist.audit import taps
from guestlist.audit.disks_gone import DisksGone
from guestlist.audit.rows import HostLook, LostDisk
from guestlist.audit.taps import Tap
from guestlist.capabilities import Location
from guestlist.errors import GuestlistError, one_line, short
from guestlist.host import Host
from guestlist.records import Instance
from guestlist.several import doubles
from guestlist.several.asking import HostAnswer, ask_in_order

log = logging.getLogger(__name__)

T = TypeVar("T")

_USE_FILES_HERE = {"qemu", "xen", "lxc", "ch", "vz"}
"""Hypervisor drivers whose guests use files of the machine where libvirt is."""

_SYSTEM = "/system"


@dataclass(eq=False, slots=True)
class AuditedHost:
    """A host of an audit. `name` is its name in the file of hosts; None: Nova knows it by libvirt's
    own hostname.
    """

    host: Host
    name: str | None = None
    hostname: str | None = field(default=None, init=False)
    """libvirt's own hostname, once it is known; it is asked for only without a name."""

    @property
    def key(self) -> str:
        """How the user names the host."""
        return self.name or self.host.uri or self.host.resolved_uri

    @property
    def names(self) -> tuple[str, ...]:
        """The names that Nova may know the host by; none before the first answer without a name."""
        known = self.name or self.hostname
        return (known,) if known else ()

    def may_be_here(self) -> bool:
        """Return whether this host may be this machine, by its URI alone. Cost: none."""
        location = Location.of(uris.resolved(self.host.uri) or "")
        return location.is_local and location.driver in {*_USE_FILES_HERE, ""}

    def may_own_taps(self) -> bool:
        """Return whether tap devices of this machine may belong to this host. Cost: none."""
        instance = Location.of(uris.resolved(self.host.uri) or "").instance
        return self.may_be_here() and instance in {_SYSTEM, ""}


class _Listed(NamedTuple):
    """The domains of a host, and what must be known to judge them."""

    began: float
    ended: float
    location: Location
    domains: tuple[Instance, ...]

    @property
    def is_here(self) -> bool:
        return _is_here(self.location)


_Outcome = _Listed | Exception


class HostLooks:
    """The hosts of an audit, each looked at as often as asked. One thread uses it at a time.

    Args:
        hosts: the hosts, each once. They are closed by `close`.
        timeout: seconds that one host has.
        deadline: seconds for all hosts of a look together; None: no bound but `timeout`.
        disks: whether to look for the disks of this machine.
        tap_devices: whether to look for the tap devices of this machine.
        disks_deadline: seconds that storage has; what has not answered by then is not known.
    """

    def __init__(
        self,
        hosts: Iterable[AuditedHost],
        *,
        timeout: float = 30.0,
        deadline: float | None = None,
        disks: bool = True,
        tap_devices: bool = True,
        disks_deadline: float = 3.0,
    ) -> None:
        self._hosts = list(hosts)
        self._timeout = timeout
        self._deadline = deadline
        self._disks = DisksGone(disks_deadline) if disks else None
        self._has_taps = tap_devices
        self._said: set[str] = set()

    def look(self, names: Collection[str] | None = None) -> tuple[HostLook, ...]:
        """Return a look at each host, in their order; with `names` only at those (`HostLook.host`).

        A host that is given a second time, without a name, is left out.

        Cost: 1 call for each host; the first time also what opening costs, and 1 call for the
        hostname of a host without a name. 4 calls more, once per connection, for each of two hosts
        that have a domain in common. On this machine 1 call for the XML of each domain, the first
        time and after each change; and where a disk is gone, 1 call for the list and 1 for the XML
        of its domain, every time.
        """
        wanted = [each for each in self._hosts if names is None or each.key in names]
        idle = self._idle_taps(wanted)
        beside = [] if idle is None else [each for each in self._hosts if each.may_be_here()]
        began = time.monotonic()
        outcomes = self._listed(dict.fromkeys((*wanted, *beside)))
        left_out = self._settle_doubles(outcomes)
        owner, found = self._taps(outcomes, idle, left_out)
        return tuple(
            self._look(each, outcomes[each], began, found if each is owner else None)
            for each in wanted
            if each not in left_out
        )

    def close(self) -> None:
        """Close all hosts; a later look opens them again."""
        for each in self._hosts:
            each.host.close()

    # The question

    def _listed(self, hosts: Iterable[AuditedHost]) -> dict[AuditedHost, _Outcome]:
        by_host = {each.host: each for each in hosts}
        return self._asked(by_host.values(), lambda host: self._list(by_host[host]))

    def _list(self, audited: AuditedHost) -> _Listed:
        """List the domains of a host, on a thread of its own."""
        host = audited.host
        location = host.location
        if audited.name is None:
            audited.hostname = host.hostname()
        details = _is_here(location) and (self._has_taps or self._disks is not None)
        began = time.monotonic()
        domains = _all_domains(host, details=details)
        return _Listed(began, time.monotonic(), location, domains)

    def _asked(
        self, hosts: Iterable[AuditedHost], question: Callable[[Host], T]
    ) -> dict[AuditedHost, T | Exception]:
        """Ask hosts side by side; return the answer of each, or its failure."""
        hosts = list(hosts)
        outcomes = ask_in_order(
            [each.host for each in hosts],
            question,
            timeout=self._timeout,
            deadline=self._deadline,
        )
        return {
            each: outcome.value if isinstance(outcome, HostAnswer) else outcome.error
            for each, outcome in zip(hosts, outcomes, strict=True)
        }

    def _look(
        self,
        audited: AuditedHost,
        outcome: _Outcome,
        began: float,
        found: tuple[str, ...] | None,
    ) -> HostLook:
        if isinstance(outcome, Exception):
            return HostLook(
                audited.key,
                began,
                time.monotonic(),
                domains=None,
                names=audited.names,
                failure=_in_a_line(audited, outcome),
            )
        return HostLook(
            audited.key,
            outcome.began,
            outcome.ended,
            outcome.domains,
            audited.names,
            lost_disks=self._lost_disks(audited, outcome),
            taps=found,
        )

    # Two URIs of one host

    def _settle_doubles(self, outcomes: dict[AuditedHost, _Outcome]) -> set[AuditedHost]:
        """Return the hosts to leave out; make failures of those that only their names tell apart.

        A host that may be another one's double and does not tell who it is becomes a failure, too.
        """
        by_host = {each.host: each for each in outcomes}
        listed = [
            (each.host, [instance.uuid for instance in outcome.domains])
            for each, outcome in outcomes.items()
            if isinstance(outcome, _Listed)
        ]

        def identities(hosts: Sequence[Host]) -> list[doubles.Identity]:
            told = self._asked([by_host[host] for host in hosts], doubles.identity)
            failed = {each: said for each, said in told.items() if isinstance(said, Exception)}
            outcomes.update(failed)
            return [None if isinstance(said, Exception) else said for said in told.values()]

        groups: dict[Host, list[AuditedHost]] = {}
        for host, first in doubles.repeated(listed, identities).items():
            groups.setdefault(first, [by_host[first]]).append(by_host[host])
        left_out: set[AuditedHost] = set()
        for group in groups.values():
            kept = [each for each in group if each.name is not None] or group[:1]
            for each in group:
                if each not in kept:
                    left_out.add(each)
                    self._say(f"{short(each.key)} is the same host as {short(kept[0].key)}")
            if len(kept) > 1:
                outcomes.update({each: _one_host(kept) for each in kept})
        return left_out

    # This machine

    def _idle_taps(self, wanted: Iterable[AuditedHost]) -> frozenset[Tap] | None:
        """Return the idle tap devices; None where no look needs them, or they are not known."""
        if self._has_taps and any(each.may_own_taps() for each in wanted):
            with contextlib.suppress(OSError):
                return taps.idle()
        return None

    def _taps(
        self,
        outcomes: Mapping[AuditedHost, _Outcome],
        before: frozenset[Tap] | None,
        left_out: Collection[AuditedHost],
    ) -> tuple[AuditedHost | None, tuple[str, ...] | None]:
        """Return the host that owns the tap devices, and those without a domain; None: not known.

        They are not known if one of this machine's daemons has failed: the devices may be its own.
        """
        here: list[Instance] = []
        owner = None
        for each, outcome in outcomes.items():
            if isinstance(outcome, _Listed):
                if outcome.is_here:
                    here += outcome.domains
                if (
                    outcome.location.instance == _SYSTEM
                    and each not in left_out
                    and outcome.is_here
                ):
                    owner = owner or each
            elif each.may_be_here():
                return None, None
        if owner is None or before is None:
            return None, None
        with contextlib.suppress(OSError):
            return owner, taps.without_domain(before, taps.idle(), here)
        return None, None

    def _lost_disks(self, audited: AuditedHost, listed: _Listed) -> tuple[LostDisk, ...] | None:
        """Return the disks of a host on this machine that are gone; None where not looked at."""
        if self._disks is None or not listed.is_here:
            return None
        gone, unknown = self._disks.among(listed.domains)
        if unknown:
            self._say(
                f"{short(audited.key)}: storage does not answer, and it is not known whether all "
                "disks are there"
            )
        return self._confirmed(self._disks, audited, gone) if gone else ()

    def _confirmed(
        self, disks: DisksGone, audited: AuditedHost, gone: Iterable[LostDisk]
    ) -> tuple[LostDisk, ...] | None:
        """Return the disks that the XML of now still names; None if it could not be read.

        The XML is older than the look at the disk: meanwhile the domain may be gone, and its disks
        with it, or have another disk, of which not every change sends an event.
        """
        suspects = {disk.domain for disk in gone}
        for uuid in suspects:
            audited.host.discard_details(uuid)
        again = self._asked([audited], lambda host: _all_domains(host, details=True))[audited]
        if isinstance(again, Exception):
            self._say(f"{_in_a_line(audited, again)}; so it is not known whether disks are gone")
            return None
        before = {(disk.domain, disk.location) for disk in gone}
        still = disks.among(instance for instance in again if instance.uuid in suspects)
        return tuple(disk for disk in still.disks if (disk.domain, disk.location) in before)

    def _say(self, what: str) -> None:
        """Log a warning, once."""
        if what not in self._said:
            self._said.add(what)
            log.warning("%s", what)


def _all_domains(host: Host, *, details: bool) -> tuple[Instance, ...]:
    return host.snapshot(
        include_inactive=True, include_foreign=True, include_dom0=True, details=details
    ).instances


def _is_here(location: Location) -> bool:
    return location.is_local and location.driver in _USE_FILES_HERE


def _one_host(group: Sequence[AuditedHost]) -> GuestlistError:
    names = " and ".join(short(each.key) for each in group)
    return GuestlistError(
        f"{names} are one host under {len(group)} names: correct the URIs in the file of hosts"
    )


def _in_a_line(audited: AuditedHost, error: Exception) -> str:
    if isinstance(error, GuestlistError):
        return one_line(error)
    log.debug("the traceback:", exc_info=error)
    return f"{short(audited.key)}: unexpected {type(error).__name__}: {one_line(error)}"
