"""The drop-in in a released Nova, loaded by Nova's own loader, compared with Nova's own driver.

Both drivers live in processes of their own (`lab.nova`), in each of Nova's concurrency modes, over
the same real daemon. On a quiet host the answer of Nova's own driver is the truth. Under change an
answer must be one that Nova's own driver could have given: a domain that exists before the question
and after the answer is in it, as it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from lab.churn import Churner, populated
from lab.daemon import Daemon
from lab.images import MIB, make_image
from lab.nodes import appliance, believable_host, domain_xml, handmade, nova_instance
from lab.nova import (
    CONTEXT,
    MODES,
    VOLATILE,
    VOLUMES,
    NovaDriver,
    NovaError,
    instance,
    nova_python,
)
from lab.proxy import Proxy
from lab.qemu import guests, stuck
from lab.waiting import wait_until

from guestlist.errors import Code
from guestlist.inventory.evidence import Evidence
from guestlist.nova.green_threads import _Relay
from guestlist.nova.live_answers import Facts, may_answer
from guestlist.nova.questions import HostQuestions
from guestlist.states import DomainState

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("needs_nova")]

NOVAS, OURS = "libvirt.LibvirtDriver", "guestlist.LibvirtDriver"
RUNNING, PAUSED, SHUTDOWN = 1, 3, 4  # Nova's
SHUT_OFF = 5  # libvirt's; paused is 3 as well
ONE, TWO, THREE = (nova_instance(n) for n in (1, 2, 3))
EACH_MODE = [pytest.param(mode, marks=pytest.mark.xdist_group(f"nova-{mode}")) for mode in MODES]


@pytest.fixture(scope="module", params=EACH_MODE)
def mode(request):
    return request.param


@pytest.fixture(scope="module")
def proxy(daemon):
    """One proxy for the module: Nova connects once."""
    with Proxy(daemon) as proxy:
        yield proxy


def driver(uri, mode, name, **options):
    """A driver in a process of its own; `options` are `[guestlist]`'s."""
    return NovaDriver(uri, mode=mode, compute_driver=name, config={"guestlist": options})


@pytest.fixture(scope="module")
def novas(mode, proxy):
    with driver(proxy.uri(), mode, NOVAS) as nova:
        yield nova


@pytest.fixture(scope="module")
def ours(mode, proxy):
    """The view of this driver is compared on request alone, so that calls can be counted."""
    with driver(proxy.uri(), mode, OURS, max_list_age=3_600, resync_interval=3_600) as nova:
        yield nova


def settled(nova):
    """Return when all is connected and the live view is in step."""
    uuid = nova.call("list_instance_uuids")[0]
    wait_until(lambda: viewed(nova, uuid))


def in_step(nova, domains):
    """Return when guestlist has taken in all events, and its view disputes none of the domains."""
    assert nova.catch_up()
    wait_until(lambda: all(viewed(nova, domain.uuid) for domain in domains))


def viewed(nova, uuid):
    """Return a domain's state in the view; None while the view disputes it."""
    return nova.viewed(uuid)


def add(nova, *domains, volumes=(), **values):
    """Add the domains to Nova's database, in their present states."""
    for domain in domains:
        state = domain.runstate if domain.active else SHUTDOWN
        nova.add_instance(
            domain.uuid,
            domain.name,
            volumes={f"/dev/{target}": nova_instance(500).uuid for target in volumes},
            power_state=state,
            **values,
        )


@contextlib.contextmanager
def added(nova, *domains, **values):
    """Add the domains, and remove them after the block."""
    add(nova, *domains, **values)
    try:
        yield
    finally:
        for domain in domains:
            nova.call("nova.db.main.api:instance_destroy", CONTEXT, str(domain.uuid), None, True)


def uuids(domains):
    return [str(domain.uuid) for domain in domains]


def mdev(uuid):
    return (
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
        f"<address uuid='{uuid}'/></source></hostdev>"
    )


def asking(method, *arguments):
    return lambda nova: nova.ask(method, *arguments)


def infos(domains, *arguments):
    """Return a question: `get_info` of each domain."""

    def ask(nova):
        return [nova.call("get_info", instance(domain.uuid), *arguments) for domain in domains]

    return ask


def calls_of(proxy, nova, ask):
    with proxy.counting() as calls:
        ask(nova)
    return len(calls)


# The same answers


