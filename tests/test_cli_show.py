"""`guestlist show`: what a word means, on which hosts a domain is found, and what is told of it."""

import json
import re
import subprocess
import sys
import threading
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from lab.churn import populated
from lab.command import MAIN, NO_HOST, environment, refused, run, served
from lab.daemon import Daemon
from lab.hostile import HOSTILE, hostile
from lab.images import make_image
from lab.names import ROOT
from lab.nodes import appliance, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.qemu import guests
from lab.schemas import described, schema, valid
from lab.terminal import on_a_terminal

from guestlist.cli.exits import Exit
from guestlist.cli.show.columns import COLUMNS
from guestlist.cli.show_domains import found
from guestlist.cli.show_domains.lines import lines
from guestlist.cli.show_domains.matching import uuid_of
from guestlist.domainxml import parse
from guestlist.images import Image
from guestlist.launcher import Launcher
from guestlist.records import (
    Details,
    Disk,
    Flavor,
    Instance,
    IoTune,
    Nic,
    NovaMetadata,
    Os,
    Owner,
    Port,
    Slice,
    Snapshot,
    Source,
)
from guestlist.states import DomainState
from test_cli_columns import FURNISHED

STATES = "CONNECT_GET_ALL_DOMAIN_STATS"
RUNNING = DomainState.RUNNING
OFF = nova_instance(3, active=False)
SEVEN = replace(handmade(1, active=False), name="7")
ONE = replace(handmade(2), name="1")
HOST = [FURNISHED, nova_instance(2, paused=True), OFF, appliance(1), ONE, SEVEN]


@pytest.fixture
def host(tmp_path: Path) -> str:
    return served(tmp_path, HOST)


def shown(*words: str) -> list[dict[str, Any]]:
    return valid("show", run("show", "-f", "json", *words).stdout)


def names(*words: str) -> list[str]:
    return [one["name"] for one in shown(*words)]


# What a word means


def test_a_domain_is_found_by_id_uuid_and_name(host: str) -> None:
    """Active or not, of any launcher."""
    for domain in HOST:
        assert names("-c", host, str(domain.uuid)) == [domain.name]
        assert names("-c", host, "--by", "name", domain.name) == [domain.name]
    assert names("-c", host, "2") == ["instance-00000002"]
    assert names("-c", host, appliance(1).name) == [appliance(1).name]


def test_a_number_is_an_id_before_it_is_a_name(host: str) -> None:
    ended = run("show", "-c", host, "-f", "json", "1", "7", "007")
    assert [one["name"] for one in json.loads(ended.stdout)] == [FURNISHED.name, "7"]
    assert ended.stderr.splitlines() == [
        f"guestlist: {host}: another domain has the name 1: --by name shows that one",
        f"guestlist: no domain on {host} has the id, UUID or name 007; "
        "--by nova_name looks for the name that its owner gave it",
    ]
    assert names("-c", host, "--by", "name", "1") == ["1"]
    assert names("-c", host, "--by", "id", "01") == [FURNISHED.name]


@pytest.mark.parametrize(("by", "word"), [("id", "7"), ("uuid", "7"), ("name", "2")])
def test_by_takes_a_word_for_one_thing_alone(host: str, by: str, word: str) -> None:
    ended = run("show", "-c", host, "--by", by, word)
    meaning = {"id": "id", "uuid": "UUID", "name": "name"}[by]
    assert (ended.returncode, ended.stdout) == (Exit.NOT_FOUND, "")
    assert ended.stderr == f"guestlist: no domain on {host} has the {meaning} {word}\n"


@pytest.mark.parametrize("spelling", ["{0}", "{1}", " {0}\n", "{2}"])
def test_a_uuid_has_the_spellings_that_libvirt_takes(host: str, spelling: str) -> None:
    text = str(OFF.uuid)
    blanks = " - ".join(re.findall("..", OFF.uuid.hex))
    word = spelling.format(text.upper(), OFF.uuid.hex, blanks)
    assert names("-c", host, word) == [OFF.name]


