"""Nova's operations as the laboratory plays them (`lab.nova_life`), alone and in a crowd.

After each operation Nova's API and the hosts agree: the server's status, the host that Nova has it
on, and the domains that are there.
"""

import json
import urllib.error
import urllib.request

import libvirt
import pytest
from lab.daemon import Daemon
from lab.nova import SERIES
from lab.nova_api import NovaApi
from lab.nova_crowd import Crowd
from lab.nova_faults import run
from lab.nova_life import Host, Life

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("nova-api"),
    pytest.mark.skipif(SERIES != "2026.2", reason="the API of one series is enough"),
]

ACTIVE, OFF = True, False

ENDS = {
    "stop": ("SHUTOFF", {"one": OFF}),
    "stop from within": ("SHUTOFF", {"one": OFF}),
    "reboot": ("ACTIVE", {"one": ACTIVE}),
    "pause": ("PAUSED", {"one": ACTIVE}),
    "suspend": ("SUSPENDED", {"one": OFF}),
    "rescue": ("RESCUE", {"one": ACTIVE}),
    "soft delete": ("SOFT_DELETED", {"one": OFF}),
    "delete": ("DELETED", {}),
    "shelve": ("SHELVED_OFFLOADED", {}),
    "resize": ("VERIFY_RESIZE", {"one": OFF, "two": ACTIVE}),
    "migrate": ("VERIFY_RESIZE", {"one": OFF, "two": ACTIVE}),
    "live migrate": ("ACTIVE", {"two": ACTIVE}),
    "evacuate": ("ACTIVE", {"two": ACTIVE}),
}
"""How each operation on an active server of host "one" ends."""

SECONDS = {
    ("pause", "unpause"): ("ACTIVE", {"one": ACTIVE}),
    ("suspend", "resume"): ("ACTIVE", {"one": ACTIVE}),
    ("rescue", "unrescue"): ("ACTIVE", {"one": ACTIVE}),
    ("soft delete", "restore"): ("ACTIVE", {"one": ACTIVE}),
    ("soft delete", "reclaim"): ("DELETED", {}),
    ("stop", "start"): ("ACTIVE", {"one": ACTIVE}),
    ("stop", "evacuate"): ("SHUTOFF", {"two": OFF}),
    ("stop", "migrate"): ("VERIFY_RESIZE", {"one": OFF, "two": OFF}),
    ("shelve", "unshelve"): ("ACTIVE", {"two": ACTIVE}),
    ("shelve", "delete shelved"): ("DELETED", {}),
    ("resize", "confirm"): ("ACTIVE", {"two": ACTIVE}),
    ("resize", "revert"): ("ACTIVE", {"one": ACTIVE}),
}
"""How a second operation ends."""


@pytest.fixture(scope="module")
def place(needs_nova, needs_libvirtd):
    """Nova's operations, and two neighbours."""
    with Daemon() as one, Daemon() as two, NovaApi() as nova:
        hosts = [
            Host(name, daemon.uri(), libvirt.open(daemon.uri()))
            for name, daemon in (("one", one), ("two", two))
        ]
        hosts[0].neighbour, hosts[1].neighbour = hosts[1], hosts[0]
        for host in hosts:
            nova.add_host(host.name)
        yield nova, Life(nova), hosts
        for host in hosts:
            host.connection.close()


def test_the_tables_have_every_operation(place):
    _, life, hosts = place
    server = life.settled(hosts[0])
    names = {name for name, _ in life.operations(server)}
    assert names == set(ENDS)
    public = {name for name in vars(Life) if not name.startswith("_")}
    played = {name.replace(" ", "_") for pair in SECONDS for name in pair} | {
        name.replace(" ", "_") for name in ENDS
    }
    assert public - played == {"settled", "operations", "launch"}


@pytest.mark.parametrize(("operation", "end"), ENDS.items(), ids=list(ENDS))
def test_an_operation_leaves_nova_and_the_hosts_in_agreement(place, operation, end):
    assert played(place, [operation]) == end


@pytest.mark.parametrize(("operations", "end"), SECONDS.items(), ids=["-".join(s) for s in SECONDS])
def test_so_does_a_second_one(place, operations, end):
    assert played(place, operations) == end


def test_a_launched_server_runs(place):
    nova, life, hosts = place
    made = []
    run(life.launch(hosts[1], made))
    (server,) = made
    assert told(nova, server.uuid) == ("ACTIVE", "two")
    assert copies(hosts, server.uuid) == {"two": ACTIVE}


def test_a_crowd_plays_on_servers_of_its_own_until_it_ends(place):
    _, life, hosts = place
    with Crowd(life, hosts, servers=6, threads=3, seed=1, pauses=False) as crowd:
        while crowd.total < 10:
            with crowd.held("cell1"):
                before = crowd.total
            assert crowd.total >= before
    assert crowd.wrong == []
    assert crowd.total >= 10


def played(place, operations):
    """Play operations on a new server; return Nova's status, and the copies on the hosts."""
    nova, life, hosts = place
    server = life.settled(hosts[0])
    for name in operations:
        run(dict(life.operations(server))[name]())
    status, host = told(nova, server.uuid)
    there = copies(hosts, server.uuid)
    if status == "SHELVED_OFFLOADED":
        assert host is None
    elif status != "DELETED":
        assert host in there
    return status, there


def told(nova, uuid):
    """Return the status and the host that Nova tells of a server, also of a deleted one."""
    try:
        server = asked(nova, f"/servers/{uuid}")["server"]
    except urllib.error.HTTPError:
        query = f"all_tenants=1&deleted=true&uuid={uuid}"
        (server,) = asked(nova, f"/servers/detail?{query}")["servers"]
    return server["status"], server["OS-EXT-SRV-ATTR:host"]


def asked(nova, path):
    headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "compute 2.69"}
    with urllib.request.urlopen(urllib.request.Request(nova.url + path, headers=headers)) as answer:
        return json.load(answer)


def copies(hosts, uuid):
    """Return on which hosts a domain is, and whether it is active."""
    return {
        host.name: bool(domain.isActive())
        for host in hosts
        for domain in host.connection.listAllDomains()
        if domain.UUIDString() == str(uuid)
    }
