"""The laboratory's Nova: a released driver, in both its modes, asked over a daemon that counts."""

import uuid
from collections.abc import Iterator
from dataclasses import replace

import libvirt
import pytest
from lab.churn import populated
from lab.daemon import Daemon
from lab.images import make_image
from lab.nodes import nova_instance
from lab.nova import (
    CONTEXT,
    VOLUMES,
    Mode,
    NovaDriver,
    NovaError,
    instance,
    nova_available,
    nova_python,
)
from lab.proxy import Proxy
from lab.qemu import guests
from lab.waiting import wait_until

HOST = [nova_instance(n, active=n % 4 != 0) for n in range(1, 9)]
RUN = [domain for domain in HOST if domain.active]
RUNNING, PAUSED, SHUTDOWN = 1, 3, 4

pytestmark = pytest.mark.xdist_group("nova")


@pytest.fixture(scope="module", params=["threading", "eventlet"])
def mode(needs_nova: None, request: pytest.FixtureRequest) -> Mode:
    return request.param


@pytest.fixture(scope="module")
def nova_proxy(mode: Mode, daemon: Daemon) -> Iterator[Proxy]:
    """The test driver with `HOST` on it, behind a proxy."""
    with populated(daemon.uri(), HOST), Proxy(daemon) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def nova(mode: Mode, nova_proxy: Proxy) -> Iterator[NovaDriver]:
    """Nova's own driver, which knows the instances of `HOST`."""
    with NovaDriver(nova_proxy.uri(), mode=mode) as nova:
        for domain in HOST:
            nova.add_instance(domain.uuid, domain.name, volumes={"/dev/vdb": domain.uuid})
        yield nova


def test_runs_in_novas_own_mode(nova: NovaDriver, mode: Mode):
    assert nova.vitals()["eventlet"] == (mode == "eventlet")


def test_the_driver_is_novas_own(nova: NovaDriver):
    assert nova.call("__class__.__module__.__str__") == "nova.virt.libvirt.driver"


def test_lists_what_is_there(nova: NovaDriver):
    assert sorted(nova.call("list_instances")) == sorted(domain.name for domain in HOST)
    assert sorted(nova.call("list_instance_uuids")) == sorted(str(domain.uuid) for domain in HOST)
    assert nova.call("get_num_instances") == len(HOST)


def test_takes_instances_from_novas_database(nova: NovaDriver):
    assert nova.call("get_info", instance(HOST[0].uuid))["state"] == RUNNING
    assert nova.call("get_info", instance(HOST[3].uuid))["state"] == SHUTDOWN
    assert nova.call("instance_exists", instance(HOST[0].uuid))
    named = nova.call("nova.objects:Instance.get_by_uuid", CONTEXT, str(HOST[0].uuid))
    assert named == str(HOST[0].uuid)


@pytest.mark.parametrize(
    ("name", "arguments", "cost"),
    [
        ("list_instances", (), 2),
        ("list_instance_uuids", (), 2),
        ("get_num_instances", (), 2),
        ("instance_exists", (instance(HOST[0].uuid),), 2),
        ("get_info", (instance(HOST[0].uuid),), 3),
        ("_get_vcpu_used", (), 3 * len(RUN) + 2),
        ("_host._sum_domain_memory_mb", (), len(RUN) + 2),
        ("_host.get_memory_mb_used", (), 2),
        ("_get_disk_over_committed_size_total", (), len(HOST) + 2),
        ("_get_all_assigned_mediated_devices", (), len(HOST) + 2),
        ("get_all_volume_usage", (CONTEXT, VOLUMES), 3 * len(HOST)),
        ("get_available_resource", ("lab",), 3 * len(RUN) + len(HOST) + 16),
    ],
)
def test_costs_what_it_costs_nova(nova: NovaDriver, nova_proxy: Proxy, name, arguments, cost):
    nova.call(name, *arguments)  # what is asked once is remembered
    with nova_proxy.counting() as calls:
        nova.call(name, *arguments)
    assert len(calls) == cost, calls


def test_the_mount_state_costs_a_call_a_domain(nova: NovaDriver, nova_proxy: Proxy):
    with nova_proxy.counting() as calls:
        assert nova.mount_state().result()["mountpoints"] == {}
    assert len(calls) == len(HOST) + 2


def test_three_calls_for_the_state_of_each_domain(nova: NovaDriver, nova_proxy: Proxy):
    with nova_proxy.counting() as calls:
        asked = [nova.begin("get_info", instance(domain.uuid)) for domain in HOST]
        states = [answer.result().result()["state"] for answer in asked]
    assert states == [RUNNING if domain.active else SHUTDOWN for domain in HOST]
    assert len(calls) == 3 * len(HOST)


def test_requests_overlap(nova: NovaDriver, nova_proxy: Proxy):
    """One is answered while another waits for libvirt: also where both threads are green."""
    answered = []

    def ask_another() -> None:
        answered.append(nova.call("get_num_instances"))

    nova_proxy.on_call("DOMAIN_GET_VCPUS", ask_another, times=1)
    nova.call("_get_vcpu_used")
    assert answered == [len(HOST)]


