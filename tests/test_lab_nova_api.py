"""The laboratory's Nova API (`lab.nova_api`) answers as a released Nova does.

The tests read it without openstacksdk: they show what Nova itself says.
"""

import json
import urllib.error
import urllib.request
from uuid import uuid4

import pytest
from lab.nova import SERIES
from lab.nova_api import NovaApi

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("nova-api"),
    pytest.mark.skipif(SERIES != "2026.2", reason="the API of one series is enough"),
]


@pytest.fixture(scope="module")
def nova(needs_nova):
    with NovaApi(cells=2) as api:
        api.add_host("a")
        api.add_host("b")
        api.add_host("far", "cell2")
        yield api


def get(nova, path, user="admin"):
    """Return what the API answers, with microversion 2.69."""
    headers = {"X-Auth-Token": user, "OpenStack-API-Version": "compute 2.69"}
    with urllib.request.urlopen(urllib.request.Request(nova.url + path, headers=headers)) as answer:
        return json.load(answer)


def listed(nova, query="all_tenants=1"):
    """Return the servers of one page by their UUIDs."""
    return {one["id"]: one for one in get(nova, f"/servers/detail?{query}")["servers"]}


def shown(nova, uuid):
    return get(nova, f"/servers/{uuid}")["server"]


def test_a_server_has_all_that_an_admin_sees(nova):
    uuid = uuid4()
    name = nova.create(uuid, "a", name="web", vm_state="stopped", power_state=4)
    server = listed(nova)[str(uuid)]
    assert server["status"] == "SHUTOFF"
    assert server["OS-EXT-STS:power_state"] == 4
    assert server["OS-EXT-SRV-ATTR:host"] == server["OS-EXT-SRV-ATTR:hypervisor_hostname"] == "a"
    assert server["OS-EXT-SRV-ATTR:instance_name"] == name
    assert name.startswith("instance-")


def test_names_are_counted_in_each_cell(nova):
    """Two domains of two cells may have one name."""
    with NovaApi(cells=2) as fresh:
        fresh.add_host("a")
        fresh.add_host("far", "cell2")
        assert fresh.create(uuid4(), "a") == fresh.create(uuid4(), "far", cell="cell2")


def test_a_requested_server_is_listed_before_a_cell_has_it(nova):
    uuid = uuid4()
    nova.request(uuid)
    server = listed(nova)[str(uuid)]
    assert (server["status"], server["OS-EXT-STS:task_state"]) == ("BUILD", "scheduling")
    name = nova.schedule(uuid, "cell1")
    server = listed(nova)[str(uuid)]
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("BUILD", None)
    assert server["OS-EXT-SRV-ATTR:instance_name"] == name


def test_a_live_migration_is_told_with_its_action(nova):
    uuid = uuid4()
    nova.create(uuid, "a")
    asked = nova.action(uuid, "live-migration")
    number = nova.migration(uuid, "live-migration", "accepted", "a")
    nova.update(uuid, task_state="migrating")
    assert shown(nova, uuid)["status"] == "MIGRATING"
    nova.update_migration(uuid, number, status="running", dest_compute="b", dest_node="b")
    nova.update(uuid, host="b", task_state=None)
    assert shown(nova, uuid)["OS-EXT-SRV-ATTR:host"] == "b"
    (migration,) = get(nova, f"/os-migrations?instance_uuid={uuid}")["migrations"]
    assert (migration["status"], migration["dest_compute"]) == ("running", "b")
    actions = get(nova, f"/servers/{uuid}/os-instance-actions")["instanceActions"]
    assert [one["action"] for one in actions] == ["live-migration", "create"]
    assert actions[0]["request_id"] == asked


def test_a_deleted_server_is_found_by_its_uuid_among_the_deleted(nova):
    uuid = uuid4()
    nova.create(uuid, "a")
    nova.delete(uuid)
    assert str(uuid) not in listed(nova)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        shown(nova, uuid)
    deleted = listed(nova, f"all_tenants=1&deleted=true&uuid={uuid}")
    assert [one["status"] for one in deleted.values()] == ["DELETED"]


def test_a_page_is_cut_and_the_next_one_is_linked(nova):
    servers = [(uuid4(), "a") for _ in range(5)]
    nova.create_many(servers)
    nova.limit(3)
    try:
        page = get(nova, "/servers/detail?all_tenants=1")
    finally:
        nova.limit(1000)
    assert len(page["servers"]) == 3
    assert page["servers_links"][0]["rel"] == "next"
    assert {str(uuid) for uuid, _ in servers} <= set(listed(nova))


def test_servers_of_a_cell_that_is_down_are_unknown(nova):
    uuid = uuid4()
    nova.create(uuid, "far", cell="cell2")
    nova.cell_down("cell2")
    try:
        unknown = listed(nova)[str(uuid)]
        assert unknown["status"] == shown(nova, uuid)["status"] == "UNKNOWN"
        assert "OS-EXT-SRV-ATTR:host" not in unknown
        paged = listed(nova, "all_tenants=1&limit=1000")
    finally:
        nova.cell_up("cell2")
    assert str(uuid) not in paged  # Nova leaves the cell out, and does not say so
    assert listed(nova)[str(uuid)]["status"] == "ACTIVE"


@pytest.mark.parametrize(("user", "code"), [("member", "403"), ("expired", "401")])
def test_rights_are_nova_s_own(nova, user, code):
    with pytest.raises(urllib.error.HTTPError, match=code):
        get(nova, "/servers/detail?all_tenants=1", user)
