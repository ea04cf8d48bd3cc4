"""What guests read from and wrote to their volumes: Nova's `get_all_volume_usage`.

In: a Host, and what Nova knows of the volumes. Out: what Nova wants to know of each volume that
answered, and the names of the domains that did not. The only question of the driver that guests
themselves must answer: it is asked over a separate connection, within a deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from guestlist.host import Host
from guestlist.lookup import as_uuid
from guestlist.statistics import Counters, counters_in, tells_of_disks

_COUNTERS = "rd_req", "rd_bytes", "wr_req", "wr_bytes"
"""Nova's names for the counters of a volume, in the order of `Counters`."""


class VolumeUsage(NamedTuple):
    """What volumes answered, in the order of the question; and the names of silent domains."""

    usages: list[dict[str, Any]]
    silent: frozenset[str]


class _Volume(NamedTuple):
    """One volume: of which instance, what Nova knows of it, and libvirt's name for the disk."""

    uuid: UUID
    instance: Any
    bdm: Mapping[str, Any]
    target: str


def uuid_of(instance: Any) -> UUID:
    """Return the UUID of an instance: of a UUID, of its text, or of an object that has a `uuid`.

    Raises:
        ValueError: it is not a UUID.
    """
    return as_uuid(getattr(instance, "uuid", instance))


def volume_usage(
    host: Host, compute_host_bdms: Iterable[Mapping[str, Any]], deadline: float
) -> VolumeUsage:
    """Return what the volumes answered; see `ComputeDriver.get_all_volume_usage` for the cost."""
    volumes = [
        _Volume(uuid_of(each["instance"]), each["instance"], bdm, _target(bdm))
        for each in compute_host_bdms
        for bdm in each["instance_bdms"]
    ]
    if not volumes:
        return VolumeUsage([], frozenset())
    snapshot = host.snapshot(
        include_foreign=True, details=False, statistics=("block",), deadline=deadline
    )
    asked = {volume.uuid for volume in volumes} & snapshot.keys()
    counters: Mapping[UUID, Mapping[str, Counters]]
    if tells_of_disks(snapshot):
        counters = {uuid: counters_in(snapshot[uuid].statistics or {}) for uuid in asked}
        silent = snapshot.unanswered & asked
    else:
        targets: dict[UUID, list[str]] = {uuid: [] for uuid in asked}
        for volume in volumes:
            if volume.uuid in asked:
                targets[volume.uuid].append(volume.target)
        counters = host.disk_counters(targets, deadline=deadline)
        silent = frozenset(asked - counters.keys())
    usages = []
    for volume in volumes:
        counted = counters.get(volume.uuid, {}).get(volume.target)
        if counted:
            usages.append(
                {
                    "volume": volume.bdm["volume_id"],
                    "instance": volume.instance,
                    **dict(zip(_COUNTERS, counted, strict=True)),
                }
            )
    return VolumeUsage(usages, frozenset(snapshot[uuid].name for uuid in silent))


def _target(bdm: Mapping[str, Any]) -> str:
    name: str = bdm["device_name"]
    return name.removeprefix("/dev/")
