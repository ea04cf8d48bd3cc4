"""What Nova's record of a server lets one expect of its domain. Pure.

In: a server. Out: whether Nova is at work on it, the power states that its status allows, and the
copies that it has by right: Nova keeps a second copy of a guest that waits for the user's decision
about a resize, and of one that was evacuated until the failed host is back.

Source: nova/api/openstack/common.py (`_STATE_MAP`), nova/compute/manager.py,
nova/objects/migration.py (statuses of a migration), nova/virt/libvirt/guest.py
(`LIBVIRT_POWER_STATE`).
"""

from __future__ import annotations

from guestlist.audit.rows import Migration, PowerState, Server
from guestlist.states import DomainState

_CHANGED = frozenset(("BUILD", "REBUILD", "REBOOT", "HARD_REBOOT", "PASSWORD"))
_MOVED = frozenset(("RESIZE", "REVERT_RESIZE", "MIGRATING"))
_AT_WORK = _CHANGED | _MOVED
"""Statuses while Nova is changing the server."""

_ENDED = frozenset(["completed", "confirmed", "done", "error", "failed", "cancelled", "reverted"])
"""Statuses of a migration that Nova no longer works on. "finished" is not one: a resize that is
finished waits for the user."""

_POWER: dict[str, frozenset[PowerState]] = {
    "ACTIVE": frozenset({PowerState.RUNNING}),
    "PAUSED": frozenset({PowerState.PAUSED}),
    "SUSPENDED": frozenset({PowerState.SHUTDOWN, PowerState.SUSPENDED}),
    "SHUTOFF": frozenset({PowerState.SHUTDOWN, PowerState.CRASHED}),
    "SHELVED": frozenset({PowerState.SHUTDOWN, PowerState.CRASHED}),
}
"""The power states that a status allows. Other statuses allow all."""

_OF_DOMAIN = {
    DomainState.NOSTATE: PowerState.NOSTATE,
    DomainState.RUNNING: PowerState.RUNNING,
    DomainState.BLOCKED: PowerState.RUNNING,
    DomainState.PAUSED: PowerState.PAUSED,
    DomainState.SHUTDOWN: PowerState.SHUTDOWN,
    DomainState.SHUTOFF: PowerState.SHUTDOWN,
    DomainState.CRASHED: PowerState.CRASHED,
    DomainState.PMSUSPENDED: PowerState.SUSPENDED,
}

_STOPPED = frozenset(("SHUTOFF", "SHELVED", "SOFT_DELETED"))
"""Statuses of a server whose domain Nova has shut off, and keeps."""

_ON_A_HOST = _STOPPED | {"ACTIVE", "PAUSED", "SUSPENDED", "RESCUE", "VERIFY_RESIZE"}
"""Statuses of a server whose domain Nova has on its host."""

UNKNOWN = "UNKNOWN"
"""The status of a server whose cell is down: Nova tells nothing else of it."""

DELETED = "DELETED"
"""The status of a server that Nova has deleted; only a question by id shows it."""


def at_work(server: Server) -> bool:
    """Return whether Nova is changing the server, so that nothing can be said of it now."""
    return server.task_state is not None or server.status in _AT_WORK


def is_moving(server: Server) -> bool:
    """Return whether a migration of the server has not ended, as far as its record tells.

    A compute service that stops within a migration may leave a record behind that never ends.
    """
    return any(is_under_way(each) for each in server.migrations or ())


def is_under_way(migration: Migration) -> bool:
    """Return whether Nova is at work on the migration. A finished resize only waits."""
    return migration.status not in _ENDED and migration.status != "finished"


def is_evacuated(migration: Migration) -> bool:
    """Return whether the migration is an evacuation whose source has not been cleaned up.

    The source's compute service deletes the old copy when it starts, and then writes "completed".
    """
    return migration.kind == "evacuation" and migration.status == "done"


def awaits_decision(server: Server) -> bool:
    """Return whether a resize waits for the user, with the old copy kept on the source."""
    return server.status == "VERIFY_RESIZE"


def is_shut_off(server: Server) -> bool:
    """Return whether Nova says that the guest does not run, and may start it elsewhere."""
    return server.status in _STOPPED or has_no_place(server)


def has_no_place(server: Server) -> bool:
    """Return whether Nova keeps no domain of the server on any host."""
    return server.status == "SHELVED_OFFLOADED"


def is_on_a_host(server: Server) -> bool:
    """Return whether the server must have a domain. One that failed to build may have none."""
    return server.status in _ON_A_HOST


def power_state(state: DomainState) -> PowerState:
    """Return Nova's power state for the state of a domain."""
    return _OF_DOMAIN[state]


def power_differs(server: Server, state: DomainState) -> bool:
    """Return whether the domain's state is another than Nova's status and power state say."""
    found = power_state(state)
    allowed = _POWER.get(server.status)
    if allowed is None or found is PowerState.NOSTATE:
        return False
    believed = server.power_state
    has_other = believed not in (None, PowerState.NOSTATE, found)
    return found not in allowed or (server.has_state and has_other)
