"""A file of Nova's servers: what every client writes, and what is refused with one clear line."""

from __future__ import annotations

import csv
import io
import json
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from lab.nova_api_server import partial_row, server_row

from guestlist.audit import servers_file
from guestlist.audit.rows import NovaLook, PowerState
from guestlist.audit.servers_file import BadServersFile, FileNova

ID = "0a1b2c3d-0000-4000-8000-000000000001"
OTHER = "0a1b2c3d-0000-4000-8000-000000000002"

SHORT = {
    "ID": ID,
    "Name": "web",
    "Status": "ACTIVE",
    "Networks": {"net": ["192.0.2.1"]},
    "Image": "N/A (booted from volume)",
    "Flavor": "m1.tiny",
}
NEW = {
    "ID": ID,
    "Name": "web",
    "Status": "ACTIVE",
    "Task State": None,
    "Power State": 1,
    "Networks": {"net": ["192.0.2.1"]},
    "Image Name": "N/A (booted from volume)",
    "Image ID": "N/A (booted from volume)",
    "Flavor": "m1.tiny",
    "Availability Zone": "nova",
    "Host": "compute-1.example.org",
    "Properties": {},
    "Project ID": "p1",
    "Host Status": "UP",
}
"""A row of python-openstackclient 10.3, `--all-projects --long`."""
OLD = {
    "ID": ID,
    "Name": "web",
    "Status": "SHUTOFF",
    "Task State": None,
    "Power State": "Shutdown",
    "Networks": "net=192.0.2.1",
    "Image Name": "cirros",
    "Image ID": "3f2a",
    "Flavor Name": "m1.tiny",
    "Flavor ID": "1",
    "Availability Zone": "nova",
    "Host": "compute-1",
    "Properties": "",
}
"""A row of python-openstackclient 3.12, `--all-projects --long`."""


def read(found: object) -> NovaLook:
    content = found if isinstance(found, bytes) else json.dumps(found).encode()
    return servers_file.read(content, "servers.json", at=7.0)


def only(found: object):
    (server,) = read(found).servers.values()
    return server


def refusal(found: object) -> str:
    with pytest.raises(BadServersFile) as raised:
        read(found)
    message = str(raised.value)
    assert message.startswith("servers.json")
    assert message.isprintable()
    assert len(message) < 500
    return message


# What clients write


def test_a_new_clients_long_list():
    server = only([NEW])
    assert (server.uuid, server.name, server.status) == (UUID(ID), "web", "ACTIVE")
    assert (server.task_state, server.power_state) == (None, PowerState.RUNNING)
    assert (server.has_state, server.has_host) == (True, True)
    assert server.project_id == "p1"
    assert server.migrations is server.actions is None


def test_an_old_clients_long_list_tells_the_power_state_in_words():
    server = only([OLD])
    assert (server.status, server.power_state) == ("SHUTOFF", PowerState.SHUTDOWN)
    assert server.project_id is None


@pytest.mark.parametrize("row", [NEW, OLD])
def test_the_column_host_may_be_either_name_so_both_get_it(row):
    server = only([row])
    assert server.host == server.hypervisor_hostname == row["Host"]


@pytest.mark.parametrize("none", [None, ""])
def test_a_server_on_no_host(none):
    server = only([NEW | {"Status": "SHELVED_OFFLOADED", "Host": none, "Power State": 4}])
    assert (server.host, server.hypervisor_hostname, server.has_host) == (None, None, True)


def test_the_short_list_tells_neither_host_nor_state():
    server = only([SHORT])
    assert (server.has_host, server.has_state) == (False, False)
    assert (server.host, server.power_state, server.task_state) == (None, None, None)


def test_columns_chosen_one_by_one():
    server = only([{"ID": ID, "Name": "web", "Status": "ACTIVE", "Host": "compute-1"}])
    assert (server.host, server.has_host, server.has_state) == ("compute-1", True, False)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (0, PowerState.NOSTATE),
        ("NOSTATE", PowerState.NOSTATE),
        ("Running", PowerState.RUNNING),
        (3, PowerState.PAUSED),
        ("Suspended", PowerState.SUSPENDED),
        (6, PowerState.CRASHED),
        (99, PowerState.NOSTATE),
        ("N/A", None),
        ("", None),
        (None, None),
    ],
)
def test_power_states(told, state):
    assert only([NEW | {"Power State": told}]).power_state == state


def test_an_unknown_status_stays_text():
    assert only([NEW | {"Status": "HIBERNATED_2"}]).status == "HIBERNATED_2"
    assert only([NEW | {"Task State": "folding"}]).task_state == "folding"


def test_names_are_taken_as_they_are():
    hostile = "a\x00b\x1b[31m\u202e\n"
    assert only([NEW | {"Name": hostile}]).name == hostile
    assert only([NEW | {"Name": "é𝄞"}]).name == "é𝄞"


