"""`guestlist audit`: what it prints of an audit, what it repeats, what it refuses, how it ends.

What an audit finds is up to `guestlist.audit.rule`; here are the options, the words and the ends.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lab.command import COMMAND, MAIN, NO_HOST, environment, refused, run, served
from lab.hostile import HOSTILE
from lab.names import ROOT
from lab.nodes import Domain, appliance, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.schemas import described, schema, valid
from lab.terminal import Screen

from guestlist.audit.findings import Audit, Certainty, Finding, Kind
from guestlist.audit.rows import HostLook, NovaLook
from guestlist.cli import arguments
from guestlist.cli.audit.news import Event, KnownFindings
from guestlist.cli.audit.run import shown, status
from guestlist.cli.audit.sides import Sides
from guestlist.cli.exits import Exit
from guestlist.cli.show.finding_lines import news_line, report, summary
from guestlist.cli.show.findings import COLUMNS, KINDS

NOW = datetime(2026, 11, 27, 10, 20, 30, tzinfo=UTC)
ONE, TWO, OFF = nova_instance(1), nova_instance(2), nova_instance(3, active=False)

RUNS = Finding(
    kind=Kind.RUNNING_THOUGH_SHUTOFF,
    certainty=Certainty.CERTAIN,
    hosts=("node1",),
    uuid=ONE.uuid,
    name=ONE.name,
    reason="the domain is active on node1, and Nova says SHUTOFF",
    libvirt={
        "node1": {
            "domain": ONE.name,
            "uuid": str(ONE.uuid),
            "id": 7,
            "state": "running",
            "reason": "booted",
            "launcher": "nova",
        }
    },
    nova={
        "status": "SHUTOFF",
        "task_state": None,
        "vm_state": "stopped",
        "power_state": "shutdown",
        "host": "node1",
        "hypervisor_hostname": "node1.example",
        "instance_name": ONE.name,
        "updated": "2026-11-26T12:00:00Z",
    },
    next_step="before the server is started again: see who started the domain, with 'virsh "
    "domstate --reason'",
    server_name="web-3",
    project_id="e17339500d9451e8a1501586f8ee6de7",
)
TAP = Finding(
    kind=Kind.TAP_WITHOUT_DOMAIN,
    certainty=Certainty.POSSIBLE,
    hosts=("qemu+ssh://node2/system",),
    uuid=None,
    name=None,
    reason="node2 has the tap device, and no domain that uses it; but a guest may be about to "
    "start on this host",
    libvirt={"qemu+ssh://node2/system": {"domain": None}},
    nova={},
    next_step="see which port it belonged to",
    subject="tap1b7a4d60-1b",
)
DISK = Finding(
    kind=Kind.DISK_GONE,
    certainty=Certainty.CERTAIN,
    hosts=("node1",),
    uuid=TWO.uuid,
    name=TWO.name,
    reason="the disk is gone from node1",
    libvirt={"node1": {"domain": TWO.name, "state": "running", "reason": "booted", "id": 9}},
    nova={"status": "ACTIVE", "task_state": "rebooting"},
    next_step="keep the guest running",
    subject="/var/lib/nova/instances/2/disk",
    server_name="db-1",
)


def audit(*findings: Finding, incomplete: Sequence[str] = (), **others: int) -> Audit:
    return Audit(findings, tuple(incomplete), 4, 412, 410, others)


def printed(found: Audit, *words: str) -> str:
    """Return what the command prints of an audit with these options."""
    options = arguments.parse(["audit", "--servers", "x", *words])
    return shown(options, found, NOW, NOW)


def table(*findings: Finding, width: int | None = None) -> list[str]:
    return report(findings, headers=True, width=width, colours=False).splitlines()


# A table


def test_a_row_and_the_lines_below_it_fit_a_terminal() -> None:
    assert table(RUNS, TAP, width=80) == [
        "CERTAINTY  FINDING                 HOST                DOMAIN             SERVER",
        "certain    runs, shut off in Nova  node1               instance-00000001  web-3",
        f"  uuid     {ONE.uuid}, project",
        "           e17339500d9451e8a1501586f8ee6de7",
        "  libvirt  node1: running (booted), id 7",
        "  Nova     SHUTOFF, power state shutdown, no task, on node1.example, changed",
        "           2026-11-26T12:00:00Z",
        "  reason   the domain is active on node1, and Nova says SHUTOFF",
        "  next     before the server is started again: see who started the domain, with",
        "           'virsh domstate --reason'",
        "possible   tap without domain      qemu+ssh://node2/s  tap1b7a4d60-1b     -",
        "                                   ystem",
        "  libvirt  qemu+ssh://node2/system: no domain",
        "  reason   node2 has the tap device, and no domain that uses it; but a guest may",
        "           be about to start on this host",
        "  next     see which port it belonged to",
    ]


def test_in_a_pipe_each_part_is_a_line() -> None:
    lines = table(RUNS, DISK)
    assert len(lines) == 1 + 6 + 7
    assert lines[6].endswith("with 'virsh domstate --reason'")
    assert lines[9] == "  disk     /var/lib/nova/instances/2/disk"
    assert lines[11] == "  Nova     ACTIVE, task rebooting"
    assert printed(audit(RUNS, DISK)).splitlines() == lines
    without = printed(audit(RUNS, DISK), "--no-headers").splitlines()
    assert without[0] == f"certain  runs, shut off in Nova  node1  {ONE.name}  web-3"
    assert without[1:6] == lines[2:7]
    assert printed(audit()) == ""


def test_a_domain_of_another_name_is_named() -> None:
    facts = {"node1": {"domain": "a", "state": "running"}, "node2": {"domain": "b", "id": None}}
    shared = replace(RUNS, kind=Kind.SHARED_NAME, name="a", libvirt=facts)
    assert table(shared)[3:5] == ["  libvirt  node1: running", "  libvirt  node2: -, named b"]


def test_both_sides_of_a_shared_name_can_be_looked_up() -> None:
    facts = {"node1": RUNS.libvirt["node1"], "node2": {"domain": ONE.name, "uuid": str(TWO.uuid)}}
    nova = {**RUNS.nova, "instance_name": "instance-0000000b"}
    lines = table(replace(RUNS, kind=Kind.SHARED_NAME, libvirt=facts, nova=nova))
    assert lines[4] == f"  libvirt  node2: -, uuid {TWO.uuid}"
    assert lines[5].startswith("  Nova     SHUTOFF, named instance-0000000b, power state shutdown")


def test_a_list_that_tells_no_task_is_not_said_to_have_none() -> None:
    short = {"status": "ACTIVE", "task_state": None, "power_state": None}
    assert "  Nova     ACTIVE" in table(replace(RUNS, nova=short))


def test_the_certainty_is_coloured() -> None:
    text = report([RUNS, TAP], headers=True, width=80, colours=True)
    assert "\x1b[31mcertain\x1b[0m" in text
    assert "\x1b[33mpossible\x1b[0m" in text


def order(*words: str) -> list[str]:
    found = json.loads(printed(audit(DISK, RUNS, TAP), "-f", "json", *words))
    return [one["kind"] for one in found["findings"]]


def test_any_column_sorts() -> None:
    for column in COLUMNS:
        assert sorted(order("--sort", column)) == sorted([DISK.kind, RUNS.kind, TAP.kind])
    assert order("--sort", "name") == [RUNS.kind, DISK.kind, TAP.kind]
    assert order("--sort", "name", "--reverse") == [DISK.kind, RUNS.kind, TAP.kind]
    assert order("--reverse") == [TAP.kind, RUNS.kind, DISK.kind]


# For programs


def test_json_and_yaml_tell_all() -> None:
    found = audit(RUNS, TAP, incomplete=["a cell is down"], libguestfs=2)
    told = valid("audit", printed(found, "-f", "json"))
    assert told["counts"] == {
        "hosts": 4,
        "hosts_not_asked": 0,
        "domains": 412,
        "servers": 410,
        "others": {"libguestfs": 2},
    }
    assert (told["complete"], told["incomplete"]) == (False, ["a cell is down"])
    assert told["began_at"] == "2026-11-27T10:20:30.000000Z"
    one, other = told["findings"]
    assert one == {
        "certainty": "certain",
        "kind": "running-though-shutoff",
        "hosts": ["node1"],
        "uuid": str(ONE.uuid),
        "name": ONE.name,
        "subject": None,
        "server_name": "web-3",
        "project_id": RUNS.project_id,
        "libvirt": RUNS.libvirt,
        "nova": RUNS.nova,
        "reason": RUNS.reason,
        "next_step": RUNS.next_step,
    }
    assert (other["uuid"], other["name"], other["nova"]) == (None, None, {})
    assert yaml.safe_load(printed(found, "-f", "yaml")) == told


def test_csv_has_a_row_for_each_finding() -> None:
    rows = list(csv.DictReader(io.StringIO(printed(audit(RUNS, TAP), "-f", "csv"))))
    assert [list(row) for row in rows] == [list(COLUMNS)] * 2
    assert rows[0]["libvirt"].startswith(f"node1: domain={ONE.name}, uuid={ONE.uuid}, id=7, ")
    assert rows[0]["nova"].startswith("status=SHUTOFF, task_state=, vm_state=stopped, ")
    assert rows[1]["uuid"] == rows[1]["nova"] == ""
    assert printed(audit(), "-f", "csv") == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(("name", "seen"), HOSTILE.values(), ids=HOSTILE)
def test_what_tenants_chose_is_shown_harmless_and_carried_exactly(name: str, seen: str) -> None:
    one = replace(RUNS, name=name, server_name=name, libvirt={name: {"domain": name}}, nova={})
    lines = table(one)
    assert len(lines) == 1 + 5
    assert lines[1].count(seen) == 2
    assert lines[3] == f"  libvirt  {seen}: -"
    assert all(line.isprintable() for line in lines)
    told = news_line(Event.NEW, one, NOW, colours=False)
    assert f"{seen} ({seen})" in told
    assert told.removesuffix("\n").isprintable()
    found = json.loads(printed(audit(one), "-f", "json"))["findings"][0]
    assert (found["name"], found["server_name"], list(found["libvirt"])) == (name, name, [name])
    (row,) = csv.DictReader(io.StringIO(printed(audit(one), "-f", "csv")))
    assert row["name"] == ("'" if seen.startswith("=") else "") + seen
    options = arguments.parse(["audit", "--servers", "x", "-f", "csv", "--raw"])
    (row,) = csv.DictReader(io.StringIO(shown(options, audit(one), NOW, NOW), newline=""))
    assert row["server_name"] == name


def test_the_schema_has_every_key_and_no_other() -> None:
    known = schema("audit")
    assert known["required"] == list(known["properties"])
    assert known["properties"]["counts"]["required"] == list(
        known["properties"]["counts"]["properties"]
    )
    finding = known["$defs"]["finding"]
    assert finding["required"] == list(finding["properties"]) == list(COLUMNS)
    assert finding["properties"]["kind"]["enum"] == [str(kind) for kind in Kind]
    assert finding["properties"]["certainty"]["enum"] == [str(one) for one in Certainty]
    assert known["$defs"]["news"]["properties"]["event"]["enum"] == [str(one) for one in Event]
    for described_ones in (known, finding, known["properties"]["counts"], known["$defs"]["news"]):
        assert described(described_ones["properties"])


def test_each_kind_has_words_and_a_section_of_the_operators_page() -> None:
    assert list(KINDS) == [str(kind) for kind in Kind]
    page = (ROOT / "docs" / "audit.md").read_text()
    rows = re.findall(r"^\| \[(.+)\]\(#(.+)\) \| `(.+)` \|", page, re.M)
    assert [(words, kind) for words, _, kind in rows] == [
        (said, kind) for kind, said in KINDS.items()
    ]
    anchors = [each.lower().replace(" ", "-") for each in re.findall("^### (.+)", page, re.M)]
    assert [anchor for _, anchor, _ in rows] == anchors[-len(rows) :]
    part = page.partition("## The findings")[2].partition("## From cron")[0]
    for section in part.split("\n### ")[1:]:
        for said in ("How it comes about", "What to check", "What not to do"):
            assert f"**{said}.**" in section, section.partition("\n")[0]


# In a sentence


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (audit(), "no finding"),
        (audit(incomplete=["x"]), "no finding in an incomplete audit"),
        (audit(RUNS), "1 finding, certain"),
        (audit(TAP), "1 finding, possible"),
        (audit(RUNS, DISK), "2 findings, certain"),
        (audit(RUNS, DISK, TAP), "3 findings, 2 certain and 1 possible"),
    ],
)
def test_the_summary_counts(found: Audit, said: str) -> None:
    rest = "412 domains on 4 hosts against 410 servers"
    assert summary(found) == f"{said}: {rest}; nothing was changed"
    one, two = replace(found, others={"other": 1}), replace(found, others={"a": 1, "b": 1})
    assert "; 1 domain of other launchers was counted; nothing" in summary(one)
    assert "; 2 domains of other launchers were counted; nothing" in summary(two)
    few = replace(found, hosts_not_asked=296)
    assert "; 296 hosts with servers were not asked; nothing" in summary(few)


def test_the_exit_status_tells_clean_findings_and_incomplete_apart() -> None:
    assert status(audit()) is Exit.OK
    assert status(audit(TAP)) is Exit.FINDINGS
    assert status(audit(incomplete=["x"])) is Exit.PARTIAL
    assert status(audit(RUNS, incomplete=["x"])) is Exit.PARTIAL
    assert [int(each) for each in (Exit.OK, Exit.FINDINGS, Exit.PARTIAL)] == [0, 10, 3]


# What is new


def events(known: KnownFindings, found: Audit, *refutable: Finding) -> list[tuple[str, Kind]]:
    told = known.news(found, lambda one: one in refutable)
    return [(str(news.event), news.finding.kind) for news in told]


def test_a_finding_is_new_becomes_certain_and_is_resolved_once() -> None:
    known = KnownFindings()
    doubtful = replace(RUNS, certainty=Certainty.POSSIBLE, reason="another one")
    assert events(known, audit(doubtful)) == [("new", RUNS.kind)]
    assert events(known, audit(doubtful)) == []
    assert events(known, audit(RUNS)) == [("certain", RUNS.kind)]
    assert events(known, audit(doubtful)) == events(known, audit(RUNS)) == []
    assert events(known, audit(TAP)) == [("resolved", RUNS.kind), ("new", TAP.kind)]
    assert events(known, audit()) == [("resolved", TAP.kind)]
    assert events(known, audit()) == []


def test_an_incomplete_audit_resolves_what_it_could_look_at_alone() -> None:
    known = KnownFindings()
    events(known, audit(RUNS, DISK))
    assert events(known, audit(incomplete=["x"])) == []
    assert events(known, audit(incomplete=["x"]), RUNS) == [("resolved", RUNS.kind)]
    assert events(known, audit()) == [("resolved", DISK.kind)]


FOUND = st.lists(
    st.sampled_from([RUNS, TAP, DISK, replace(RUNS, certainty=Certainty.POSSIBLE)]),
    unique_by=lambda one: one.key,
)


@given(st.lists(st.tuples(FOUND, st.booleans())), FOUND)
def test_after_a_complete_audit_a_reader_of_the_news_knows_its_findings(
    audits: list[tuple[list[Finding], bool]], last: list[Finding]
) -> None:
    known = KnownFindings()
    there: set[Any] = set()
    for found, is_complete in [*audits, (last, True)]:
        incomplete = () if is_complete else ("x",)
        for news in known.news(audit(*found, incomplete=incomplete), lambda _: False):
            if news.event is Event.NEW:
                assert news.finding.key not in there
                there.add(news.finding.key)
            elif news.event is Event.RESOLVED:
                there.remove(news.finding.key)
            else:
                assert news.finding.key in there
    assert there == {one.key for one in last}


class Fixed:
    """Hosts whose looks are given, and a Nova without servers."""

    can_look_again = True
    failures: Mapping[str, Exception] = {}

    def __init__(self, failures: Mapping[str, str]) -> None:
        self._looks = tuple(
            HostLook(name, 0.0, 0.0, None, (name,), failure) for name, failure in failures.items()
        )

    def look(self, names: object = None) -> tuple[HostLook, ...]:
        return (*self._looks, HostLook("good", 0.0, 0.0, (), ("good",)))

    def servers(self) -> NovaLook:
        return NovaLook(0.0, 0.0, {})

    def some(self, uuids: object) -> NovaLook:
        raise AssertionError


def test_a_host_that_failed_refutes_nothing_and_others_do() -> None:
    fixed = Fixed({"node1": "no connection to node1"})
    sides = Sides(fixed, fixed, settle=0.0)
    found = sides.audit()
    assert found.incomplete == ("no connection to node1",)
    elsewhere = replace(RUNS, hosts=("good",))
    assert sides.can_refute(found, elsewhere)
    assert not sides.can_refute(found, RUNS)
    assert not sides.can_refute(found, replace(RUNS, hosts=("good", "node1")))
    assert not sides.can_refute(found, replace(DISK, hosts=("good",)))
    other = replace(found, incomplete=(*found.incomplete, "a cell is down"))
    assert not sides.can_refute(other, elsewhere)


def test_news_in_a_line() -> None:
    line = news_line(Event.NEW, RUNS, NOW, colours=False)
    assert line[8:] == (
        "  new       certain: runs, shut off in Nova  node1  instance-00000001 (web-3): "
        f"{RUNS.reason}\n"
    )
    assert news_line(Event.RESOLVED, TAP, NOW, colours=False)[8:] == (
        "  resolved  possible: tap without domain  qemu+ssh://node2/system  tap1b7a4d60-1b\n"
    )
    assert "  \x1b[31mcertain\x1b[0m   " in news_line(Event.CERTAIN, RUNS, NOW, colours=True)


# The command


HOST = "node1"


def row(domain: Domain, status: str = "ACTIVE", power: int = 1, host: str = HOST) -> dict[str, Any]:
    """Return a server as `openstack server list --long -f json` has it."""
    return {
        "ID": str(domain.uuid),
        "Name": f"web of {domain.name}",
        "Status": status,
        "Task State": None,
        "Power State": power,
        "Networks": {},
        "Image Name": "",
        "Image ID": "",
        "Flavor": "m1.small",
        "Availability Zone": "nova",
        "Host": host,
        "Properties": {},
    }


class Place:
    """A folder with a host of the test driver, a file that names it, and a file of servers."""

    def __init__(self, folder: Path, domains: Sequence[Domain], uri: str | None = None) -> None:
        self.hosts = folder / "hosts.yml"
        self.servers = folder / "servers.json"
        self.hosts.write_text(f"{HOST}: {uri or served(folder, domains)}\n")

    def lists(self, *rows: dict[str, Any]) -> None:
        """Make the file of servers, at once."""
        new = self.servers.with_suffix(".new")
        new.write_text(json.dumps(rows))
        new.rename(self.servers)

    @property
    def words(self) -> list[str]:
        return ["audit", "--hosts", str(self.hosts), "--servers", str(self.servers)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path, [ONE, TWO, OFF, handmade(0), appliance(1)])
    place.lists(row(ONE), row(TWO), row(OFF, "SHUTOFF", 4))
    return place


def test_nothing_differs(place: Place) -> None:
    ended = run(*place.words)
    assert (ended.returncode, ended.stdout) == (Exit.OK, "")
    assert ended.stderr == (
        "guestlist: no finding: 5 domains on 1 host against 3 servers; 2 domains of other "
        "launchers were counted; nothing was changed\n"
    )
    told = valid("audit", run(*place.words, "-f", "json").stdout)
    assert told["counts"]["others"] == {"other": 1, "libguestfs": 1}
    assert (told["complete"], told["findings"]) == (True, [])
    assert told["began_at"] <= told["ended_at"]


def test_something_differs(place: Place) -> None:
    place.lists(row(ONE), row(TWO, "SHUTOFF", 4), row(OFF, "SHUTOFF", 4))
    ended = run(*place.words)
    assert ended.returncode == Exit.FINDINGS
    assert ended.stdout.splitlines()[1].split("  ")[0] == "possible"
    assert f"web of {TWO.name}" in ended.stdout
    assert ended.stderr.startswith("guestlist: 1 finding, possible: 5 domains on 1 host ")
    (one,) = valid("audit", run(*place.words, "-f", "json").stdout)["findings"]
    assert (one["kind"], one["uuid"]) == ("running-though-shutoff", str(TWO.uuid))
    assert (one["hosts"], list(one["libvirt"])) == ([HOST], [HOST])
    assert one["nova"]["status"] == "SHUTOFF"


def test_standard_input_has_the_servers(place: Place) -> None:
    for text, status_ in ((place.servers.read_text(), Exit.OK), ("", Exit.FAILED)):
        ended = subprocess.run(
            [*COMMAND, "audit", "--hosts", str(place.hosts), "--servers", "-"],
            input=text,
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (status_, "")
        assert ended.stderr.count("\n") == 1
        assert ("standard input" in ended.stderr) == bool(status_)


def test_a_host_that_fails_makes_the_audit_incomplete(place: Place) -> None:
    with place.hosts.open("a") as file:
        file.write(f"node2: {NO_HOST}\n")
    place.lists(row(ONE), row(TWO, "SHUTOFF", 4), row(OFF, "SHUTOFF", 4))
    ended = run(*place.words, "-f", "json")
    assert ended.returncode == Exit.PARTIAL
    told = valid("audit", ended.stdout)
    assert [one["certainty"] for one in told["findings"]] == ["possible"]
    assert len(told["incomplete"]) == 1
    said = ended.stderr.splitlines()
    assert said[0].startswith(f"guestlist: incomplete: cannot connect to {NO_HOST}: ")
    assert said[1].startswith("guestlist: 1 finding, possible: ")
    assert len(said) == 2


@pytest.mark.parametrize("form", ["table", "json", "yaml", "csv"])
def test_a_failure_of_all_hosts_is_never_an_empty_answer(tmp_path: Path, form: str) -> None:
    place = Place(tmp_path, [], NO_HOST)
    place.lists(row(ONE))
    for words in (place.words, ["audit", "-c", NO_HOST, "--servers", str(place.servers)]):
        ended = run(*words, "-f", form)
        assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
        assert ended.stderr.startswith(f"guestlist: cannot connect to {NO_HOST}: ")
        assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("content", [None, "", "ID,Name\n", '[{"ID": ', '{"a": 1}'])
def test_a_bad_servers_file_is_one_line(place: Place, content: str | None) -> None:
    place.servers.unlink()
    if content is not None:
        place.servers.write_text(content)
    ended = run(*place.words, "-f", "json")
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert ended.stderr.count("\n") == 1
    assert str(place.servers) in ended.stderr


@pytest.mark.parametrize("content", [None, "", "node1: [", "- a\n"])
def test_a_bad_file_of_hosts_is_one_line(place: Place, content: str | None) -> None:
    place.hosts.unlink()
    if content is not None:
        place.hosts.write_text(content)
    ended = run(*place.words)
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert ended.stderr.count("\n") == 1
    assert str(place.hosts) in ended.stderr


def test_a_cloud_that_cannot_be_asked_is_one_line(place: Place, tmp_path: Path) -> None:
    clouds = tmp_path / "clouds.yaml"
    auth = {"auth_url": "http://127.0.0.1:1/v3", "username": "auditor", "password": "secret"}
    clouds.write_text(yaml.safe_dump({"clouds": {"dead": {"auth": auth}}}))
    for cloud in ("dead", "other"):
        words = "audit", "--hosts", str(place.hosts), "--os-cloud", cloud, "-f", "json"
        ended = run(*words, OS_CLIENT_CONFIG_FILE=str(clouds))
        assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
        assert ended.stderr.count("\n") == 1
        assert f"cloud '{cloud}'" in ended.stderr


def test_openstacksdk_is_needed_with_a_cloud_alone(place: Place) -> None:
    script = f"import sys; sys.modules['openstack'] = None\n{MAIN}"

    def without_sdk(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, *words],
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )

    assert without_sdk(*place.words).returncode == Exit.OK
    ended = without_sdk("audit", "--hosts", str(place.hosts), "--os-cloud", "x")
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert ended.stderr.endswith(" or run: pip install 'guestlist[openstack]'\n")
    assert ended.stderr.count("\n") == 1


is_question = re.compile(
    r"AUTH_LIST|CONNECT_(OPEN|CLOSE|GET_\w+|SUPPORTS_FEATURE|DOMAIN_EVENT_\w+|REGISTER_\w+)"
    r"|\w*(GET_XML_DESC|KEEPALIVE\w*|LIST_ALL\w+)"
).fullmatch
"""Calls that ask a host and change nothing on it."""


def test_it_only_reads(proxy: Proxy, tmp_path: Path) -> None:
    """One listing call for each host, over a read-only connection, and nothing that changes it."""
    place = Place(tmp_path, [], proxy.uri(node([ONE, TWO])))
    place.lists(row(ONE), row(TWO))
    proxy.clear()
    assert run(*place.words).returncode == Exit.OK
    assert proxy.calls.count("CONNECT_GET_ALL_DOMAIN_STATS") == 1
    assert [call for call in proxy.calls if not is_question(call)] == []
    assert "changes nothing" in run("audit", "--help").stdout


def test_words_that_make_no_sense() -> None:
    file = ("--servers", "x")
    for words, said in {
        (): "one of the arguments --servers --os-cloud is required",
        (*file, "--os-cloud", "y"): "not allowed with argument",
        ("--servers", ""): "--servers is empty",
        (*file, "--settle", "0"): "no number of seconds",
        (*file, "--watch=0"): "no number of seconds",
        ("--servers", "-", "--watch"): "--watch reads the servers again and again",
        (*file, "--watch", "-f", "csv"): "--watch goes with -f table or -f json, not with csv",
        (*file, "--watch", "--sort", "kind"): "goes without --sort and --reverse",
        (*file, "--raw"): "--raw goes with -f csv, not with table",
    }.items():
        assert said in refused("audit", *words)


# A Nova that can be asked again


AGAIN = f"""
import time
from dataclasses import replace
from guestlist.audit import servers_file
from guestlist.cli.audit import sides

