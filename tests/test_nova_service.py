"""nova-compute itself with the drop-in: its periodic tasks, signals, and a libvirtd that dies."""

from __future__ import annotations

import pytest
from lab.churn import populated
from lab.nodes import nova_instance
from lab.nova import MODES
from lab.nova_service import TASKS, serving
from lab.proxy import Proxy
from lab.waiting import wait_until

HOST = [nova_instance(n) for n in range(1, 9)]
OURS = "guestlist.LibvirtDriver"

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("nova-compute")]


@pytest.fixture(scope="module", params=MODES)
def mode(needs_nova, request):
    return request.param


def test_its_periodic_tasks_run_and_ask_nothing_of_each_domain(own_daemon, mode):
    with populated(own_daemon.uri(), HOST), Proxy(own_daemon) as proxy:
        with serving(proxy.uri(), HOST, mode, OURS) as nova:
            nova.wait_rounds(2)
            proxy.clear()
            nova.wait_rounds(2)
            assert nova.complaints() == []
            assert nova.placement.unknown == []
            for per_domain in ("DOMAIN_GET_VCPUS", "DOMAIN_GET_XML_DESC", "DOMAIN_GET_INFO"):
                assert per_domain not in proxy.calls
            assert all(nova.rounds(task) for task in TASKS)
            assert nova.call("_get_vcpu_used") == sum(domain.vcpus for domain in HOST)


def test_it_survives_a_libvirtd_that_was_killed(own_daemon, mode):
    """On native threads too, where Nova's own driver may deadlock."""
    with serving(own_daemon.uri(), HOST, mode, OURS) as nova:
        for _ in range(2):
            with populated(own_daemon.uri(), HOST):
                wait_until(lambda: nova.ask("get_num_instances").value == len(HOST))
                nova.wait_rounds(1)
                before = len(nova.complaints())
                own_daemon.kill()
                wait_until(lambda before=before: len(nova.complaints()) > before)
                own_daemon.restart()
        with populated(own_daemon.uri(), HOST):
            wait_until(lambda: nova.ask("get_num_instances").value == len(HOST))
            nova.wait_rounds(1)
            complaints = len(nova.complaints())
            nova.wait_rounds(2)
            assert len(nova.complaints()) == complaints


def test_sighup_is_the_kill_switch_where_nova_reloads_by_it(needs_nova, own_daemon):
    """Nova 34 on native threads does not reload: see `NovaService.hang_up`."""
    with populated(own_daemon.uri(), HOST), Proxy(own_daemon) as proxy:
        with serving(proxy.uri(), HOST, "eventlet", OURS) as nova:
            nova.configure({"guestlist": {"enabled": False}})
            nova.hang_up()
            wait_until(lambda: nova.see("_gate._host") is None)
            proxy.clear()
            nova.wait_rounds(1)
            assert "DOMAIN_GET_VCPUS" in proxy.calls
            nova.configure({"guestlist": {"enabled": True}})
            nova.hang_up()
            wait_until(lambda: nova.see("_gate._host") is not None)
            nova.wait_rounds(2)
            proxy.clear()
            nova.wait_rounds(1)
            assert "DOMAIN_GET_VCPUS" not in proxy.calls
            assert nova.complaints() == []


def test_it_ends_by_sigterm(own_daemon, mode):
    with populated(own_daemon.uri(), HOST), serving(own_daemon.uri(), HOST, mode, OURS) as nova:
        assert nova.terminate() == 0
