"""The columns of `guestlist ls`: their values, their cost in calls, their order and their words."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from lab.command import run, served
from lab.nodes import domain_xml, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.schemas import described, schema, valid

from guestlist.cli.exits import Exit
from guestlist.cli.show import words
from guestlist.cli.show.columns import BRIEF, COLUMNS, DomainRow, in_order, record
from guestlist.domainxml import parse
from guestlist.launcher import Launcher
from guestlist.records import Details, Instance
from guestlist.states import DomainState

DEVICES = """
    <disk type='file'><source file='/images/disk'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><target dev='hda' bus='ide'/></disk>
    <interface type='user'><mac address='FA:16:3E:00:00:01'/></interface>
    <interface type='user'><mac address='fa:16:3e:00:00:02'/></interface>
"""
PORTS = """
    <nova:ports xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:port uuid="1b7a4d60-1b5c-4c53-b0ad-3a3b8a0a6f1d">
        <nova:ip type="fixed" address="10.0.0.7" ipVersion="4"/>
        <nova:ip type="fixed" address="2001:db8::7" ipVersion="6"/>
      </nova:port>
    </nova:ports>
    </nova:instance>"""

PLAIN = nova_instance(2, paused=True)
FURNISHED = replace(
    nova_instance(1),
    devices=DEVICES,
    metadata=nova_instance(1).metadata.replace("</nova:instance>", PORTS),
)
FOREIGN = handmade(1, active=False)
HOST = [FURNISHED, PLAIN, FOREIGN]


@pytest.fixture
def host(tmp_path: Path) -> str:
    return served(tmp_path, HOST)


def listed(*words: str) -> list[dict[str, Any]]:
    return valid("ls", run("ls", "-a", "-f", "json", *words).stdout)


# What they tell


def test_all_columns_of_an_instance(host: str) -> None:
    one = listed("-l", "-c", host)[0]
    assert isinstance(one.pop("age_seconds"), int)
    assert one == {
        "host": host,
        "id": 1,
        "name": "instance-00000001",
        "uuid": str(FURNISHED.uuid),
        "state": "running",
        "reason": "unknown",
        "active": True,
        "launcher": "nova",
        "vcpus": 1,
        "memory_mib": 2048,
        "disks": 2,
        "macs": ["fa:16:3e:00:00:01", "fa:16:3e:00:00:02"],
        "ips": ["10.0.0.7", "2001:db8::7"],
        "nova_name": "db-1",
        "flavor": "m1.small",
        "project": "billing",
        "project_id": "e17339500d9451e8a1501586f8ee6de7",
        "user": "billing-admin",
        "user_id": "5e2ac452ea3c59e7b709a60b6ef8285f",
        "created_at": "2024-03-02T09:01:00Z",
    }


def test_what_is_not_there_is_null(host: str) -> None:
    plain, foreign = listed("-l", "-c", host)[1:]
    assert (plain["disks"], plain["macs"], plain["ips"]) == (0, [], None)
    assert {name for name, value in foreign.items() if value is None} == {
        *("id", "ips", "nova_name", "flavor"),
        *("project", "project_id", "user", "user_id", "created_at", "age_seconds"),
    }


def test_of_a_domain_that_was_gone_too_early_the_listing_is_told(proxy: Proxy) -> None:
    proxy.fail("DOMAIN_GET_XML_DESC", 42)
    ended = run("ls", "-l", "-f", "json", "-c", proxy.uri(node([PLAIN])))
    (one,) = valid("ls", ended.stdout)
    known = {*BRIEF, "reason"}
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert {name for name, value in one.items() if value is not None} == known


def instance(details: Details | None) -> Instance:
    return Instance(UUID(int=1), "a", 1, DomainState.RUNNING, 1, Launcher.NOVA, details)


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def told(xml: str, now: datetime = NOW) -> dict[str, Any]:
    return record(COLUMNS.values(), DomainRow("test:///default", instance(parse(xml)), now))


@pytest.mark.parametrize(
    "xml",
    [
        "<nonsense/>",
        "<domain><devices><disk type='file'/></devices",
        "<domain><devices><disk type='file'/></devices><vcpu>x</vcpu>&lt;&nobody;</domain>",
    ],
)
def test_what_may_not_be_all_of_it_is_not_counted(xml: str) -> None:
    one = told(xml)
    assert (one["vcpus"], one["memory_mib"], one["disks"], one["macs"]) == (None,) * 4


def test_every_column_bears_that_nothing_is_known() -> None:
    nobody = DomainRow("test:///default", instance(None), NOW)
    assert not [name for name in COLUMNS if COLUMNS[name].details and COLUMNS[name].value(nobody)]
    empty = (
        "<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>{}</nova:instance>"
    )
    for inside in ("", "<nova:owner/>", "<nova:owner/><nova:flavor/>"):
        one = told(f"<domain><metadata>{empty.format(inside)}</metadata></domain>")
        assert (one["flavor"], one["project"], one["user_id"], one["age_seconds"]) == (None,) * 4


def test_age_is_measured_on_one_clock() -> None:
    xml = f"<domain><metadata>{nova_instance(1).metadata}</metadata></domain>"
    created = datetime(2024, 3, 2, 9, 1, tzinfo=UTC)
    for seconds in (0, 59, 86_400, -5):
        assert told(xml, created + timedelta(seconds=seconds))["age_seconds"] == seconds


def test_a_table_of_all_columns_is_for_people(tmp_path: Path) -> None:
    uri = served(tmp_path, [FURNISHED, FOREIGN])
    header, ours, foreign = run("ls", "-a", "-l", "-c", uri).stdout.splitlines()
    titles = header.split()
    assert titles == [
        *("ID", "NAME", "UUID", "STATE", "REASON", "LAUNCHER", "VCPUS", "MEMORY", "DISKS"),
        *("MACS", "IPS", "NOVA_NAME", "FLAVOR", "PROJECT", "USER", "AGE"),
    ]
    assert "  2.0 GiB      2  fa:16:3e:00:00:01,fa:16:3e:00:00:02  10.0.0.7,2001:db8::7  " in ours
    assert ours.endswith("d")
    assert foreign.split()[-9:] == ["GiB", "0", *["-"] * 7]  # its macs too: there are none
    assert len(header) == len(ours) == len(foreign)  # flush right


def test_several_hosts_are_told_apart(tmp_path: Path) -> None:
    first, second = served(tmp_path, HOST, "a"), served(tmp_path, HOST, "b")
    header, *rows = run("ls", "-l", "-c", first, "-c", second).stdout.splitlines()
    assert header.split()[:2] == ["HOST", "ID"]
    assert [row.split()[0] for row in rows] == [first, first, second, second]


def test_csv_carries_the_exact_values(host: str) -> None:
    text = run("ls", "-l", "-f", "csv", "-c", host).stdout
    one, _ = csv.DictReader(io.StringIO(text))
    assert list(one) == list(COLUMNS)
    assert one["memory_mib"] == "2048"
    assert one["macs"] == "fa:16:3e:00:00:01,fa:16:3e:00:00:02"
    assert one["ips"] == "10.0.0.7,2001:db8::7"


def test_a_name_in_nova_is_as_hostile_as_any(tmp_path: Path) -> None:
    name = "a\u202eb\\ \u2028c"
    metadata = nova_instance(1).metadata.replace(">db-1<", f">{name}<")
    uri = served(tmp_path, [replace(nova_instance(1), metadata=metadata)])
    words = ("ls", "-c", uri, "--columns", "nova_name", "--no-headers")
    assert run(*words).stdout == "a\\u202eb\\\\ \\u2028c\n"
    assert json.loads(run(*words, "-f", "json").stdout) == [{"nova_name": name}]


# What they cost


STATES, NAMES = "CONNECT_GET_ALL_DOMAIN_STATS", "CONNECT_LIST_ALL_DOMAINS"


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ([], STATES),
        (["-f", "json"], STATES),
        (["-f", "csv"], STATES),
        (["-q"], NAMES),
        (["-q", "--sort", "id"], STATES),
        (["--columns", "name,state,reason", "--sort", "reason"], STATES),
    ],
)
def test_without_details_a_list_is_one_call(proxy: Proxy, words: list[str], call: str) -> None:
    run("ls", "-c", proxy.uri(node([FURNISHED, PLAIN])), *words)
    assert about_domains(proxy) == [call]


@pytest.mark.parametrize(
    "words",
    [
        ["-l"],
        ["-l", "-f", "json"],
        ["--columns", "project"],
        ["-q", "--sort", "memory_mib"],
    ],
)
def test_details_are_a_call_per_domain_that_matches(proxy: Proxy, words: list[str]) -> None:
    run("ls", "-c", proxy.uri(node(HOST)), *words)
    assert sorted(about_domains(proxy)) == [
        "CONNECT_GET_ALL_DOMAIN_STATS",
        *["DOMAIN_GET_XML_DESC"] * 2,
    ]


def about_domains(proxy: Proxy) -> list[str]:
    return [call for call in proxy.calls if "DOMAIN" in call and "EVENT" not in call]


def test_a_list_of_names_costs_one_call_and_asks_for_no_state(proxy: Proxy) -> None:
    uri = proxy.uri(node(HOST))
    words = ("ls", "-a", "-f", "csv", "--columns", "host,uuid,name", "--sort", "uuid", "-c", uri)
    _, *rows = csv.reader(io.StringIO(run(*words).stdout))
    assert about_domains(proxy) == ["CONNECT_LIST_ALL_DOMAINS"]
    assert rows == sorted([uri, str(one.uuid), one.name] for one in HOST)


# Order


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("reverse", [False, True])
def test_any_column_sorts_and_what_is_unknown_is_last(name: str, reverse: bool) -> None:
    details = [parse(domain_xml(domain)) for domain in HOST]
    rows = [DomainRow("test:///default", instance(each), NOW) for each in [None, *details]]
    column = COLUMNS[name]
    values = [column.value(row) for row in in_order(rows, column, reverse=reverse)]
    known: list[Any] = [value for value in values if value is not None]
    assert known == sorted(known, reverse=reverse)
    assert values == known + [None] * (len(rows) - len(known))


def test_the_largest_first_and_the_unknown_last(host: str) -> None:
    ended = run("ls", "-a", "-q", "--sort", "age_seconds", "--reverse", "-c", host)
    assert ended.stdout.split() == [FURNISHED.name, PLAIN.name, FOREIGN.name]


def test_numbers_sort_as_numbers(tmp_path: Path) -> None:
    domains = [replace(nova_instance(n), memory_kib=n << 20) for n in (2, 10, 1)]
    uri = served(tmp_path, domains)
    sizes = [one["memory_mib"] for one in listed("-l", "--sort", "memory_mib", "-c", uri)]
    assert sizes == [1024, 2048, 10240]


def test_lists_sort_by_their_length_first() -> None:
    column: Any = COLUMNS["macs"]._replace(value=lambda row: row)
    rows: Any = [["b"], None, ["a", "c"], ["c"], []]
    assert in_order(rows, column) == [[], ["b"], ["c"], ["a", "c"], None]


def test_reversed_without_a_column_it_is_the_whole_list(tmp_path: Path) -> None:
    uris = [served(tmp_path, HOST, name) for name in "ab"]
    words = ("--columns", "host,name", "-c", uris[0], "-c", uris[1])
    assert listed("-r", *words) == listed(*words)[::-1]


@given(st.lists(st.tuples(st.none() | st.integers(0, 3), st.integers())), st.booleans())
def test_equal_ones_stay_as_they_came(rows: list[tuple[int | None, int]], reverse: bool) -> None:
    column: Any = COLUMNS["id"]._replace(value=lambda row: row[0])
    ordered = in_order(rows, column, reverse=reverse)
    values = [row[0] for row in ordered if row[0] is not None]
    assert values == sorted(values, reverse=reverse)
    for value in {row[0] for row in rows}:
        assert [row for row in ordered if row[0] == value] == [
            row for row in rows if row[0] == value
        ]
    assert [row[0] for row in ordered[len(values) :]] == [None] * (len(rows) - len(values))


# Words


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (512 << 20, "512.0 MiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (10 << 40, "10.0 TiB"),
        (-4096, "-4.0 KiB"),
        (1 << 80, "1048576.0 EiB"),
    ],
)
def test_sizes(count: int, size: str) -> None:
    assert words.size(count) == size


@given(st.integers(-(2**69), 2**69))
def test_a_size_is_short_and_near(count: int) -> None:
    number, unit = words.size(count).split()
    assert abs(float(number)) < 1024
    power = ("B", *words._SIZES).index(unit)
    assert abs(float(number) * 1024**power - count) <= 0.051 * 1024**power


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (86_399, "23h"),
        (86_400, "1d"),
        (1000 * 86_400 - 1, "999d"),
        (-5, "-5s"),
        (-90, "-1m"),
    ],
)
def test_ages(seconds: int, age: str) -> None:
    assert words.age(seconds) == age


# The schema


def test_the_schema_has_every_column_and_no_other() -> None:
    properties = schema("ls")["items"]["properties"]
    assert list(properties) == list(COLUMNS)
    assert described(properties)
    assert properties["state"]["enum"] == [str(state) for state in DomainState]
    assert properties["launcher"]["examples"] == [str(launcher) for launcher in Launcher]
    Draft202012Validator.check_schema(schema("ls"))


@pytest.mark.parametrize("words", [(), ("-l",), ("--columns", "uuid,age_seconds")])
def test_what_is_printed_is_as_the_schema_has_it(host: str, words: tuple[str, ...]) -> None:
    expected = {(): list(BRIEF), ("-l",): list(COLUMNS)}.get(words, ["uuid", "age_seconds"])
    records = listed("-c", host, *words)
    assert [list(one) for one in records] == [expected] * len(HOST)


def test_the_default_columns_are_a_promise() -> None:
    assert BRIEF == ("host", "id", "name", "uuid", "state", "active", "launcher")
    assert not [name for name in BRIEF if COLUMNS[name].details]


def test_help_is_aligned_and_complete() -> None:
    lines = run("ls", "--columns", "help").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(COLUMNS)
    width = max(map(len, COLUMNS))
    assert all(line[width : width + 2] == "  " and line[width + 2] != " " for line in lines)
