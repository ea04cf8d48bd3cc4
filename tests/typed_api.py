"""The public names as a type checker sees them: mypy reads this file in `./dev check`.

No test runs it. Users rely on these types: a change here is a change for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_never, assert_type
from uuid import UUID

import libvirt

import guestlist


class OursByPrefix:
    """An object of the `LaunchedBy` protocol, without inheriting anything."""

    def by_name(self, name: str) -> bool | None:
        return name.startswith("ours-") or None

    def by_metadata(self, namespaces: frozenset[str]) -> bool:
        return "urn:ours" in namespaces


def ask(host: guestlist.Host) -> None:
    assert_type(host.hostname(), str)
    assert_type(host.hypervisor(), guestlist.Hypervisor)
    assert_type(host.bulk_listing, bool | None)
    assert_type(host.list_instance_domains(include_inactive=True), list[libvirt.virDomain])
    snapshot = host.snapshot(include_foreign=True, include_dom0=True)
    assert_type(snapshot, guestlist.Snapshot)
    assert_type(snapshot.instances, tuple[guestlist.Instance, ...])
    for uuid, instance in snapshot.items():
        assert_type(uuid, UUID)
        assert_type(instance.id, int | None)
        assert_type(instance.state, guestlist.DomainState)
        assert_type(instance.launcher, guestlist.Launcher)
        assert_type(instance.details, guestlist.Details | None)
        if instance.details is not None:
            assert_type(instance.details.os, guestlist.Os | None)
            assert_type(instance.details.agent_connected, bool | None)
            for disk in instance.details.disks:
                assert_type(disk.iotune, guestlist.IoTune | None)
            for nic in instance.details.nics:
                assert_type(nic.interface_id, UUID | None)


def follow(live: guestlist.Inventory, uuid: UUID) -> None:
    with live as entered:
        assert_type(entered, guestlist.Inventory)
    live.wait_synced(timeout=30)
    live.resync(None)
    assert_type(live.snapshot(include_inactive=True), guestlist.Snapshot)
    assert_type(live.instance(uuid), guestlist.Instance)
    assert_type(live.instance(str(uuid)), guestlist.Instance)
    assert_type(live.undisputed(uuid), guestlist.Instance | None)
    assert_type(live.node(), guestlist.Node)
    assert_type(live.statistics(), guestlist.InventoryStatistics)
    assert_type(live.statistics().reaction_median, float | None)
    assert_type(live.stale_for, float | None)
    assert_type(live.seconds_since_list, float)
    assert_type(live.drifts, Sequence[guestlist.Drift])
    assert_type(live.failure, guestlist.GuestlistError | None)
    assert_type(live.host, guestlist.Host)
    live.close()


def read(live: guestlist.Inventory) -> None:
    with live.changes(include_foreign=True) as changes:
        assert_type(changes, guestlist.Changes)
        assert_type(changes.snapshot, guestlist.Snapshot | None)
        assert_type(changes.missed, int)
        for news in changes:
            tell(news)
        if (last := changes.get(timeout=1.0)) is not None:
            tell(last)


async def read_asynchronously(live: guestlist.Inventory) -> None:
    async for news in live.changes():
        tell(news)


def tell(news: guestlist.Change | guestlist.Resynced | guestlist.Stale) -> None:
    """There is no fourth kind: a type checker knows that the last branch is never reached."""
    if isinstance(news, guestlist.Change):
        assert_type(news.uuid, UUID)
        assert_type(news.instance, guestlist.Instance)
        assert_type(news.before, guestlist.Instance | None)
        assert_type(news.after, guestlist.Instance | None)
        assert_type(news.events, tuple[guestlist.Event, ...])
        assert_type(news.told_at, datetime | None)
        assert_type(news.learned_at, datetime)
        assert_type(news.why, str)
        if isinstance(news, guestlist.Gone):
            assert_type(news.last_known, guestlist.Instance)
    elif isinstance(news, guestlist.Resynced):
        assert_type(news.snapshot, guestlist.Snapshot)
        assert_type(news.missed, int)
    elif isinstance(news, guestlist.Stale):
        assert_type(news.since, datetime)
        assert_type(news.error, guestlist.GuestlistError)
    else:
        assert_never(news)


def drive(driver: guestlist.ComputeDriver, uuid: UUID) -> None:
    assert_type(driver.list_instances(), list[str])
    assert_type(driver.list_instance_uuids(), list[str])
    assert_type(driver.get_num_instances(), int)
    assert_type(driver.instance_exists(uuid), bool)
    info = driver.get_info(uuid, use_cache=False)
    assert_type(info, guestlist.InstanceInfo)
    assert_type(info.state, int)
    assert_type(info.internal_id, int)
    assert_type(info.stale_for, float)
    assert_type(driver.get_vcpus_used(), int)
    assert_type(driver.get_memory_mb_used(), int)
    assert_type(driver.get_all_block_devices(), list[str])
    assert_type(driver.get_disk_over_committed_size_total(), int)
    assert_type(driver.get_all_volume_usage(None, []), list[dict[str, Any]])
    assert_type(driver.get_host_uptime(), str)
    assert_type(driver.get_available_resource("node"), dict[str, Any])


def add_up(driver: guestlist.ComputeDriver) -> None:
    usage = driver.usage()
    assert_type(usage, guestlist.Usage)
    assert_type(usage.vcpus_used, int)
    assert_type(usage.memory_used_kib, int)
    assert_type(usage.block_devices, tuple[str, ...])
    assert_type(usage.disk_over_committed_bytes, int)
    assert_type(usage.unknown, tuple[str, ...])
    assert_type(usage.stale_for, float)
    for each in usage.instances:
        assert_type(each, guestlist.InstanceUsage)
        assert_type(each.uuid, UUID)
        assert_type(each.vcpus, int | None)
        assert_type(each.memory_kib, int | None)
        assert_type(each.disk_virtual_bytes, int | None)


guestlist.Host()
guestlist.Host("qemu:///system", readonly=True, launched_by=guestlist.NovaLaunched(verify=True))
guestlist.Host(launched_by=guestlist.Anyone())
guestlist.Host(launched_by=OursByPrefix(), keepalive_interval=5, keepalive_count=3)
guestlist.Host(open_timeout=None)
guestlist.Inventory()
guestlist.Inventory("qemu:///system", readonly=True, launched_by=OursByPrefix())
guestlist.Inventory(guestlist.Host(), details=False, resync_every=60, verify_every=None)
guestlist.ComputeDriver(guestlist.Host())
