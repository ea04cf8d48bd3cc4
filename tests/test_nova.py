"""The drop-in in a released Nova, loaded by Nova's own loader, held against Nova's own driver.

Both drivers live in processes of their own (`lab.nova`), in each of Nova's concurrency modes, over
the same real daemon. What Nova's own answers on a quiet host is the truth; under change an answer
must be one that Nova's own could have given: a domain that was there before the question, and after
the answer, is in it as it was.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from lab.churn import populated
from lab.images import MIB, make_image
from lab.nodes import appliance, believable_host, domain_xml, handmade, nova_instance
from lab.nova import NOVAS, OURS, SERIES, NovaDriver, NovaError, nova_available
from lab.proxy import Proxy
from lab.qemu import guests, stuck
from lab.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

RUNNING, PAUSED, SHUTDOWN = 1, 3, 4  # Nova's
SHUT_OFF = 5  # libvirt's; paused is 3 as well
ONE, TWO, THREE = (nova_instance(n) for n in (1, 2, 3))
MODES = [
    pytest.param(mode, marks=pytest.mark.xdist_group(f"nova-{mode}"))
    for mode in ("threading", "eventlet")
]
VOLATILE = {"memory_mb_used", "local_gb_used", "disk_available_least", "stats", "uuid"}
"""What other processes of this machine move; and the UUID, which is in Nova's state directory."""


@pytest.fixture(scope="module", params=MODES)
def mode(request):
    if missing := nova_available():
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return request.param


@pytest.fixture(scope="module")
def proxy(daemon):
    """One for all: Nova connects once."""
    with Proxy(daemon) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def novas(mode, proxy):
    with NovaDriver(proxy.uri(), mode, NOVAS) as nova:
        yield nova


@pytest.fixture(scope="module")
def ours(mode, proxy):
    """Its view is compared on request alone, so that calls can be counted."""
    options = {"guestlist": {"max_staleness": 3_600}}
    with NovaDriver(proxy.uri(), mode, OURS, options) as nova:
        yield nova


def settled(nova):
    """Return when its live view is in step, and all is connected."""
    uuid = nova.call("list_instance_uuids")[0]
    wait_until(lambda: viewed(nova, uuid))


def viewed(nova, uuid):
    """Its state in the view, if that is certain."""
    known = nova.call("_window._sight.certain", str(uuid))
    return known and known["state"]


def add(nova, *domains, **values):
    for domain in domains:
        state = {"power_state": domain.runstate if domain.active else SHUTDOWN, **values}
        nova.tell("add_instance", str(domain.uuid), [], vm_state="active", **state)


def uuids(domains):
    return [str(domain.uuid) for domain in domains]


def mdev(uuid):
    return (
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
        f"<address uuid='{uuid}'/></source></hostdev>"
    )


def calls_of(proxy, nova, *request):
    with proxy.counting() as calls:
        nova.tell(*request)
    return len(calls)


# The same answers


METHODS = [
    ("call", "list_instances"),
    ("call", "list_instance_uuids"),
    ("call", "get_num_instances"),
    ("call", "_get_vcpu_used"),
    ("call", "_get_disk_over_committed_size_total"),
    ("call", "_get_all_assigned_mediated_devices"),
    ("call", "_host._sum_domain_memory_mb"),
    ("call", "_host.get_memory_mb_total"),
    ("mounts",),
]


def test_it_is_novas_driver_loaded_by_novas_loader(ours):
    assert "guestlist.nova.driver.LibvirtDriver" in ours.tell("see", "__class__")


def test_every_answer_is_novas_own(daemon, novas, ours):
    cards = [
        replace(nova_instance(40 + n), devices=mdev(nova_instance(90 + n).uuid), active=n % 2 == 0)
        for n in range(4)
    ]
    domains = [*believable_host(12), *cards]
    with populated(daemon.uri(), domains):
        for method in METHODS:
            assert ours.tell(*method) == novas.tell(*method), method
        assert len(ours.call("_get_all_assigned_mediated_devices")) == 4
        everybody = uuids(domains)
        for method in ("instance_exists", "get_info"):
            assert ours.tell("each", method, everybody) == novas.tell("each", method, everybody)
        assert ours.tell("each", "get_info", everybody, False) == novas.tell(
            "each", "get_info", everybody, False
        )
        resources = [nova.call("get_available_resource", "here") for nova in (ours, novas)]
        assert resources[0].keys() == resources[1].keys()
        for name in resources[0].keys() - VOLATILE:
            assert resources[0][name] == resources[1][name], name