@given(st.text(st.sampled_from("0aF- \t\ng{}"), max_size=80) | st.uuids().map(str))
@example("0" * 32)
@example("-" + "0" * 32)
@example("0" * 32 + "-")
@example("{" + "0" * 32 + "}")
def test_what_is_a_uuid_is_up_to_libvirt(word: str) -> None:
    import libvirt  # noqa: PLC0415

    connection = libvirt.open("test:///default")
    with pytest.raises(libvirt.libvirtError) as raised:
        connection.lookupByUUIDString(word)
    is_refused = raised.value.get_error_code() == libvirt.VIR_ERR_INVALID_ARG
    assert (uuid_of(word) is None) is is_refused
    connection.close()


def test_a_name_that_begins_with_a_dash(tmp_path: Path) -> None:
    uri = served(tmp_path, [hostile("--help"), hostile("-x")])
    assert names("-c", uri, "--", "--help", "-x") == ["--help", "-x"]


def test_names_in_nova_are_asked_for_by_name(tmp_path: Path) -> None:
    """Tenants choose them: one may be the name of another's domain, and several may be equal."""
    other = nova_instance(8)
    twin = replace(other, metadata=other.metadata.replace(">db-8<", ">db-1<"))
    uri = served(tmp_path, [FURNISHED, twin, handmade(0)])
    assert run("show", "-c", uri, "db-1").returncode == Exit.NOT_FOUND
    ended = run("show", "-c", uri, "--by", "nova_name", "db-1", "-f", "json")
    assert [one["nova_name"] for one in valid("show", ended.stdout)] == ["db-1", "db-1"]
    assert run("show", "-c", uri, "--by", "nova_name", FURNISHED.name).stderr == (
        f"guestlist: no domain on {uri} has in Nova the name {FURNISHED.name}\n"
    )


def test_a_domain_that_is_named_twice_is_shown_once_in_the_order_of_the_words(host: str) -> None:
    words = ["7", "2", str(SEVEN.uuid), "instance-00000001", "2", "instance-00000002"]
    assert names("-c", host, *words) == ["7", "instance-00000002", "instance-00000001"]


def test_an_empty_word_is_refused() -> None:
    assert "no domain has an empty name, UUID or id" in refused("show", "")
    assert "DOMAIN" in refused("show")


# On which host


def test_a_domain_on_two_hosts_is_shown_on_both(tmp_path: Path) -> None:
    one = served(tmp_path, [OFF, ONE], "one")
    other = served(tmp_path, [replace(OFF, active=True), SEVEN], "other")
    found = shown("-c", one, "-c", other, OFF.name, "7", "1")
    assert [(each["host"], each["name"], each["state"]) for each in found] == [
        (one, OFF.name, "shut off"),
        (other, OFF.name, "running"),
        (other, "7", "shut off"),
        (one, "1", "running"),
    ]


def test_a_domain_that_migrates_while_its_hosts_are_asked_is_found(
    proxy: Proxy, daemon: Daemon
) -> None:
    """It leaves a host that is asked late for one that was asked early."""
    source, target = daemon.write_node(node([ONE])), daemon.write_node(node([ONE]))
    both_opened = threading.Barrier(2, lambda: target.write_text(node([ONE, OFF])))
    proxy.on_call(STATES, both_opened.wait, times=2)
    words = ("-c", proxy.uri(source), "-c", proxy.uri(target))
    found = shown(*words, OFF.name, "1")
    hosts = [proxy.uri(target), proxy.uri(source), proxy.uri(target)]
    assert [each["host"] for each in found] == hosts
    assert proxy.calls.count(STATES) == 4
    assert names(*words, OFF.name) == [OFF.name]
    assert proxy.calls.count(STATES) == 6


def test_what_no_host_has_is_told_once(tmp_path: Path) -> None:
    hosts = [word for name in "ab" for word in ("-c", served(tmp_path, HOST, name))]
    ended = run("show", *hosts, "nowhere", "7", "-f", "json")
    assert (ended.returncode, len(json.loads(ended.stdout))) == (Exit.NOT_FOUND, 2)
    assert ended.stderr.startswith("guestlist: no domain on the 2 hosts that answered has the id, ")
    assert ended.stderr.count("\n") == 1


