"""The driver: Nova's answers, at a cost that does not grow, without waiting for a stuck guest."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import libvirt
import pytest
from lab.churn import Churner, populated
from lab.images import MIB, make_image
from lab.nodes import appliance, domain_xml, handmade, node, nova_instance
from lab.per_domain import PerDomain
from lab.places import DOM0, HOUSEHOLD
from lab.proxy import Proxy
from lab.qemu import guests, stuck
from lab.waiting import LONG
from lab.wire import xdr_string

from guestlist import (
    Anyone,
    ComputeDriver,
    ConnectionLost,
    DomainGone,
    Host,
    InstanceInfo,
    LibvirtFailure,
    NotSupported,
)
from guestlist.statistics import counters_in

STATS = "CONNECT_GET_ALL_DOMAIN_STATS"
GONE = nova_instance(999)
BLOCK_DISK = (
    "<disk type='block' device='disk'><source dev='/dev/vg/{}'/>"
    "<target dev='vdb' bus='virtio'/></disk>"
)


def methods(driver, uuid):
    """Return every method of the driver, by name, as a question without arguments."""
    return {
        "list_instances": driver.list_instances,
        "list_instance_uuids": driver.list_instance_uuids,
        "get_num_instances": driver.get_num_instances,
        "instance_exists": lambda: driver.instance_exists(uuid),
        "get_info": lambda: driver.get_info(uuid),
        "get_vcpus_used": driver.get_vcpus_used,
        "get_memory_mb_used": driver.get_memory_mb_used,
        "get_all_block_devices": driver.get_all_block_devices,
        "get_disk_over_committed_size_total": driver.get_disk_over_committed_size_total,
        "get_all_volume_usage": lambda: driver.get_all_volume_usage(None, [volume(uuid)]),
        "get_host_uptime": driver.get_host_uptime,
        "get_available_resource": driver.get_available_resource,
    }


def volume(uuid, *targets, identity="volume"):
    """Return what Nova knows of an instance's volumes."""
    bdms = [
        {"device_name": f"/dev/{t}", "volume_id": f"{identity}-{t}"} for t in targets or ["vda"]
    ]
    return {"instance": SimpleNamespace(uuid=str(uuid)), "instance_bdms": bdms}


@pytest.fixture
def host(daemon, rpc):
    """A host with a domain of every kind, Domain-0 among them, over the counting proxy."""
    rpc.set_id(DOM0.uuid, 0)
    with populated(daemon.uri(), HOUSEHOLD), Host(rpc.uri()) as host:
        yield host


# Which instances there are


def test_lists_the_instances_that_are_ours_active_or_not(host):
    driver = ComputeDriver(host)
    ours = sorted(d.name for d in HOUSEHOLD if "openstack" in d.metadata)
    assert driver.list_instances() == ours
    uuids = [next(str(d.uuid) for d in HOUSEHOLD if d.name == name) for name in ours]
    assert driver.list_instance_uuids() == uuids
    assert driver.get_num_instances() == len(ours) == 5


def test_how_many_agrees_with_the_list_whatever_is_ours(daemon, host):
    for launched_by in (None, Anyone()):
        with Host(host.uri, launched_by=launched_by) as other:
            driver = ComputeDriver(other)
            assert driver.get_num_instances() == len(driver.list_instances())


def test_whether_an_instance_exists(host):
    driver = ComputeDriver(host)
    for domain in HOUSEHOLD:
        assert driver.instance_exists(str(domain.uuid)) is True
        assert driver.instance_exists(SimpleNamespace(uuid=domain.uuid)) is True
    assert driver.instance_exists(GONE.uuid) is False
    with pytest.raises(ValueError, match="badly formed"):
        driver.instance_exists("not a uuid")


def test_whether_an_instance_exists_is_one_look_up(host, rpc):
    driver = ComputeDriver(host)
    driver.get_num_instances()
    for uuid in (HOUSEHOLD[0].uuid, GONE.uuid):
        with rpc.counting() as calls:
            driver.instance_exists(uuid)
        assert list(calls) == ["DOMAIN_LOOKUP_BY_UUID"]


