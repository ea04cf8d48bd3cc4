"""The driver over a live view: the same answers, without a call."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lab.churn import populated
from lab.images import make_image
from lab.nodes import nova_instance
from lab.places import DOM0, HOUSEHOLD
from lab.qemu import guests

from guestlist import (
    ComputeDriver,
    ConnectionFailed,
    ConnectionLost,
    DomainGone,
    Host,
    InstanceInfo,
    Inventory,
)

GONE = nova_instance(999)


def answers(driver):
    """Return, by name, the answers of all methods that ask only the view."""
    resources = driver.get_available_resource()
    for moving in ("stats", "disk_available_least", "local_gb_used", "memory_mb_used"):
        resources.pop(moving)  # these belong to the machine, and change from one second to the next
    return {
        "list_instances": driver.list_instances(),
        "list_instance_uuids": driver.list_instance_uuids(),
        "get_num_instances": driver.get_num_instances(),
        "exists": [driver.instance_exists(domain.uuid) for domain in HOUSEHOLD],
        "info": [driver.get_info(domain.uuid) for domain in HOUSEHOLD],
        "get_vcpus_used": driver.get_vcpus_used(),
        "get_all_block_devices": driver.get_all_block_devices(),
        "get_disk_over_committed_size_total": driver.get_disk_over_committed_size_total(),
        "get_available_resource": resources,
        "unknown": driver.usage().unknown,
    }


@pytest.fixture
def live(daemon, rpc):
    """A live view of a host with a domain of every kind, in step, over the counting proxy."""
    rpc.set_id(DOM0.uuid, 0)
    with populated(daemon.uri(), HOUSEHOLD), Inventory(rpc.uri()) as live:
        live.wait_synced(30)
        yield live


def test_every_method_answers_as_over_a_host_and_makes_no_call(live, rpc):
    driver = ComputeDriver(live)
    answers(driver)
    rpc.wait_called("CONNECT_CLOSE")  # the node was read over a connection of its own
    with rpc.counting() as calls:
        found = answers(driver)
    assert list(calls) == []
    with Host(rpc.uri()) as host:
        assert found == answers(ComputeDriver(host))


def test_a_domain_that_starts_counts_at_once(daemon, live):
    driver = ComputeDriver(live)
    shut_off = next(domain for domain in HOUSEHOLD if not domain.active and not domain.transient)
    used = driver.get_vcpus_used()
    with Host(daemon.uri()) as host, live.changes(include_foreign=True) as changes:
        before = driver.get_info(shut_off.uuid)
        assert before == InstanceInfo(4, -1)
        handle = next(
            domain
            for domain in host.list_instance_domains(include_inactive=True, include_foreign=True)
            if domain.UUID() == shut_off.uuid.bytes
        )
        handle.create()
        started = changes.get(timeout=30)
        assert started.uuid == shut_off.uuid
        assert driver.get_info(shut_off.uuid).state == 1
        assert driver.get_vcpus_used() == used + shut_off.vcpus
        del handle


def test_nobody_is_declared_absent_from_memory(live, rpc):
    driver = ComputeDriver(live)
    with rpc.counting() as calls:
        assert driver.instance_exists(GONE.uuid) is False
        with pytest.raises(DomainGone):
            driver.get_info(GONE.uuid)
    assert list(calls).count("DOMAIN_LOOKUP_BY_UUID") == 2
    rpc.drop_on("DOMAIN_LOOKUP_BY_UUID")
    with pytest.raises(ConnectionLost):
        driver.instance_exists(GONE.uuid)


def test_libvirt_is_asked_where_no_cache_may_be_used(live, rpc):
    driver = ComputeDriver(live)
    uuid = HOUSEHOLD[0].uuid
    cached = driver.get_info(uuid)
    with rpc.counting() as calls:
        assert driver.get_info(uuid, use_cache=False) == cached
    assert "DOMAIN_LOOKUP_BY_UUID" in list(calls)


def test_a_stale_view_answers_with_its_age(own_daemon):
    running = nova_instance(1)
    with populated(own_daemon.uri(), [running]), Inventory(own_daemon.uri()) as live:
        live.wait_synced(30)
        driver = ComputeDriver(live)
        vcpus = driver.get_vcpus_used()
        assert driver.get_available_resource()["stale_for"] == driver.usage().stale_for == 0.0
        with live.changes() as changes:
            own_daemon.kill()
            changes.get(timeout=30)
        assert driver.get_vcpus_used() == vcpus
        assert driver.usage().stale_for > 0
        assert driver.get_available_resource()["stale_for"] > 0
        info = driver.get_info(running.uuid)
        assert (info.state, info.stale_for > 0) == (1, True)
        with pytest.raises((ConnectionFailed, ConnectionLost)):
            driver.get_info(running.uuid, use_cache=False)
        with pytest.raises((ConnectionFailed, ConnectionLost)):
            driver.instance_exists(GONE.uuid)
        own_daemon.restart()


def test_volumes_are_asked_of_the_guests_themselves(disk_daemon):
    guest = replace(nova_instance(1), devices=make_image(disk_daemon).disk())
    with guests(disk_daemon.qemu_uri, [guest]), Inventory(disk_daemon.qemu_uri) as live:
        live.wait_synced(60)
        bdms = [{"device_name": "/dev/vda", "volume_id": "volume"}]
        asked = [{"instance": str(guest.uuid), "instance_bdms": bdms}]
        with Host(disk_daemon.qemu_uri) as host:
            expected = ComputeDriver(host).get_all_volume_usage(None, asked)
        assert ComputeDriver(live).get_all_volume_usage(None, asked) == expected
        assert [usage["volume"] for usage in expected] == ["volume"]
