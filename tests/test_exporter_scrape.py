"""A scrape of real hosts: what it says, what it costs, and how faults show in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import libvirt
import pytest
from lab.daemon import Daemon
from lab.images import MIB, make_image
from lab.nodes import node, nova_instance
from lab.proxy import Proxy
from lab.qemu import guests, stuck
from lab.scraped import Scraped
from lab.waiting import wait_until

from guestlist import Host
from guestlist.exporter.collectors import COLLECTORS
from guestlist.exporter.scrape import HostExporter

DEFAULT = frozenset(name for name, collector in COLLECTORS.items() if collector.is_default)


@contextlib.contextmanager
def exporting(uri: str, interval: float = 0.2, **options: object) -> Iterator[HostExporter]:
    """Export a host, ready."""
    collectors = options.pop("collectors", DEFAULT)
    with Host(uri, readonly=True) as host:
        exporter = HostExporter(host, collectors=collectors, interval=interval, **options)
        try:
            exporter.start()
            exporter.wait_ready(60)
            yield exporter
        finally:
            exporter.close()


def scrape(exporter: HostExporter) -> Scraped:
    return Scraped.of(exporter.scrape())


def test_a_scrape_tells_what_libvirt_tells(disk_daemon: Daemon) -> None:
    image = make_image(disk_daemon, size=8 * MIB).path
    device = (
        f"<disk type='file'><driver name='qemu' type='qcow2' cache='none'/><source file='{image}'/>"
        "<target dev='vda' bus='virtio'/><serial>abc</serial>"
        "<iotune><total_iops_sec>500</total_iops_sec></iotune></disk>"
    )
    one = replace(nova_instance(1), devices=device)
    with guests(disk_daemon.qemu_uri, [one]), exporting(disk_daemon.qemu_uri) as exporter:
        # A QEMU that has just started may take a second for its first answer.
        wait_until(lambda: scrape(exporter).get("libvirt_domain_timed_out", domain=one.name) == 0)
        found = scrape(exporter)
        connection = libvirt.openReadOnly(disk_daemon.qemu_uri)
        domain = connection.lookupByName(one.name)
        _, max_kib, kib, vcpus, _ = domain.info()
        ((_, told),) = connection.getAllDomainStats(0, 0)
        connection.close()
    at = {"domain": one.name}
    assert found.get("libvirt_up") == 1
    assert found.get("libvirt_domains") == 1
    assert found.get("libvirt_domain_info_vstate", **at) == 3
    assert found.get("libvirt_domain_info_state", state_desc="the domain is paused by user", **at)
    assert found.get("libvirt_domain_state_reason", **at) == told["state.reason"]
    assert found.get("libvirt_domain_info_maximum_memory_bytes", **at) == max_kib * 1_024
    assert found.get("libvirt_domain_info_memory_usage_bytes", **at) == kib * 1_024
    assert found.get("libvirt_domain_info_virtual_cpus", **at) == vcpus
    assert found.get("libvirt_domain_timed_out", **at) == 0
    assert found.get("libvirt_domain_vcpu_current", **at) == told["vcpu.current"]
    disk = {**at, "target_device": "vda"}
    capacity = found.get("libvirt_domain_block_stats_capacity_bytes", **disk)
    assert capacity == told["block.0.capacity"] == 8 * MIB
    reads = found.get("libvirt_domain_block_stats_read_requests_total", **disk)
    assert reads == told["block.0.rd.reqs"]
    assert found.get("libvirt_domain_block_stats_limit_total_requests", **disk) == 500
    info = found.labels("libvirt_domain_block_stats_info", **disk)
    assert info["source_file"] == str(image)
    assert (info["driver_type"], info["driver_cache"], info["serial"]) == ("qcow2", "none", "abc")
    assert found.labels("libvirt_domain_info", **at)["uuid"] == str(one.uuid)
    nova = found.labels("libvirt_domain_openstack_info", **at)
    assert nova["instance_id"] == str(one.uuid)
    assert found.labels("libvirt_domain_info_meta", **at)["project_uuid"] == nova["project_id"]
    assert found.get("libvirt_domain_info_cpu_time_seconds_total", **at) > 0
    assert found.get("libvirt_domain_statistics_age_seconds", **at) < 60


@pytest.mark.parametrize("domains", [10, 100, 1_000])
def test_a_scrape_is_one_call_however_many_domains_there_are(
    own_daemon: Daemon, domains: int
) -> None:
    path = own_daemon.write_node(node(map(nova_instance, range(1, domains + 1))))
    with Proxy(own_daemon) as proxy, exporting(proxy.uri(path), interval=600.0) as exporter:
        scrape(exporter)  # asks for the versions, once
        with proxy.counting() as calls:
            found = scrape(exporter)
    assert calls == ["CONNECT_GET_ALL_DOMAIN_STATS"]
    assert len(found.domains("libvirt_domain_info_vstate")) == domains
    assert len(found.domains("libvirt_domain_info")) == domains
    assert found.get("libvirt_domains") == domains


def test_inactive_domains_have_a_state_and_no_usage(qemu_daemon: Daemon) -> None:
    off = nova_instance(2, active=False)
    with guests(qemu_daemon.qemu_uri, [nova_instance(1), off]):
        with exporting(qemu_daemon.qemu_uri) as exporter:
            found = scrape(exporter)
    assert found.get("libvirt_domain_info_vstate", domain=off.name) == 5
    assert found.get("libvirt_domain_info_maximum_memory_bytes", domain=off.name)
    of_it = {name for name, labels in found.values if ("domain", off.name) in labels}
    assert not of_it & {
        "libvirt_domain_info_memory_usage_bytes",
        "libvirt_domain_info_cpu_time_seconds_total",
        "libvirt_domain_timed_out",
    }


def test_a_stuck_guest_is_marked_and_silences_no_other(qemu_daemon: Daemon) -> None:
    with guests(qemu_daemon.qemu_uri, 4) as [one, *others]:
        with exporting(qemu_daemon.qemu_uri, interval=0.5) as exporter, stuck(qemu_daemon, one):
            wait_until(
                lambda: scrape(exporter).get("libvirt_domain_timed_out", domain=one.name) == 1
            )
            wait_until(
                lambda: (
                    scrape(exporter).domains("libvirt_domain_vcpu_current")
                    == {other.name for other in others}
                )
            )
            found = scrape(exporter)
    assert found.get("libvirt_up") == 1
    assert found.get("libvirt_domain_info_vstate", domain=one.name) == 3
    for other in others:
        assert found.get("libvirt_domain_timed_out", domain=other.name) == 0
        assert found.get("libvirt_domain_info_cpu_time_seconds_total", domain=other.name)


def test_while_the_daemon_hangs_the_domains_stay_and_libvirt_is_not_up(qemu_daemon: Daemon) -> None:
    with guests(qemu_daemon.qemu_uri, 2) as both:
        with exporting(qemu_daemon.qemu_uri, interval=0.2) as exporter:
            assert scrape(exporter).get("libvirt_up") == 1
            qemu_daemon.stop()
            try:
                found = scrape(exporter)
                assert found.get("libvirt_up") == 0
                assert found.domains("libvirt_domain_info_vstate") == {one.name for one in both}
                assert found.domains("libvirt_domain_info") == {one.name for one in both}
                wait_until(  # flat counters would read as idle guests
                    lambda: not scrape(exporter).domains("libvirt_domain_vcpu_current")
                )
                wait_until(
                    lambda: scrape(exporter).get("guestlist_exporter_view_stale_seconds") > 0
                )
            finally:
                qemu_daemon.cont()
            wait_until(lambda: scrape(exporter).get("libvirt_up") == 1)
            wait_until(lambda: scrape(exporter).domains("libvirt_domain_vcpu_current"))


def test_after_a_restart_of_the_daemon_all_comes_back_by_itself(qemu_daemon: Daemon) -> None:
    with guests(qemu_daemon.qemu_uri, 2) as both:
        with exporting(qemu_daemon.qemu_uri, interval=0.2) as exporter:
            qemu_daemon.kill()
            wait_until(lambda: scrape(exporter).get("libvirt_up") == 0)
            assert scrape(exporter).domains("libvirt_domain_info") == {one.name for one in both}
            qemu_daemon.restart()
            wait_until(lambda: scrape(exporter).get("libvirt_up") == 1)
            wait_until(
                lambda: (
                    scrape(exporter).domains("libvirt_domain_vcpu_current")
                    == {one.name for one in both}
                )
            )


def test_before_libvirt_ever_answered_there_is_nothing_but_that(tmp_path) -> None:
    uri = f"test+unix:///default?socket={tmp_path}/none"
    with Host(uri, readonly=True) as host:
        exporter = HostExporter(host, collectors=DEFAULT)
        exporter.start()
        found = scrape(exporter)
        exporter.close()
    assert found.get("libvirt_up") == 0
    assert found.get("libvirt_domains") is None
    assert not exporter.is_ready


def test_a_libvirt_without_bulk_statistics_is_told_of_from_the_view(daemon: Daemon) -> None:
    with Proxy(daemon) as proxy:
        proxy.older_daemon("1.2.7")
        path = daemon.write_node(node([nova_instance(1), nova_instance(2, active=False)]))
        with exporting(proxy.uri(path)) as exporter:
            found = scrape(exporter)
    assert found.get("libvirt_up") == 1
    assert found.get("libvirt_domain_info_vstate", domain=nova_instance(1).name) == 1
    assert found.get("libvirt_domain_info_vstate", domain=nova_instance(2).name) == 5


def test_two_domains_of_one_name_make_no_series_twice(daemon: Daemon) -> None:
    first, second = nova_instance(1), nova_instance(2)
    path = daemon.write_node(node([first, second]))
    with Proxy(daemon) as proxy, exporting(proxy.uri(path)) as exporter:
        proxy.rename(second.name, first.name.encode())
        found = scrape(exporter)
        assert found.domains("libvirt_domain_info_vstate") == {first.name}


@pytest.mark.parametrize("compat", [None, "kumina"])
def test_a_name_that_looks_like_labels_takes_none_away(daemon: Daemon, compat: str | None) -> None:
    one = nova_instance(1)
    path = daemon.write_node(node([one]))
    with Proxy(daemon) as proxy:
        with exporting(proxy.uri(path), compat=compat, nova_labels=True) as exporter:
            proxy.rename(one.name, b"x,uuid=,project_id=,launcher=")
            found = scrape(exporter)
    its = {"domain": "x,uuid=,project_id=,launcher=", "uuid": str(one.uuid), "launcher": "nova"}
    assert found.get("libvirt_domain_info", **its) == 1
    assert found.labels("libvirt_domain_openstack_info", domain=its["domain"])["project_id"]


@pytest.mark.parametrize("compat", ["tinkoff", "kumina"])
def test_compat_adds_names_and_takes_none_away(daemon: Daemon, compat: str) -> None:
    path = daemon.write_node(node([nova_instance(1)]))
    with exporting(daemon.uri(path)) as exporter:
        plain = {name for name, _ in scrape(exporter).values}
    with exporting(daemon.uri(path), compat=compat, nova_labels=True) as exporter:
        found = scrape(exporter)
    assert plain <= {name for name, _ in found.values}
    if compat == "kumina":
        at = {"domain": nova_instance(1).name, "uuid": str(nova_instance(1).uuid)}
        assert found.get("libvirt_domain_state_code", **at) == 1
        assert found.labels("libvirt_domain_info_vstate", **at)["project_name"]


def test_pools_are_told_of_where_they_are_asked_for(daemon: Daemon) -> None:
    with exporting(daemon.uri(), collectors=DEFAULT | {"pool"}, compat="tinkoff") as exporter:
        found = scrape(exporter)
    at = {"storage_pool": "default-pool"}
    assert found.get("libvirt_storage_pool_state", **at) == 2
    size = found.get("libvirt_storage_pool_capacity_bytes", **at)
    assert size == found.get("libvirt_pool_info_capacity_bytes", pool="default-pool")
    assert found.get("libvirt_storage_pool_timed_out", **at) == 0


def test_a_pool_that_is_not_active_has_no_sizes(own_daemon: Daemon) -> None:
    uri = own_daemon.uri()
    connection = libvirt.open(uri)
    connection.storagePoolLookupByName("default-pool").destroy()
    with exporting(uri, collectors=DEFAULT | {"pool"}) as exporter:
        found = scrape(exporter)
    connection.close()
    at = {"storage_pool": "default-pool"}
    assert found.get("libvirt_storage_pool_state", **at) == 0
    assert found.get("libvirt_storage_pool_capacity_bytes", **at) is None


def test_while_a_pool_hangs_it_is_marked_at_each_scrape(own_daemon: Daemon) -> None:
    at = {"storage_pool": "default-pool"}
    with Proxy(own_daemon) as proxy:
        with exporting(proxy.uri(), collectors=DEFAULT | {"pool"}) as exporter:
            proxy.delay(10.0, "STORAGE_POOL_GET_INFO")
            for _ in range(3):
                assert scrape(exporter).get("libvirt_storage_pool_timed_out", **at) == 1
            proxy.reset()
            wait_until(lambda: scrape(exporter).get("libvirt_storage_pool_timed_out", **at) == 0)
