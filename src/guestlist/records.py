"""Instance and Snapshot: frozen values, and libvirt's words for states.

In: plain values from whoever asked libvirt. Out: records that may be kept, compared, sorted and
handed to another thread. Touches no libvirt.

Source: libvirt include/libvirt/libvirt-domain.h (virDomainState); names as virsh prints them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from guestlist.launcher import Launcher


class DomainState(IntEnum):
    """virDomainState. `str()` gives virsh's words; a number libvirt adds later reads as NOSTATE."""

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


@dataclass(frozen=True, slots=True)
class Instance:
    """One domain at one instant. `id` is None while it is inactive; `reason` belongs to `state`."""

    uuid: UUID
    name: str
    id: int | None
    state: DomainState
    reason: int
    launcher: Launcher

    @property
    def active(self) -> bool:
        """Whether libvirt calls it active: it has an id (running, paused, shutting down, …)."""
        return self.id is not None


class Snapshot(Mapping[UUID, Instance]):
    """One instant of a host: its instances by UUID. Iterates by name, then by UUID."""

    __slots__ = ("_by_uuid",)

    def __init__(self, instances: Iterable[Instance]) -> None:
        ordered = sorted(instances, key=lambda instance: (instance.name, instance.uuid))
        self._by_uuid = {instance.uuid: instance for instance in ordered}

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances, by name."""
        return tuple(self._by_uuid.values())

    def __getitem__(self, uuid: UUID) -> Instance:
        return self._by_uuid[uuid]

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._by_uuid)

    def __len__(self) -> int:
        return len(self._by_uuid)

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self)} instances>"