def test_who_is_not_there_raises_as_with_nova(daemon, novas, ours):
    nobody = {"uuid": str(nova_instance(99).uuid)}
    for nova in (novas, ours):
        assert nova.call("instance_exists", nobody) is False
        with pytest.raises(NovaError, match="InstanceNotFound"):
            nova.call("get_info", nobody)


@pytest.mark.parametrize("n", [5, 60])
def test_what_it_costs_does_not_depend_on_how_many_there_are(daemon, proxy, novas, ours, n):
    domains = [nova_instance(i) for i in range(1, n + 1)]
    with populated(daemon.uri(), domains):
        add(ours, *domains)
        asked = [
            *METHODS[:-1],
            ("mounts",),
            ("each", "get_info", uuids(domains)),
            ("call", "get_available_resource", "here"),
        ]
        for request in asked:
            ours.tell(*request)
        settled(ours)
        expected = {
            ("call", "list_instances"): 1,
            ("call", "list_instance_uuids"): 1,
            ("call", "get_num_instances"): 1,
            ("call", "_get_vcpu_used"): 2,
            ("call", "_get_disk_over_committed_size_total"): 3,
            ("call", "_get_all_assigned_mediated_devices"): 2,
            ("call", "_host._sum_domain_memory_mb"): 1,
            ("call", "_host.get_memory_mb_total"): 2,
            ("mounts",): 2,
            ("each", "get_info"): 0,
        }

        def cost():
            return {request[:2]: calls_of(proxy, ours, *request) for request in asked[:-1]}

        wait_until(lambda: cost() == expected)  # events of their start may still come
        assert cost() == expected
        assert calls_of(proxy, ours, *asked[-1]) <= 25


# A cache that nobody is misled by


def test_a_view_confirms_what_nova_has_and_libvirt_tells_what_is_new(daemon, proxy, ours):
    with populated(daemon.uri(), [ONE, TWO, THREE]) as connection:
        add(ours, ONE, TWO, THREE)
        ours.tell("each", "get_info", uuids([ONE, TWO, THREE]))
        settled(ours)
        info = ("call", "get_info", {"uuid": str(ONE.uuid)})
        wait_until(lambda: calls_of(proxy, ours, *info) == 0)
        handle = connection.lookupByUUID(ONE.uuid.bytes)
        handle.suspend()
        wait_until(lambda: viewed(ours, ONE.uuid) == PAUSED)
        with proxy.counting() as calls:
            assert ours.tell(*info)["state"] == PAUSED
        assert len(calls) == 3, "it is not what Nova has: libvirt says so itself"
        ours.tell("alter_instance", str(ONE.uuid), power_state=PAUSED)
        assert calls_of(proxy, ours, *info) == 0
        ours.tell("alter_instance", str(ONE.uuid), task_state="powering-off")
        assert calls_of(proxy, ours, *info) == 3, "Nova is at it"
        ours.tell("alter_instance", str(ONE.uuid), task_state=None)
        handle.destroy()
        wait_until(lambda: viewed(ours, ONE.uuid) == SHUT_OFF)
        with proxy.counting() as calls:
            assert ours.tell(*info)["state"] == SHUTDOWN
        assert len(calls) == 3
        ours.tell("alter_instance", str(ONE.uuid), power_state=SHUTDOWN)
        assert calls_of(proxy, ours, *info) == 3, "that it is shut down is never from a cache"
        handle.undefine()
        with pytest.raises(NovaError, match="InstanceNotFound"):
            ours.tell(*info)


def test_of_what_nova_has_in_hand_nothing_is_believed_from_memory(daemon, proxy, ours):
    card, other = nova_instance(90).uuid, nova_instance(91)
    with populated(daemon.uri(), [ONE, replace(other, devices=mdev(card))]):
        add(ours, ONE, other)
        both = uuids([ONE, other])
        ours.tell("each", "get_info", both)
        ours.call("_get_all_assigned_mediated_devices")
        settled(ours)
        wait_until(lambda: calls_of(proxy, ours, "each", "get_info", both) == 0)
        ours.call("_host.get_guest", {"uuid": str(other.uuid)})
        assert calls_of(proxy, ours, "each", "get_info", both) == 3
        with proxy.counting() as calls:
            assert ours.call("_get_all_assigned_mediated_devices") == {str(card): str(other.uuid)}
        assert Counter(calls)["DOMAIN_GET_XML_DESC"] == 1


