"""The two sides of an audit, as the options name them: hosts, and Nova.

In: options. Out: audits, and which hosts failed in the last one. openstacksdk is imported only if
Nova itself is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from guestlist.audit import rounds, servers_file
from guestlist.audit.findings import Audit, Finding, Kind
from guestlist.audit.host_looks import AuditedHost, HostLooks
from guestlist.audit.rounds import Nova
from guestlist.audit.rows import HostLook, NovaLook
from guestlist.cli import hosts
from guestlist.cli.ls import selection
from guestlist.cli.show.progress import Progress
from guestlist.errors import BadServersFile
from guestlist.several import hosts_file

if TYPE_CHECKING:
    import argparse

_OF_THIS_MACHINE = {Kind.DISK_GONE, Kind.TAP_WITHOUT_DOMAIN}


class AskedHosts(rounds.Hosts, Protocol):
    """The hosts of an audit, which also tell why a host failed."""

    @property
    def failures(self) -> Mapping[str, Exception]:
        """By host (`HostLook.host`): why it failed in the last look."""


class Sides:
    """The hosts and the Nova of the options."""

    def __init__(self, hosts: AskedHosts, nova: Nova, settle: float) -> None:
        self._hosts = _Noting(hosts)
        self._nova = nova
        self._settle = settle

    @classmethod
    def of(
        cls, options: argparse.Namespace, progress: Progress, hosts: AskedHosts | None = None
    ) -> Sides:
        """Return the sides that the options name. Nothing is asked yet.

        `hosts` are asked in place of those that the options name, which `progress` counts.
        """
        return cls(hosts or _hosts(options, progress), _nova(options), options.settle)

    def audit(self, tell: Callable[[str], object] | None = None) -> Audit:
        """Make an audit. `tell` gets a line before each step that takes time.

        Raises:
            GuestlistError: Nova could not be looked at.
        """
        self._hosts.forget()
        return rounds.audit(
            self._hosts, self._nova, settle=self._settle, tell=tell or (lambda _: None)
        )

    @property
    def failures(self) -> Sequence[Exception]:
        """Why each host failed, if none answered in the last audit; else empty."""
        return () if self._hosts.has_answer else self._hosts.failures

    def can_refute(self, audit: Audit, finding: Finding) -> bool:
        """Return whether the last audit, which is incomplete, would have seen the finding again.

        Only if hosts alone were missing, and the finding is about others.
        """
        failed = self._hosts.failed
        return (
            finding.kind not in _OF_THIS_MACHINE
            and failed.keys().isdisjoint(finding.hosts)
            and set(audit.incomplete) <= set(failed.values())
        )


class _Noting:
    """Hosts, and how their looks ended since `forget`.

    `failed` has the line of each host that failed in a look, `failures` the errors of the first
    look, and `has_answer` tells whether a host answered.
    """

    def __init__(self, hosts: AskedHosts) -> None:
        self._hosts = hosts
        self.forget()

    def forget(self) -> None:
        """Forget the looks of the last audit."""
        self.failed: dict[str, str] = {}
        self.failures: Sequence[Exception] = ()
        self.has_answer = False

    def look(self, names: Collection[str] | None = None) -> tuple[HostLook, ...]:
        """Return what the hosts' own `look` returns."""
        looks = self._hosts.look(names)
        self.failed |= {each.host: each.failure for each in looks if each.failure is not None}
        self.failures = self.failures or list(self._hosts.failures.values())
        self.has_answer |= any(each.domains is not None for each in looks)
        return looks


class _ServersFile:
    """Nova as a file tells of it, which is read at each look; "-" is standard input."""

    can_look_again = False

    def __init__(self, name: str) -> None:
        self._name = name

    def servers(self) -> NovaLook:
        """Return the servers of the file.

        Raises:
            BadServersFile: it cannot be read, or is no list of servers.
        """
        where = "standard input" if self._name == "-" else self._name
        try:
            content = self._content()
        except OSError as error:
            raise BadServersFile(f"cannot read {where}: {error.strerror}") from error
        return servers_file.read(content, where, at=time.monotonic())

    def some(self, uuids: Collection[UUID]) -> NovaLook:  # noqa: ARG002  the protocol's
        """Refuse: a file has no server that it did not have before."""
        raise BadServersFile("a file of servers cannot be asked for some of them")

    def _content(self) -> bytes:
        is_input = self._name == "-"
        with open(0 if is_input else self._name, "rb", closefd=not is_input) as file:
            return file.read(servers_file.MOST_BYTES + 1)


def _nova(options: argparse.Namespace) -> Nova:
    if options.servers is not None:
        return _ServersFile(options.servers)
    from guestlist.audit.nova_api import NovaApi  # noqa: PLC0415  openstacksdk is an extra

    return NovaApi(options.os_cloud, options.timeout)


def _hosts(options: argparse.Namespace, progress: Progress) -> HostLooks:
    """Return the hosts of -c and of the file; libvirt's default host without any."""
    listed = hosts_file.distinct_hosts(Path(options.hosts)) if options.hosts else {}
    given = [] if listed and not options.connect else list(hosts.each_once(options.connect))
    names = [*(None for _ in given), *listed]
    made = hosts.made([*given, *listed.values()], options, selection.ours(options))
    progress.domains_of(made)
    return HostLooks(
        map(AuditedHost, made, names),
        timeout=options.timeout,
        disks=options.disks,
        tap_devices=options.disks,
        tell=progress.hosts,
    )
