"""The filters of `ls`, `usage` and `watch`: which domains match, what they widen, what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from lab.churn import populated
from lab.command import refused, run, served
from lab.daemon import Daemon
from lab.nodes import Domain, appliance, domain_xml, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.schemas import valid
from lab.terminal import Live
from lab.watching import Watching

from guestlist.cli.exits import Exit
from guestlist.cli.filters import LAUNCHERS, STATES, Filter, project_is_known
from guestlist.cli.fleet.guests import Filter as FleetFilter
from guestlist.cli.waiting_changes import WaitingChanges
from guestlist.cli.watch.chosen import ChosenNews
from guestlist.domainxml import parse
from guestlist.fleet.rows import FleetRow, FleetSnapshot, RowChange, Standing
from guestlist.inventory.changes import Change, Changed, Resynced, Started, Stopped
from guestlist.launcher import Launcher
from guestlist.records import Details, Instance, Snapshot
from guestlist.states import DomainState

BILLING, RESEARCH, SHOP = nova_instance(1), nova_instance(2, paused=True), nova_instance(3)
SHOP_OFF = nova_instance(6, active=False)
UNKNOWN = nova_instance(9, with_metadata=False)
GUESTFS, BUILD_BOX, JENKINS = appliance(1), handmade(0), handmade(1, active=False)
HOST = [BILLING, RESEARCH, SHOP, SHOP_OFF, GUESTFS, BUILD_BOX, JENKINS]

SHOP_ID = nova_instance(3).metadata.partition('<nova:project uuid="')[2].partition('"')[0]
"""Keystone's id of the project of the domains whose number three divides."""


@pytest.fixture
def host(tmp_path: Path) -> str:
    return served(tmp_path, HOST)


def listed(host: str, *words: str) -> list[str]:
    ended = run("ls", "-f", "json", "-c", host, *words)
    assert ended.returncode == Exit.OK, ended.stderr
    return [one["name"] for one in valid("ls", ended.stdout)]


def names(*domains: Domain) -> list[str]:
    return sorted(domain.name for domain in domains)


# Which domains


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--name", "instance-0000000[12]"], [BILLING, RESEARCH]),
        (["--name", "*3", "--name", "*1"], [BILLING, SHOP]),
        (["--name", "INSTANCE*"], []),
        (["--name", "build*"], []),
        (["-a", "--name", "build*"], [BUILD_BOX]),
        (["--state", "paused"], [RESEARCH]),
        (["--state", "running,paused"], [BILLING, RESEARCH, SHOP]),
        (["--state", "Paused", "--state", "shut-off"], [RESEARCH, SHOP_OFF]),
        (["--state", "shut off"], [SHOP_OFF]),
        (["-a", "--state", "shut off"], [SHOP_OFF, JENKINS]),
        (["--launcher", "libguestfs"], [GUESTFS]),
        (["--launcher", "other"], [BUILD_BOX]),
        (["--launcher", "other,Nova", "--inactive"], [*HOST[:4], BUILD_BOX, JENKINS]),
        (["-a", "--launcher", "nova"], HOST[:4]),
        (["--launcher", "nova"], [BILLING, RESEARCH, SHOP]),
        (["--launcher", "kubevirt"], []),
        (["--project", "shop"], [SHOP]),
        (["--project", SHOP_ID], [SHOP]),
        (["--project", "shop", "--project", "billing"], [BILLING, SHOP]),
        (["-a", "--project", "shop"], [SHOP, SHOP_OFF]),
        (["--state", "shut off", "--project", "shop"], [SHOP_OFF]),
        (["--state", "paused", "--project", "shop"], []),
        (["--project", "Shop"], []),
    ],
)
def test_filters_narrow_the_list(host: str, words: list[str], expected: list[Domain]) -> None:
    assert listed(host, *words) == names(*expected)


def test_a_name_is_taken_as_it_is(tmp_path: Path) -> None:
    odd = ["-n", "two words", "a[1]", "it's"]
    uri = served(tmp_path, [replace(nova_instance(n), name=name) for n, name in enumerate(odd)])
    assert listed(uri, "-a", "--name=-n") == ["-n"]
    assert listed(uri, "-a", "--name", "two words") == ["two words"]
    assert listed(uri, "-a", "--name", "a[[]1]") == ["a[1]"]
    assert listed(uri, "-a", "--name", "it's") == ["it's"]