def test_nothing_that_was_there_before_the_question_is_missing_from_the_answer(daemon, ours):
    """Not by a hair: the event may still be on its way."""
    with populated(daemon.uri(), [ONE]) as connection:
        ours.call("_get_all_assigned_mediated_devices")
        for n in range(100):
            domain = replace(nova_instance(100 + n), active=False)
            card = str(nova_instance(300 + n).uuid)
            handle = connection.defineXML(domain_xml(replace(domain, devices=mdev(card))))
            assert str(domain.uuid) in ours.call("list_instance_uuids")
            assert card in ours.call("_get_all_assigned_mediated_devices")
            other = str(nova_instance(600 + n).uuid)
            connection.defineXML(domain_xml(replace(domain, devices=mdev(other))))
            assert other in ours.call("_get_all_assigned_mediated_devices")
            before = ours.call("_get_vcpu_used")
            handle.create()
            assert ours.call("_get_vcpu_used") == before + domain.vcpus
            handle.destroy()
            assert ours.call("_get_vcpu_used") == before
            handle.undefine()
            assert domain.name not in ours.call("list_instances")
            assert other not in ours.call("_get_all_assigned_mediated_devices")


def test_a_view_that_was_not_compared_lately_is_compared_first(daemon, proxy, ours):
    with populated(daemon.uri(), [ONE, TWO, THREE]):
        add(ours, ONE, TWO, THREE)
        request = ("each", "get_info", uuids([ONE, TWO, THREE]))
        ours.tell(*request)
        settled(ours)
        wait_until(lambda: calls_of(proxy, ours, *request) == 0)
        try:
            ours.reload(max_staleness=0.000001)
            with proxy.counting() as calls:
                ours.tell(*request)
            assert Counter(calls) == {"CONNECT_GET_ALL_DOMAIN_STATS": 3}
            ours.reload(max_staleness=0)
            assert calls_of(proxy, ours, *request) == 9
        finally:
            ours.reload(max_staleness=3_600)


# Options


def test_switched_off_every_method_is_novas_own(daemon, proxy, novas, ours):
    with populated(daemon.uri(), [ONE, TWO, THREE]):
        ours.reload(enabled=False)
        wait_until(lambda: ours.tell("see", "_window._sight") is None)
        try:
            everybody = uuids([ONE, TWO, THREE])
            for request in [*METHODS, ("each", "get_info", everybody)]:
                costs = []
                for nova in (ours, novas):
                    nova.tell(*request)
                    with proxy.counting() as calls:
                        nova.tell(*request)
                    costs.append(Counter(calls))
                assert costs[0] == costs[1], request
        finally:
            ours.reload(enabled=True)
        settled(ours)  # it connects anew
        assert calls_of(proxy, ours, "call", "list_instances") == 1


def test_without_a_live_view_libvirt_is_asked_about_each(daemon, proxy, ours):
    with populated(daemon.uri(), [ONE, TWO]):
        add(ours, ONE, TWO)
        ours.reload(live_view=False)
        try:
            wait_until(lambda: ours.tell("see", "_window._sight._live") is None)
            assert calls_of(proxy, ours, "each", "get_info", uuids([ONE, TWO])) == 6
        finally:
            ours.reload(live_view=True)


def test_only_nova_leaves_the_others_out_of_the_lists_and_counts_them(daemon, ours):
    with populated(daemon.uri(), [ONE, appliance(1), handmade(0)]):
        everybody = ours.call("list_instances")
        vcpus = ours.call("_get_vcpu_used")
        assert set(everybody) >= {ONE.name, appliance(1).name, handmade(0).name}
        ours.reload(only_nova=True)
        try:
            assert ours.call("list_instances") == [ONE.name]
            assert ours.call("list_instance_uuids") == [str(ONE.uuid)]
            assert ours.call("get_num_instances") == 1
            assert ours.call("_get_vcpu_used") == vcpus
        finally:
            ours.reload(only_nova=False)
        assert sorted(ours.call("list_instances")) == sorted(everybody)


# Guests with disks