class Nova(sides._ServersFile):
    can_look_again = True
    def some(self, uuids):
        look = self.servers()
        found = dict.fromkeys(uuids & look.servers.keys())
        for uuid in found:
            found[uuid] = replace(look.servers[uuid], migrations=(), actions=())
        return replace(look, servers=found, asked=frozenset(uuids))

sides._nova = lambda options: Nova(options.servers)
{MAIN}
"""
"""The command, with a Nova that has the servers of the file each time that it is asked."""


def test_a_second_look_makes_it_certain(place: Place) -> None:
    place.lists(row(ONE, host="node9"), row(TWO), row(OFF, "SHUTOFF", 4))
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", AGAIN, *place.words, "-f", "json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=environment(),
    ) as command:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65536):
                said += chunk
        os.close(ours)
        text = command.communicate()[0]
    (one,) = valid("audit", text)["findings"]
    assert (one["kind"], one["certainty"]) == ("wrong-host", "certain")
    assert command.returncode == Exit.FINDINGS
    screen = Screen(24, 80)
    screen.obey(said.decode())
    assert screen.lines[0].startswith("guestlist: 1 finding, certain: ")  # nothing else is left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_waits_ends_it_quietly(
    proxy: Proxy, tmp_path: Path, number: signal.Signals
) -> None:
    place = Place(tmp_path, [], proxy.uri(node([ONE])))
    place.lists(row(ONE, "SHUTOFF", 4))
    proxy.clear()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", AGAIN, *place.words, "--settle", "1000"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(),
    ) as command:
        os.close(theirs)
        said = b""
        while b"looks again in 1000 s" not in said:
            said += os.read(ours, 65536)
        command.send_signal(number)
        assert command.communicate() == (b"", None)
        os.close(ours)
    assert command.returncode == -number
    assert proxy.calls[-1] == "CONNECT_CLOSE"


# Again and again


def test_the_first_audit_of_watch_tells_a_terminal_what_it_waits_for(place: Place) -> None:
    place.lists(row(ONE, "SHUTOFF", 4), row(TWO), row(OFF, "SHUTOFF", 4))
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", AGAIN, *place.words, "--watch", "--settle", "1000"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(),
    ) as command:
        os.close(theirs)
        said = b""
        while b"looks again in 1000 s" not in said:
            said += os.read(ours, 65536)
        command.send_signal(signal.SIGINT)
        assert command.communicate() == (b"", None)
        os.close(ours)


@contextlib.contextmanager
def watching(place: Place, *words: str, script: str = MAIN) -> Iterator[subprocess.Popen[str]]:
    """Run `guestlist audit --watch` for the length of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *place.words, "--watch=0.05", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def complaint(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def test_it_shows_what_is_new_and_what_is_resolved(place: Place) -> None:
    rows = [row(ONE), row(TWO), row(OFF, "SHUTOFF", 4)]
    web = f"{ONE.name} (web of {ONE.name})"
    with watching(place) as process:
        assert "no finding: 5 domains" in (said := complaint(process))
        assert said.endswith("; the audit is repeated every 0.05 s\n")
        place.lists(row(ONE, "SHUTOFF", 4), *rows[1:])
        assert line(process)[8:].startswith(
            f"  new       possible: runs, shut off in Nova  {HOST}  {web}: "
        )
        place.lists(*rows)
        assert line(process)[8:] == (
            f"  resolved  possible: runs, shut off in Nova  {HOST}  {web}\n"
        )
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "")
        assert process.returncode == -signal.SIGINT


