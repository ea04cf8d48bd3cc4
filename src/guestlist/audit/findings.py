"""A finding of an audit, its kind and its certainty, and the result of an audit. Pure.

In: facts of both sides. Out: frozen values, with the words for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

Facts = Mapping[str, str | int | bool | None]
"""The facts of one side by name: "state", "host", "task_state", …"""


class Kind(StrEnum):
    """What a finding says. A value keeps its meaning for ever."""

    ACTIVE_ON_TWO_HOSTS = "active-on-two-hosts"
    RUNNING_THOUGH_SHUTOFF = "running-though-shutoff"
    WRONG_HOST = "wrong-host"
    DELETED_IN_NOVA = "deleted-in-nova"
    UNKNOWN_TO_NOVA = "unknown-to-nova"
    MISSING = "missing"
    POWER_STATE = "power-state"
    DISK_GONE = "disk-gone"
    TAP_WITHOUT_DOMAIN = "tap-without-domain"
    SHARED_NAME = "shared-name"
    SHARED_UUID = "shared-uuid"


class Certainty(StrEnum):
    """Whether one more look could refute a finding: possible; or not: certain."""

    CERTAIN = "certain"
    POSSIBLE = "possible"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what libvirt runs and what Nova believes.

    `hosts` are the hosts that it is about, as the user names them, in their order. `uuid` is None
    for a tap device. `name` is the domain's name, and `server_name` that of Nova's server.
    `subject` is the path of a disk or the name of a tap device; None for other kinds.
    `reason` says in a sentence what differs and, if the finding is only possible, what one more
    look could show. `libvirt` has the facts of each host, and `nova` those of Nova; empty: Nova
    tells nothing. `next_step` says what an operator looks at next.
    """

    kind: Kind
    certainty: Certainty
    hosts: tuple[str, ...]
    uuid: UUID | None
    name: str | None
    reason: str
    libvirt: Mapping[str, Facts]
    nova: Facts
    next_step: str
    subject: str | None = None
    server_name: str | None = None
    project_id: str | None = None

    @property
    def key(self) -> tuple[Kind, UUID | None, tuple[str, ...], str | None]:
        """What makes two findings of two audits the same one."""
        return self.kind, self.uuid, self.hosts, self.subject


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    `findings` have the certain ones first, then the order of `Kind`, then host and name.
    `incomplete` names, each in a line, what was missing on either side; empty: the audit is
    complete. `domains` and `servers` are how many were compared, and `others` how many domains of
    other launchers were counted and not accused, by launcher. `hosts_not_asked` are how many other
    hosts Nova has servers on.
    """

    findings: tuple[Finding, ...]
    incomplete: tuple[str, ...]
    hosts: int
    domains: int
    servers: int
    others: Mapping[str, int]
    hosts_not_asked: int = 0

    @property
    def complete(self) -> bool:
        """Whether both sides were complete."""
        return not self.incomplete