def test_disks_and_volumes_of_real_guests_are_counted_as_nova_counts(disk_daemon, mode):
    roots = []

    def devices(n):
        plain = make_image(disk_daemon, size=(32 + n) * MIB)
        roots.append(plain.path)
        volume = make_image(disk_daemon, size=(64 + n) * MIB, written=0)
        raw = make_image(disk_daemon, format="raw")
        return plain.disk("vda") + volume.disk("vdb") + raw.disk("vdc")

    domains = [replace(nova_instance(n), devices=devices(n)) for n in range(1, 5)]
    volumes = [(uuid, target) for uuid in uuids(domains) for target in ("vdb", "vdz")]
    requests = [*METHODS, ("volume_usage", volumes)]
    with guests(disk_daemon.qemu_uri, domains), Proxy(disk_daemon) as proxy:
        uri = proxy.qemu_uri
        with NovaDriver(uri, mode, NOVAS) as novas, NovaDriver(uri, mode, OURS) as ours:
            for nova in (novas, ours):
                for uuid in uuids(domains[:2]):
                    nova.tell("add_instance", uuid, ["vdb"], power_state=PAUSED)
            for request in requests:
                told = [nova.told(*request) for nova in (ours, novas)]
                assert told[0].answer == told[1].answer, request
                assert told[0].log == told[1].log, request
            over_committed = ("call", "_get_disk_over_committed_size_total")
            assert novas.told(*over_committed).programs > 0
            assert ours.told(*over_committed).programs == 0
            usage = ("volume_usage", volumes[::2])
            calls = calls_of(proxy, ours, *usage)
            assert calls == 2
            grown = make_image(disk_daemon, size=512 * MIB, written=2 * MIB)
            disk = roots[0]
            disk.write_bytes(grown.path.read_bytes())
            assert ours.tell(*over_committed[:2]) == novas.tell(*over_committed[:2])
            disk.unlink()
            told = [nova.told(*over_committed) for nova in (ours, novas)]
            assert told[0].answer == told[1].answer
            assert told[0].log == told[1].log
            assert "backing disk storage" in str(told[0].log)
            ours.reload(disk_facts=False)
            assert ours.told(*over_committed).programs == novas.told(*over_committed).programs


def test_no_method_waits_for_a_stuck_guest(disk_daemon, mode):
    domains = [
        replace(nova_instance(n), devices=make_image(disk_daemon).disk("vdb")) for n in range(1, 4)
    ]
    volumes = [(uuid, "vdb") for uuid in uuids(domains)]
    requests = [*METHODS, ("call", "get_available_resource", "here")]
    with guests(disk_daemon.qemu_uri, domains), Proxy(disk_daemon) as proxy:
        with NovaDriver(proxy.qemu_uri, mode, OURS) as ours:
            add(ours, *domains, power_state=PAUSED)
            before = {request: ours.tell(*request) for request in requests}
            infos = ours.tell("each", "get_info", uuids(domains))
            counted = ours.tell("volume_usage", volumes)
            assert len(counted) == 3
            with stuck(disk_daemon, domains[0], at_most=120) as _:
                for request in requests[:-1]:
                    assert ours.tell(*request) == before[request], request
                ours.tell(*requests[-1])
                assert ours.tell("each", "get_info", uuids(domains)) == infos
                told = ours.told("volume_usage", volumes)
                assert [each["instance"] for each in told.answer] == uuids(domains[1:])
                assert "Getting block stats failed" in str(told.log)


# What can go wrong


def test_it_survives_the_daemon(own_daemon, mode):
    """Until it is back Nova's own error is raised; then everything is as it was."""
    uri = own_daemon.uri()
    with NovaDriver(uri, mode, OURS) as ours:
        counts = []
        for _ in range(3):
            with populated(uri, [ONE, TWO, replace(THREE, active=False)]):
                answers = [ours.tell(*method) for method in METHODS]
                with NovaDriver(uri, mode, NOVAS, init=False) as novas:
                    assert answers == [novas.tell(*method) for method in METHODS]
                counts.append(ours.tell("census")["files"])
                own_daemon.kill()
                for method in METHODS[:3]:
                    with pytest.raises(NovaError) as raised:
                        ours.tell(*method)
                    assert raised.value.kind == "HypervisorUnavailable"
                own_daemon.restart()
        assert counts[2] <= counts[1], "files are left open"