def test_all_formats_carry_the_same_rows(host: str) -> None:
    words = ("ls", "-c", host, "--state", "paused,shut off")
    expected = names(RESEARCH, SHOP_OFF)
    assert run(*words, "-q").stdout.split() == expected
    assert [row.split()[1] for row in run(*words).stdout.splitlines()[1:]] == expected
    assert len(run(*words, "-f", "csv", "--no-headers").stdout.splitlines()) == 2


def test_domain_0_by_its_launcher(proxy: Proxy) -> None:
    proxy.set_id(BUILD_BOX.name, 0)
    uri = proxy.uri(node([BILLING, BUILD_BOX]))
    assert listed(uri, "--launcher", "dom0") == [BUILD_BOX.name]


def test_a_list_by_name_or_state_costs_one_call_and_a_project_one_per_domain(proxy: Proxy) -> None:
    uri = proxy.uri(node([BILLING, RESEARCH, SHOP]))

    def calls(*words: str) -> list[str]:
        proxy.clear()
        run("ls", "-c", uri, *words)
        return [
            call for call in proxy.calls if call.startswith(("CONNECT_LIST", "CONNECT_GET_ALL"))
        ]

    def reads() -> int:
        return proxy.calls.count("DOMAIN_GET_XML_DESC")

    assert calls("-q", "--name", "*3") == ["CONNECT_LIST_ALL_DOMAINS"]
    assert calls("--state", "paused") == ["CONNECT_GET_ALL_DOMAIN_STATS"]
    assert reads() == 0
    assert calls("-q", "--project", "shop") == ["CONNECT_GET_ALL_DOMAIN_STATS"]
    assert reads() == 3


# What it says


def test_a_filter_that_matches_nothing_says_what_it_looked_at(host: str) -> None:
    ended = run("ls", "-c", host, "--project", "nothing", "--name", "two words")
    assert ended.stderr == (
        f"guestlist: {host}: none of the 3 domains looked at matches "
        "--name two words --project nothing; with -a all domains are looked at\n"
    )
    ended = run("ls", "-a", "-c", host, "--project", "nothing")
    said = f"guestlist: {host}: none of the 7 domains looked at matches --project nothing\n"
    assert (ended.returncode, ended.stderr) == (Exit.OK, said)


def test_a_host_whose_domains_are_hidden_says_so_as_without_a_filter(tmp_path: Path) -> None:
    uri = served(tmp_path, [SHOP_OFF])
    ended = run("ls", "-c", uri, "--project", "shop")
    assert "nothing matches; 1 domain is hidden: 1 not running (--inactive)" in ended.stderr


def test_a_project_that_is_not_known_is_counted(tmp_path: Path) -> None:
    uri = served(tmp_path, [SHOP, UNKNOWN, BUILD_BOX])
    said = f"guestlist: {uri}: the project of 1 domain is not known, so it is not shown\n"
    for words in (["ls"], ["usage"], ["watch", "--once"]):
        ended = run(*words, "-a", "-c", uri, "--project", "shop")
        assert (ended.returncode, ended.stderr) == (Exit.OK, said)
        assert SHOP.name in ended.stdout
        assert UNKNOWN.name not in ended.stdout
        assert run(*words, "-a", "-c", uri, "--name", "*3").stderr == ""
    ended = run("ls", "-a", "-c", uri, "--project", "shop", "--name", "*3")
    assert ended.stderr == ""  # another filter has judged it


def test_a_name_that_nova_did_not_keep_hides_no_server(tmp_path: Path) -> None:
    """Nova writes N/A for the names of owners of older servers; their ids are right."""
    older = replace(SHOP_OFF, metadata=SHOP_OFF.metadata.replace(">shop<", ">N/A<"))
    uri = served(tmp_path, [SHOP, BILLING, older])
    said = f"guestlist: {uri}: the project of 1 domain is not known, so it is not shown\n"
    for words in (["ls", "-a"], ["usage"], ["fleet", "ls", "--inactive"]):
        ended = run(*words, "-c", uri, "--project", "shop")
        assert older.name not in ended.stdout
        assert said.removeprefix(f"guestlist: {uri}: ") in ended.stderr
        by_id = run(*words, "-c", uri, "--project", SHOP_ID)
        assert older.name in by_id.stdout
        assert "not known, so" not in by_id.stderr


