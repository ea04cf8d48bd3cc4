"""The per-domain way: its numbers are right, and it costs what Nova's own driver costs."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import libvirt
import pytest
from lab.churn import populated
from lab.daemon import Daemon
from lab.images import MIB, make_image
from lab.nodes import Domain, nova_instance
from lab.per_domain import PerDomain
from lab.proxy import Proxy
from lab.qemu import guests

RUNNING, PAUSED, SHUTDOWN = 1, 3, 4
ACTIVE, INACTIVE = 8, 2
VOLUME = (
    "<disk type='block' device='disk'><source dev='{}'/><target dev='vda' bus='virtio'/></disk>"
)


def instance(n: int) -> Domain:
    """Return an instance with a volume: every fifth is shut off, the first is paused."""
    made = nova_instance(n, active=n % 5 != 0, paused=n == 1)
    return replace(made, devices=VOLUME.format(f"/dev/volumes/{n}"))


HOST = [instance(n) for n in range(1, ACTIVE + INACTIVE + 1)]
RUN = [domain for domain in HOST if domain.active]


@pytest.fixture
def connection(daemon: Daemon, proxy: Proxy) -> Iterator[libvirt.virConnect]:
    """The test driver with `HOST` on it, behind the proxy."""
    with populated(daemon.uri(), HOST):
        connection = libvirt.open(proxy.uri())
        connection.getType()  # the client remembers it
        yield connection
        connection.close()


def attached(*domains: Domain):
    """Return what Nova knows of the volumes of these instances."""
    return [
        {
            "instance": SimpleNamespace(uuid=str(domain.uuid)),
            "instance_bdms": [{"device_name": "/dev/vda", "volume_id": f"of {domain.name}"}],
        }
        for domain in domains
    ]


def test_knows_who_is_there(connection):
    driver = PerDomain(connection)
    assert sorted(driver.list_instances()) == sorted(domain.name for domain in HOST)
    assert sorted(driver.list_instance_uuids()) == sorted(str(domain.uuid) for domain in HOST)
    assert driver.get_num_instances() == ACTIVE + INACTIVE
    assert driver.instance_exists(HOST[0].uuid)
    assert not driver.instance_exists(uuid.UUID(int=1))


def test_knows_their_power_states(connection):
    driver = PerDomain(connection)
    assert driver.get_info(HOST[0].uuid).state == PAUSED
    assert driver.get_info(str(HOST[1].uuid)).state == RUNNING
    assert driver.get_info(HOST[4].uuid).state == SHUTDOWN
    assert driver.get_info(HOST[4].uuid).internal_id == -1
    with pytest.raises(libvirt.libvirtError):
        driver.get_info(uuid.UUID(int=1))


def test_sums_what_the_active_ones_use(connection):
    driver = PerDomain(connection)
    assert driver.get_vcpus_used() == sum(domain.vcpus for domain in RUN)
    assert driver.get_memory_mb_used() == sum(domain.memory_kib for domain in RUN) // 1024
    assert len(driver.get_all_block_devices()) == ACTIVE
    assert "/dev/volumes/1" in driver.get_all_block_devices()
    assert "/dev/volumes/5" not in driver.get_all_block_devices()


def test_counts_one_vcpu_where_the_driver_does_not_tell(connection, proxy: Proxy):
    proxy.fail("DOMAIN_GET_VCPUS", libvirt.VIR_ERR_NO_SUPPORT)
    assert PerDomain(connection).get_vcpus_used() == ACTIVE


def test_reads_the_usage_of_active_instances_volumes(connection):
    usage = PerDomain(connection).get_all_volume_usage(None, attached(HOST[1], HOST[4]))
    (used,) = usage
    assert used["volume"] == f"of {HOST[1].name}"
    assert {"instance", "rd_req", "rd_bytes", "wr_req", "wr_bytes"} <= set(used)


@pytest.mark.parametrize(
    ("ask", "cost"),
    [
        (lambda driver: driver.list_instances(), 2),
        (lambda driver: driver.list_instance_uuids(), 2),
        (lambda driver: driver.get_num_instances(), 2),
        (lambda driver: driver.instance_exists(HOST[0].uuid), 2),
        (lambda driver: driver.get_info(HOST[0].uuid), 3),
        (lambda driver: driver.get_vcpus_used(), 3 * ACTIVE + 2),
        (lambda driver: driver.get_memory_mb_used(), ACTIVE + 2),
        (lambda driver: driver.get_all_block_devices(), ACTIVE + 2),
        (lambda driver: driver.get_disk_over_committed_size_total(), ACTIVE + INACTIVE + 2),
        (lambda driver: driver.get_all_volume_usage(None, attached(*HOST)), 3 * len(HOST)),
        (lambda driver: driver.get_host_uptime(), 0),
        (lambda driver: driver.get_available_resource(), 5 * ACTIVE + INACTIVE + 15),
    ],
)
def test_costs_what_it_says(connection, rpc: Proxy, ask, cost):
    driver = PerDomain(connection)
    driver.get_available_resource()  # the capabilities are remembered
    with rpc.counting() as calls:
        ask(driver)
    assert len(calls) == cost


@pytest.fixture
def guest_host(disk_daemon: Daemon) -> Iterator[tuple[Daemon, list[Domain], int]]:
    """Two QEMU guests with a disk each, a third one shut off, and the bytes the disks may grow."""
    images = [
        make_image(disk_daemon, size=32 * MIB, written=3 * MIB),
        make_image(disk_daemon, size=16 * MIB, written=MIB, format="raw"),
        make_image(disk_daemon, size=48 * MIB, written=5 * MIB),
    ]
    domains = [
        replace(nova_instance(n, active=n != 3), devices=image.disk())
        for n, image in enumerate(images, 1)
    ]
    with guests(disk_daemon.qemu_uri, domains):
        total = (32 + 16 + 48) * MIB - sum(image.allocated for image in images)
        yield disk_daemon, domains, total


def test_is_right_about_real_guests(guest_host):
    daemon, domains, room_to_grow = guest_host
    connection = libvirt.open(daemon.qemu_uri)
    driver = PerDomain(connection, instances_path=daemon.directory)
    assert sorted(driver.list_instances()) == [domain.name for domain in domains]
    assert [driver.get_info(domain.uuid).state for domain in domains] == [PAUSED, PAUSED, SHUTDOWN]
    assert driver.get_vcpus_used() == 2
    assert driver.get_memory_mb_used() == 2 * 16
    assert driver.get_all_block_devices() == []
    assert driver.get_disk_over_committed_size_total() == room_to_grow
    assert len(driver.get_all_volume_usage(None, attached(*domains))) == 2

    resource = driver.get_available_resource()
    assert (resource["vcpus_used"], resource["memory_mb_used"]) == (2, 32)
    assert resource["hypervisor_type"] == "QEMU"
    assert resource["vcpus"] == connection.getInfo()[2]
    assert resource["memory_mb"] == connection.getInfo()[1]
    assert resource["local_gb_used"] < resource["local_gb"]
    assert any(domain == "qemu" for _, domain, _ in resource["supported_instances"])
    assert json.loads(resource["cpu_info"])["topology"]["sockets"] >= 1
    assert "load average" in resource["stats"]["uptime"]
    connection.close()


def test_runs_qemu_img_once_for_each_qcow2_disk_or_twice_as_nova_does(guest_host, monkeypatch):
    daemon, _, room_to_grow = guest_host
    ran = []
    run = subprocess.run

    def watched(command, **options):
        ran.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", watched)
    connection = libvirt.open(daemon.qemu_uri)
    for limited, times in ((False, 2), (True, 4)):
        ran.clear()
        driver = PerDomain(connection, limited=limited)
        assert driver.get_disk_over_committed_size_total() == room_to_grow
        assert sum("qemu-img" in command for command in ran) == times
    connection.close()


def test_leaves_out_a_disk_that_is_gone(guest_host):
    daemon, _, room_to_grow = guest_host
    connection = libvirt.open(daemon.qemu_uri)
    driver = PerDomain(connection)
    gone = next(daemon.directory.glob("disk-*.raw"))
    allocated = gone.stat().st_blocks * 512
    gone.unlink()
    assert driver.get_disk_over_committed_size_total() == room_to_grow - (16 * MIB - allocated)
    connection.close()