METHODS = {
    "list_instances": asking("list_instances"),
    "list_instance_uuids": asking("list_instance_uuids"),
    "get_num_instances": asking("get_num_instances"),
    "vCPUs": asking("_get_vcpu_used"),
    "over-committed": asking("_get_disk_over_committed_size_total"),
    "mediated devices": asking("_get_all_assigned_mediated_devices"),
    "mounts": NovaDriver.mount_state,
    "guests' memory": asking("_host._sum_domain_memory_mb"),
}
RESOURCE = asking("get_available_resource", "here")


def value(ask, nova):
    """Return the answer, or raise what Nova raised."""
    return ask(nova).result()


def test_it_is_novas_driver_loaded_by_novas_loader(ours):
    assert "guestlist.nova.driver.LibvirtDriver" in ours.see("__class__")


def test_the_log_says_what_it_answers_for(ours):
    wait_until(lambda: "guestlist 0.1.0 answers for" in ours.log())  # a green thread writes it
    said = next(line for line in ours.log().splitlines() if "guestlist 0.1.0 answers for" in line)
    assert " INFO " in said
    for name in ("_get_vcpu_used", "get_all_volume_usage", "get_info", "list_instance_domains"):
        assert name in said


def test_every_answer_is_novas_own(daemon, novas, ours):
    cards = [
        replace(nova_instance(40 + n), devices=mdev(nova_instance(90 + n).uuid), active=n % 2 == 0)
        for n in range(4)
    ]
    domains = [*believable_host(12), *cards]
    with populated(daemon.uri(), domains):
        for name, ask in METHODS.items():
            assert value(ask, ours) == value(ask, novas), name
        assert len(ours.call("_get_all_assigned_mediated_devices")) == 4
        for nova in (novas, ours):
            add(nova, *domains)
        for domain in domains:
            exists = asking("instance_exists", instance(domain.uuid))
            assert value(exists, ours) is value(exists, novas) is True
        assert infos(domains)(ours) == infos(domains)(novas)
        assert infos(domains, False)(ours) == infos(domains, False)(novas)
        resource, truth = value(RESOURCE, ours), value(RESOURCE, novas)
        assert resource.keys() == truth.keys()
        for name in resource.keys() - VOLATILE:
            assert resource[name] == truth[name], name


def test_an_instance_that_libvirt_lacks_raises_as_with_nova(daemon, novas, ours):
    for nova in (novas, ours):
        add(nova, nova_instance(99))
        absent = instance(nova_instance(99).uuid)
        assert nova.call("instance_exists", absent) is False
        with pytest.raises(NovaError, match="InstanceNotFound"):
            nova.call("get_info", absent)


@pytest.mark.parametrize("n", [5, 60])
def test_what_it_costs_does_not_depend_on_how_many_there_are(daemon, proxy, ours, n):
    domains = [nova_instance(200 + i) for i in range(n)]
    with populated(daemon.uri(), domains), added(ours, *domains):
        asked = {**METHODS, "get_info": infos(domains)}
        expected = {
            "list_instances": 1,
            "list_instance_uuids": 1,
            "get_num_instances": 1,
            "vCPUs": 1,
            "over-committed": 3,
            "mediated devices": 2,
            "mounts": 2,
            "guests' memory": 1,
            "get_info": 0,
        }

        def cost():
            return {name: calls_of(proxy, ours, ask) for name, ask in asked.items()}

        in_step(ours, domains)
        cost()
        assert cost() == expected
        assert calls_of(proxy, ours, RESOURCE) <= 25


def test_where_libvirt_has_no_statistics_a_volume_costs_a_call(daemon, proxy, novas, ours):
    """libvirt's test driver has none of block devices, and makes its counters from the clock."""
    disk = "<disk type='file'><source file='/volume'/><target dev='vdb'/></disk>"
    domains = [replace(nova_instance(n), devices=disk, active=n != 453) for n in range(450, 458)]
    usage = asking("get_all_volume_usage", CONTEXT, VOLUMES)
    with (
        populated(daemon.uri(), domains),
        added(ours, *domains, volumes=["vdb", "vdz"]),
        added(novas, *domains, volumes=["vdb", "vdz"]),
    ):
        told, truth = usage(ours), usage(novas)
        assert [each["instance"] for each in told.result()] == [
            each["instance"] for each in truth.result()
        ]
        assert len(told.value) == 7
        assert told.log == truth.log
        assert calls_of(proxy, ours, usage) == 4 + 2 * len(domains)