def test_xml_that_cannot_be_read_hides_no_domain(proxy: Proxy) -> None:
    uri = proxy.uri(node([BILLING, SHOP]))
    proxy.fail("DOMAIN_GET_XML_DESC", 1)
    ended = run("ls", "-c", uri, "--project", "shop")
    assert "the project of 2 domains is not known, so they are not shown" in ended.stderr
    assert ended.returncode == Exit.OK


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--state", "asleep"], f"there is no state 'asleep'; there are: {', '.join(STATES)}"),
        (["--state", "running,"], "there is no state ''"),
        (["--launcher", "docker"], f"no launcher 'docker'; there are: {', '.join(LAUNCHERS)}"),
        (["--state", "a\x1b[1m"], "there is no state 'a"),
    ],
)
@pytest.mark.parametrize("command", [["ls"], ["usage"], ["watch"], ["fleet", "ls"]])
def test_an_unknown_word_is_refused(command: list[str], words: list[str], said: str) -> None:
    line = refused(*command, *words)
    assert said in line
    assert line[:-1].isprintable()


def test_the_words_are_libvirts_and_ours() -> None:
    assert set(STATES) == {str(state) for state in DomainState}
    assert set(LAUNCHERS) == {str(launcher) for launcher in Launcher}


# Usage


def test_usage_counts_what_matches(host: str) -> None:
    def used(*words: str) -> dict[str, object]:
        found: dict[str, object]
        (found,) = valid("usage", run("usage", "-f", "json", "-c", host, *words).stdout)
        return found

    def counted(*words: str) -> list[str]:
        instances = used(*words)["instances"]
        assert isinstance(instances, list)
        return [one["name"] for one in instances]

    assert counted() == names(*HOST[:4])
    assert counted("--project", "shop") == names(SHOP, SHOP_OFF)
    assert counted("--state", "running") == names(BILLING, SHOP)
    assert counted("--launcher", "libguestfs,other") == names(GUESTFS, BUILD_BOX, JENKINS)
    assert counted("--name", "nothing") == []
    total = used("--project", "shop")["total"]
    assert isinstance(total, dict)
    assert (total["vcpus"], total["memory_kib"]) == (SHOP.vcpus, SHOP.memory_kib)
    ended = run("usage", "-c", host, "--name", "nothing")
    assert "none of the 4 domains looked at matches --name nothing" in ended.stderr


def test_usage_finds_the_launcher_by_the_name_template(tmp_path: Path) -> None:
    ours = replace(UNKNOWN, name="vm-00000009")
    uri = served(tmp_path, [ours, BUILD_BOX])
    words = ("-c", uri, "-f", "json", "--name-template", "vm-%08x", "--launcher", "nova")
    for wider in ([], ["-a"], ["--launcher", "libguestfs"]):
        (used,) = valid("usage", run("usage", *words, *wider).stdout)
        assert [one["name"] for one in used["instances"]] == [ours.name]
    (used,) = json.loads(run("fleet", "usage", *words, "-a").stdout)
    assert [one["name"] for one in used["instances"]] == [ours.name]


# Fleet


def test_a_fleet_takes_the_same_words(host: str) -> None:
    def guests(*words: str) -> list[str]:
        ended = run("fleet", "ls", "-f", "json", "-c", host, *words)
        return [one["name"] for one in valid("fleet-ls", ended.stdout)]

    assert guests("--name", "*3") == names(SHOP)
    assert guests("--launcher", "libguestfs") == names(GUESTFS)
    assert guests("--state", "paused,shut-off") == names(RESEARCH, SHOP_OFF)
    assert guests("--project", "shop", "--inactive") == names(SHOP, SHOP_OFF)
    used = json.loads(run("fleet", "usage", "-f", "json", "-c", host, "--project", "shop").stdout)
    assert [one["name"] for one in used[0]["instances"]] == names(SHOP, SHOP_OFF)
    no_host = run("fleet", "usage", "-c", host, "--on", "x*")
    said = "guestlist: --on x*: none of the hosts has such a name\n"
    assert (no_host.returncode, no_host.stdout, no_host.stderr) == (Exit.FAILED, "", said)


