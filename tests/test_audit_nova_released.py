"""The live Nova of an audit over a released nova-api, which the laboratory's server imitates."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from lab.nova import SERIES

from guestlist.audit.nova_api import NovaApi
from guestlist.errors import NovaDenied

released = pytest.importorskip("lab.nova_api")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("nova-api"),
    pytest.mark.skipif(SERIES != "2026.2", reason="the API of one series is enough"),
]

FIRST = [UUID(int=n) for n in range(1, 6)]
SECOND = [UUID(int=n) for n in range(11, 14)]
BUILDING = UUID(int=50)
DELETED = UUID(int=60)
UNKNOWN = UUID(int=99)
ALL = {*FIRST, *SECOND, BUILDING}


@pytest.fixture(scope="module")
def api(needs_nova) -> Iterator[released.NovaApi]:
    with released.NovaApi(cells=2) as api:
        for host, cell, uuids in (("c1", "cell1", [*FIRST, DELETED]), ("c2", "cell2", SECOND)):
            api.add_host(host, cell)
            for uuid in uuids:
                api.create(uuid, host, cell=cell)
        api.request(BUILDING)
        api.delete(DELETED)
        yield api


@pytest.fixture
def look_at(api, monkeypatch):
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(api.clouds_yaml))
    yield lambda cloud="lab": NovaApi(cloud, 60)
    api.limit(1000)
    api.cell_up("cell2")


@pytest.mark.parametrize("most", [1, 2, 3, 8, 9, 10, 1000])
def test_all_servers_of_all_pages(api, look_at, most):
    api.limit(most)
    look = look_at().servers()
    assert (set(look.servers), look.missing) == (ALL, ())


def test_the_servers_of_a_cell_that_is_down(api, look_at):
    api.cell_down("cell2")
    look = look_at().servers()
    assert set(look.servers) == ALL
    assert all(str(uuid) in look.missing[0] for uuid in SECOND)


def test_a_list_of_pages_tells_the_hosts_of_a_cell_that_is_down(api, look_at):
    api.cell_down("cell2")
    api.limit(2)
    look = look_at().servers()
    assert set(look.servers) == ALL - {*SECOND}
    (line,) = look.missing
    assert line.endswith(" c2")


def test_servers_by_id(api, look_at):
    uuid = FIRST[0]
    kinds = [("resize", "confirmed"), ("evacuation", "done"), ("live-migration", "running")]
    for kind, status in kinds:
        api.migration(uuid, kind, status, "c1", "c1")
    actions = [api.action(uuid, name) for name in ("reboot", "stop")]
    look = look_at().some([uuid, DELETED, UNKNOWN, BUILDING])
    assert (set(look.servers), look.missing) == ({uuid, DELETED, BUILDING}, ())
    server = look.servers[uuid]
    assert {(each.kind, each.status) for each in server.migrations or ()} == set(kinds)
    assert (server.actions or ())[:2] == tuple(reversed(actions))
    assert (server.host, server.hypervisor_hostname, server.has_state) == ("c1", "c1", True)
    assert look.servers[DELETED].status == "DELETED"
    assert look.servers[BUILDING].host is None


def test_a_server_of_a_cell_that_is_down_by_id(api, look_at):
    api.cell_down("cell2")
    look = look_at().some([SECOND[0], UNKNOWN])
    assert set(look.servers) == {SECOND[0]}
    assert not look.servers[SECOND[0]].has_state
    assert len(look.missing) == 2


def test_a_deletion_in_a_cell_that_is_down(api, look_at):
    api.queue_for_delete(SECOND[1])
    api.cell_down("cell2")
    look = look_at().some([SECOND[1]])
    api.queue_for_delete(SECOND[1], queued=False)
    assert dict(look.servers) == {}
    assert look.missing[0].endswith(" c2")


@pytest.mark.parametrize("cloud", ["member", "reader", "expired"])
def test_users_who_may_not_list_all_projects(look_at, cloud):
    with pytest.raises(NovaDenied, match="HTTP 401" if cloud == "expired" else "HTTP 403"):
        look_at(cloud).servers()