@pytest.mark.parametrize("fault", ["unknown", "unreachable", "full"])
def test_where_statistics_cannot_be_asked_for_volumes_are_counted_all_the_same(daemon, mode, fault):
    """LXC has no statistics; on other drivers the daemon may have no place for their connection."""
    disk = "<disk type='file'><source file='/volume'/><target dev='vdb'/></disk>"
    domains = [replace(nova_instance(n), devices=disk) for n in range(460, 463)]
    usage = asking("get_all_volume_usage", CONTEXT, VOLUMES)
    with populated(daemon.uri(), domains), Proxy(daemon) as apart:
        with driver(apart.uri(), mode, OURS) as ours:
            add(ours, *domains, volumes=["vdb", "vdz"])
            if fault == "unknown":
                apart.deny("CONNECT_GET_ALL_DOMAIN_STATS")
            else:
                settled(ours)
                if fault == "full":
                    apart.on_call("CONNECT_OPEN", threading.Event().wait)
                else:
                    apart.fail("CONNECT_OPEN", Code.INTERNAL_ERROR)
            told = usage(ours)
            assert [each["instance"] for each in told.result()] == uuids(domains)
            assert "the guest does not answer" not in str(told.log)


# A cache that misleads no caller


def test_a_view_confirms_what_nova_has_and_libvirt_tells_what_is_new(daemon, proxy, ours):
    one = nova_instance(31)
    info = asking("get_info", instance(one.uuid))
    with populated(daemon.uri(), [one, TWO]) as connection, added(ours, one):
        in_step(ours, [one])
        assert calls_of(proxy, ours, info) == 0
        handle = connection.lookupByUUID(one.uuid.bytes)
        handle.suspend()
        wait_until(lambda: viewed(ours, one.uuid) == PAUSED)
        with proxy.counting() as calls:
            assert value(info, ours)["state"] == PAUSED
        assert len(calls) == 3, "Nova has another state: libvirt itself answers"
        ours.alter_instance(one.uuid, power_state=PAUSED)
        assert calls_of(proxy, ours, info) == 0
        ours.alter_instance(one.uuid, task_state="powering-off")
        assert calls_of(proxy, ours, info) == 3, "Nova has a task under way"
        ours.alter_instance(one.uuid, task_state=None)
        handle.destroy()
        wait_until(lambda: viewed(ours, one.uuid) == SHUT_OFF)
        with proxy.counting() as calls:
            assert value(info, ours)["state"] == SHUTDOWN
        assert len(calls) == 3
        ours.alter_instance(one.uuid, power_state=SHUTDOWN)
        assert calls_of(proxy, ours, info) == 3, "the view never says that it is shut down"
        handle.undefine()
        with pytest.raises(NovaError, match="InstanceNotFound"):
            value(info, ours)


def test_a_view_does_not_answer_while_nova_computes_event_loop_does_not_turn(daemon, proxy, ours):
    """It answered for 1.7 s: the view itself notices later that the loop does not turn."""
    one = nova_instance(31)
    with populated(daemon.uri(), [one]) as connection, added(ours, one):
        in_step(ours, [one])
        with ours.events_stopped():
            connection.lookupByUUID(one.uuid.bytes).suspend()
            assert infos([one])(ours)[0]["state"] == PAUSED
        in_step(ours, [one])
        assert viewed(ours, one.uuid) == PAUSED


def test_a_view_of_a_libvirtd_that_was_restarted_does_not_answer(own_daemon, mode):
    """It answered for 0.25 s, until it looked at its connection again: here that is an hour."""
    one = nova_instance(31)
    with driver(own_daemon.uri(), mode, OURS, max_list_age=3_600) as ours:
        with populated(own_daemon.uri(), [one]):
            add(ours, one)
            in_step(ours, [one])
            ours.call("guestlist.inventory.doubt:__setattr__", "PULSE", 3_600.0)
            ours.call("_gate._host._live._follower._inbox.nudge")
            in_step(ours, [one])
            own_daemon.restart()
        with populated(own_daemon.uri(), [replace(one, paused=True)]):
            assert infos([one])(ours)[0]["state"] == PAUSED


def test_a_view_of_a_libvirtd_that_hangs_answers_for_a_second(own_daemon, mode):
    """One second since the last list is the default; it was 8 s, until keepalive ended it."""
    one = nova_instance(31)
    with populated(own_daemon.uri(), [one]), driver(own_daemon.uri(), mode, OURS) as ours:
        add(ours, one)
        in_step(ours, [one])
        own_daemon.stop()
        listed = "_gate._host._live._follower.progress.__setattr__"
        ours.call(listed, "listed_at", time.monotonic() - 1.5)
        asked = ours.begin("get_info", instance(one.uuid))
        for _ in range(20):
            ours.vitals()
        assert not asked.done()
        own_daemon.cont()
        assert asked.result(60).result()["state"] == RUNNING


