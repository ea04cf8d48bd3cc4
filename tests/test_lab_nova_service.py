"""The laboratory's nova-compute: the service that an operator starts, in both of Nova's modes."""

import contextlib
from collections.abc import Iterator

import pytest
from lab.churn import populated
from lab.daemon import Daemon
from lab.nodes import nova_instance
from lab.nova import CONTEXT, Mode, NovaError
from lab.nova_service import TASKS, NovaService, serving
from lab.proxy import Proxy
from lab.waiting import wait_until

HOST = [nova_instance(n, active=n % 4 != 0) for n in range(1, 5)]
RUN = [domain for domain in HOST if domain.active]

pytestmark = pytest.mark.xdist_group("nova-service")


@pytest.fixture(scope="module", params=["threading", "eventlet"])
def mode(needs_nova: None, request: pytest.FixtureRequest) -> Mode:
    return request.param


@pytest.fixture(scope="module")
def nova_daemon(needs_libvirtd: None, mode: Mode) -> Iterator[Daemon]:
    """A daemon of this module's own, with `HOST` on its test driver."""
    with Daemon() as daemon, populated(daemon.uri(), HOST):
        yield daemon


@pytest.fixture(scope="module")
def nova_proxy(nova_daemon: Daemon) -> Iterator[Proxy]:
    with Proxy(nova_daemon) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def nova(mode: Mode, nova_proxy: Proxy) -> Iterator[NovaService]:
    with service(nova_proxy.uri(), mode) as nova:
        yield nova


def service(uri: str, mode: Mode) -> contextlib.AbstractContextManager[NovaService]:
    return serving(uri, HOST, mode=mode)


def test_runs_its_periodic_tasks_without_a_complaint(nova: NovaService, nova_proxy: Proxy):
    before = {task: nova.rounds(task) for task in TASKS}
    nova_proxy.clear()
    nova.wait_rounds(2)
    assert all(nova.rounds(task) >= before[task] + 2 for task in TASKS)
    assert nova.complaints() == []
    assert nova_proxy.calls.count("DOMAIN_GET_VCPUS") >= 2 * len(RUN)
    assert nova_proxy.calls.count("DOMAIN_BLOCK_STATS") >= 2 * len(HOST)


def test_tells_placement_and_the_conductor(nova: NovaService):
    (provider,) = nova.placement.providers.values()
    assert set(provider.aspects["inventories"]) == {"VCPU", "MEMORY_MB", "DISK_GB"}
    assert nova.placement.unknown == []
    nova.wait_rounds(2, "update_available_resource")
    (node,) = nova.call("nova.objects:ComputeNodeList.get_all", CONTEXT)["nova_object.data"][
        "objects"
    ]
    assert node["nova_object.data"]["vcpus_used"] == len(HOST)  # one each, by Nova's own count


def test_keeps_nova_compute_from_the_database(nova: NovaService):
    """What its objects do, the conductor does for them."""
    assert nova.call("nova.db.main.api:DISABLE_DB_ACCESS.__bool__")
    assert nova.call("nova.objects.base:NovaObject.indirection_api.__bool__")


def test_its_driver_can_be_asked(nova: NovaService, mode: Mode):
    assert sorted(nova.call("list_instances")) == sorted(domain.name for domain in HOST)
    assert nova.vitals()["eventlet"] == (mode == "eventlet")


def test_survives_a_libvirtd_that_was_killed(needs_nova, own_daemon: Daemon):
    """In threading mode Nova's own driver may not: see `NovaService`."""
    with service(own_daemon.uri(), "eventlet") as nova:
        with populated(own_daemon.uri(), HOST):
            own_daemon.kill()
            wait_until(nova.complaints)
            own_daemon.restart()
        with populated(own_daemon.uri(), HOST):
            wait_until(lambda: nova.ask("get_num_instances").value == len(HOST))
            nova.wait_rounds(1)
            complaints = len(nova.complaints())
            nova.wait_rounds(1)
            assert len(nova.complaints()) == complaints


def test_ends_by_sigterm(mode: Mode, nova_daemon: Daemon):
    with service(nova_daemon.uri(), mode) as nova:
        assert nova.terminate() == 0


def test_reads_its_configuration_again_by_sighup(needs_nova, own_daemon: Daemon):
    """In threading mode Nova does not: see `NovaService.hang_up`."""
    with populated(own_daemon.uri(), HOST), service(own_daemon.uri(), "eventlet") as nova:
        nova.configure({"DEFAULT": {"debug": True}})
        nova.hang_up()
        wait_until(lambda: "Option DEFAULT.debug changed" in nova.log())
        nova.wait_rounds(1)
        assert nova.complaints() == []


def test_says_why_it_did_not_start(mode: Mode, daemon: Daemon):
    with pytest.raises(NovaError, match="SystemExit") as raised:
        with NovaService(daemon.uri(), mode=mode, compute_driver="nowhere.Driver"):
            pass
    assert "Unable to load the virtualization driver" in raised.value.__notes__[0]