def test_json_lines_for_a_program(place: Place) -> None:
    known = {**schema("audit"), **schema("audit")["$defs"]["news"]}
    assert set(known["required"]) == {"event", "at"}
    place.lists(row(ONE, "SHUTOFF", 4), row(TWO), row(OFF, "SHUTOFF", 4))
    with watching(place, "-f", "json") as process:
        told = json.loads(line(process))
        assert list(told) == ["event", "at", *COLUMNS]
        assert (told["event"], told["uuid"]) == ("new", str(ONE.uuid))
        place.lists(row(ONE), row(TWO), row(OFF, "SHUTOFF", 4))
        assert json.loads(line(process))["event"] == "resolved"


def test_a_failure_of_one_round_is_told_once_and_ends_nothing(place: Place) -> None:
    place.servers.write_text("")
    with watching(place) as process:
        assert complaint(process).endswith("; the audit is repeated every 0.05 s\n")
        place.lists(row(ONE, "SHUTOFF", 4), row(TWO), row(OFF, "SHUTOFF", 4))
        assert ONE.name in line(process)
        assert complaint(process) == "guestlist: the audit is complete again\n"
        assert "1 finding, possible: " in complaint(process)


def test_a_surprise_in_one_round_does_not_end_it_either(place: Place) -> None:
    script = f"""
from guestlist.cli.audit import sides
original = sides.servers_file.read

def read(*given, **named):
    sides.servers_file.read = original
    return [][0]

sides.servers_file.read = read
{MAIN}
"""
    with watching(place, script=script) as process:
        assert complaint(process).startswith("guestlist: unexpected IndexError: ")
        assert complaint(process) == "guestlist: the audit is complete again\n"


def test_a_reader_that_leaves_ends_it(place: Place) -> None:
    with watching(place) as process:
        assert "no finding" in complaint(process)
        assert process.stdout is not None
        process.stdout.close()
        assert complaint(process) == ""
        assert process.wait() == -signal.SIGPIPE