PATIENCE = (
    "guestlist.inventory:LONGEST_TURN",
    "guestlist.inventory.board:PATIENCE",
    "guestlist.inventory.doubt:STALL",
    "guestlist.nova.questions:RESYNC_TIMEOUT",
)
"""How long the drop-in waits for the live view before libvirt is asked: 0.1 to 5 seconds."""


@contextlib.contextmanager
def patient(nova):
    """A hundred threads and a held answer may take longer than that on a busy machine."""

    def set_all(seconds):
        for name in PATIENCE:
            module, constant = name.split(":")
            nova.call(f"{module}:__setattr__", constant, seconds[name])

    usual = {name: nova.see(name) for name in PATIENCE}
    set_all(dict.fromkeys(PATIENCE, 60.0))
    try:
        yield
    finally:
        set_all(usual)


def test_many_that_ask_at_once_have_the_view_compared_once(daemon, proxy, ours):
    """nova-compute's power sync does so. A second comparison serves calls made during the first."""
    domains = [nova_instance(400 + n) for n in range(100)]
    with (
        populated(daemon.uri(), domains),
        added(ours, *domains),
        patient(ours),
    ):
        in_step(ours, domains)
        ours.call("_gate._host._live._follower.progress.__setattr__", "listed_at", -1e9)
        all_ask = threading.Event()
        proxy.on_call("CONNECT_GET_ALL_DOMAIN_STATS", all_ask.wait, times=1)
        with proxy.counting() as calls:
            asked = [ours.begin("get_info", instance(domain.uuid)) for domain in domains]
            ours.vitals()
            all_ask.set()
            told = [each.result().result() for each in asked]
        assert [info["state"] for info in told] == [RUNNING] * len(domains)
        assert set(calls) == {"CONNECT_GET_ALL_DOMAIN_STATS"}
        assert len(calls) <= 2


def test_nothing_that_is_remembered_of_a_domain_is_used_while_nova_changes_it(daemon, proxy, ours):
    card, one, two = nova_instance(90).uuid, nova_instance(32), nova_instance(33)
    with populated(daemon.uri(), [one, replace(two, devices=mdev(card))]), added(ours, one, two):
        ours.call("_get_all_assigned_mediated_devices")
        in_step(ours, [one, two])
        assert calls_of(proxy, ours, infos([one, two])) == 0
        ours.call("_host.get_guest", instance(two.uuid))
        assert calls_of(proxy, ours, infos([one, two])) == 3
        with proxy.counting() as calls:
            assert ours.call("_get_all_assigned_mediated_devices") == {str(card): str(two.uuid)}
        assert calls.count("DOMAIN_GET_XML_DESC") == 1


def test_a_domain_that_nova_changed_between_two_updates_is_read_again(daemon, proxy, ours):
    """No event tells of some changes, and the next update may come after more than a minute."""
    one = nova_instance(34)
    with populated(daemon.uri(), [one, TWO]), added(ours, one):
        ours.call("_get_all_assigned_mediated_devices")
        ours.call("_host.get_guest", instance(one.uuid))
        ours.call("_gate._used_at.__setitem__", str(one.uuid), -1e9)
        for calls_for_xml in (1, 0):
            with proxy.counting() as calls:
                ours.call("_get_all_assigned_mediated_devices")
            assert calls.count("DOMAIN_GET_XML_DESC") == calls_for_xml


def test_nothing_that_was_there_before_the_question_is_missing_from_the_answer(daemon, ours):
    """Also where the event of a change is still on its way."""
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


def test_vcpus_are_remembered_and_counted_again_when_a_domain_restarts(daemon, proxy, ours):
    one, vcpus = nova_instance(38), METHODS["vCPUs"]
    with populated(daemon.uri(), [one]) as connection:
        before = value(vcpus, ours)
        assert calls_of(proxy, ours, vcpus) == 1
        handle = connection.defineXML(domain_xml(replace(one, vcpus=one.vcpus + 2)))
        assert value(vcpus, ours) == before, "the running domain has what it had"
        handle.destroy()
        handle.create()
        assert value(vcpus, ours) == before + 2
        assert calls_of(proxy, ours, vcpus) == 1