def test_nova_does_not_lock_itself_out_when_it_is_the_first_to_find_libvirt_gone(daemon, mode):
    """Nova 34 alone does, on native threads: the next call for a connection never returns."""
    with Proxy(daemon) as proxy, NovaDriver(proxy.uri(), mode, OURS) as ours:
        ours.call("_host.get_connection")
        for _ in range(3):
            proxy.drop_on("CONNECT_GET_LIB_VERSION", times=1)
            ours.call("_host.get_connection")
            assert ours.call("list_instances") == ["test"]


def test_while_the_daemon_hangs_nova_does_other_things(own_daemon, mode):
    """Under eventlet a call that waits in the wrong thread would stop them all."""
    with Proxy(own_daemon) as proxy, NovaDriver(proxy.uri(), mode, OURS) as ours:
        with populated(own_daemon.uri(), [ONE]):
            ours.call("list_instances")
            proxy.stall()
            answers = []
            asking = threading.Thread(target=lambda: answers.append(ours.call("list_instances")))
            asking.start()
            for _ in range(20):
                ours.tell("census")
            assert not answers
            proxy.resume()
            asking.join(60)
            assert ONE.name in answers[0]


def test_cleaned_up_it_lets_go_of_libvirt_and_starts_anew(daemon, mode):
    with Proxy(daemon) as proxy, NovaDriver(proxy.uri(), mode, OURS) as ours:
        with populated(daemon.uri(), [ONE]):
            for _ in range(3):
                ours.call("list_instances")
                ours.call("cleanup_host", "here")
                assert ours.tell("see", "_window._sight") is None
                ours.call("init_host", "here")
            settled(ours)
            assert calls_of(proxy, ours, "call", "list_instances") == 1


# How Nova finds it, and whether it may


def in_nova(script):
    python = Path(__file__).parents[1] / ".nova" / SERIES / "bin" / "python"
    return subprocess.run(
        [python, "-W", "ignore", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        timeout=120,
        env={**os.environ, "OS_NOVA_DISABLE_EVENTLET_PATCHING": "yes"},
    )


ALTERED = """
import nova.monkey_patch; nova.monkey_patch.patch()
import logging; logging.basicConfig(level=logging.WARNING)
from nova.virt.libvirt import driver
original = driver.LibvirtDriver.get_all_volume_usage
def get_all_volume_usage(self, context, compute_host_bdms):
    return [{**each, "flushes": 0} for each in original(self, context, compute_host_bdms)]
driver.LibvirtDriver.get_all_volume_usage = get_all_volume_usage
driver.LibvirtDriver._get_vcpu_used = lambda self: sum(
    guest.online_vcpus() for guest in self._host.list_guests())
from guestlist.nova.proof import proven
print(sorted(proven()))
"""


def test_on_a_nova_that_differs_the_one_conversion_is_refused(mode):
    ended = in_nova(ALTERED)
    assert ended.stdout.splitlines() == [
        "['_get_disk_over_committed_size_total', '_sum_domain_memory_mb', 'get_info', "
        "'list_instance_domains']"
    ], ended.stderr
    said = [line for line in ended.stderr.splitlines() if "guestlist" in line]
    assert len(said) == 2
    assert all("to Nova, whose code differs" in line for line in said)
    assert "online_vcpus" in said[0] + said[1]


STARTED = """
import sys, nova.cmd.compute
nova.cmd.compute.main = lambda: None
from guestlist.nova.start import main
main()
import nova.virt, os
print(os.path.isfile(os.path.join(nova.virt.__path__[-1], "guestlist", "__init__.py")))
print("guestlist.host" in sys.modules)
"""


def test_the_other_command_tells_nova_where_the_driver_is(mode):
    ended = in_nova(STARTED)
    assert ended.stdout.split() == ["True", "False"], ended.stderr


def test_the_options_are_listed(mode):
    ended = in_nova(
        "import sys; from oslo_config.generator import main; main(['--namespace', 'guestlist'])"
    )
    for name in ("enabled", "live_view", "resync_interval", "max_staleness", "disk_facts"):
        assert f"#{name} = " in ended.stdout, ended.stderr


def test_nothing_of_nova_is_shipped_but_the_name():
    shipped = sorted((Path(__file__).parents[1] / "src" / "nova").rglob("*.py"))
    assert [path.relative_to(path.parents[3]) for path in shipped] == [
        Path("nova/virt/guestlist/__init__.py")
    ]
