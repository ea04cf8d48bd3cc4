"""What an audit compares: the rows of libvirt's hosts and the rows of Nova, with their times. Pure.

In: plain values that libvirt, a file or Nova's API gave. Out: frozen values. All times are seconds
of one monotonic clock, of the machine that audits; the clocks of other machines are never compared.
Checks nothing: the text in a row is as hostile as its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from guestlist.records import Instance


class PowerState(IntEnum):
    """Nova's power state of a server (nova/objects/fields.py, InstancePowerState).

    A number that Nova adds later becomes NOSTATE.
    """

    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    SUSPENDED = 7

    @classmethod
    def _missing_(cls, value: object) -> PowerState | None:
        return cls.NOSTATE if isinstance(value, int) else None


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration record of a server: how Nova moves it from one host to another.

    `kind` is Nova's `migration_type`: "live-migration", "migration" (cold), "resize" or
    "evacuation". `status` is Nova's word ("running", "finished", "confirmed", "done", …). The hosts
    are names of compute services (`source_compute`, `dest_compute`) and of their hypervisors
    (`source_node`, `dest_node`).
    """

    id: str
    kind: str | None
    status: str | None
    source: str | None = None
    dest: str | None = None
    source_node: str | None = None
    dest_node: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """What Nova believes of one server.

    `status` is the API's word in capitals ("ACTIVE", "SHUTOFF", "VERIFY_RESIZE"; "UNKNOWN" for a
    server of a cell that is down). `host` is the name of the compute service and
    `hypervisor_hostname` that of its hypervisor, which libvirt knows itself by. A host that is
    None means "on no host" if `has_host`, else the source does not tell hosts. `task_state` is None
    without a task if `has_state`, else the source tells neither task nor power state.
    `instance_name` is the name of the domain. `updated` is Nova's text for the last change of the
    record: a mark to compare, not a time to compute with.

    `migrations` are the server's migration records, and `actions` the request ids of what was asked
    of it, newest first. Both are None where they were not asked for.
    """

    uuid: UUID
    name: str | None
    status: str
    host: str | None = None
    hypervisor_hostname: str | None = None
    has_host: bool = True
    task_state: str | None = None
    vm_state: str | None = None
    power_state: PowerState | None = None
    has_state: bool = True
    instance_name: str | None = None
    project_id: str | None = None
    updated: str | None = None
    migrations: tuple[Migration, ...] | None = None
    actions: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class NovaLook:
    """One look at Nova: its servers by UUID, and when they were asked for.

    `missing` names, each in a line for people, the parts of Nova that the look lacks: a cell that
    is down, a list that was cut, a project that the list does not reach. Empty: the look is
    complete, so that a UUID that it lacks is unknown to Nova. `asked` are the UUIDs that were asked
    for by id, deleted ones included; None for a list of all servers, which has no deleted ones.
    """

    began: float
    ended: float
    servers: Mapping[UUID, Server]
    missing: tuple[str, ...] = ()
    asked: frozenset[UUID] | None = None


@dataclass(frozen=True, slots=True)
class LostDisk:
    """A disk of a domain whose file or device is not there.

    `has_directory` tells whether the directory of the file is there, and not empty: if not, its
    file system may only not be mounted where the audit runs.
    """

    domain: UUID
    target: str | None
    location: str
    has_directory: bool


@dataclass(frozen=True, slots=True)
class HostLook:
    """One look at a libvirt host, and when it was asked.

    `host` is how the user names the host (its URI, or its name in the file of hosts); `names` are
    all names that Nova may know it by: the name in the file, and libvirt's own hostname. `domains`
    are all domains, active or not, of any launcher; None if the host failed, and `failure` is the
    line that says why.

    `lost_disks` are the disks that are not there, and `taps` the tap devices without a carrier that
    no domain has. Both are None where they were not looked at: the host is another machine.
    """

    host: str
    began: float
    ended: float
    domains: tuple[Instance, ...] | None
    names: tuple[str, ...] = ()
    failure: str | None = None
    lost_disks: tuple[LostDisk, ...] | None = None
    taps: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One round of looks: Nova, then the hosts, then Nova again.

    `after` is None where Nova was not asked again: its servers came from a file, or the second
    question failed, and `failure` is the line that says why.
    """

    before: NovaLook
    hosts: tuple[HostLook, ...]
    after: NovaLook | None = None
    failure: str | None = None