def test_half_a_character_is_no_text_that_yaml_could_carry():
    assert only([NEW | {"Name": "a\ud834b"}]).name == "a\ufffdb"


def test_the_times_are_those_of_the_reading():
    look = read([NEW])
    assert (look.began, look.ended, look.asked) == (7.0, 7.0, None)


# What the API answers


@pytest.mark.parametrize("wrap", [lambda rows: {"servers": rows}, lambda rows: rows])
def test_the_apis_own_json(wrap):
    server = only(wrap([server_row(5, **{"OS-EXT-STS:task_state": "migrating"})]))
    assert (server.host, server.hypervisor_hostname) == ("compute-1", "compute-1.example.org")
    assert (server.task_state, server.vm_state) == ("migrating", "active")
    assert (server.instance_name, server.power_state) == ("instance-00000005", PowerState.RUNNING)
    assert server.updated == "2026-01-01T00:00:00Z"


def test_the_api_tells_a_user_who_is_no_administrator_no_hosts():
    row = server_row(5)
    for key in [key for key in row if key.startswith("OS-EXT-SRV-ATTR:")]:
        del row[key]
    assert (only([row]).has_host, only([row]).has_state) == (False, True)


# What a list lacks


def test_a_complete_list_lacks_nothing():
    assert read([NEW, NEW | {"ID": OTHER}]).missing == ()


@pytest.mark.parametrize(
    "row",
    [
        NEW | {"ID": OTHER, "Status": "UNKNOWN", "Name": None, "Host": None, "Power State": None},
        OLD | {"ID": OTHER, "Status": "UNKNOWN", "Name": "", "Host": "", "Power State": "N/A"},
        SHORT | {"ID": OTHER, "Status": "UNKNOWN", "Name": ""},
    ],
)
def test_servers_of_a_cell_that_is_down_are_missing(row):
    look = read([NEW, row])
    (line,) = look.missing
    assert "cell of Nova is down" in line
    assert OTHER in line
    assert ID not in line
    server = look.servers[UUID(OTHER)]
    assert (server.status, server.has_host, server.has_state) == ("UNKNOWN", False, False)


def test_the_apis_servers_of_a_cell_that_is_down():
    look = read({"servers": [partial_row(server_row(n)) for n in range(1, 8)]})
    (line,) = look.missing
    assert "7 servers" in line
    assert "and 2 more" in line


def test_a_server_with_a_name_and_the_status_unknown_is_in_no_down_cell():
    assert read([NEW | {"Status": "UNKNOWN"}]).missing == ()


def test_a_page_with_a_link_to_the_next_one_is_cut():
    links = [{"rel": "next", "href": "http://127.0.0.1/"}]
    (line,) = read({"servers": [server_row(1)], "servers_links": links}).missing
    assert "next page" in line


@pytest.mark.parametrize(("count", "is_cut"), [(999, False), (1000, True), (1001, False)])
def test_as_many_servers_as_nova_gives_at_a_time_may_be_a_cut_list(count, is_cut):
    look = read([NEW | {"ID": str(UUID(int=n))} for n in range(count)])
    assert len(look.servers) == count
    assert bool(look.missing) == is_cut


@pytest.mark.parametrize("empty", [[], {"servers": []}])
def test_a_list_without_servers_is_not_taken_for_an_empty_cloud(empty):
    (line,) = read(empty).missing
    assert "no server at all" in line


# Encodings


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_the_encodings_of_powershell(encoding):
    text = json.dumps([NEW | {"Name": "wéb"}], ensure_ascii=False)
    assert only(text.encode(encoding)).name == "wéb"


def test_a_text_in_no_encoding():
    assert "no text in utf-8" in refusal(b'[{"ID": "\xff\xfe\xff"}]')


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_text_that_ends_within_a_character(encoding):
    assert "it was cut" in refusal('[{"ID": "é'.encode(encoding)[:-1])


# Bad input: one clear line


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xef\xbb\xbf\n"])
def test_an_empty_file(content):
    assert "is empty" in refusal(content)


def test_a_table():
    assert "is a table" in refusal(b"+------+------+\n| ID | Name |\n+------+------+\n")