def test_a_failure_is_no_reason_to_believe_that_an_instance_is_gone(host, rpc):
    driver = ComputeDriver(host)
    rpc.drop_on("DOMAIN_LOOKUP_BY_UUID")
    with pytest.raises(ConnectionLost):
        driver.instance_exists(HOUSEHOLD[0].uuid)
    rpc.drop_on("DOMAIN_LOOKUP_BY_UUID")
    with pytest.raises(ConnectionLost):
        driver.get_info(HOUSEHOLD[0].uuid)


def test_states_are_novas(daemon, host):
    driver = ComputeDriver(host)
    running, paused, shut_off, *_ = HOUSEHOLD
    connection = libvirt.open(daemon.uri())
    ids = [connection.lookupByUUID(d.uuid.bytes).ID() for d in (running, paused)]
    assert driver.get_info(running.uuid) == InstanceInfo(1, ids[0])
    assert driver.get_info(SimpleNamespace(uuid=str(paused.uuid))) == InstanceInfo(3, ids[1])
    assert driver.get_info(shut_off.uuid, use_cache=False) == InstanceInfo(4, -1)
    with pytest.raises(DomainGone):
        driver.get_info(GONE.uuid)
    connection.close()


# What the instances use


def test_numbers_are_those_of_the_per_domain_way(daemon, rpc):
    domains = [
        replace(nova_instance(n, active=n % 4 > 0, paused=n == 1), devices=BLOCK_DISK.format(n))
        for n in range(12)
    ]
    with populated(daemon.uri(), domains) as connection, Host(rpc.uri()) as host:
        driver, other = ComputeDriver(host), PerDomain(connection)
        assert driver.get_vcpus_used() == other.get_vcpus_used() > 9
        assert driver.get_memory_mb_used() == other.get_memory_mb_used() > 0
        assert sorted(driver.get_all_block_devices()) == sorted(other.get_all_block_devices())
        assert len(driver.get_all_block_devices()) == 9
        assert driver.list_instances() == sorted(other.list_instances())
        for domain in domains:
            info, expected = driver.get_info(domain.uuid), other.get_info(domain.uuid)
            assert (info.state, info.internal_id) == (expected.state, expected.internal_id)
        ours, theirs = driver.get_available_resource(), other.get_available_resource()
        same = set(theirs) - {"local_gb_used", "disk_available_least", "stats", "cpu_info"}
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}


def test_disks_are_counted_to_the_byte_as_the_per_domain_way_does(disk_daemon):
    images = [
        make_image(disk_daemon),
        make_image(disk_daemon, size=10 * MIB, written=9 * MIB),
        make_image(disk_daemon, size=5 * MIB, written=MIB, format="raw"),
        make_image(disk_daemon, size=5 * MIB + 1024, written=5 * MIB, format="raw"),
    ]
    domains = [
        replace(nova_instance(1), devices=images[0].disk("vda") + images[1].disk("vdb")),
        replace(nova_instance(2), devices=images[2].disk("vda")),
        replace(nova_instance(3, active=False), devices=images[3].disk("vda")),
    ]
    with guests(disk_daemon.qemu_uri, domains), Host(disk_daemon.qemu_uri) as host:
        driver = ComputeDriver(host)
        connection = libvirt.open(disk_daemon.qemu_uri)
        other = PerDomain(connection)
        over_committed = driver.get_disk_over_committed_size_total()
        assert over_committed == other.get_disk_over_committed_size_total() > 60 * MIB
        used = driver.usage()
        assert [one.disk_virtual_bytes for one in used.instances] == [
            74 * MIB,
            5 * MIB,
            5 * MIB + 1024,
        ]
        assert used.unknown == ()
        grown = images[0].path
        subprocess.run(["qemu-img", "resize", "-q", images[3].path, "9M"], check=True)
        assert driver.get_disk_over_committed_size_total() == over_committed + 4 * MIB - 1024
        grown.unlink()
        assert driver.get_disk_over_committed_size_total() < over_committed
        assert driver.usage().unknown == ("instance-00000001: disk vda: no such file",)
        connection.close()