def test_a_fleet_counts_guests_whose_project_is_not_known(tmp_path: Path) -> None:
    uri = served(tmp_path, [SHOP, UNKNOWN])
    ended = run("fleet", "ls", "-q", "-c", uri, "--project", "shop")
    assert ended.stdout == f"{SHOP.name}\n"
    assert "the project of 1 domain is not known, so it is not shown" in ended.stderr


# Watch


def test_watch_tells_of_what_matches_before_or_after(daemon: Daemon) -> None:
    with (
        populated(daemon.uri(), [BILLING, SHOP_OFF]) as connection,
        Watching("-c", daemon.uri(), "--state", "paused") as watching,
    ):
        assert watching.line() == "watching 0 domains"
        assert "none of the 2 domains looked at matches --state paused" in watching.complaint()
        connection.lookupByName(SHOP_OFF.name).create()
        domain = connection.lookupByName(BILLING.name)
        domain.suspend()
        said = "changed: state running -> paused; suspended (paused)"
        assert watching.line() == f"{BILLING.name}  {said}"
        domain.resume()
        said = "changed: state paused -> running; resumed (unpaused)"
        assert watching.line() == f"{BILLING.name}  {said}"


def test_watch_tells_of_a_new_domain_of_the_project(daemon: Daemon) -> None:
    """Its start is told first: the view learns of it before it has read the XML."""
    with (
        populated(daemon.uri(), [SHOP]) as connection,
        Watching("-c", daemon.uri(), "--project", "shop") as watching,
    ):
        assert watching.line() == "watching 1 domain"
        connection.createXML(domain_xml(BILLING))
        new = connection.createXML(domain_xml(replace(SHOP_OFF, active=True)))
        assert watching.line() == f"{SHOP_OFF.name}  started (booted)"
        connection.lookupByName(BILLING.name).destroy()
        new.destroy()
        assert watching.line() == f"{SHOP_OFF.name}  stopped (destroyed): it is gone"


class FleetWatching(Watching):
    command = ("fleet", "watch")
    schema = "fleet-watch"


def test_a_fleet_tells_of_a_new_guest_of_the_project(daemon: Daemon) -> None:
    with (
        populated(daemon.uri(), [SHOP]) as connection,
        FleetWatching("-c", daemon.uri(), "--project", "shop") as watching,
    ):
        assert watching.line() == "watching 1 guest on 1 host"
        connection.createXML(domain_xml(BILLING))
        new = connection.createXML(domain_xml(replace(SHOP_OFF, active=True)))
        assert watching.line() == f"{daemon.uri()}  {SHOP_OFF.name}  started (booted)"
        connection.lookupByName(BILLING.name).destroy()
        new.destroy()
        said = f"{daemon.uri()}  {SHOP_OFF.name}  stopped (destroyed): it is gone"
        assert watching.line() == said


def test_watch_includes_what_a_launcher_needs(host: str) -> None:
    ended = run("watch", "--once", "-f", "json", "-c", host, "--launcher", "libguestfs")
    told = valid("watch", ended.stdout)
    assert [one["name"] for one in told["instances"]] == [GUESTFS.name]


NOW = datetime(2026, 3, 1, tzinfo=UTC)
SHOPS = parse(domain_xml(SHOP))
BILLINGS = parse(domain_xml(BILLING))
BROKEN = replace(BILLINGS, nova=None, unknown=("xml: no answer within 3 s",))


def instance(details: Details | None, **changes: object) -> Instance:
    found = Instance(UUID(int=7), "a", 1, DomainState.RUNNING, 1, Launcher.NOVA, details)
    return replace(found, **changes)  # type: ignore[arg-type]


def started(details: Details | None) -> Change:
    return Started(None, instance(details), (), NOW)