def test_under_churn_no_domain_is_missing_or_doubled(daemon, ours):
    """Nova deletes what it takes for orphans by these lists.

    The churn is no faster than Nova's own handler of events, which would lag by minutes.
    """
    stay = [
        replace(nova_instance(700 + n), devices=mdev(nova_instance(800 + n).uuid)) for n in range(8)
    ]
    with populated(daemon.uri(), stay):
        with Churner(daemon.uri(), [domain.uuid for domain in stay], "come-and-go", rate=100):
            for _ in range(100):
                listed = ours.call("list_instance_uuids")
                assert set(listed) >= set(uuids(stay))
                assert len(set(listed)) == len(listed)
                assert ours.call("_get_vcpu_used") >= sum(domain.vcpus for domain in stay)
                cards = ours.ask("_get_all_assigned_mediated_devices")
                if not cards.error:  # as Nova's own: a domain may be gone between list and XML
                    assert set(cards.value.values()) >= set(uuids(stay))


def test_a_view_that_was_not_compared_lately_is_compared_first(daemon, proxy, ours):
    domains = [nova_instance(n) for n in (34, 35, 36)]
    with populated(daemon.uri(), domains), added(ours, *domains):
        in_step(ours, domains)
        assert calls_of(proxy, ours, infos(domains)) == 0
        try:
            ours.reload({"guestlist": {"max_list_age": 0.000001}})
            with proxy.counting() as calls:
                infos(domains)(ours)
            assert calls == ["CONNECT_GET_ALL_DOMAIN_STATS"] * 3
            ours.reload({"guestlist": {"max_list_age": 0}})
            assert calls_of(proxy, ours, infos(domains)) == 9
        finally:
            ours.reload({"guestlist": {"max_list_age": 3_600}})


# Options


def test_switched_off_every_method_is_novas_own(daemon, proxy, novas, ours):
    domains = [nova_instance(n) for n in (37, 38)]
    with populated(daemon.uri(), domains):
        for nova in (novas, ours):
            add(nova, *domains)
        ours.reload({"guestlist": {"enabled": False}})
        wait_until(lambda: ours.see("_gate._host") is None)
        wait_until(lambda: ours.log().count("guestlist answers nothing: it is switched off") == 1)
        try:
            for name, ask in {**METHODS, "get_info": infos(domains)}.items():
                costs = []
                for nova in (ours, novas):
                    ask(nova)
                    with proxy.counting() as calls:
                        ask(nova)
                    costs.append(Counter(calls))
                assert costs[0] == costs[1], name
        finally:
            ours.reload({"guestlist": {"enabled": True}})
        settled(ours)  # it connects again
        assert calls_of(proxy, ours, METHODS["list_instances"]) == 1


def test_without_a_live_view_libvirt_is_asked_about_each(daemon, proxy, ours):
    domains = [nova_instance(n) for n in (39, 30)]
    with populated(daemon.uri(), domains), added(ours, *domains):
        ours.reload({"guestlist": {"live_view": False}})
        try:
            wait_until(lambda: ours.see("_gate._host._live") is None)
            assert calls_of(proxy, ours, infos(domains)) == 6
        finally:
            ours.reload({"guestlist": {"live_view": True}})


def test_a_view_that_is_closed_meanwhile_answers_or_is_not_there():
    """An option may close it on another thread, between any two steps."""
    known = SimpleNamespace(state=DomainState.RUNNING)
    view = SimpleNamespace(
        seconds_since_list=1.0, evidence=lambda uuid: Evidence(True, True, False, known)
    )

    class Closing(HostQuestions):
        views = iter([view, None])
        _live = property(lambda self: next(self.views))
        is_connected = True

    facts = Facts(
        allows_cache=True,
        has_view=True,
        max_list_age=10.0,
        is_being_changed=False,
        task_state=None,
        power_state=RUNNING,
    )
    seen = object.__new__(Closing).look(str(ONE.uuid), facts)
    assert seen.view.instance is known
    assert may_answer(seen) is None


def test_only_nova_leaves_the_others_out_of_the_lists_and_counts_them(daemon, ours):
    with populated(daemon.uri(), [ONE, appliance(1), handmade(0)]):
        everybody = ours.call("list_instances")
        vcpus = ours.call("_get_vcpu_used")
        assert set(everybody) >= {ONE.name, appliance(1).name, handmade(0).name}
        ours.reload({"guestlist": {"only_nova": True}})
        try:
            assert ours.call("list_instances") == [ONE.name]
            assert ours.call("list_instance_uuids") == [str(ONE.uuid)]
            assert ours.call("get_num_instances") == 1
            assert ours.call("_get_vcpu_used") == vcpus
        finally:
            ours.reload({"guestlist": {"only_nova": False}})
        assert sorted(ours.call("list_instances")) == sorted(everybody)