def test_domain_0_counts_for_its_memory_alone(host, monkeypatch):
    monkeypatch.setattr("guestlist.node.available_kib", lambda: 1024)
    driver = ComputeDriver(host)
    ours = [d for d in HOUSEHOLD if "openstack" in d.metadata and d.active]
    kib = sum(d.memory_kib for d in ours) + DOM0.memory_kib - 1024
    assert driver.get_memory_mb_used() == kib // 1024
    assert driver.get_vcpus_used() == sum(d.vcpus for d in ours)


def test_an_empty_host_uses_nothing(daemon):
    with populated(daemon.uri(), []), Host(daemon.uri()) as host:
        driver = ComputeDriver(host)
        assert driver.list_instances() == driver.get_all_block_devices() == []
        assert driver.get_vcpus_used() == driver.get_memory_mb_used() == 0
        assert driver.get_disk_over_committed_size_total() == 0
        assert driver.get_available_resource()["vcpus_used"] == 0


def test_one_bad_domain_spoils_nobody_elses_numbers_and_is_named_once(daemon, proxy, caplog):
    caplog.set_level(logging.WARNING, "guestlist")
    domains = [nova_instance(n) for n in range(1, 4)]
    with populated(daemon.uri(), domains), Host(proxy.uri()) as host:
        driver = ComputeDriver(host)
        proxy.fail("DOMAIN_GET_XML_DESC", libvirt.VIR_ERR_INTERNAL_ERROR, times=1)
        proxy.fail("DOMAIN_GET_INFO", libvirt.VIR_ERR_INTERNAL_ERROR, times=1)
        resource = driver.get_available_resource()
        [bad] = {what.partition(":")[0] for what in resource["unknown"]}
        rest = [domain for domain in domains if domain.name != bad]
        assert resource["vcpus_used"] == sum(domain.vcpus for domain in rest)
        assert resource["memory_mb_used"] == sum(domain.memory_kib for domain in rest) // 1024
        said = len(caplog.records)
        assert f"{bad}: vcpus" in caplog.text
        for _ in range(3):
            driver.get_available_resource()
        assert len(caplog.records) == said


def test_a_domain_that_comes_and_goes_is_no_error(daemon):
    domains = [nova_instance(n) for n in range(8)]
    uuids = [domain.uuid for domain in domains]
    with populated(daemon.uri(), domains), Churner(daemon.uri(), uuids, "come-and-go") as churner:
        churner.wait_changes(10)
        with Host(daemon.uri(), launched_by=Anyone()) as host:
            driver = ComputeDriver(host)
            for _ in range(50):
                assert driver.get_vcpus_used() >= 8
                assert driver.get_num_instances() >= 8
        churner.wait_changes(1)


# The host


def test_what_is_available(host, tmp_path):
    resource = ComputeDriver(host, instances_path=tmp_path).get_available_resource("a node")
    assert resource["hypervisor_type"] == "TEST"
    assert resource["vcpus"] == 3
    assert resource["memory_mb"] == 3072
    assert 0 < resource["local_gb_used"] <= resource["local_gb"]
    assert resource["disk_available_least"] < resource["local_gb"]
    assert json.loads(resource["cpu_info"])["arch"] == "i686"
    assert ("i686", "test", "hvm") in resource["supported_instances"]
    assert re.search(r"up .*load average", resource["stats"]["uptime"])
    missing = ComputeDriver(host, instances_path=tmp_path / "not" / "made" / "yet")
    assert missing.get_available_resource()["local_gb"] == resource["local_gb"]


@pytest.mark.parametrize("xml", ["", "capabilities", "<capabilities>", "<a/><b/>"])
def test_capabilities_that_are_no_xml_are_an_error_of_ours(daemon, proxy, xml):
    proxy.rewrite("CONNECT_GET_CAPABILITIES", lambda _: xdr_string(xml.encode()))
    with Host(proxy.uri()) as host, pytest.raises(LibvirtFailure, match="they are no XML"):
        ComputeDriver(host).get_available_resource()