def test_a_csv():
    text = io.StringIO()
    writer = csv.DictWriter(text, list(NEW), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerow(NEW)
    assert "is CSV" in refusal(text.getvalue().encode())


@pytest.mark.parametrize("text", [b"- ID: 1\n", b"0a1b web ACTIVE\n", b"[{'ID': 1}]", b"[1 2]"])
def test_no_json(text):
    assert "is no JSON (line 1: " in refusal(text)


@given(st.data())
def test_a_file_that_is_cut_anywhere_is_refused(data):
    whole = json.dumps([NEW, OLD | {"ID": OTHER}], indent=2).encode()
    end = data.draw(st.integers(2, len(whole) - 1))
    with pytest.raises(BadServersFile, match=r"ends in the middle of its JSON, at line \d+"):
        read(whole[:end])


@pytest.mark.parametrize(
    "other",
    [
        [{"ID": 1, "Hypervisor Hostname": "c1", "Hypervisor Type": "QEMU", "State": "up"}],
        [{"ID": ID, "Name": "v", "Status": "in-use", "Size": 1, "Attached to": []}],
        [{"ID": ID, "Name": "p", "MAC Address": "fa:16", "Status": "ACTIVE"}],
        [{"ID": ID, "Name": "r", "Status": "ACTIVE", "State": True, "Project": "p"}],
        [{"UUID": ID, "Name": "n", "Power State": "power on"}],
        [{"ID": 1, "Binary": "nova-compute", "Host": "c1", "Status": "enabled"}],
        [{"Name": "x"}],
        [{"id": ID, "name": "x"}],
        [{}],
    ],
)
def test_the_list_of_another_command(other):
    message = refusal(other)
    assert "another command" in message or "lacks the column" in message
    assert "openstack server list --all-projects --long -f json" in message


def test_a_list_of_images_has_the_same_columns_and_other_words():
    assert "'active'" in refusal([{"ID": ID, "Name": "cirros", "Status": "active"}])


def test_one_server_is_no_list():
    assert "one object" in refusal({"id": ID, "name": "web", "status": "ACTIVE"})
    assert "one object" in refusal({"server": server_row(1)})


@pytest.mark.parametrize("value", [1, "x", None, True, 1.5])
def test_json_of_anything_else(value):
    refusal(value)
    refusal([value])
    refusal({"servers": value})
    refusal({"servers": [value]})


def test_an_error_of_the_api_is_quoted():
    error = {"unauthorized": {"code": 401, "message": "The request\nneeds authentication."}}
    assert "The request needs authentication." in refusal(error)


def test_the_apis_list_without_details():
    row = {"id": ID, "name": "web", "links": []}
    assert "GET /servers/detail?all_tenants=1" in refusal({"servers": [row]})


@pytest.mark.parametrize("column", ["ID", "Status"])
def test_a_column_that_is_not_there(column):
    row = {key: value for key, value in NEW.items() if key != column}
    assert f"lacks the column {column}" in refusal([row])


@pytest.mark.parametrize("bad", ["web", "", None, 7, ID + "0", "{" + ID + "}", ID.replace("-", "")])
def test_an_id_that_is_no_uuid(bad):
    assert "server 2 has" in refusal([NEW, NEW | {"ID": bad}])


@pytest.mark.parametrize("column", ["Name", "Host", "Task State", "Power State", "Status"])
@pytest.mark.parametrize("bad", [{"a": 1}, ["x"], 1.5, True])
def test_a_value_of_another_type(column, bad):
    assert "server 1 has" in refusal([NEW | {column: bad}])


def test_a_power_state_in_unknown_words():
    assert "'Levitating'" in refusal([NEW | {"Power State": "Levitating"}])


def test_the_same_row_twice_is_one_server():
    assert len(read([NEW, NEW]).servers) == 1


def test_two_rows_of_one_id_that_differ():
    message = refusal([NEW, NEW | {"Status": "SHUTOFF"}])
    assert ID in message
    assert "differ" in message


def test_a_list_of_deleted_servers():
    assert "--deleted" in refusal([NEW | {"Status": "DELETED"}])


def test_messages_are_bounded_and_printable():
    refusal([NEW | {"ID": "\x1b[31m" * 1000}])
    refusal([{f"column\x1b{n}": n for n in range(1000)}])
    refusal({"error": {"message": "\x1b[2J" * 1000}})


def test_absurd_depth():
    assert "nested too deep" in refusal(b"[" * 1_000_000)
    assert "nested too deep" in refusal(b'{"servers":' * 1_000_000)


def test_an_integer_without_end():
    refusal(b"[" + b"9" * 10_000 + b"]")


def test_a_file_above_the_bound(monkeypatch):
    monkeypatch.setattr(servers_file, "MOST_BYTES", 10)
    assert "more than 10 bytes" in refusal([NEW])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_one_line(content):
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        refusal(content)
    else:
        assume(found != [])
        refusal(content)


# In the place of a Nova


def test_a_file_cannot_be_looked_at_again():
    look = read([NEW, NEW | {"ID": OTHER}])
    nova = FileNova(look)
    assert not nova.can_look_again
    assert nova.servers() is look
    assert set(nova.some([UUID(ID), UUID(int=9)]).servers) == {UUID(ID)}
