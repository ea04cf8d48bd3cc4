"""The hosts of an audit, asked side by side.

In: hosts. Out: a look at each: all its domains, of any launcher, active or not; and for a host on
this machine the disks that are gone and the tap devices without a domain. A host that fails is a
look without domains, and delays no other. Connections stay open between two looks. Changes nothing.

**Two URIs of one host.** Each of its domains would seem active on two hosts. Hosts that have a
domain in common are asked who they are (`several.doubles`). If two are one, the look leaves out the
one without a name, and the log says so. If both have a name in the file of hosts, one name leads to
the wrong host and nothing tells which: then both are failures.

**Tap devices** may belong to any daemon of this machine, so all of them are asked wherever tap
devices are judged. If one of them fails, no tap device is.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeVar
from uuid import UUID

from guestlist.audit import taps, this_machine
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

_LONGEST_CLOSE = 1.0
"""Seconds that `close` waits for a host; a connection that hangs is closed when it returns."""


@dataclass(eq=False, slots=True)
class AuditedHost:
    """A host of an audit, and its name in the file of hosts.

    Without a name Nova knows it by libvirt's own hostname, which is asked for only then.
    """

    host: Host
    name: str | None = None
    hostname: str | None = field(default=None, init=False)
    """libvirt's own hostname, from the first answer on."""

    resolved_uri: str | None = field(default=None, init=False)
    """The URI that libvirt made of its default, from the first answer on."""

    @property
    def key(self) -> str:
        """How the user names the host."""
        return self.name or self.host.uri or self.resolved_uri or self.host.resolved_uri

    @property
    def names(self) -> tuple[str, ...]:
        """The names that Nova may know the host by; none are known before the first answer."""
        known = self.name or self.hostname
        return (known,) if known else ()

    @property
    def likely_location(self) -> Location:
        """Where the host is, as its URI alone tells. Cost: none."""
        return this_machine.before_it_opens(self.host.uri)


class _Listed(NamedTuple):
    """The domains of a host, and what must be known to judge them."""

    began: float
    ended: float
    location: Location
    domains: tuple[Instance, ...]


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
        tell: is called with the number of hosts that have answered or failed, and that of all.
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
        tell: Callable[[int, int], object] = lambda _outcomes, _hosts: None,
    ) -> None:
        self._hosts = list(hosts)
        self._timeout = timeout
        self._deadline = deadline
        self._disks = DisksGone(disks_deadline) if disks else None
        self._has_taps = tap_devices
        self._tell = tell
        self._said: set[str] = set()
        self.failures: dict[str, Exception] = {}
        """By host (`HostLook.host`): why it failed in the last look."""

    def look(self, names: Collection[str] | None = None) -> tuple[HostLook, ...]:
        """Return a look at each host, in their order; with `names` only at those (`HostLook.host`).

        A host that is given a second time, without a name, is left out.

        Cost: 1 call for each host; the first time also what opening costs, and 1 call for the
        hostname of a host without a name. 5 calls more, once per connection, for each of two hosts
        that have a domain in common. On this machine 1 call for the XML of each domain, the first
        time and after each change; and where a disk is gone, 1 call for the list and 1 for the XML
        of its domain, every time.
        """
        wanted = [each for each in self._hosts if names is None or each.key in names]
        began = time.monotonic()
        idle = self._idle_taps(wanted)
        beside = () if idle is None else self._here()
        outcomes = self._listed(dict.fromkeys((*wanted, *beside)))
        left_out = self._settle_doubles(outcomes)
        failed = {each.key: outcomes[each] for each in wanted}
        self.failures = {key: why for key, why in failed.items() if isinstance(why, Exception)}
        without_domain = self._taps(outcomes, idle)
        looks = []
        for each in wanted:
            if each in left_out:
                continue
            outcome = outcomes[each]
            found = None
            if isinstance(outcome, _Listed) and this_machine.owns_taps(outcome.location):
                found, without_domain = without_domain, None  # the first of them is told
            looks.append(self._look(each, outcome, began, found))
        return tuple(looks)

    def close(self) -> None:
        """Close all hosts, side by side; a later look opens them again."""
        hosts = [each.host for each in self._hosts]
        ask_in_order(hosts, Host.close, timeout=_LONGEST_CLOSE)

    def __enter__(self) -> Self:
        """Return these looks. Opens nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

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
        audited.resolved_uri = host.resolved_uri
        is_judged = self._has_taps or self._disks is not None
        details = is_judged and this_machine.is_here(location)
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
            tell=self._tell,
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

    def _here(self) -> Iterator[AuditedHost]:
        """Yield the hosts that seem to be this machine."""
        return (each for each in self._hosts if this_machine.is_here(each.likely_location))

    def _idle_taps(self, wanted: Iterable[AuditedHost]) -> frozenset[Tap] | None:
        """Return the idle tap devices; None where no look needs them, or sysfs is not there."""
        if self._has_taps and any(this_machine.owns_taps(each.likely_location) for each in wanted):
            with contextlib.suppress(OSError):
                return taps.idle()
        return None

    def _taps(
        self, outcomes: Mapping[AuditedHost, _Outcome], before: frozenset[Tap] | None
    ) -> tuple[str, ...] | None:
        """Return the tap devices that no domain of this machine has; None: not known."""
        if before is None:
            return None
        here: list[Instance] = []
        for each, outcome in outcomes.items():
            if isinstance(outcome, _Listed):
                if this_machine.is_here(outcome.location):
                    here += outcome.domains
            elif this_machine.is_here(each.likely_location):
                return None
        with contextlib.suppress(OSError):
            return taps.without_domain(before, taps.idle(), here)
        return None

    def _lost_disks(self, audited: AuditedHost, listed: _Listed) -> tuple[LostDisk, ...] | None:
        """Return the disks of a host that are gone; None if they were not looked at."""
        if self._disks is None or not this_machine.is_here(listed.location):
            return None

        def read_again(uuids: frozenset[UUID]) -> Iterable[Instance]:
            for uuid in uuids:
                audited.host.discard_details(uuid)
            again = self._asked([audited], lambda host: _all_domains(host, details=True))[audited]
            if isinstance(again, Exception):
                raise again
            return [instance for instance in again if instance.uuid in uuids]

        try:
            gone, unknown = self._disks.among(listed.domains, read_again)
        except Exception as error:  # whatever the question to the host raised
            self._say(f"{_in_a_line(audited, error)}; so it is not known whether disks are gone")
            return None
        if unknown:
            self._say(
                f"{short(audited.key)}: not known whether all disks are there: {unknown:,} could "
                "not be looked at, for want of permission or because storage does not answer"
            )
        return gone

    def _say(self, what: str) -> None:
        """Log a warning, once."""
        if what not in self._said:
            self._said.add(what)
            log.warning("%s", what)


def _all_domains(host: Host, *, details: bool) -> tuple[Instance, ...]:
    return host.snapshot(
        include_inactive=True, include_foreign=True, include_dom0=True, details=details
    ).instances


def _one_host(group: Sequence[AuditedHost]) -> GuestlistError:
    names = " and ".join(short(each.key) for each in group)
    return GuestlistError(
        f"{names} are one host under {len(group)} names: correct the URIs in the file of hosts"
    )


def _in_a_line(audited: AuditedHost, error: Exception) -> str:
    if isinstance(error, GuestlistError):
        return str(error)
    log.debug("the traceback:", exc_info=error)
    return f"{short(audited.key)}: unexpected {type(error).__name__}: {one_line(error)}"