def test_after_a_failure_not_found_is_not_certain(host: str) -> None:
    ended = run("show", "-c", host, "-c", NO_HOST, "nowhere", "7")
    assert ended.returncode == Exit.PARTIAL
    assert ended.stdout.startswith("name      7\n")
    failed, missing = ended.stderr.splitlines()
    assert failed.startswith("guestlist: cannot connect to ")
    assert missing == (
        f"guestlist: no domain on {host} has the id, UUID or name nowhere; "
        "it may be on a host that failed"
    )
    assert run("show", "-c", host, "-c", NO_HOST, "7").returncode == Exit.PARTIAL


@pytest.mark.parametrize("form", ["text", "json", "yaml"])
def test_without_any_answer_there_is_none(form: str) -> None:
    ended = run("show", "-c", NO_HOST, "-f", form, "7")
    assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
    assert ended.stderr.count("\n") == 1


# What it costs


def about_domains(proxy: Proxy) -> list[str]:
    return [call for call in proxy.calls if "DOMAIN" in call]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["instance-00000001"], 1),
        (["1"], 1),
        ([str(OFF.uuid)], 1),
        (["7"], 1),
        (["nowhere"], 0),
        (["instance-00000001", "2", "7", str(OFF.uuid)], 4),
        (["--by", "nova_name", "db-1"], len(HOST)),
    ],
)
def test_a_call_for_all_and_one_for_each_that_is_shown(
    proxy: Proxy, words: list[str], found: int
) -> None:
    """No event is registered for, and a domain's launcher costs no further call."""
    run("show", "-c", proxy.uri(node(HOST)), *words)
    assert about_domains(proxy) == [
        "CONNECT_GET_ALL_DOMAIN_STATS",
        *["DOMAIN_GET_XML_DESC"] * found,
    ]


def test_an_old_libvirt_is_asked_for_the_state_of_those_that_are_shown_alone(proxy: Proxy) -> None:
    proxy.older_daemon("1.2.7")
    ended = run("show", "-c", proxy.uri(node(HOST)), "-f", "json", "7", "instance-00000001")
    assert [one["name"] for one in valid("show", ended.stdout)] == ["7", "instance-00000001"]
    assert about_domains(proxy).count("DOMAIN_GET_STATE") == 2
    assert about_domains(proxy).count("DOMAIN_GET_XML_DESC") == 2


def test_of_a_domain_that_is_gone_too_early_the_list_is_told(proxy: Proxy) -> None:
    proxy.fail("DOMAIN_GET_XML_DESC", 42)
    ended = run("show", "-c", proxy.uri(node(HOST)), "-f", "json", FURNISHED.name)
    (one,) = valid("show", ended.stdout)
    assert (one["state"], one["details"], one["unknown"]) == ("running", None, ["details"])
    assert run("show", "-c", proxy.uri(node(HOST)), FURNISHED.name).returncode == Exit.OK


# What is told


def test_the_keys_of_ls_mean_the_same(host: str) -> None:
    listed = json.loads(run("ls", "-a", "-l", "-f", "json", "-c", host).stdout)
    found = shown("-c", host, *(one["uuid"] for one in listed))
    for one, other in zip(listed, found, strict=True):
        assert {name: one[name] for name in one if name != "age_seconds"} == {
            name: other[name] for name in one if name != "age_seconds"
        }


def test_json_and_yaml_carry_the_same(host: str) -> None:
    words = ("show", "-c", host, FURNISHED.name, "7")
    one, other = run(*words, "-f", "json").stdout, run(*words, "-f", "yaml").stdout
    ages = re.compile("age_seconds.*")
    assert yaml.safe_load(ages.sub("", other)) == json.loads(re.sub('"age_seconds": .*,', "", one))


def test_the_schema_has_each_field_and_describes_it() -> None:
    known = schema("show")
    assert set(COLUMNS) < set(known["items"]["properties"])
    for name, record in {
        "details": Details,
        "disk": Disk,
        "source": Source,
        "slice": Slice,
        "iotune": IoTune,
        "nic": Nic,
        "os": Os,
        "nova": NovaMetadata,
        "flavor": Flavor,
        "owner": Owner,
        "port": Port,
    }.items():
        there = {each.name for each in fields(record)}
        there -= {"uuid", "name", "id", "xml", "unknown"} if record is Details else set()
        there |= {"virtual_bytes", "allocated_bytes"} if record is Disk else set()
        assert set(known["$defs"][name]["properties"]) == there
        own = known["$defs"][name]["properties"].items()
        assert described({key: each for key, each in own if "$ref" not in each})


