"""What libvirt tells of a guest that has everything: statistics by libvirt's keys and values.

The keys are those of libvirt 12.8 (include/libvirt/libvirt-domain.h, VIR_DOMAIN_STATS_*); the
values are made up, and each is another number.
"""

from __future__ import annotations

from itertools import count
from typing import Any

_BALLOON = (
    "current maximum swap_in swap_out major_fault minor_fault unused available usable last-update "
    "disk_caches hugetlb_pgalloc hugetlb_pgfail rss"
)
_BLOCK = (
    "rd.reqs rd.bytes rd.times wr.reqs wr.bytes wr.times fl.reqs fl.times errors allocation "
    "capacity physical threshold"
)
_NET = "rx.bytes rx.pkts rx.errs rx.drop tx.bytes tx.pkts tx.errs tx.drop"
_CPU = "time user system haltpoll.success.time haltpoll.fail.time"
_OPERATIONS = "read", "write", "flush", "zone_append"


def network(*targets: str) -> dict[str, Any]:
    """Return the group "interface" of a guest with these devices."""
    numbers = count(1)
    told: dict[str, Any] = {"net.count": len(targets)}
    for index, target in enumerate(targets):
        told[f"net.{index}.name"] = target
        told |= {f"net.{index}.{key}": next(numbers) for key in _NET.split()}
    return told


def disks(*targets: str) -> dict[str, Any]:
    """Return the group "block" of a guest with these disks, each with all that there is."""
    numbers = count(1_000_000_001)
    told: dict[str, Any] = {"block.count": len(targets)}
    for index, target in enumerate(targets):
        start = f"block.{index}"
        told |= {f"{start}.name": target, f"{start}.path": f"/images/{target}"}
        told |= {f"{start}.{key}": next(numbers) for key in _BLOCK.split()}
        told |= {f"{start}.timed_group.count": 1, f"{start}.timed_group.0.interval": 10}
        for operation in ("rd", "wr", "flush", "zone_append"):
            group = f"{start}.timed_group.0.{operation}"
            told |= {f"{group}_latency_{which}": next(numbers) for which in ("min", "max", "avg")}
            told[f"{group}_queue_depth_avg"] = 1.5
        for operation in _OPERATIONS:
            histogram = f"{start}.latency_histogram.{operation}.bin"
            told[f"{histogram}.count"] = 3
            for place, (begin, value) in enumerate([(0, 3), (10_000, 4), (100_000, 5)]):
                told |= {f"{histogram}.{place}.start": begin, f"{histogram}.{place}.value": value}
    return told


def guest(*targets: str, vcpus: int = 2) -> dict[str, Any]:
    """Return the groups that the guest itself tells: cpu-total, balloon, vcpu and block."""
    numbers = count(2_000_000_001)
    told: dict[str, Any] = {f"cpu.{key}": next(numbers) for key in _CPU.split()}
    told |= {
        "cpu.energy.monitor.count": 1,
        "cpu.energy.monitor.0.name": "all",
        "cpu.energy.monitor.0.vcpus": "0-1",
        "cpu.energy.monitor.0.pkg.count": 1,
        "cpu.energy.monitor.0.pkg.0.id": 0,
        "cpu.energy.monitor.0.pkg.0.core_energy": 12.5,
    }
    told |= {f"balloon.{key}": next(numbers) for key in _BALLOON.split()}
    told |= {"balloon.available": 1_000, "balloon.usable": 250}
    told |= {"vcpu.current": vcpus, "vcpu.maximum": vcpus + 1}
    for index in range(vcpus):
        told |= {f"vcpu.{index}.{key}": next(numbers) for key in ("time", "wait", "delay")}
        told |= {f"vcpu.{index}.state": 1, f"vcpu.{index}.halted": index == 0}
    return told | disks(*targets)
