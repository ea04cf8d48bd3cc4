"""What `Host` promises, held against five libvirts (lab.places)."""

from __future__ import annotations

import itertools
import logging
import uuid

import libvirt
import pytest
from lab.places import DOM0, PLACES, make_place

from guestlist import Anyone, DomainState, Host, Launcher, NovaLaunched

OPTIONS = ("include_inactive", "include_foreign", "include_dom0")
COMBINATIONS = [
    dict(zip(OPTIONS, values, strict=True))
    for values in itertools.product((False, True), repeat=len(OPTIONS))
]


def names(domains):
    return sorted(domain.name() for domain in domains)


def test_each_combination_of_options_shows_what_it_says(place):
    with Host(place.uri) as host:
        for options in COMBINATIONS:
            assert names(host.list_instance_domains(**options)) == place.expected(**options)
        assert host.bulk_listing is place.bulk


def test_the_household_tells_all_combinations_apart(place):
    lists = [tuple(place.expected(**options)) for options in COMBINATIONS]
    assert len(set(lists)) == (8 if place.has_dom0 else 4)


def test_handles_are_libvirts_and_carry_name_and_uuid(place):
    with Host(place.uri) as host:
        listed = host.list_instance_domains(include_inactive=True, include_foreign=True)
    by_uuid = {uuid.UUID(bytes=domain.UUID()): domain.name() for domain in listed}
    there = {domain.uuid: domain.name for domain in place.domains}
    if place.has_dom0:
        del there[DOM0.uuid]
    assert by_uuid == there
    if place.name != "fake":
        assert all(type(domain) is libvirt.virDomain for domain in listed)


def test_a_snapshot_agrees_with_the_listing_and_with_libvirt(place):
    with Host(place.uri) as host:
        for options in COMBINATIONS:
            snapshot = host.snapshot(**options)
            assert [instance.name for instance in snapshot.instances] == place.expected(**options)
        by_name = {
            instance.name: instance
            for instance in host.snapshot(include_inactive=True, include_foreign=True).instances
        }
    running = DomainState.PAUSED if place.name == "qemu" else DomainState.RUNNING
    assert by_name["instance-00000001"].state is running
    assert by_name["instance-00000002"].state is DomainState.PAUSED
    assert by_name["instance-00000002"].active
    assert by_name["instance-00000003"].state is DomainState.SHUTOFF
    assert by_name["instance-00000003"].id is None


def test_who_launched_each_is_recognised(place):
    with Host(place.uri) as host:
        snapshot = host.snapshot(include_inactive=True, include_foreign=True, include_dom0=True)
        launchers = {instance.name: instance.launcher for instance in snapshot.instances}
        one_by_one = {
            domain.name(): host.launcher(domain)
            for domain in host.list_instance_domains(
                include_inactive=True, include_foreign=True, include_dom0=True
            )
        }
    assert one_by_one == launchers
    assert launchers.pop(DOM0.name) is (Launcher.DOM0 if place.has_dom0 else Launcher.OTHER)
    assert {name for name, who in launchers.items() if who is Launcher.NOVA} == {
        "instance-00000001",
        "instance-00000002",
        "instance-00000003",
        "renamed-by-hand",
        "shut-off-and-renamed",
    }
    assert [who for name, who in launchers.items() if name.startswith("guestfs-")] == [
        Launcher.LIBGUESTFS
    ]


def test_anyone_is_ours_but_domain_0_waits_to_be_asked_for(place):
    with Host(place.uri, launched_by=Anyone()) as host:
        assert names(host.list_instance_domains()) == place.expected(include_foreign=True)
        everyone = names(host.list_instance_domains(include_inactive=True, include_dom0=True))
    assert everyone == sorted(domain.name for domain in place.domains)


def test_an_object_of_the_protocol_says_what_is_ours(place):
    class RenamedOnes:
        def by_name(self, name):
            return None if "renamed" in name else False

        def by_metadata(self, namespaces):
            return any(namespace.endswith("/1.0") for namespace in namespaces)

    with Host(place.uri, launched_by=RenamedOnes()) as host:
        assert names(host.list_instance_domains(include_inactive=True)) == ["renamed-by-hand"]


def test_verify_believes_metadata_only(place):
    with Host(place.uri, launched_by=NovaLaunched(verify=True)) as host:
        listed = names(host.list_instance_domains(include_inactive=True))
        assert listed == place.expected(include_inactive=True)


def test_a_domain_that_stops_and_starts_is_listed_as_it_is(place):
    with Host(place.uri) as host:
        place.stop("instance-00000001")
        assert "instance-00000001" not in names(host.list_instance_domains())
        assert "instance-00000001" in names(host.list_instance_domains(include_inactive=True))
        place.start("instance-00000001")
        assert "instance-00000001" in names(host.list_instance_domains())


@pytest.mark.parametrize("name", PLACES)
def test_a_host_without_domains_lists_none(request, monkeypatch, name):
    with make_place(request, monkeypatch, name, ()) as place, Host(place.uri) as host:
        for options in COMBINATIONS:
            assert host.list_instance_domains(**options) == []
            assert len(host.snapshot(**options)) == 0


def test_capabilities_say_what_is_there(place, caplog):
    with caplog.at_level(logging.ERROR), Host(place.uri) as host:
        found = host.capabilities()
    assert found.uri == place.uri
    assert found.bulk_listing is place.bulk
    assert found.bulk_stats is place.bulk
    assert found.lifecycle_events
    assert found.keepalive is (None if place.name == "in-process" else True)
    assert found.versions.driver == ("QEMU" if place.name == "qemu" else "TEST")
    assert found.versions.daemon == (9_012 if place.name == "0.9.12" else found.versions.client)
