"""What old libvirts do otherwise, and what is made of it all the same."""

from __future__ import annotations

import libvirt
import pytest
from lab.churn import Churner, populated
from lab.nodes import handmade, nova_instance
from lab.views import Replica
from lab.waiting import LONG

from guestlist import GuestlistError, Host, Inventory
from guestlist.snapshot import states_of

INVALID_ARG, INTERNAL_ERROR = 8, 1
EVERYBODY = {"include_inactive": True, "include_foreign": True}
PERMANENT = [nova_instance(n) for n in range(5)]


@pytest.fixture(params=[("0.9.12", INVALID_ARG), ("1.2.7", INVALID_ARG), ("1.2.7", INTERNAL_ERROR)])
def vague(request, proxy):
    """A proxy that answers as an old driver, with a code of its own for a domain that is gone."""
    release, code = request.param
    proxy.older_daemon(release)
    proxy.obscure_gone(code)
    return proxy


# A domain that is gone: the look-up tells, whatever the code was


def test_snapshots_under_come_and_go_neither_fail_nor_show_who_is_gone(daemon, vague):
    """Code 8 of a vanished domain failed 34 snapshots of 50; others showed it without details."""
    uuids = {domain.uuid for domain in PERMANENT}
    with (
        populated(daemon.uri(), PERMANENT),
        Churner(daemon.uri(), sorted(uuids), "come-and-go", rate=400),
        Host(vague.uri()) as host,
    ):
        for _ in range(25):
            snapshot = host.snapshot(**EVERYBODY)
            assert uuids <= snapshot.keys()
            assert not [one for one in snapshot.values() if one.details and one.details.unknown]


def test_listings_under_come_and_go_of_strangers_do_not_fail(daemon, vague):
    """Whose such a domain is only its metadata tells; once it is gone that call fails."""
    uuids = {domain.uuid for domain in PERMANENT}
    with (
        populated(daemon.uri(), PERMANENT),
        Churner(daemon.uri(), sorted(uuids), "come-and-go", rate=400),
        Host(vague.uri()) as host,
    ):
        for _ in range(25):
            listed = {domain.UUIDString() for domain in host.list_instance_domains()}
            assert listed == {str(uuid) for uuid in uuids}


def test_g4_a_live_view_neither_tears_nor_says_gone_of_who_was_undefined(daemon, vague):
    uuids = [domain.uuid for domain in PERMANENT]
    with (
        populated(daemon.uri(), PERMANENT),
        Inventory(vague.uri()) as live,
    ):
        live.wait_synced(LONG)
        with live.changes(include_foreign=True) as changes:
            replica = Replica(changes)
            with Churner(daemon.uri(), uuids, "come-and-go", rate=200):
                ends = []
                while len(ends) < 50:
                    news = changes.get(timeout=LONG)
                    replica.hear(news)
                    if getattr(news, "after", news) is None:
                        ends.append(type(news).__name__)
        assert set(ends) == {"Stopped"}  # of a transient domain libvirt says no more
        assert (replica.stales, replica.wrong) == (0, [])
        assert live.statistics().connections == 1


@pytest.mark.parametrize(
    "procedure", ["DOMAIN_GET_STATE", "DOMAIN_GET_XML_DESC", "DOMAIN_GET_INFO"]
)
def test_one_that_vanishes_within_the_snapshot_is_not_invented(daemon, vague, procedure):
    stranger = handmade(0)
    with populated(daemon.uri(), [*PERMANENT, stranger]) as hand, Host(vague.uri()) as host:

        def vanish():
            handle = hand.lookupByUUIDString(str(stranger.uuid))
            handle.destroy()
            handle.undefine()

        if procedure == "DOMAIN_GET_INFO":  # which is asked where there is no XML
            vague.fail("DOMAIN_GET_XML_DESC", INTERNAL_ERROR)
        vague.on_call(procedure, vanish, times=1)
        found = host.snapshot(**EVERYBODY).get(stranger.uuid)
        assert found is None or found.details is None


def test_one_that_is_there_and_cannot_be_read_is_named_as_before(daemon, vague):
    vague.fail("DOMAIN_GET_XML_DESC", INTERNAL_ERROR)
    with populated(daemon.uri(), PERMANENT), Host(vague.uri()) as host:
        details = host.snapshot()[PERMANENT[0].uuid].details
        assert details.unknown == ("xml", "devices")
        assert details.vcpus == 1


def test_a_state_that_cannot_be_read_of_one_that_is_there_is_an_error(daemon, vague):
    vague.fail("DOMAIN_GET_STATE", INTERNAL_ERROR)
    with populated(daemon.uri(), PERMANENT), Host(vague.uri()) as host:
        if vague.calls.count("CONNECT_GET_ALL_DOMAIN_STATS"):
            pytest.skip("has bulk states")
        with pytest.raises(GuestlistError, match="the laboratory says no"):
            host.snapshot()


@pytest.mark.parametrize("code", [INVALID_ARG, INTERNAL_ERROR])
def test_bulk_states_that_fail_of_one_that_is_gone_are_asked_of_the_others(daemon, proxy, code):
    with populated(daemon.uri(), PERMANENT) as hand, Host(proxy.uri()) as host:
        with host._listings.asking("test") as listing:
            domains = listing.domains(include_inactive=True)
            hand.lookupByUUIDString(str(PERMANENT[0].uuid)).destroy()
            hand.lookupByUUIDString(str(PERMANENT[0].uuid)).undefine()
            proxy.fail("CONNECT_GET_ALL_DOMAIN_STATS", code, times=1)
            found = {one.uuid for one in states_of(listing, domains)}
            assert found == {domain.uuid.bytes for domain in PERMANENT[1:]}
            proxy.fail("CONNECT_GET_ALL_DOMAIN_STATS", code)
            with pytest.raises(libvirt.libvirtError, match="the laboratory says no"):
                states_of(listing, listing.domains(include_inactive=True))
