"""A live Nova over real HTTP: what is asked, what is lost never, and what each failure says."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import jsonschema
import pytest
from cryptography import x509
from jsonschema import FormatChecker
from lab.certificates import Authority
from lab.nova import nova_python
from lab.nova_api_server import (
    PASSWORD,
    Cloud,
    Handler,
    NovaApiServer,
    action_row,
    cut,
    drip,
    hang_up,
    migration_row,
    playing,
    server_row,
    silence,
    slow,
    status,
)
from lab.waiting import wait_until

from guestlist.audit import nova_api, nova_session
from guestlist.audit.nova_api import NovaApi
from guestlist.audit.rows import Migration
from guestlist.errors import (
    NovaDenied,
    NovaFailure,
    NovaLost,
    NovaUnreachable,
)

LIST = "servers/detail?all_tenants=1"
SERVICES = "os-services?binary=nova-compute"
NOVA = "/compute/v2.1/"


@pytest.fixture
def lab() -> Iterator[NovaApiServer]:
    with NovaApiServer() as lab:
        yield lab


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in ("OS_CLOUD", "OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))


@pytest.fixture
def nova(lab: NovaApiServer, tmp_path: Path) -> NovaApi:
    lab.clouds_yaml(tmp_path)
    return NovaApi("lab", 30)


def uuid(number: int) -> str:
    return str(UUID(int=number))


def numbers(servers) -> set[int]:
    return {each.int for each in servers}


def failing(lab: NovaApiServer, nova: NovaApi, kind: type[NovaFailure] = NovaFailure) -> str:
    """Return the message of what listing raises: one line, without a secret."""
    with pytest.raises(NovaFailure) as raised:
        nova.servers()
    assert type(raised.value) is kind
    message = str(raised.value)
    assert message.isprintable()
    assert len(message) < 700
    assert PASSWORD not in message
    assert not lab.token or lab.token not in message
    assert "cloud 'lab'" in message
    return message


# All servers


def test_a_list_of_one_page_takes_two_requests(lab, nova):
    lab.cloud.servers = [server_row(n) for n in (1, 2, 3)]
    look = nova.servers()
    assert (numbers(look.servers), look.missing, look.asked) == ({1, 2, 3}, (), None)
    assert look.began <= look.ended
    assert lab.asked() == [LIST, f"{LIST}&marker={uuid(1)}"]


def test_a_second_list_asks_for_no_token(lab, nova):
    nova.servers()
    before = len(lab.requests)
    nova.servers()
    assert lab.requests[before:] == [f"GET {NOVA}{LIST}"]


def test_a_row_is_read_whole(lab, nova):
    lab.cloud.servers = [
        server_row(1, **{"OS-EXT-STS:task_state": "rebooting", "OS-EXT-SRV-ATTR:host": None})
    ]
    (server,) = nova.servers().servers.values()
    assert (server.host, server.has_host, server.task_state) == (None, True, "rebooting")
    assert server.hypervisor_hostname == "compute-1.example.org"


def test_no_server_is_no_lack(nova):
    assert nova.servers().missing == ()


@pytest.mark.parametrize("count", [8, 9, 10, 11, 12])
def test_all_pages_are_read(lab, nova, count):
    lab.cloud.max_limit = 4
    lab.cloud.servers = [server_row(n) for n in range(count)]
    look = nova.servers()
    assert (numbers(look.servers), look.missing) == (set(range(count)), ())
    pages = [path for path in lab.asked() if path.startswith("servers")]
    assert len(pages) == -(-count // 4) + 1


def test_servers_of_one_second_are_paged_in_nova_s_order(lab, nova):
    lab.cloud.max_limit = 2
    lab.cloud.servers = [server_row(n, created="2026-01-01T00:00:00Z") for n in range(7)]
    assert numbers(nova.servers().servers) == set(range(7))


def test_a_page_that_nova_shortens_is_not_the_last_one(lab, nova):
    """Nova counts a page, then removes servers that are there twice, and gives no link then."""
    lab.cloud.max_limit = 4
    lab.cloud.servers = [server_row(n) for n in range(10)]
    lab.cloud.building = [server_row(9, status="BUILD")]
    look = nova.servers()
    assert numbers(look.servers) == set(range(10))
    assert "servers_links" not in lab.answers[0][3]


def test_a_server_that_is_deleted_at_the_end_of_a_page_is_a_marker_still(lab, nova):
    lab.cloud.max_limit = 2
    lab.cloud.servers = [server_row(n) for n in range(6)]

    def delete(_: Handler) -> bool:
        gone = [row for row in lab.cloud.servers if row["id"] == uuid(4)]
        lab.cloud.deleted += gone
        lab.cloud.servers = [row for row in lab.cloud.servers if row not in gone]
        return False

    lab.faults[f"{NOVA}{LIST}&marker={uuid(4)}"] = delete
    assert numbers(nova.servers().servers) >= {0, 1, 2, 3, 5}
    assert lab.asked().count(LIST) == 1


def test_a_marker_that_nova_has_forgotten_begins_the_list_again(lab, nova):
    lab.cloud.max_limit = 2
    lab.cloud.servers = [server_row(n) for n in range(6)]

    def forget(_: Handler) -> bool:
        lab.cloud.servers = [row for row in lab.cloud.servers if row["id"] != uuid(4)]
        return False

    lab.faults[f"{NOVA}{LIST}&marker={uuid(4)}"] = forget
    assert numbers(nova.servers().servers) == {0, 1, 2, 3, 5}
    assert lab.asked().count(LIST) == 2


def test_a_list_whose_pages_never_meet_gives_up(lab, nova):
    lab.cloud.servers = [server_row(1)]
    with playing(lab, f"{NOVA}{LIST}&", status(400, {"badRequest": {"message": "no marker"}})):
        assert "vanished" in failing(lab, nova)
    assert lab.asked().count(LIST) == nova_api.MOST_BEGINNINGS


def test_an_api_that_ignores_the_marker_ends(lab, nova):
    lab.cloud.servers = [server_row(1)]
    page = {"servers": [server_row(1), server_row(2)]}
    with playing(lab, f"{NOVA}servers", status(200, page)):
        assert "have no end" in failing(lab, nova)


def test_a_server_that_is_created_meanwhile_disturbs_no_page(lab, nova):
    lab.cloud.max_limit = 2
    lab.cloud.servers = [server_row(n) for n in range(6)]

    def create(_: Handler) -> bool:
        lab.cloud.servers.append(server_row(100 + len(lab.cloud.servers)))
        return False

    lab.faults[f"{NOVA}{LIST}&"] = create
    assert numbers(nova.servers().servers) >= set(range(6))


def test_a_server_that_leaves_its_build_request_meanwhile_is_not_lost(lab, nova):
    lab.cloud.building = [server_row(n, status="BUILD") for n in (1, 2, 3)]

    def schedule(_: Handler) -> bool:
        lab.cloud.servers, lab.cloud.building = [server_row(n) for n in (1, 2, 3)], []
        return False

    lab.faults[f"{NOVA}{LIST}&"] = schedule
    assert numbers(nova.servers().servers) == {1, 2, 3}


# What Nova leaves out


def test_the_servers_of_a_cell_that_is_down_are_named(lab, nova):
    lab.cloud.servers = [server_row(n) for n in range(1, 10)]
    lab.cloud.cells, lab.cloud.down = {uuid(n): "cell2" for n in (3, 4)}, {"cell2"}
    look = nova.servers()
    (line,) = look.missing
    assert "2 servers" in line
    assert uuid(3) in line
    assert uuid(4) in line
    down = look.servers[UUID(int=3)]
    assert (down.status, down.has_host, down.has_state) == ("UNKNOWN", False, False)


def test_a_full_first_page_hides_a_cell_that_is_down_but_not_its_services(lab, nova):
    lab.cloud.max_limit = 4
    lab.cloud.servers = [server_row(n) for n in range(10)]
    lab.cloud.cells, lab.cloud.down = {uuid(2): "cell2"}, {"cell2"}
    lab.cloud.services = {"compute-1": "cell1", "compute-2": "cell2"}
    look = nova.servers()
    assert 2 not in numbers(look.servers)
    (line,) = look.missing
    assert "compute-2" in line
    assert "compute-1" not in line


def test_a_cloud_whose_cells_are_all_down(lab, nova):
    lab.cloud.servers = [server_row(n) for n in range(3)]
    lab.cloud.down = {"cell1"}
    look = nova.servers()
    assert numbers(look.servers) == {0, 1, 2}
    assert "3 servers" in look.missing[0]


def test_refused_services_are_a_lack_of_a_long_list(lab, nova):
    lab.cloud.refused = {"os-services"}
    lab.cloud.max_limit = 2
    lab.cloud.servers = [server_row(n) for n in range(2)]
    assert "refuses its list of compute services" in nova.servers().missing[0]
    lab.cloud.servers = [server_row(1)]
    assert nova.servers().missing == ()


@pytest.mark.parametrize(("newest", "shown"), [("2.60", "2.60"), ("2.1", "2.1")])
def test_an_old_nova_cannot_tell_of_cells(lab, nova, newest, shown):
    lab.cloud.newest = newest
    lab.cloud.servers = [server_row(1)]
    look = nova.servers()
    assert numbers(look.servers) == {1}
    assert f"microversion {shown}:" in look.missing[0]


def test_a_nova_without_microversions(lab, nova):
    lab.cloud.newest = ""
    assert "no microversion" in nova.servers().missing[0]


def test_microversions_that_fail_to_come_are_asked_for_again(lab, nova):
    with playing(lab, f"{NOVA.rstrip('/')}", unless_listing):
        assert "no microversion" in nova.servers().missing[0]
    assert nova.servers().missing == ()


def unless_listing(handler: Handler) -> bool:
    return "servers" not in handler.path and status(503)(handler)


def test_a_user_who_may_list_all_and_sees_no_hosts(lab, nova):
    lab.cloud.tells_hosts = False
    lab.cloud.servers = [server_row(1)]
    look = nova.servers()
    assert "no hosts of servers" in look.missing[0]
    assert not look.servers[UUID(int=1)].has_host


def test_a_nova_that_keeps_states_to_itself(lab, nova):
    """Old releases of Nova have a policy for it."""
    row = {key: value for key, value in server_row(1).items() if not key.startswith("OS-EXT-STS")}
    lab.cloud.servers = [row]
    look = nova.servers()
    assert "no task states" in look.missing[0]
    assert not look.servers[UUID(int=1)].has_state


# Some servers, by id


def test_a_server_by_id_with_its_migrations_and_actions(lab, nova):
    lab.cloud.servers = [server_row(1), server_row(2)]
    lab.cloud.migrations = [migration_row(8, uuid(1), status="error"), migration_row(9, uuid(2))]
    lab.cloud.actions = [action_row(6, uuid(1)), action_row(5, uuid(1))]
    look = nova.some([UUID(int=1)])
    assert (look.asked, look.missing) == ({UUID(int=1)}, ())
    (server,) = look.servers.values()
    assert server.migrations == (
        Migration(
            id=uuid(8),
            kind="live-migration",
            status="error",
            source="compute-1",
            dest="compute-2",
            source_node="compute-1.example.org",
            dest_node="compute-2.example.org",
        ),
    )
    assert server.actions == (f"req-{uuid(6)}", f"req-{uuid(5)}")


def test_a_server_that_was_deleted(lab, nova):
    lab.cloud.deleted = [server_row(1, status="DELETED"), server_row(2, status="DELETED")]
    look = nova.some([UUID(int=1)])
    (server,) = look.servers.values()
    assert (server.uuid.int, server.status, look.missing) == (1, "DELETED", ())


def test_a_server_that_nova_does_not_know(lab, nova):
    look = nova.some([UUID(int=1)])
    assert (dict(look.servers), look.missing, look.asked) == ({}, (), {UUID(int=1)})


def test_a_server_of_a_cell_that_is_down_by_id(lab, nova):
    lab.cloud.servers, lab.cloud.down = [server_row(1)], {"cell1"}
    look = nova.some([UUID(int=1)])
    assert "cell of Nova is down" in look.missing[0]
    assert not look.servers[UUID(int=1)].has_state


def test_a_deletion_in_a_cell_that_is_down_is_not_taken_for_an_unknown_server(lab, nova):
    lab.cloud.servers, lab.cloud.down, lab.cloud.deleting = [server_row(1)], {"cell1"}, {uuid(1)}
    look = nova.some([UUID(int=1)])
    assert dict(look.servers) == {}
    assert "compute-1" in look.missing[0]


def test_an_unknown_server_of_an_old_nova_may_be_in_a_cell_that_is_down(lab, nova):
    lab.cloud.newest = "2.60"
    assert "microversion 2.60" in nova.some([UUID(int=1)]).missing[0]


def test_refused_migrations_and_actions_are_missing(lab, nova):
    lab.cloud.servers = [server_row(1)]
    lab.cloud.refused = {"os-migrations", "os-instance-actions"}
    look = nova.some([UUID(int=1)])
    (server,) = look.servers.values()
    assert server.migrations is server.actions is None
    assert len(look.missing) == 2


def test_a_user_who_cannot_filter_is_not_told_that_a_server_is_unknown(lab, nova):
    page = {"servers": [server_row(7)]}
    with playing(lab, f"{NOVA}{LIST}&deleted", status(200, page)):
        look = nova.some([UUID(int=1)])
    assert dict(look.servers) == {}
    assert "deleted servers" in look.missing[0]


def test_a_proxy_that_finds_nothing_is_no_nova_that_knows_no_server(lab, nova):
    nova.servers()
    with (
        playing(lab, f"{NOVA}servers/0", status(404, b"<html>not found</html>")),
        pytest.raises(NovaFailure, match="HTTP 404"),
    ):
        nova.some([UUID(int=1)])


def test_an_answer_about_another_server_is_not_novas(lab, nova):
    lab.cloud.servers = [server_row(1)]
    with (
        playing(lab, f"{NOVA}servers/{uuid(1)}", status(200, {"server": server_row(2)})),
        pytest.raises(NovaFailure, match=f"asked for server {uuid(1)}, it tells of {uuid(2)}"),
    ):
        nova.some([UUID(int=1)])


def test_many_servers_by_id(lab, nova):
    lab.cloud.servers = [server_row(n) for n in range(100)]
    look = nova.some([UUID(int=n) for n in range(0, 200, 2)])
    assert numbers(look.servers) == set(range(0, 100, 2))
    assert len(look.asked or ()) == 100


def test_none_by_id(lab, nova):
    look = nova.some([])
    assert (dict(look.servers), look.asked) == ({}, frozenset())
    assert lab.asked() == []


def test_one_failure_by_id_is_the_failure_of_all(lab, nova):
    lab.cloud.servers = [server_row(n) for n in range(20)]
    play = status(500, {"computeFault": {"message": "boom"}})
    with (
        playing(lab, f"{NOVA}servers/{uuid(7)}", play),
        pytest.raises(NovaFailure, match="HTTP 500: boom"),
    ):
        nova.some([UUID(int=n) for n in range(20)])


# The cloud


def test_the_cloud_of_the_environment(lab, tmp_path, monkeypatch):
    lab.clouds_yaml(tmp_path)
    lab.cloud.servers = [server_row(1)]
    monkeypatch.setenv("OS_CLOUD", "lab")
    assert numbers(NovaApi(None, 30).servers().servers) == {1}


def test_no_such_cloud(lab, tmp_path):
    path = lab.clouds_yaml(tmp_path)
    with pytest.raises(NovaUnreachable) as raised:
        NovaApi("prod", 30).servers()
    assert (
        str(raised.value) == f"cannot find cloud 'prod': Cloud prod was not found; {path} was read"
    )


def test_no_clouds_yaml(lab):
    assert "no clouds.yaml was found" in failing(lab, NovaApi("lab", 30), NovaUnreachable)


def test_a_clouds_yaml_that_is_no_yaml_is_not_quoted(lab, tmp_path):
    (tmp_path / "clouds.yaml").write_text(f"clouds:\n  lab: [\n  password: {PASSWORD}: {{")
    assert "clouds.yaml" in failing(lab, NovaApi("lab", 30), NovaUnreachable)


@pytest.mark.parametrize("text", ["[]", "7", "clouds: 7", "clouds: {lab: {}}", "clouds: {lab: 7}"])
def test_a_clouds_yaml_of_another_shape(lab, tmp_path, text):
    (tmp_path / "clouds.yaml").write_text(text)
    with pytest.raises(NovaFailure) as raised:
        NovaApi("lab", 30).servers()
    assert str(raised.value).isprintable()


def test_no_compute_endpoint(lab, nova):
    lab.has_endpoint = False
    assert "no compute endpoint (region any, interface public)" in failing(
        lab, nova, NovaUnreachable
    )


def test_no_endpoint_in_the_region(lab, tmp_path):
    lab.clouds_yaml(tmp_path, region_name="elsewhere")
    assert "region elsewhere" in failing(lab, NovaApi("lab", 30), NovaUnreachable)


# Rights


def test_a_wrong_password(lab, nova):
    lab.password = "another"  # noqa: S105
    assert "Keystone refuses the credentials" in failing(lab, nova, NovaDenied)


def test_a_user_who_is_no_administrator(lab, nova):
    lab.cloud.is_admin = False
    message = failing(lab, nova, NovaDenied)
    assert "get_all_tenants" in message
    assert "administrator" in message


def test_an_expired_token_is_renewed(lab, nova):
    lab.cloud.servers = [server_row(1)]
    nova.servers()
    lab.token = "another"  # noqa: S105
    assert numbers(nova.servers().servers) == {1}


def test_a_token_that_is_refused_after_renewal(lab, nova):
    error = {"unauthorized": {"message": "Expired"}}
    with playing(lab, f"{NOVA}servers", status(401, error)):
        assert "and a new one as well (HTTP 401): Expired" in failing(lab, nova, NovaDenied)


def test_credentials_that_end_with_the_token(lab, nova):
    nova.servers()
    lab.token, lab.password = "another", "another"
    assert "refuses the credentials" in failing(lab, nova, NovaDenied)


# Failures


@pytest.mark.parametrize("code", [500, 502, 503, 429])
def test_an_api_that_answers_an_error(lab, nova, code):
    with playing(lab, f"{NOVA}servers", status(code, {"computeFault": {"message": "boom"}})):
        assert f"HTTP {code}: boom" in failing(lab, nova)
    with playing(lab, f"{NOVA}servers", status(code, b"<html>")):
        assert f"HTTP {code}" in failing(lab, nova)


@pytest.mark.parametrize("code", [500, 503])
def test_a_keystone_that_answers_an_error(lab, nova, code):
    with playing(lab, "/identity", status(code, {"error": {"message": "boom"}})):
        with pytest.raises(NovaFailure, match="cannot reach the Nova of cloud 'lab'"):
            nova.servers()


@pytest.mark.parametrize(
    "body", [b"<html>login</html>", b"", b"[]", b"7", b'{"servers": 7}', b"{}", b"[" * 100_000]
)
def test_an_answer_that_is_not_novas(lab, nova, body):
    with playing(lab, f"{NOVA}servers", status(200, body)):
        failing(lab, nova)


@pytest.mark.parametrize("row", [7, {}, {"id": "x", "status": "ACTIVE"}, {"id": uuid(1)}])
def test_a_row_that_is_not_novas(lab, nova, row):
    with playing(lab, f"{NOVA}servers", status(200, {"servers": [row]})):
        assert "a row of its answer" in failing(lab, nova)


def test_a_redirect_is_not_followed_with_the_token(lab, nova):
    nova.servers()
    with NovaApiServer() as elsewhere:
        to = f"{elsewhere.url}/compute/v2.1/servers/detail"
        with playing(lab, f"{NOVA}servers", status(302, b"", Location=to)):
            assert "redirects (HTTP 302) to http://127.0.0.1" in failing(lab, nova)
        assert elsewhere.requests == []


@pytest.mark.parametrize("fault", [silence, drip])
@pytest.mark.parametrize("begins", [f"{NOVA}servers", "/"])
def test_an_api_that_does_not_finish_its_answer(lab, nova, tmp_path, fault, begins):
    impatient = NovaApi("lab", 0.2)
    with playing(lab, begins, fault):
        assert "within 0.2 s" in failing(lab, impatient, NovaLost)


def test_a_question_after_one_that_was_given_up(lab, nova):
    impatient = NovaApi("lab", 0.5)
    lab.cloud.servers = [server_row(1)]
    impatient.servers()
    with playing(lab, f"{NOVA}servers", drip):
        failing(lab, impatient, NovaLost)
    assert numbers(impatient.servers().servers) == {1}


def test_a_list_that_was_given_up_asks_for_no_further_page(lab, nova):
    lab.cloud.servers = [server_row(1)]
    with playing(lab, f"{NOVA}servers", slow):
        failing(lab, NovaApi("lab", 0.2), NovaLost)
        lab.released.set()
        wait_until(lambda: all(each.name != "guestlist-nova" for each in threading.enumerate()))
    assert lab.asked() == [LIST]


@pytest.mark.parametrize("fault", [hang_up, cut])
def test_a_connection_that_is_lost(lab, nova, fault):
    with playing(lab, f"{NOVA}servers", fault):
        assert "before the answer" in failing(lab, nova, NovaLost)


def test_an_answer_without_end_is_bounded(lab, nova, monkeypatch):
    monkeypatch.setattr(nova_session, "MOST_BYTES", 1000)
    lab.cloud.servers = [server_row(n) for n in range(9)]
    assert "more than 1,000 bytes" in failing(lab, nova)


def test_nothing_listens(lab, tmp_path):
    lab.clouds_yaml(tmp_path)
    lab.close()
    message = failing(lab, NovaApi("lab", 30), NovaUnreachable)
    assert f"no connection to {lab.url}: Connection refused" in message
    with NovaApiServer() as other:  # for the fixture's own close
        lab._server = other._server


def test_a_host_that_has_no_address(lab, tmp_path):
    lab.clouds_yaml(tmp_path)
    lab.url = "http://nova.invalid:8774"
    lab.clouds_yaml(tmp_path)
    failing(lab, NovaApi("lab", 30), NovaUnreachable)


def test_a_message_of_nova_that_quotes_the_token_is_cleaned(lab, nova):
    nova.servers()
    said = {"forbidden": {"message": f"token {lab.token}\x1b[31m of {PASSWORD}"}}
    with playing(lab, f"{NOVA}servers", status(403, said)):
        assert "token …" in failing(lab, nova, NovaDenied)


# TLS


@pytest.fixture
def tls_lab(tmp_path) -> Iterator[NovaApiServer]:
    authority = Authority("lab")
    names = [x509.IPAddress(ip_address("127.0.0.1"))]
    pki = authority.put(tmp_path / "pki", server=authority.issue("localhost", also=names))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "servercert.pem", pki / "serverkey.pem")
    with NovaApiServer(tls=context) as lab:
        yield lab


def test_tls_with_its_authority(tls_lab, tmp_path):
    tls_lab.clouds_yaml(tmp_path, cacert=str(tmp_path / "pki" / "cacert.pem"))
    assert NovaApi("lab", 30).servers().missing == ()


def test_tls_of_an_unknown_authority(tls_lab, tmp_path):
    tls_lab.clouds_yaml(tmp_path)
    message = failing(tls_lab, NovaApi("lab", 30), NovaUnreachable)
    assert "certificate" in message
    assert "'cacert' in clouds.yaml" in message


# Standard error


@pytest.mark.parametrize("more", [{}, {"verify": False, "compute_api_version": "2.latest"}])
@pytest.mark.parametrize("fault", [None, "/identity"])
def test_standard_error_stays_clean(tls_lab, tmp_path, more, fault):
    tls_lab.clouds_yaml(tmp_path, **({"cacert": str(tmp_path / "pki" / "cacert.pem")} | more))
    if fault:
        tls_lab.faults[fault] = status(500, b"<html>")
    code = (
        "from guestlist.audit.nova_api import NovaApi\n"
        "from guestlist.errors import NovaFailure\n"
        "try: print(NovaApi('lab', 30).servers().missing)\n"
        "except NovaFailure as error: print('failed', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith("failed" if fault else "()")


# The laboratory's server against Nova's own schemas

SCHEMAS = """
import json
from nova.api.openstack.compute.schemas import instance_actions, migrations, servers, services
print(json.dumps({
    "list": servers.detail_response_v269,
    "show": servers.show_response_v269,
    "migrations": migrations.index_response_v259,
    "actions": instance_actions.index_response_v258,
    "services": services.index_response_v269,
}))
"""


@pytest.mark.usefixtures("needs_nova")
def test_the_laboratorys_answers_keep_novas_schemas(lab, nova):
    lab.cloud = Cloud(
        servers=[server_row(n) for n in range(1, 6)],
        deleted=[server_row(9, status="DELETED")],
        cells={uuid(2): "cell2"},
        down={"cell2"},
        services={"compute-1": "cell1", "compute-2": "cell2"},
        migrations=[migration_row(1, uuid(1))],
        actions=[action_row(1, uuid(1))],
    )
    nova.servers()
    lab.cloud.max_limit = 2
    nova.servers()
    nova.some([UUID(int=n) for n in (1, 2, 9)])
    run = [nova_python(), "-W", "ignore", "-c", SCHEMAS]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    schemas = json.loads(done.stdout)
    seen = set()
    for path, _, code, body in lab.answers:
        if code == 200:
            name = path.removeprefix("/compute/v2.1/").split("/")
            last = {"detail": "list", "os-instance-actions": "actions"}.get(name[-1])
            kind = last or {"os-migrations": "migrations", "os-services": "services"}.get(
                name[0], "show"
            )
            jsonschema.validate(body, schemas[kind], format_checker=FormatChecker())
            seen.add(kind)
    assert seen == set(schemas)