IMAGE_BYTES = 3 << 20


def test_disks_have_the_sizes_of_their_images(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(IMAGE_BYTES))
    devices = f"""
        <disk type='file'><driver name='qemu' type='raw'/><source file='{image}'/>
          <target dev='vda' bus='virtio'/><iotune><read_iops_sec>500</read_iops_sec></iotune></disk>
        <interface type='bridge'><mac address='fa:16:3e:00:00:01'/><source bridge='br-int'/>
          <virtualport type='openvswitch'>
            <parameters interfaceid='1b7a4d60-1b5c-4c53-b0ad-3a3b8a0a6f1d'/></virtualport>
          <model type='virtio'/></interface>"""
    uri = served(tmp_path, [replace(FURNISHED, devices=devices)])
    (one,) = shown("-c", uri, "1")
    assert one["unknown"] == []
    assert one["disk_virtual_bytes"] == IMAGE_BYTES
    assert one["details"]["disks"][0]["virtual_bytes"] == IMAGE_BYTES
    text = run("show", "-c", uri, "1").stdout
    assert "\ndisks         1 disk: 3.0 MiB, " in text
    assert f"raw file, {image}\n" in text
    assert "limits: read_iops_sec 500\n" in text
    assert "fa:16:3e:00:00:01, bridge br-int, virtio\n" in text
    assert "port 1b7a4d60-1b5c-4c53-b0ad-3a3b8a0a6f1d, 10.0.0.7, 2001:db8::7\n" in text


def test_the_text_tells_all_of_it(host: str) -> None:
    text = run("show", "-c", host, FURNISHED.name).stdout
    said = re.sub(r"\(\d+d ago\)", "(1d ago)", text).splitlines()
    assert said == [
        "name          instance-00000001",
        f"uuid          {FURNISHED.uuid}",
        "id            1",
        f"host          {host}",
        "state         running",
        "launcher      nova, ours",
        "vcpus         1",
        "memory        2.0 GiB",
        said[8],
        "nova_name     db-1",
        "created_at    2024-03-02T09:01:00Z (1d ago)",
        "flavor        m1.small (1 vCPU, 2.0 GiB memory, 20 GiB disk)",
        "project       billing (e17339500d9451e8a1501586f8ee6de7)",
        "user          billing-admin (5e2ac452ea3c59e7b709a60b6ef8285f)",
        "root          image, f7305cd0-5c4b-5eb5-b097-d7eb53555c5a",
        "nova          29.0.1, metadata 1.1",
        "disk vda      virtio disk",
        "              file of no named format, /images/disk",
        "disk hda      ide cdrom, read-only, no medium",
        "nic testnet0  fa:16:3e:00:00:01, user",
        "nic testnet1  fa:16:3e:00:00:02, user",
        "ips           10.0.0.7, 2001:db8::7",
        "unknown       disk vda: no such file",
    ]
    assert said[8].startswith("machine       test, hvm, ")


PAGE = """<domain type='kvm' id='1'><name>instance-00000001</name><uuid>{uuid}</uuid>
  <metadata>{metadata}</metadata><memory unit='GiB'>2</memory>
  <currentMemory unit='GiB'>2</currentMemory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>
  <disk type='file'><driver name='qemu' type='qcow2' cache='none'/>
    <source file='/var/lib/nova/instances/{uuid}/disk'/><target dev='vda' bus='virtio'/>
    <backingStore type='file'><format type='raw'/>
      <source file='/var/lib/nova/instances/_base/9d1cf2a6'/><backingStore/></backingStore></disk>
  <interface type='bridge'><mac address='fa:16:3e:00:00:01'/><source bridge='br-int'/>
    <target dev='tap1b7a'/><model type='virtio'/><mtu size='1450'/>
    <virtualport type='openvswitch'>
      <parameters interfaceid='1b7a4d60-1b5c-4c53-b0ad-3a3b8a0a6f1d'/></virtualport></interface>
  </devices></domain>"""


