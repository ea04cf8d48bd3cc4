"""What libvirt tells of a domain: an event as a value, and virsh's words for it. Pure.

In: the numbers of an event. Out: a record that may be kept, and read by people. What an event means
for what is known of a domain is not decided here.

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
    """virDomainEventID: those that tell of something in a domain's XML or state, and reboots."""

    LIFECYCLE = 0
    REBOOT = 1
    DISK_CHANGE = 9
    TRAY_CHANGE = 10
    BALLOON_CHANGE = 13
    DEVICE_REMOVED = 15
    BLOCK_JOB_2 = 16
    DEVICE_ADDED = 19
    METADATA_CHANGE = 23

    def __str__(self) -> str:
        return _KIND_WORDS[self]

    @property
    def since(self) -> int:
        """The libvirt that brought this kind, as libvirt numbers it; 0 for lifecycle events."""
        return EVENTS_SINCE[self.name]


class Lifecycle(IntEnum):
    """virDomainEventType."""

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
"""Of each event its word, and the words for its details: a detail's number is its place."""


class Event(NamedTuple):
    """One event as libvirt sent it. libvirt gives no time: `at` is when it arrived here.

    `event` and `detail` are those of a lifecycle event, None of the other kinds.
    """

    uuid: UUID
    kind: EventKind
    at: datetime
    event: int | None = None
    detail: int | None = None

    def __str__(self) -> str:
        """The event in virsh's words: "stopped (destroyed)"; numbers for those libvirt adds."""
        if self.event is None:
            return str(self.kind)
        word, details = _LIFECYCLE_WORDS.get(self.event, (f"event {self.event}", ()))
        if self.detail is None:
            return word
        known = 0 <= self.detail < len(details)
        return f"{word} ({details[self.detail] if known else f'detail {self.detail}'})"
