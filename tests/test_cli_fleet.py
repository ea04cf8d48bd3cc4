"""`guestlist fleet`: the guests and hosts of a fleet, from the hosts themselves and from an etcd.

Hosts are inside the command's own process; a real etcd has what `lab.published` wrote.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
import pytest
from lab.command import NO_HOST, refused, run, served
from lab.etcd import ROOT_PASSWORD, Etcd
from lab.nodes import handmade, nova_instance
from lab.proxy import Proxy
from lab.published import PublishedHost, guest
from lab.schemas import described, schema, valid
from lab.watching import Watching

from guestlist import DomainState
from guestlist.cli import arguments
from guestlist.cli.exits import Exit
from guestlist.cli.fleet import sources
from guestlist.cli.show.columns import COLUMNS
from guestlist.cli.show.fleet_columns import GUEST_COLUMNS, HOST_COLUMNS
from guestlist.cli.show.progress import Progress
from guestlist.fleet.etcd.connection import Etcd as Client
from guestlist.fleet.etcd.endpoints import Login
from guestlist.fleet.rows import Fate, Phase

_numbers = itertools.count(1)

SHOP, OTHER = "5" * 32, "6" * 32


@pytest.fixture
def client(shared_etcd: Etcd) -> Iterator[Client]:
    with Client(shared_etcd.endpoints) as client:
        yield client


@pytest.fixture
def name() -> str:
    """The name of a fleet that no other test has."""
    return f"fleet{next(_numbers)}"


@pytest.fixture
def source(shared_etcd: Etcd, name: str) -> list[str]:
    """The options that name the fleet."""
    return ["--endpoints", ",".join(shared_etcd.endpoints), "--fleet", name]


@pytest.fixture
def hosts_file(tmp_path: Path) -> Path:
    """A file of two hosts, with domains of Nova's and of others."""
    one = served(tmp_path, [nova_instance(1), nova_instance(2, active=False), handmade(1)], "one")
    two = served(tmp_path, [nova_instance(3, paused=True)], "two")
    path = tmp_path / "hosts.yml"
    path.write_text(f"node1: {one}\nnode2: {two}\n")
    return path