# Guests with disks


def test_disks_and_volumes_of_real_guests_are_counted_as_nova_counts(disk_daemon, mode):
    roots = []

    def devices(n):
        root = make_image(disk_daemon, size=(32 + n) * MIB)
        roots.append(root.path)
        volume = make_image(disk_daemon, size=(64 + n) * MIB, written=0)
        return (
            root.disk("vda")
            + volume.disk("vdb")
            + make_image(disk_daemon, format="raw").disk("vdc")
        )

    domains = [replace(nova_instance(n), devices=devices(n)) for n in range(1, 5)]
    usage = asking("get_all_volume_usage", CONTEXT, VOLUMES)
    over_committed = METHODS["over-committed"]
    with guests(disk_daemon.qemu_uri, domains), Proxy(disk_daemon) as proxy:
        uri = proxy.qemu_uri
        with driver(uri, mode, NOVAS) as novas, driver(uri, mode, OURS) as ours:

            def same(ask):
                told = [ask(nova) for nova in (ours, novas)]
                assert told[0].result() == told[1].result()
                assert told[0].log == told[1].log
                return told[0]

            for nova in (novas, ours):
                add(nova, *domains[:3], volumes=["vdb", "vdz"])
            for ask in (*METHODS.values(), usage):
                same(ask)
            assert len(same(usage).value) == 3
            assert novas.ask("_get_disk_over_committed_size_total").processes
            assert same(over_committed).processes == ()
            for nova in (novas, ours):
                for domain in domains[:3]:
                    nova.call(
                        "nova.db.main.api:block_device_mapping_destroy_by_instance_and_device",
                        CONTEXT,
                        str(domain.uuid),
                        "/dev/vdz",
                    )
            assert calls_of(proxy, ours, usage) == 2
            grown = make_image(disk_daemon, size=512 * MIB, written=2 * MIB)
            roots[0].write_bytes(grown.path.read_bytes())
            same(over_committed)
            roots[0].unlink()
            assert "backing disk storage" in str(same(over_committed).log)
            ours.reload({"guestlist": {"disk_facts": False}})
            assert over_committed(ours).processes == over_committed(novas).processes != ()


def test_no_method_waits_for_a_stuck_guest(disk_daemon, mode):
    domains = [
        replace(nova_instance(n), paused=True, devices=make_image(disk_daemon).disk("vdb"))
        for n in range(1, 4)
    ]
    usage = asking("get_all_volume_usage", CONTEXT, VOLUMES)
    with guests(disk_daemon.qemu_uri, domains), driver(disk_daemon.qemu_uri, mode, OURS) as ours:
        add(ours, *domains, volumes=["vdb"])
        before = {name: value(ask, ours) for name, ask in METHODS.items()}
        states = infos(domains)(ours)
        assert len(value(usage, ours)) == 3
        with stuck(disk_daemon, domains[0], at_most=120):
            for name, ask in METHODS.items():
                assert value(ask, ours) == before[name], name
            value(RESOURCE, ours)
            assert infos(domains)(ours) == states
            told = usage(ours)
            assert [each["instance"] for each in told.result()] == uuids(domains[1:])
            assert "Getting block stats failed" in str(told.log)


def test_volumes_of_a_stuck_guest_without_disks_are_not_waited_for(disk_daemon, mode):
    """It has an answer for all its disks, none, so that it does not look stuck."""
    domains = [replace(nova_instance(n), paused=True) for n in (1, 2)]
    usage = asking("get_all_volume_usage", CONTEXT, VOLUMES)
    uri = disk_daemon.qemu_uri
    with guests(uri, domains), Proxy(disk_daemon) as proxy:
        with driver(proxy.qemu_uri, mode, OURS) as ours, driver(uri, mode, NOVAS) as novas:
            for nova in (ours, novas):
                add(nova, *domains, volumes=["vdb"])
            assert usage(ours).log == usage(novas).log
            with stuck(disk_daemon, domains[0], at_most=120), proxy.counting() as calls:
                assert usage(ours).value == []
            assert "DOMAIN_BLOCK_STATS" not in calls


# What can go wrong


