"""A domain event of libvirt as a value, with virsh's words for it. Pure.

In: the numbers of an event. Out: a record that may be kept and that people can read. Does not
decide what an event means for guestlist's knowledge of a domain.

Source: libvirt include/libvirt/libvirt-domain.h (virDomainEventType and the details of each,
virDomainEventID); words as virsh prints them (tools/virsh-domain-event.c).
"""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID

from guestlist.capabilities import EVENTS_SINCE


class EventKind(IntEnum):
    """Kinds of events (virDomainEventID) that concern a domain's XML or state, and reboots."""

    LIFECYCLE = 0
    REBOOT = 1
    DISK_CHANGE = 9
    TRAY_CHANGE = 10
    BALLOON_CHANGE = 13
    DEVICE_REMOVED = 15
    BLOCK_JOB_2 = 16
    AGENT_LIFECYCLE = 18
    DEVICE_ADDED = 19
    METADATA_CHANGE = 23

    def __str__(self) -> str:
        return _KIND_WORDS[self]

    @property
    def since(self) -> int:
        """The libvirt that brought this kind, as libvirt numbers it; 0 for lifecycle events."""
        return EVENTS_SINCE[self.name]


class Lifecycle(IntEnum):
    """Lifecycle events (virDomainEventType)."""

    DEFINED = 0
    UNDEFINED = 1
    STARTED = 2
    SUSPENDED = 3
    RESUMED = 4
    STOPPED = 5
    SHUTDOWN = 6
    PMSUSPENDED = 7
    CRASHED = 8


_KIND_WORDS = {
    EventKind.LIFECYCLE: "lifecycle",
    EventKind.REBOOT: "rebooted",
    EventKind.DISK_CHANGE: "medium changed",
    EventKind.TRAY_CHANGE: "tray moved",
    EventKind.BALLOON_CHANGE: "memory ballooned",
    EventKind.DEVICE_REMOVED: "device removed",
    EventKind.BLOCK_JOB_2: "block job",
    EventKind.AGENT_LIFECYCLE: "agent lifecycle",
    EventKind.DEVICE_ADDED: "device added",
    EventKind.METADATA_CHANGE: "metadata changed",
}

_LIFECYCLE_WORDS: dict[int, tuple[str, tuple[str, ...]]] = {
    Lifecycle.DEFINED: ("defined", ("added", "updated", "renamed", "from snapshot")),
    Lifecycle.UNDEFINED: ("undefined", ("removed", "renamed")),
    Lifecycle.STARTED: ("started", ("booted", "migrated", "restored", "from snapshot", "wakeup")),
    Lifecycle.SUSPENDED: (
        "suspended",
        (
            "paused",
            "migrated",
            "I/O error",
            "watchdog",
            "restored",
            "from snapshot",
            "api error",
            "post-copy",
            "post-copy failed",
        ),
    ),
    Lifecycle.RESUMED: (
        "resumed",
        ("unpaused", "migrated", "from snapshot", "post-copy", "post-copy failed"),
    ),
    Lifecycle.STOPPED: (
        "stopped",
        (
            "shutdown",
            "destroyed",
            "crashed",
            "migrated",
            "saved",
            "failed",
            "from snapshot",
            "recreated",
        ),
    ),
    Lifecycle.SHUTDOWN: (
        "shutdown",
        ("finished", "finished after guest request", "finished after host request"),
    ),
    Lifecycle.PMSUSPENDED: ("pmsuspended", ("memory", "disk")),
    Lifecycle.CRASHED: ("crashed", ("panicked", "crashloaded")),
}
"""The word for each lifecycle event, and the words for its details by their number."""


class Event(NamedTuple):
    """One event as libvirt sent it.

    libvirt sends no time: `at` is the time of arrival in this process. `event` (`Lifecycle`) and
    `detail` are libvirt's numbers for a lifecycle event; for the other kinds they are None.
    """

    uuid: UUID
    kind: EventKind
    at: datetime
    event: int | None = None
    detail: int | None = None

    def __str__(self) -> str:
        """Return the event in virsh's words, "stopped (destroyed)"; numbers for unknown ones."""
        if self.event is None:
            return str(self.kind)
        word, details = _LIFECYCLE_WORDS.get(self.event, (f"event {self.event}", ()))
        if self.detail is None:
            return word
        known = 0 <= self.detail < len(details)
        return f"{word} ({details[self.detail] if known else f'detail {self.detail}'})"