def guests_in(ended: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Return the guests that were printed as JSON, by name."""
    return {each["name"]: each for each in valid("fleet-ls", ended.stdout)}


def listed(*words: str) -> dict[str, dict[str, Any]]:
    ended = run("fleet", "ls", "-f", "json", *words)
    assert ended.returncode == Exit.OK, ended.stderr
    return guests_in(ended)


# The command line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls"], "which fleet?"),
        (["forget", "node1"], "which fleet?"),
        (["ls", "--hosts", ""], "--hosts is empty"),
        (["ls", "-c", "test:///default", "--endpoints", "etcd1"], "give one"),
        (["ls", "-c", "test:///default", "--fleet", "lab"], "--fleet goes with --endpoints"),
        (["hosts", "-c", "test:///default", "--cert", "x"], "--cert goes with --endpoints"),
        (["ls", "--endpoints", "etcd1", "--fleet", "a/b"], "cannot name a fleet"),
        (["forget", "no/name", "--endpoints", "etcd1"], "cannot name a host"),
        (["ls", "--endpoints", "no address"], "is no endpoint"),
        (["ls", "--endpoints", "https://etcd1", "--cert", "x"], "a certificate needs its key"),
        (["ls", "--endpoints", "etcd1", "--user", "me"], "has no password"),
        (["ls", "--endpoints", "etcd1", "--state", "asleep"], "there is no state"),
        (["ls", "--endpoints", "etcd1", "--verify"], "--verify goes with --hosts or -c"),
        (["usage", "--endpoints", "etcd1", "--verify"], "--verify goes with --hosts or -c"),
        (["watch", "--endpoints", "etcd1", "--verify"], "--verify goes with --hosts or -c"),
        (
            ["audit", "--servers", "x", "--endpoints", "etcd1", "--name-template", "vm-%x"],
            "--name-template goes with --hosts or -c",
        ),
        (["ls", "--endpoints", "etcd1", "-q", "-l"], "--long goes with"),
        (["ls", "--endpoints", "etcd1", "--columns", "nonsense"], "there is no column"),
        (["nonsense"], "invalid choice"),
    ],
)
def test_words_without_a_meaning_are_refused(words: list[str], said: str) -> None:
    assert said in refused("fleet", *words)


def test_without_a_command_it_explains_the_commands() -> None:
    ended = run("fleet")
    assert (ended.returncode, ended.stdout) == (Exit.USAGE, "")
    assert all(word in ended.stderr for word in ("ls", "usage", "watch", "hosts", "forget"))


def test_the_columns_are_those_of_ls_and_the_place_in_the_fleet() -> None:
    assert set(COLUMNS) | {"standing", "others", "since"} == set(GUEST_COLUMNS)
    ended = run("fleet", "ls", "--columns", "help")
    assert ended.stdout.split("\n")[6].startswith("standing ")


def test_the_schemas_have_each_key() -> None:
    guests = schema("fleet-ls")["items"]["properties"]
    assert list(guests) == [*COLUMNS, "standing", "others", "since"]
    assert {each for each in guests if "description" in guests[each]} >= {"host", "standing"}
    hosts = schema("fleet-hosts")["items"]["properties"]
    assert list(hosts) == list(HOST_COLUMNS)
    assert described(hosts)
    of_watch = schema("fleet-watch")["$defs"]["guest"]["properties"]
    assert set(of_watch) == set(GUEST_COLUMNS) - {"age_seconds"}


# Hosts that are asked


def test_ls_asks_the_hosts_of_a_file(hosts_file: Path) -> None:
    found = listed("--hosts", str(hosts_file))
    assert {name: each["host"] for name, each in found.items()} == {
        nova_instance(1).name: "node1",
        nova_instance(3).name: "node2",
    }
    assert {each["standing"] for each in found.values()} == {"resident"}
    everything = listed("--hosts", str(hosts_file), "-a")
    assert len(everything) == 4


def test_the_line_of_a_complete_list_counts_the_guests_that_are_left_out(hosts_file: Path) -> None:
    some = run("fleet", "ls", "--hosts", str(hosts_file))
    assert some.stderr == "guestlist: complete: 4 guests on 2 hosts; 2 of them match\n"
    all_ = run("fleet", "ls", "--hosts", str(hosts_file), "-a")
    assert all_.stderr == "guestlist: complete: 4 guests on 2 hosts\n"


def test_a_host_that_fails_is_named_and_costs_no_other(hosts_file: Path) -> None:
    ended = run("fleet", "ls", "-f", "json", "--hosts", str(hosts_file), "-c", NO_HOST)
    assert ended.returncode == Exit.PARTIAL
    assert len(guests_in(ended)) == 2
    assert f"{NO_HOST} unknown: cannot connect" in ended.stderr
    assert "not complete: 1 of 3 hosts missing; 4 guests known" in ended.stderr


@pytest.mark.parametrize(
    ("command", "written", "said"),
    [
        ("ls", None, "No such file"),
        ("usage", "", "names no host"),
        ("watch", "node1: [", "hosts.yml"),
        ("hosts", "a: test:///default\nb: test:///default", "have the same URI"),
    ],
)
def test_a_file_of_hosts_that_cannot_be_used_is_told_in_a_line(
    tmp_path: Path, command: str, written: str | None, said: str
) -> None:
    path = tmp_path / "hosts.yml"
    if written is not None:
        path.write_text(written)
    ended = run("fleet", command, "--hosts", str(path))
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert said in ended.stderr
    assert "unexpected" not in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_nothing_is_printed_where_no_host_answers() -> None:
    ended = run("fleet", "ls", "-f", "json", "-c", NO_HOST)
    assert ended.stdout == ""
    assert ended.returncode == Exit.UNREACHABLE


def test_the_status_tells_whether_all_hosts_denied_access(proxy: Proxy) -> None:
    proxy.fail("CONNECT_GET_ALL_DOMAIN_STATS", libvirt.VIR_ERR_ACCESS_DENIED)
    for others, status in ([], Exit.DENIED), (["-c", NO_HOST], Exit.UNREACHABLE):
        ended = run("fleet", "ls", "-c", proxy.uri(), "--timeout=2", *others)
        assert (ended.returncode, ended.stdout) == (status, ""), ended.stderr


def test_usage_asks_the_hosts_as_usage_of_one_does(hosts_file: Path) -> None:
    ended = run("fleet", "usage", "-f", "json", "--hosts", str(hosts_file))
    assert ended.returncode == Exit.OK, ended.stderr
    found = valid("usage", ended.stdout)
    assert [each["host"] for each in found] == ["node1", "node2"]
    table = run("fleet", "usage", "--hosts", str(hosts_file))
    assert table.stdout.splitlines()[-1].startswith("2 hosts")
    assert table.stderr.endswith("guestlist: complete: 2 hosts\n")
    partly = run("fleet", "usage", "--hosts", str(hosts_file), "-c", NO_HOST)
    assert partly.returncode == Exit.PARTIAL
    assert partly.stderr.endswith("guestlist: not complete: some of 3 hosts are missing\n")


def test_hosts_of_a_file_are_listed(hosts_file: Path) -> None:
    ended = run("fleet", "hosts", "-f", "json", "--hosts", str(hosts_file), "-c", NO_HOST)
    assert ended.returncode == Exit.PARTIAL
    told = [(each["host"], each["status"], each["domains"]) for each in json.loads(ended.stdout)]
    assert told == [("node1", "current", 3), ("node2", "current", 1), (NO_HOST, "unknown", None)]


def test_watch_once_shows_what_is_there(hosts_file: Path) -> None:
    ended = run("fleet", "watch", "--once", "--hosts", str(hosts_file))
    assert ended.returncode == Exit.OK, ended.stderr
    lines = ended.stdout.splitlines()
    assert "3 guests on 2 hosts" in lines[0]
    assert f"node2  {nova_instance(3).name}  present: paused" in lines[-1]


# An etcd


def test_ls_reads_the_fleet_from_an_etcd(client: Client, source: list[str], name: str) -> None:
    moved, twice = guest("moved"), guest("twice")
    one = PublishedHost(client, "node1", name).go_live([guest("stays", project=SHOP), twice])
    two = PublishedHost(client, "node2", name).go_live([moved, twice])
    two.withdraw(moved.uuid, Fate.LEFT)
    one.publish(guest("off", state=DomainState.SHUTOFF), guest("foreign", ours=False))
    found = listed(*source)
    assert {name: each["standing"] for name, each in found.items()} == {
        "stays": "resident",
        "moved": "in-transit",
        "twice": "conflict",
    }
    assert found["twice"]["host"] == "node2"
    assert listed(*source, "--columns", "name,others")["twice"]["others"] == ["node1"]
    assert set(listed(*source, "-a")) == {*found, "off", "foreign"}
    assert set(listed(*source, "--inactive")) == {*found, "off"}


def test_an_etcd_that_is_read_tells_how_many_domains_of_all_it_has_told(
    client: Client, source: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    class Told(Progress):
        def domains(self, read: int, number: int, *, host: object = None) -> None:
            told.append((read, number))

    for n in range(2):
        PublishedHost(client, f"node{n}", name).go_live([guest(f"a{n}"), guest(f"b{n}")])
    monkeypatch.setattr(sources, "Progress", Told)
    options = arguments.parse(["fleet", "ls", *source])
    assert len(sources.look(options, details=False)) == 4
    assert told == [(0, 4), (4, 4)]


def test_guests_are_chosen_by_host_project_and_state(
    client: Client, source: list[str], name: str
) -> None:
    PublishedHost(client, "rack1-a", name).go_live(
        [guest("one", project=SHOP), guest("two", state=DomainState.PAUSED, project=OTHER)]
    )
    PublishedHost(client, "rack2-a", name).go_live(
        [guest("three", project=SHOP), guest("four", state=DomainState.SHUTOFF)]
    )
    assert set(listed(*source, "--on", "rack1-*")) == {"one", "two"}
    assert set(listed(*source, "--on", "rack1-*", "--on", "rack2-a")) == {"one", "two", "three"}
    assert set(listed(*source, "--project", SHOP)) == {"one", "three"}
    assert set(listed(*source, "--state", "shut off")) == {"four"}
    assert set(listed(*source, "--state", "paused", "--project", SHOP)) == set()
    said = run("fleet", "ls", *source, "--project", SHOP, "--project", "shop").stderr
    assert "no guest belongs to project shop; from an etcd --project takes its id" in said
    assert SHOP not in said


def test_a_host_without_a_lease_is_named_and_its_guests_are_shown(
    client: Client, source: list[str], name: str
) -> None:
    PublishedHost(client, "node1", name).go_live([guest("stays")])
    PublishedHost(client, "node2", name).go_live([guest("lost")]).drop_lease()
    ended = run("fleet", "ls", "-f", "json", *source)
    assert ended.returncode == Exit.PARTIAL
    assert guests_in(ended)["lost"]["standing"] == "unknown"
    assert "node2 unknown since 2026-11-27T00:00:00Z: its agent holds no lease" in ended.stderr
    assert "not complete: 1 of 2 hosts missing; 2 guests known" in ended.stderr


def test_each_format_and_long(client: Client, source: list[str], name: str) -> None:
    PublishedHost(client, "node1", name).go_live([guest("one", project=SHOP)])
    long = listed(*source, "-l")["one"]
    assert set(long) == set(GUEST_COLUMNS)
    assert (long["vcpus"], long["memory_mib"], long["project_id"]) == (2, 2048, SHOP)
    table = run("fleet", "ls", "-l", *source).stdout
    assert SHOP in table
    (row,) = csv.DictReader(io.StringIO(run("fleet", "ls", "-f", "csv", *source).stdout))
    assert (row["host"], row["name"], row["standing"]) == ("node1", "one", "resident")
    assert run("fleet", "ls", "-q", *source).stdout == "one\n"
    assert run("fleet", "ls", "-q0", *source).stdout == "one\0"


def test_a_table_fits_a_line_and_tells_how_guests_stand_where_one_moves(
    client: Client, source: list[str], name: str
) -> None:
    host = PublishedHost(client, "compute-1", name).go_live([guest(), guest()])
    table = run("fleet", "ls", *source).stdout.splitlines()
    assert max(map(len, table)) <= 80
    assert table[0].split() == ["HOST", "NAME", "STATE", "UUID"]
    host.withdraw(next(iter(host.domains)), Fate.LEFT)
    table = run("fleet", "ls", *source).stdout.splitlines()
    assert table[0].split() == ["HOST", "NAME", "STATE", "UUID", "STANDING"]
    assert sorted(line.split()[-1] for line in table[1:]) == ["in-transit", "resident"]


def test_a_hostile_name_is_escaped(client: Client, source: list[str], name: str) -> None:
    PublishedHost(client, "node1", name).go_live([guest("a\x1b[31mb\nc")])
    assert "a\\x1b[31mb\\nc" in run("fleet", "ls", *source).stdout
    assert "\x1b" not in run("fleet", "watch", "--once", *source).stdout


def test_a_fleet_without_hosts_is_no_empty_list(source: list[str]) -> None:
    for command in (["ls"], ["hosts"], ["usage"], ["watch", "--once"]):
        ended = run("fleet", *command, "-f", "json", *source)
        assert (ended.returncode, ended.stdout) == (Exit.FAILED, ""), command
        assert "the fleet has no hosts" in ended.stderr


def test_an_etcd_that_does_not_answer_is_unreachable() -> None:
    ended = run("fleet", "ls", "--endpoints", "127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
    assert ended.stderr.count("\n") == 1


def test_the_environment_names_the_etcd_as_for_etcdctl(
    client: Client, shared_etcd: Etcd, name: str
) -> None:
    PublishedHost(client, "node1", name).go_live([guest("one")])
    ended = run("fleet", "ls", "-q", "--fleet", name, ETCDCTL_ENDPOINTS=shared_etcd.endpoints[0])
    assert ended.stdout == "one\n"


def test_a_user_logs_in_with_a_password_of_the_environment(needs_etcd: str, name: str) -> None:
    with Etcd(needs_etcd, auth=True) as etcd:
        with Client(etcd.endpoints, login=Login("root", ROOT_PASSWORD)) as root:
            PublishedHost(root, "node1", name).go_live([guest("one")])
        source = ["--fleet", name, "--endpoints", *etcd.endpoints]
        denied = run("fleet", "ls", *source)
        assert (denied.returncode, denied.stdout) == (Exit.DENIED, "")
        wrong = run("fleet", "ls", *source, "--user", "root", ETCDCTL_PASSWORD=SHOP)
        assert wrong.returncode == Exit.DENIED
        ended = run("fleet", "ls", "-q", *source, "--user", "root", ETCDCTL_PASSWORD=ROOT_PASSWORD)
        assert ended.stdout == "one\n"


def test_tls_names_the_user_by_a_certificate(needs_etcd: str, name: str) -> None:
    with Etcd(needs_etcd, tls=True, auth=True) as etcd:
        pki = etcd.certificate("root")
        certificate = ["--cert", str(pki / "clientcert.pem"), "--key", str(pki / "clientkey.pem")]
        source = ["--fleet", name, "--endpoints", *etcd.endpoints]
        ended = run("fleet", "hosts", *source, "--cacert", str(pki / "cacert.pem"), *certificate)
        assert "the fleet has no hosts" in ended.stderr
        missing = run("fleet", "hosts", *source, "--cacert", str(pki / "nothing.pem"))
        assert missing.returncode == Exit.FAILED
        assert "cannot read" in missing.stderr
        plain = run("fleet", "hosts", *source)
        assert plain.returncode == Exit.UNREACHABLE


def test_usage_adds_up_what_is_published(client: Client, source: list[str], name: str) -> None:
    moved = guest("moved", project=SHOP)
    one = PublishedHost(client, "node1", name).go_live([guest("one"), moved])
    two = PublishedHost(client, "node2", name).go_live()
    two.publish(moved, phase=Phase.INCOMING)
    ended = run("fleet", "usage", "-f", "json", *source)
    assert ended.returncode == Exit.OK, ended.stderr
    node1, node2 = valid("usage", ended.stdout)
    assert (node1["host"], node1["total"]["vcpus"], node1["total"]["memory_kib"]) == (
        one.host,
        4,
        4 << 20,
    )
    assert node1["total"]["disk_virtual_bytes"] is None
    assert node1["total"]["block_devices"] is None
    assert {each["disk_virtual_bytes"] for each in node1["instances"]} == {None}
    assert (node2["host"], node2["total"]["vcpus"]) == (two.host, 0)
    shop = run("fleet", "usage", "-f", "json", *source, "--project", SHOP)
    assert [each["total"]["vcpus"] for each in json.loads(shop.stdout)] == [2, 0]
    table = run("fleet", "usage", *source).stdout
    assert "DISK" not in table
    assert table.splitlines()[-1].split() == ["2", "hosts", "2", "instances", "4", "4.0", "GiB"]


def test_hosts_are_shown_with_what_is_wrong(client: Client, source: list[str], name: str) -> None:
    PublishedHost(client, "node1", name).go_live([guest(), guest()])
    PublishedHost(client, "node2", name).take_lease()
    PublishedHost(client, "node3", name).go_live([guest()]).drop_lease()
    ended = run("fleet", "hosts", "-f", "json", *source)
    assert ended.returncode == Exit.PARTIAL
    found = valid("fleet-hosts", ended.stdout)
    assert all(set(each) == set(HOST_COLUMNS) for each in found)
    assert [(each["host"], each["status"], each["domains"]) for each in found] == [
        ("node1", "current", 2),
        ("node2", "syncing", None),
        ("node3", "unknown", 1),
    ]
    assert found[0]["failure"] is None
    assert found[2]["since"] == "2026-11-27T00:00:00Z"


def test_forget_says_what_it_deleted(client: Client, source: list[str], name: str) -> None:
    PublishedHost(client, "node1", name).go_live([guest("stays")])
    lost = PublishedHost(client, "node2", name).go_live([guest(), guest()])
    refusal = run("fleet", "forget", "node2", *source)
    assert refusal.returncode == Exit.FAILED
    assert "its agent is running" in refusal.stderr
    lost.drop_lease()
    ended = run("fleet", "forget", "node2", *source)
    assert ended.returncode == Exit.OK
    assert ended.stdout == (
        "node2 is forgotten: the etcd has no record of it and of 2 domains any more\n"
    )
    assert set(listed(*source)) == {"stays"}
    again = run("fleet", "forget", "node2", *source)
    assert again.returncode == Exit.FAILED
    assert "node2 is not in the fleet" in again.stderr


# What happens


class FleetWatching(Watching):
    """`guestlist fleet watch words…` while it runs."""

    command = ("fleet", "watch")
    schema = "fleet-watch"


def test_watch_tells_of_guests_that_start_migrate_and_go(
    client: Client, source: list[str], name: str
) -> None:
    moved = guest("moved")
    one = PublishedHost(client, "node1", name).go_live([moved])
    two = PublishedHost(client, "node2", name).go_live()
    with FleetWatching(*source) as watch:
        assert watch.line() == "watching 1 guest on 2 hosts"
        fresh = guest("fresh")
        one.publish(fresh)
        assert watch.line() == "node1  fresh  started (booted)"
        two.publish(moved, phase=Phase.INCOMING)
        assert watch.line() == "node1  moved  changed: resident -> migrating"
        two.publish(moved, arrived=True)
        assert watch.line() == "node2  moved  changed: host node1 -> node2, migrating -> handover"
        one.withdraw(moved.uuid, Fate.LEFT)
        assert watch.line() == "node2  moved  changed: handover -> resident"
        one.withdraw(fresh.uuid)
        assert watch.line() == "node1  fresh  gone: was running"
        two.drop_lease()
        assert watch.line().startswith("node2  stale: its agent holds no lease")
        assert watch.line() == "node2  moved  changed: resident -> unknown"


def test_a_host_that_publishes_again_is_syncing_and_then_back_in_step(
    client: Client, source: list[str], name: str
) -> None:
    one = PublishedHost(client, "node1", name).go_live([guest("there")])
    with FleetWatching(*source) as watch:
        assert watch.line() == "watching 1 guest on 1 host"
        one.drop_lease()
        assert watch.line().startswith("node1  stale: ")
        assert watch.line() == "node1  there  changed: resident -> unknown"
        one.take_lease()
        assert watch.line().startswith("node1  syncing: ")
        assert watch.line() == "node1  there  changed: unknown -> resident"
        one.finish()
        assert watch.line() == "node1  back in step"


def test_watch_for_programs(client: Client, source: list[str], name: str) -> None:
    one = PublishedHost(client, "node1", name).go_live([guest("there")])
    with FleetWatching(*source, "-f", "json") as watch:
        first = watch.told()
        assert (first["change"], first["complete"]) == ("relisted", True)
        assert [each["name"] for each in first["guests"]] == ["there"]
        one.publish(guest("fresh"))
        change = watch.told()
        assert (change["change"], change["name"], change["before"]) == ("started", "fresh", None)
        assert change["after"]["standing"] == "resident"
        one.drop_lease()
        host = watch.told()
        assert (host["change"], host["host"], host["after"]["live"]) == ("host", "node1", False)


def test_watch_shows_the_guests_that_match(client: Client, source: list[str], name: str) -> None:
    one = PublishedHost(client, "node1", name).go_live()
    two = PublishedHost(client, "node2", name).go_live()
    with FleetWatching(*source, "--on", "node2") as watch:
        assert watch.line() == "watching 0 guests on 2 hosts"
        one.publish(guest("elsewhere"))
        two.publish(guest("foreign", ours=False))
        two.publish(guest("here"))
        assert watch.line() == "node2  here  started (booted)"


def test_watch_over_an_outage(needs_etcd: str, name: str) -> None:
    with Etcd(needs_etcd) as etcd, Client(etcd.endpoints) as client:
        host = PublishedHost(client, "node1", name).go_live()
        with FleetWatching("--endpoints", etcd.endpoints[0], "--fleet", name) as watch:
            assert watch.line() == "watching 0 guests on 1 host"
            etcd.stop()
            assert watch.process.stderr is not None
            assert "it is tried again until it answers" in watch.process.stderr.readline()
            etcd.start()
            host.publish(guest("late"))
            assert watch.line() == "node1  late  started (booted)"


# The audit


def servers(place: Path, *rows: tuple[UUID, str, str]) -> Path:
    """Write a file as `openstack server list --long -f json` prints: UUID, status, host."""
    path = place / "servers.json"
    path.write_text(
        json.dumps(
            [
                {
                    "ID": str(uuid),
                    "Name": f"server-{number}",
                    "Status": status,
                    "Task State": None,
                    "Power State": "Running" if status == "ACTIVE" else "Shutdown",
                    "Host": host,
                }
                for number, (uuid, status, host) in enumerate(rows)
            ]
        )
    )
    return path


def test_the_audit_reads_the_fleet_at_one_revision(
    client: Client, source: list[str], name: str, tmp_path: Path
) -> None:
    fine, unknown, twice = guest("fine"), guest("unknown"), guest("twice")
    one = PublishedHost(client, "node1", name).go_live([fine, unknown, twice])
    two = PublishedHost(client, "node2", name).go_live([twice])
    moving = guest("moving")
    one.publish(moving)
    two.publish(moving, phase=Phase.INCOMING)
    believed = servers(
        tmp_path, *((each.uuid, "ACTIVE", "node1") for each in (fine, twice, moving))
    )
    ended = run("fleet", "audit", "-f", "json", "--servers", str(believed), *source)
    assert ended.returncode == Exit.FINDINGS, ended.stderr
    audit = valid("audit", ended.stdout)
    assert audit["complete"]
    found = {(each["kind"], each["name"]) for each in audit["findings"]}
    assert found == {("unknown-to-nova", "unknown"), ("active-on-two-hosts", "twice")}


def test_the_guests_of_a_host_that_does_not_tell_are_no_findings(
    client: Client, source: list[str], name: str, tmp_path: Path
) -> None:
    here, lost = guest("here"), guest("lost")
    PublishedHost(client, "node1", name).go_live([here])
    PublishedHost(client, "node2", name).go_live([lost, guest("nobody's")]).drop_lease()
    believed = servers(tmp_path, (here.uuid, "ACTIVE", "node1"), (lost.uuid, "ACTIVE", "node2"))
    ended = run("fleet", "audit", "-f", "json", "--servers", str(believed), *source)
    assert ended.returncode == Exit.PARTIAL
    assert "incomplete: node2: its agent holds no lease" in ended.stderr
    audit = valid("audit", ended.stdout)
    assert [each["name"] for each in audit["findings"]] == []


def test_an_audit_of_an_etcd_that_is_down_says_so(tmp_path: Path) -> None:
    believed = servers(tmp_path)
    ended = run("fleet", "audit", "--servers", str(believed), "--endpoints", "127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")


def test_the_audit_asks_the_hosts_of_a_file(hosts_file: Path, tmp_path: Path) -> None:
    known = [nova_instance(number) for number in (1, 2, 3)]
    rows = [(UUID(str(each.uuid)), "ACTIVE", "node1") for each in known[:1]]
    ended = run(
        "fleet",
        "audit",
        "-f",
        "json",
        "--hosts",
        str(hosts_file),
        "--servers",
        str(servers(tmp_path, *rows)),
    )
    assert ended.returncode == Exit.FINDINGS, ended.stderr
    audit = valid("audit", ended.stdout)
    assert {each["name"] for each in audit["findings"]} == {each.name for each in known[1:]}