def test_it_survives_the_daemon(own_daemon, mode):
    """Nova's own error is raised until the daemon is back; then everything is as before."""
    uri = own_daemon.uri()
    with driver(uri, mode, OURS) as ours:
        for _ in range(3):
            with populated(uri, [ONE, TWO, replace(THREE, active=False)]):
                answers = [value(ask, ours) for ask in METHODS.values()]
                with driver(uri, mode, NOVAS) as novas:
                    assert answers == [value(ask, novas) for ask in METHODS.values()]
                own_daemon.kill()
                for name in ("list_instances", "list_instance_uuids", "over-committed"):
                    with pytest.raises(NovaError) as raised:
                        value(METHODS[name], ours)
                    assert raised.value.kind == "HypervisorUnavailable"
                own_daemon.restart()


def test_a_daemon_that_dies_between_list_and_xml_is_novas_own_error(own_daemon, mode):
    """A handle of Nova's own raises this error, and Nova's loops over the domains expect it."""
    with populated(own_daemon.uri(), [ONE, TWO]), Proxy(own_daemon) as proxy:
        with driver(proxy.uri(), mode, OURS, live_view=False) as ours:
            asks = "CONNECT_GET_ALL_DOMAIN_STATS"
            wait_until(lambda: asks in proxy.calls)  # Nova looks for mounts once it is connected
            proxy.on_call(asks, own_daemon.kill, times=1)
            told = ours.ask("_get_all_assigned_mediated_devices")
            own_daemon.restart()
            assert told.error
            assert told.error.kind == "libvirtError"


def test_questions_that_are_under_way_when_it_is_switched_off_leave_no_connection(daemon, mode):
    with populated(daemon.uri(), [ONE]), Proxy(daemon) as proxy:
        with driver(proxy.uri(), mode, OURS) as ours:
            first, proceed = threading.Event(), threading.Event()

            def hold():
                first.set()
                proceed.wait()

            proxy.on_call("CONNECT_LIST_ALL_DOMAINS", hold, times=1)
            listings = [ours.begin("list_instances") for _ in range(10)]
            first.wait()
            ours.vitals()
            ours.reload({"guestlist": {"enabled": False}})
            proceed.set()
            assert [each.result().result() for each in listings] == [[ONE.name]] * 10
            wait_until(lambda: ours.see("_gate._host") is None)
            wait_until(lambda: proxy.connections == 1)  # Nova's own


def test_nova_does_not_lock_itself_out_when_it_is_the_first_to_find_libvirt_gone(daemon, mode):
    """Nova 34's own driver does, on native threads: its next use of the connection never ends."""
    with populated(daemon.uri(), [ONE]), Proxy(daemon) as proxy:
        with driver(proxy.uri(), mode, OURS) as ours:
            add(ours, ONE)
            for _ in range(3):
                proxy.drop_on("CONNECT_GET_LIB_VERSION", times=1)
                assert ours.call("instance_exists", instance(ONE.uuid)) is True


def test_while_the_daemon_hangs_nova_does_other_things(own_daemon, mode):
    """Under eventlet a call that waits on a green thread would stop all of Nova."""
    with Proxy(own_daemon) as proxy, driver(proxy.uri(), mode, OURS) as ours:
        with populated(own_daemon.uri(), [ONE]):
            ours.call("list_instances")
            proxy.stall()
            listing = ours.begin("list_instances")
            for _ in range(20):
                ours.vitals()
            assert not listing.done()
            proxy.resume()
            assert ONE.name in listing.result(60).result()


def test_while_no_connection_can_be_had_nova_asks_libvirt_itself_at_once(daemon, mode):
    """A daemon that is full or stopped never answers an attempt to connect. No question waits for
    such an attempt; here each attempt goes on for ever."""
    go_on = threading.Event()
    with populated(daemon.uri(), [ONE, TWO]), Proxy(daemon) as proxy:
        with driver(proxy.uri(), mode, OURS) as ours:
            settled(ours)
            answers = {name: value(ask, ours) for name, ask in METHODS.items()}
            ours.call("_gate._host._host._connection.__setattr__", "open_timeout", None)
            proxy.on_call("CONNECT_OPEN", go_on.wait)
            ours.call("_gate._host._host.close")
            for _ in range(2):
                assert {name: value(ask, ours) for name, ask in METHODS.items()} == answers
            wait_until(lambda: "Nova asks libvirt itself" in ours.log())
            go_on.set()
            wait_until(lambda: calls_of(proxy, ours, METHODS["list_instances"]) == 1)
            wait_until(lambda: ours.log().count("guestlist 0.1.0 answers for") == 2)
            assert ours.log().count("Nova asks libvirt itself") == 1