def test_the_page_shows_what_the_command_shows() -> None:
    """Of a guest whose disk is on the host that the page is about."""
    metadata = FURNISHED.metadata.replace("2024-03-02 09:01:00", "2026-11-24 09:01:00")
    details = parse(PAGE.format(uuid=FURNISHED.uuid, metadata=metadata))
    assert details.unknown == ()
    known = Instance(FURNISHED.uuid, FURNISHED.name, 1, RUNNING, 1, Launcher.NOVA, details)
    size = Image(20 << 30, round(1.2 * 2**30))
    (one,) = found.domains(
        "qemu:///system",
        Snapshot([known]),
        {details.disks[0].source: size},
        datetime(2026, 11, 27, 10, tzinfo=UTC),
    )
    page = (ROOT / "docs" / "command.md").read_text()
    assert "```\n{}\n```".format("\n".join(lines(one[1], width=None, colours=False))) in page


def test_domains_are_apart_by_a_blank_line(host: str) -> None:
    text = run("show", "-c", host, "7", "1").stdout
    assert [block.splitlines()[0].split() for block in text.split("\n\n")] == [
        ["name", "7"],
        ["name", "instance-00000001"],
    ]


def test_a_state_has_its_reason_in_libvirts_words(daemon: Daemon) -> None:
    with populated(daemon.uri(), [OFF]) as connection:
        connection.lookupByName(OFF.name).create()
        text = run("show", "-c", daemon.uri(), OFF.name).stdout
    assert re.search(r"^state +running \(booted\)$", text, re.M)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_name_is_shown_as_escapes(tmp_path: Path, kind: str) -> None:
    name, escaped = HOSTILE[kind]
    uri = served(tmp_path, [hostile(name)])
    assert run("show", "-c", uri, name).stdout.startswith(f"name      {escaped}\n")
    assert names("-c", uri, name) == [name]


def test_a_hostile_word_is_shown_as_escapes(host: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", MAIN, "show", "-c", host, b"\xff\x1b[31m", "x" * 5_000],
        capture_output=True,
        env=environment(),
        check=False,
    )
    first, second = ended.stderr.decode().splitlines()
    assert r"name \udcff\x1b[31m; " in first
    assert (ended.returncode, len(second) < 400) == (Exit.NOT_FOUND, True)


def test_no_name_looks_like_a_line_of_its_own(tmp_path: Path) -> None:
    """A name that is longer than the terminal goes on below itself."""
    name = "a" * 60 + " " * 10 + "state     running" + "b" * 200
    uri = served(tmp_path, [hostile(name)])
    lines = on_a_terminal("show", "-c", uri, name, width=80, NO_COLOR="1").splitlines()
    below = lines[1 : lines.index(next(line for line in lines if line.startswith("uuid")))]
    assert below
    assert all(line.startswith(" " * 10) and len(line) <= 80 for line in lines if line in below)
    assert sum(line.startswith("state ") for line in lines) == 1


def test_names_and_states_are_coloured_on_a_terminal(host: str) -> None:
    text = on_a_terminal("show", "-c", host, "2", "-f", "text", width=200)
    assert "\x1b[1mstate" in text
    assert "\x1b[33mpaused\x1b[0m" in text


def test_a_guest_of_qemu_is_shown_at_two_calls(disk_daemon: Daemon) -> None:
    image = make_image(disk_daemon)
    devices = f"""<disk type='file'><driver name='qemu' type='qcow2'/>
        <source file='{image.path}'/><target dev='vda' bus='virtio'/></disk>"""
    guest = replace(nova_instance(1), devices=devices)
    with guests(disk_daemon.qemu_uri, [guest]), Proxy(disk_daemon) as proxy:
        (one,) = shown("-c", proxy.qemu_uri, guest.name)
        assert about_domains(proxy) == ["CONNECT_GET_ALL_DOMAIN_STATS", "DOMAIN_GET_XML_DESC"]
    assert (one["state"], one["details"]["type"], one["unknown"]) == ("paused", "qemu", [])
    (disk,) = one["details"]["disks"]
    assert disk["virtual_bytes"] == one["disk_virtual_bytes"] > disk["allocated_bytes"] > 0
