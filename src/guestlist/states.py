"""The states of domains, why a domain is in its state, and virsh's words for both. Pure.

In: libvirt's numbers. Out: values, and words for people. A number that libvirt adds later is no
error.

Source: libvirt include/libvirt/libvirt-domain.h (virDomainState, virDomain*Reason); words as virsh
prints them (tools/virsh-domain-monitor.c).
"""

from __future__ import annotations

from enum import IntEnum


class DomainState(IntEnum):
    """The state of a domain (virDomainState), in virsh's words by `str()`.

    A number that libvirt adds later becomes NOSTATE.
    """

    NOSTATE = 0
    RUNNING = 1
    BLOCKED = 2
    PAUSED = 3
    SHUTDOWN = 4
    SHUTOFF = 5
    CRASHED = 6
    PMSUSPENDED = 7

    def __str__(self) -> str:
        return _STATE_WORDS[self]

    @classmethod
    def _missing_(cls, value: object) -> DomainState | None:
        return cls.NOSTATE if isinstance(value, int) else None

    @classmethod
    def of(cls, number: int) -> DomainState:
        """Return the state of libvirt's number; faster than a call of the class."""
        return _STATES.get(number, cls.NOSTATE)


_STATES = {int(state): state for state in DomainState}

_STATE_WORDS = {
    DomainState.NOSTATE: "no state",
    DomainState.RUNNING: "running",
    DomainState.BLOCKED: "idle",
    DomainState.PAUSED: "paused",
    DomainState.SHUTDOWN: "in shutdown",
    DomainState.SHUTOFF: "shut off",
    DomainState.CRASHED: "crashed",
    DomainState.PMSUSPENDED: "pmsuspended",
}


_REASON_WORDS = {
    DomainState.NOSTATE: ("unknown",),
    DomainState.RUNNING: (
        "unknown",
        "booted",
        "migrated",
        "restored",
        "from snapshot",
        "unpaused",
        "migration canceled",
        "save canceled",
        "event wakeup",
        "crashed",
        "post-copy",
        "post-copy failed",
    ),
    DomainState.BLOCKED: ("unknown",),
    DomainState.PAUSED: (
        "unknown",
        "user",
        "migrating",
        "saving",
        "dumping",
        "I/O error",
        "watchdog",
        "from snapshot",
        "shutting down",
        "creating snapshot",
        "crashed",
        "starting up",
        "post-copy",
        "post-copy failed",
        "api error",
    ),
    DomainState.SHUTDOWN: ("unknown", "user"),
    DomainState.SHUTOFF: (
        "unknown",
        "shutdown",
        "destroyed",
        "crashed",
        "migrated",
        "saved",
        "failed",
        "from snapshot",
        "daemon",
    ),
    DomainState.CRASHED: ("unknown", "panicked"),
    DomainState.PMSUSPENDED: ("unknown",),
}
"""The words for the reasons of each state: a reason's number is its place."""


def known_reason(state: int, reason: int) -> str | None:
    """Return why a domain is in its state, in virsh's words; None for a number added later."""
    words = _REASON_WORDS[DomainState(state)]
    return words[reason] if 0 <= reason < len(words) else None


def state_reason(state: int, reason: int) -> str:
    """Return why a domain is in its state; "unknown", as virsh, for a number added later."""
    return known_reason(state, reason) or "unknown"