@pytest.mark.parametrize("places", [2, 3])
def test_on_a_daemon_with_few_places_nova_has_the_first_one(mode, places):
    """With 2 places the view took the second, and each question waited 10 s for a third."""
    with Daemon(max_clients=places, extra=f"max_anonymous_clients = {places}") as full:
        with driver(full.uri(), mode, OURS) as ours:
            names = ours.call("list_instances")
            assert names == ["test"]
            uuid = ours.call("list_instance_uuids")[0]
            ours.add_instance(uuid, "test")
            for ask in METHODS.values():
                value(ask, ours)
            assert ours.call("get_info", instance(uuid))["state"] == RUNNING
            value(asking("get_all_volume_usage", CONTEXT, VOLUMES), ours)
            left = [line for line in ours.log().splitlines() if "Nova asks libvirt itself" in line]
            assert all("for statistics" in line for line in left)


def test_cleaned_up_it_closes_its_connections_and_starts_again(daemon, mode):
    with Proxy(daemon) as proxy, driver(proxy.uri(), mode, OURS) as ours:
        with populated(daemon.uri(), [ONE]):
            for _ in range(3):
                ours.call("list_instances")
                ours.stop()
                assert ours.see("_gate._host") is None
                ours.call("init_host", "here")
            settled(ours)
            assert calls_of(proxy, ours, METHODS["list_instances"]) == 1


def test_nova_starts_with_a_name_template_that_guestlist_cannot_use(daemon, mode):
    config = {"DEFAULT": {"instance_name_template": "one"}}
    with populated(daemon.uri(), [ONE]):
        with NovaDriver(daemon.uri(), mode=mode, compute_driver=OURS, config=config) as ours:
            assert ours.call("list_instances") == [ONE.name]
            wait_until(lambda: "it would give every guest the same name" in ours.log())


def test_a_record_is_kept_without_a_lock_in_any_python(monkeypatch):
    def handle_of_python_3_13(self, record):
        with self.lock:
            self.emit(record)

    monkeypatch.setattr(logging.Handler, "handle", handle_of_python_3_13)
    logger = logging.Logger("real thread")
    logger.addHandler(relay := _Relay())
    logger.warning("said")
    assert relay._records.popleft().getMessage() == "said"


# How Nova finds it, and whether it may


def in_nova(script):
    return subprocess.run(
        [nova_python(), "-W", "ignore", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        timeout=120,
        env={**os.environ, "OS_NOVA_DISABLE_EVENTLET_PATCHING": "yes"},
    )


ALTERED = """
import nova.monkey_patch; getattr(nova.monkey_patch, "patch", lambda: None)()
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


def test_on_a_nova_that_differs_the_one_conversion_is_refused():
    ended = in_nova(ALTERED)
    assert ended.stdout.splitlines() == [
        "['_get_disk_over_committed_size_total', '_sum_domain_memory_mb', 'get_info', "
        "'list_instance_domains']"
    ], ended.stderr
    said = [line for line in ended.stderr.splitlines() if "guestlist" in line]
    assert len(said) == 2
    assert all("to Nova, whose code differs" in line for line in said)
    assert "online_vcpus" in said[0] + said[1]


def test_importing_the_driver_tries_no_conversion():
    ended = in_nova(
        "import guestlist.nova.driver; from guestlist.nova import proof; "
        "print(proof.proven.cache_info().misses)"
    )
    assert ended.stdout.split() == ["0"], ended.stderr


def test_the_options_are_listed():
    ended = in_nova(
        "import sys; from oslo_config.generator import main; main(['--namespace', 'guestlist'])"
    )
    for name in ("enabled", "live_view", "resync_interval", "max_list_age", "disk_facts"):
        assert f"#{name} = " in ended.stdout, ended.stderr


RELOADED = """
import os, sys, tempfile, threading
import nova.conf
from guestlist.nova import options
from guestlist.nova.gate import Gate
options.register(nova.conf.CONF)
with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, "nova.conf")
    open(path, "w").close()
    nova.conf.CONF(["--config-file", path], project="nova")
    gate = Gate("test:///default", nova.conf.CONF)
    os.unlink(path)
    os.mkfifo(path)
    reload = threading.Thread(target=nova.conf.CONF.mutate_config_files)
    reload.start()
    with open(path, "w") as file:  # once it is being read
        was_on = gate.is_on
        file.write("[guestlist]\\nenabled = false\\n")
    reload.join()
    print(was_on, gate.is_on)
"""


def test_an_option_that_is_read_while_the_file_is_read_is_not_kept():
    """oslo.config empties its cache before it reads the file, and keeps the old value for good."""
    ended = in_nova(RELOADED)
    assert ended.stdout.split() == ["True", "False"], ended.stderr