def test_says_for_how_long_the_hub_was_blocked(nova: NovaDriver, nova_proxy: Proxy, mode: Mode):
    """Who calls libvirt from a green thread, and not by eventlet's thread pool, blocks them all."""
    nova.longest_gap()
    nova_proxy.delay(0.5, "CONNECT_OPEN")
    nova.call("libvirt:open", nova_proxy.uri())
    nova_proxy.reset()
    gap = nova.longest_gap()
    assert gap >= 0.5 if mode == "eventlet" else gap > 0


def test_passes_exceptions_on(nova: NovaDriver):
    with pytest.raises(NovaError) as raised:
        nova.call("get_info", instance(uuid.UUID(int=1)))
    assert raised.value.kind == "InstanceNotFound"
    with pytest.raises(NovaError, match=r"AttributeError: .*no_such_method"):
        nova.call("no_such_method")


def test_passes_log_records_on(nova: NovaDriver):
    answer = nova.ask("get_all_volume_usage", CONTEXT, VOLUMES)
    assert {record.logger for record in answer.log} == {"nova.virt.libvirt.driver"}
    assert len(answer.log) == len(HOST)
    assert answer.log[0].level == "INFO"
    assert "Getting block stats failed" in answer.log[0].message


def test_counts_processes(nova: NovaDriver):
    assert len(nova.ask("get_host_uptime").processes) == 1
    assert nova.ask("list_instances").processes == ()


def test_tells_of_lifecycle_events(nova: NovaDriver, nova_proxy: Proxy, daemon: Daemon):
    domain = RUN[0]
    connection = libvirt.open(daemon.uri())
    handle = connection.lookupByUUID(domain.uuid.bytes)
    handle.suspend()
    wait_until(lambda: (str(domain.uuid), "Paused") in nova.events())
    handle.resume()
    wait_until(lambda: (str(domain.uuid), "Resumed") in nova.events())
    connection.close()


def test_reads_its_configuration_again(nova: NovaDriver):
    assert nova.reload({"DEFAULT": {"debug": True}}) == ["DEFAULT.debug"]
    assert any(record.level == "DEBUG" for record in nova.ask("get_available_resource", "lab").log)
    assert nova.reload({"DEFAULT": {"debug": False}, "libvirt": {"virt_type": "kvm"}}) == [
        "DEFAULT.debug"
    ]


def test_a_driver_that_will_not_load_says_so(mode: Mode, daemon: Daemon):
    with pytest.raises(NovaError, match="SystemExit") as raised:
        with NovaDriver(daemon.uri(), mode=mode, compute_driver="nowhere.Driver"):
            pass
    assert "Unable to load the virtualization driver" in raised.value.__notes__[0]


def test_survives_a_daemon_that_was_killed(mode: Mode, own_daemon: Daemon):
    """Asked while it does not know yet, Nova may lock itself out: see `NovaService`."""
    with NovaDriver(own_daemon.uri(), mode=mode) as nova:
        with populated(own_daemon.uri(), HOST):
            assert nova.call("get_num_instances") == len(HOST)
            own_daemon.kill()
            wait_until(lambda: "Connection event '0'" in nova.log())
            with pytest.raises(NovaError, match="HypervisorUnavailable"):
                nova.call("get_num_instances")
            own_daemon.restart()
        with populated(own_daemon.uri(), HOST):
            assert nova.call("get_num_instances") == len(HOST)
        nova.stop()


def test_drives_real_guests(mode: Mode, disk_daemon: Daemon):
    """One disk is a volume; at the other Nova looks twice, by a process each time."""
    disks = [make_image(disk_daemon).disk(target) for target in ("vda", "vdb")]
    guest = replace(nova_instance(1), devices="".join(disks))
    with guests(disk_daemon.qemu_uri, [guest]):
        with NovaDriver(disk_daemon.qemu_uri, mode=mode) as nova:
            nova.add_instance(guest.uuid, guest.name, volumes={"/dev/vdb": guest.uuid})
            assert nova.call("get_info", instance(guest.uuid))["state"] == PAUSED
            (usage,) = nova.call("get_all_volume_usage", CONTEXT, VOLUMES)
            assert usage["instance"] == usage["volume"] == str(guest.uuid)
            disk = nova.ask("_get_disk_over_committed_size_total")
            assert disk.value > 0
            assert ["qemu-img" in process for process in disk.processes] == [True] * 2
            assert nova.call("get_available_resource", "lab")["hypervisor_type"] == "QEMU"


def test_leaves_nothing_behind(mode: Mode, daemon: Daemon):
    with NovaDriver(daemon.uri(), mode=mode) as nova:
        directory = nova.directory
        assert "Loading compute driver" in nova.log()
    assert not nova.alive
    assert not directory.exists()


def test_one_function_knows_where_the_environments_are():
    assert nova_python("2026.2").parts[-4:] == (".nova", "2026.2", "bin", "python")
    assert nova_available("1999.1") == "no Nova 1999.1 here: ./dev nova-env 1999.1"