def read(details: Details) -> Change:
    return Changed(instance(None), instance(details), (), NOW)


def ended(details: Details | None) -> Change:
    return Stopped(instance(details), None, (), NOW)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([started(SHOPS), ended(SHOPS)], [0, 1]),
        ([started(BILLINGS), ended(BILLINGS)], []),
        ([started(None)], []),
        ([started(None), read(SHOPS)], [0, 1]),
        ([started(None), read(BILLINGS), ended(BILLINGS)], []),
        ([started(None), ended(None)], [0, 1]),
        ([started(None), read(BROKEN), ended(BROKEN)], []),
    ],
)
def test_changes_wait_until_the_project_is_known(changes: list[Change], told: list[int]) -> None:
    complaints: list[str] = []
    chosen = ChosenNews(Filter(projects=frozenset({"shop"})), complaints.append)
    assert [each for change in changes for each in chosen.of("host", change)] == [
        changes[place] for place in told
    ]
    unreadable = any(change.instance.details is BROKEN for change in changes)
    expected = ["the project of domain a is not known: its changes are not shown"]
    assert complaints == (expected if unreadable else [])


@pytest.mark.parametrize(
    ("there", "told", "waits"),
    [
        ([instance(SHOPS)], True, False),
        ([instance(BILLINGS)], False, False),
        ([instance(BROKEN)], False, False),
        ([instance(None)], False, True),
        ([], True, False),
    ],
)
def test_a_new_list_judges_the_changes_that_wait(
    there: list[Instance], told: bool, waits: bool
) -> None:
    """After it no change may follow that tells the project."""
    chosen = ChosenNews(Filter(projects=frozenset({"shop"})), pytest.fail)
    start = started(None)
    assert list(chosen.of("host", start)) == []
    assert len(list(chosen.of("other", Resynced(Snapshot([]), 0, NOW)))) == 1
    *changes, listed = chosen.of("host", Resynced(Snapshot(there), 1, NOW))
    assert isinstance(listed, Resynced)
    assert changes == ([start] if told else [])
    later = list(chosen.of("host", read(SHOPS)))
    assert later[:-1] == ([start] if waits else [])

    def row(domain: Instance) -> FleetRow:
        return FleetRow("host", domain, Standing.RESIDENT)

    domains = Filter(projects=frozenset({"shop"}))
    guests = FleetFilter(inactive=True, foreign=True, hosts=(), domains=domains)
    waiting = WaitingChanges[RowChange](pytest.fail)
    new = RowChange(None, row(instance(None)), start)
    assert list(guests.passed(new, waiting)) == []
    fleet = FleetSnapshot(map(row, there), [])
    assert list(guests.passed_by_list(fleet, waiting)) == ([new] if told else [])
    last = RowChange(new.after, row(instance(SHOPS)), read(SHOPS))
    assert list(guests.passed(last, waiting)) == ([new, last] if waits else [last])


def test_a_project_is_known_if_the_xml_could_tell() -> None:
    assert project_is_known(instance(SHOPS))
    assert project_is_known(instance(replace(SHOPS, nova=None), launcher=Launcher.OTHER))
    assert not project_is_known(instance(None))
    assert not project_is_known(instance(replace(SHOPS, nova=None)))
    without_name = replace(SHOPS, unknown=("nova: project",))
    assert not project_is_known(instance(without_name))
    assert project_is_known(instance(without_name), by_name=False)
    without_id = replace(SHOPS, unknown=("nova: project uuid",))
    assert not project_is_known(instance(without_id), by_name=False)
    assert not project_is_known(instance(BROKEN, launcher=Launcher.OTHER))


# Live


def test_the_live_table_is_filtered(daemon: Daemon) -> None:
    with (
        populated(daemon.uri(), [BILLING, SHOP]) as connection,
        Live("-c", daemon.uri(), "--state", "paused", "--columns", "name") as live,
    ):
        screen = live.in_step(0)
        assert "none of the 2 domains looked at matches --state paused" in screen.table[-1]
        connection.lookupByName(SHOP.name).suspend()
        assert SHOP.name in live.in_step(1).table[-1]