def test_capabilities_that_say_nothing_say_none(daemon, proxy):
    xml = "<other><host><uuid>x</uuid><cpu><topology sockets='²' cores='1_0'/></cpu></host></other>"
    proxy.rewrite("CONNECT_GET_CAPABILITIES", lambda _: xdr_string(xml.encode()))
    with Host(proxy.uri()) as host:
        hypervisor = host.node().hypervisor
    assert hypervisor.uuid is None
    assert hypervisor.processor.sockets is hypervisor.processor.cores is None
    assert hypervisor.guest_kinds == ()


def test_without_uptime_only_the_uptime_is_missing(host, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    driver = ComputeDriver(host)
    with pytest.raises(NotSupported, match="'uptime' cannot be run; install procps"):
        driver.get_host_uptime()
    resource = driver.get_available_resource()
    assert resource["stats"] == {"uptime": None}
    assert resource["vcpus"] == 3


@pytest.mark.parametrize("meminfo", [None, "", "MemFree: 1 kB\nBuffers: 1 kB\n", "MemFree\n\udcff"])
def test_what_the_kernel_does_not_tell_makes_domain_0_unknown(host, monkeypatch, tmp_path, meminfo):
    path = tmp_path / "meminfo"
    if meminfo is not None:
        path.write_text(meminfo, errors="surrogateescape")
    monkeypatch.setattr("guestlist.node._MEMINFO", path)
    used = ComputeDriver(host).usage()
    assert f"{DOM0.name}: memory" in used.unknown
    ours = [d for d in HOUSEHOLD if "openstack" in d.metadata and d.active]
    assert used.memory_used_kib == sum(d.memory_kib for d in ours)


def test_a_directory_that_may_not_be_read_is_not_told_of(daemon, host, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.statvfs", refuse)
    resource = ComputeDriver(host).get_available_resource()
    assert resource["local_gb"] is resource["disk_available_least"] is None
    assert resource["vcpus"] == 3


def test_statistics_that_lie_are_no_answer():
    """A count is not a number, or beyond all bounds; counters are text or missing."""
    name = {"block.0.name": "vda", "block.1.name": "vda"}
    good = {f"block.1.{key}": 7 for key in ("rd.reqs", "rd.bytes", "wr.reqs", "wr.bytes")}
    for values, usage in [
        ({"block.count": "2", **name}, None),
        ({"block.count": 1 << 60, **name, **good, "block.0.rd.reqs": "7"}, 7),
        ({"block.name": "vda", **dict.fromkeys(good, "7")}, None),
        ({**name, **good, "block.1.rd.reqs": "7"}, None),
    ]:
        found = counters_in(values)
        assert found == ({} if usage is None else {"vda": (usage,) * 4})


def test_uptime_is_what_uptime_prints(host):
    assert re.fullmatch(
        r" \d\d:\d\d:\d\d up .*load average: .*\n", ComputeDriver(host).get_host_uptime()
    )


def test_what_only_the_machine_itself_knows_is_not_told_of_another(daemon, monkeypatch, tmp_path):
    image = tmp_path / "disk"
    image.write_bytes(bytes(MIB))
    disk = f"<disk type='file'><source file='{image}'/><target dev='vda'/></disk>"
    monkeypatch.setattr(Host, "is_local", False)
    with populated(daemon.uri(), [replace(nova_instance(1), devices=disk)]):
        with Host(daemon.uri()) as host:
            driver = ComputeDriver(host)
            with pytest.raises(NotSupported, match="another machine"):
                driver.get_host_uptime()
            resource = driver.get_available_resource()
            assert resource["unknown"] == ("instance-00000001: disk vda: on another machine",)
            assert resource["local_gb"] is resource["disk_available_least"] is None
            assert resource["vcpus_used"] == 1


@pytest.mark.parametrize(
    ("uri", "here"),
    [
        ("qemu:///system", True),
        ("qemu+unix:///system?socket=/run/x", True),
        ("qemu+ssh://root@node1/system", False),
        ("qemu+tcp://node1/system", False),
        ("qemu://node1/system", False),
        ("qemu+ssh:///system", False),
        ("test:///default", True),
    ],
)
def test_a_uri_tells_whether_it_is_this_machine(uri, here):
    from guestlist.capabilities import Location  # noqa: PLC0415

    assert Location.of(uri).is_local is here


# What it costs


@pytest.mark.parametrize("name", sorted(methods(ComputeDriver(Host()), GONE.uuid)))
def test_calls_are_the_same_however_many_domains(daemon, rpc, name):
    counted = []
    for n in (10, 100, 400):
        domains = [replace(nova_instance(i), devices=BLOCK_DISK.format(i)) for i in range(n)]
        node_file = daemon.write_node(node(domains))
        with Host(rpc.uri(node_file)) as host:
            driver = ComputeDriver(host, volume_usage_deadline=LONG)
            ask = methods(driver, domains[0].uuid)[name]
            ask()
            ask()
            with rpc.counting() as calls:
                ask()
            counted.append(calls)
    assert counted[0] == counted[1] == counted[2]
    assert len(counted[0]) <= 4  # volumes, on a driver that has no bulk statistics of disks
    entering = [call for call in counted[0] if call != STATS and "STATS" in call]
    assert entering == (["DOMAIN_BLOCK_STATS"] if name == "get_all_volume_usage" else [])


def test_no_method_waits_for_a_stuck_guest_and_it_is_named(disk_daemon, caplog):
    caplog.set_level(logging.WARNING, "guestlist")
    domains = [
        replace(nova_instance(n), devices=make_image(disk_daemon).disk()) for n in range(1, 5)
    ]
    with guests(disk_daemon.qemu_uri, domains), Host(disk_daemon.qemu_uri) as host:
        driver = ComputeDriver(host)
        first = driver.get_available_resource()
        with stuck(disk_daemon, domains[0]):
            for _ in range(2):
                for name, ask in methods(driver, domains[0].uuid).items():
                    start = time.monotonic()
                    ask()
                    assert time.monotonic() - start < 1, name  # the promise, not a measurement
            told = driver.get_all_volume_usage(None, [volume(d.uuid) for d in domains])
            assert [one["instance"].uuid for one in told] == [str(d.uuid) for d in domains[1:]]
            assert "instance-00000001: no answer" in caplog.text
            again = driver.get_available_resource()
        moving = {"stats", "local_gb_used", "disk_available_least"}
        for key in set(first) - moving:
            assert again[key] == first[key]


def test_volume_usage_is_what_the_guests_disks_did(disk_daemon):
    disks = [make_image(disk_daemon).disk("vda") + make_image(disk_daemon).disk("vdb")] * 1
    domains = [replace(nova_instance(1), devices=disks[0]), nova_instance(2)]
    with guests(disk_daemon.qemu_uri, domains), Host(disk_daemon.qemu_uri) as host:
        driver = ComputeDriver(host)
        connection = libvirt.open(disk_daemon.qemu_uri)
        asked = [
            volume(domains[0].uuid, "vda", "vdb", "vdz"),
            volume(domains[1].uuid),
            volume(GONE.uuid),
        ]
        told = driver.get_all_volume_usage(None, asked)
        expected = PerDomain(connection).get_all_volume_usage(None, asked)
        assert [one["volume"] for one in told] == ["volume-vda", "volume-vdb"]
        assert told == expected
        assert driver.get_all_volume_usage(None, []) == []
        connection.close()


@pytest.mark.parametrize("release", ["1.2.7", "1.2.8"])
def test_volume_usage_is_asked_volume_by_volume_where_there_is_no_bulk_call(disk_daemon, release):
    """Before 1.2.8 the answer was once [] without a word, though `blockStats` answers there."""
    disks = make_image(disk_daemon).disk("vda") + make_image(disk_daemon).disk("vdb")
    domains = [replace(nova_instance(1), devices=disks), nova_instance(2, active=False)]
    with guests(disk_daemon.qemu_uri, domains), Proxy(disk_daemon) as proxy:
        proxy.older_daemon(release)
        if release == "1.2.8":  # which has statistics of states alone
            proxy.rewrite("CONNECT_GET_ALL_DOMAIN_STATS", without_blocks)
        with Host(proxy.qemu_uri) as host:
            driver = ComputeDriver(host, volume_usage_deadline=LONG)
            connection = libvirt.open(disk_daemon.qemu_uri)
            asked = [
                volume(domains[0].uuid, "vda", "vdb", "vdz"),
                volume(domains[1].uuid),
                volume(GONE.uuid),
            ]
            told = driver.get_all_volume_usage(None, asked)
            assert told == PerDomain(connection).get_all_volume_usage(None, asked)
            assert [one["volume"] for one in told] == ["volume-vda", "volume-vdb"]
            connection.close()


def test_a_guest_that_hangs_is_left_out_of_volumes_asked_one_by_one(disk_daemon, caplog):
    domains = [
        replace(nova_instance(n), devices=make_image(disk_daemon).disk()) for n in range(1, 4)
    ]
    with guests(disk_daemon.qemu_uri, domains), Proxy(disk_daemon) as proxy:
        proxy.older_daemon("1.2.7")
        proxy.hold("DOMAIN_BLOCK_STATS", domains[0].name)
        with Host(proxy.qemu_uri) as host:
            driver = ComputeDriver(host, volume_usage_deadline=4)
            told = driver.get_all_volume_usage(None, [volume(d.uuid) for d in domains])
            assert [one["instance"].uuid for one in told] == [str(d.uuid) for d in domains[1:]]
            assert "instance-00000001: no answer" in caplog.text
            proxy.reset()


def without_blocks(payload: bytes) -> bytes:
    """Return statistics with other names in place of those of the group "block"."""
    return payload.replace(b"block.", b"other.")


def test_a_disk_that_is_no_file_is_unknown_and_not_nothing(daemon):
    disks = (
        "<disk type='network'><source protocol='rbd' name='vms/1'><host name='ceph'/></source>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    domain = replace(nova_instance(1), devices=disks)
    with populated(daemon.uri(), [domain]), Host(daemon.uri()) as host:
        used = ComputeDriver(host).usage()
        assert used.unknown == ("instance-00000001: disk vda: on a network",)
        assert used.instances[0].disk_over_committed_bytes is None


def test_a_thousand_disks_and_none(daemon, tmp_path):
    image = tmp_path / "disk"
    image.write_bytes(bytes(4096))
    disk = (
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>"
        "<target dev='sd{}' bus='scsi'/></disk>"
    )
    letters = "abcdefghijklmnopqrstuvwxyz"
    targets = [a + b + c for a in letters[:2] for b in letters for c in letters][:1000]
    many = replace(handmade(0), devices="".join(disk.format(image, t) for t in targets))
    with populated(daemon.uri(), [many, appliance(1)]):
        with Host(daemon.uri(), launched_by=Anyone()) as host:
            used = ComputeDriver(host).usage()
            assert sorted(one.disk_virtual_bytes for one in used.instances) == [0, 4096 * 1000]
            assert used.unknown == ()


def test_files_of_the_library_are_not_left_open(daemon):
    with populated(daemon.uri(), [nova_instance(1)]):
        with Host(daemon.uri()) as host:
            driver = ComputeDriver(host)
            driver.get_available_resource()
            before = len(list(Path("/proc/self/fd").iterdir()))
            for _ in range(20):
                driver.get_available_resource()
            assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_domain_defined_anew_is_counted_anew(daemon):
    domain = nova_instance(1, active=False)
    with populated(daemon.uri(), [domain]) as connection, Host(daemon.uri()) as host:
        driver = ComputeDriver(host)
        assert driver.get_vcpus_used() == 0
        connection.defineXML(domain_xml(replace(domain, vcpus=6)))
        connection.lookupByUUID(domain.uuid.bytes).create()
        assert driver.get_vcpus_used() == 6
