"""The laboratory's churn: it counts, pauses and ends, and never lets a domain vanish."""

import uuid

import libvirt
import pytest
from lab import nodes
from lab.churn import Churner, ThreadChurner, populated
from lab.daemon import Daemon

MODES = ["switch", "rename", "redefine", "kind", "come-and-go"]
IN_PROCESS = "test:///default"
LISTINGS = 30


def domains_for(mode: str) -> list[nodes.Domain]:
    return [nodes.nova_instance(n, active=mode != "rename") for n in range(1, 11)]


def identities(connection: libvirt.virConnect) -> list[uuid.UUID]:
    return [uuid.UUID(bytes=handle.UUID()) for handle in connection.listAllDomains()]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("churner", [Churner, ThreadChurner])
def test_one_listing_never_misses_a_domain(own_daemon: Daemon, churner, mode):
    domains = domains_for(mode)
    known = {domain.uuid for domain in domains}
    uri = own_daemon.uri() if churner is Churner else IN_PROCESS
    with populated(uri, domains) as connection, churner(uri, sorted(known), mode) as churn:
        for _ in range(LISTINGS):
            churn.wait_changes(1)
            listed = identities(connection)
            assert known <= set(listed)
            assert len(listed) == len(set(listed))
        assert churn.changes >= LISTINGS
        assert churn.rate > 0


@pytest.mark.parametrize("churner", [Churner, ThreadChurner])
def test_paused_nothing_changes(own_daemon: Daemon, churner):
    uri = own_daemon.uri() if churner is Churner else IN_PROCESS
    domains = domains_for("switch")
    with (
        populated(uri, domains) as connection,
        churner(uri, [domain.uuid for domain in domains]) as churn,
    ):
        churn.wait_changes(20)
        at_pause = churn.pause()
        states = [[handle.state() for handle in connection.listAllDomains()] for _ in range(2)]
        assert states[0] == states[1]
        assert churn.changes == at_pause
        churn.resume()
        churn.wait_changes(20)


def test_renaming_changes_names(own_daemon: Daemon):
    (domain,) = domains_for("rename")[:1]
    uri = own_daemon.uri()
    with populated(uri, [domain]) as connection, Churner(uri, [domain.uuid], "rename") as churn:
        names = set()
        while len(names) < 2:
            churn.wait_changes(1)
            names |= {handle.name() for handle in connection.listAllDomains()}
        assert names == {domain.name, f"{domain.name}-renamed"}


def test_a_rate_is_kept(own_daemon: Daemon):
    domains = domains_for("switch")
    uri, known = own_daemon.uri(), [domain.uuid for domain in domains]
    with populated(uri, domains), Churner(uri, known, rate=500) as churn:
        churn.wait_changes(50)
        assert churn.rate < 1000


def test_a_churner_that_fails_says_why(own_daemon: Daemon):
    def churn_what_is_missing() -> None:
        with Churner(own_daemon.uri(), [uuid.UUID(int=1)]) as churn:
            churn.wait_changes(1)

    with pytest.raises(RuntimeError, match="Domain not found"):
        churn_what_is_missing()


def test_a_populated_node_is_as_told_and_empty_afterwards():
    with populated(IN_PROCESS, nodes.believable_host()) as connection:
        states = {handle.name(): handle.state()[0] for handle in connection.listAllDomains()}
        assert states == {domain.name: domain.runstate for domain in nodes.believable_host()}
