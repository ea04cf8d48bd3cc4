"""`guestlist usage`: what instances use, each of them and all together, and what is not known."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from lab.command import NO_HOST, TEST_HOST, run, served
from lab.nodes import Domain, appliance, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.schemas import described, schema, valid

from guestlist.cli.exits import Exit
from guestlist.cli.show import words
from guestlist.cli.show.columns import USAGE_COLUMNS, UsageRow, in_order
from guestlist.usage import InstanceUsage

GIB = 1 << 30


def disk(source: object, target: str = "vda", format: str = "raw") -> str:
    return (
        f"<disk type='file'><driver name='qemu' type='{format}'/><source file='{source}'/>"
        f"<target dev='{target}' bus='virtio'/></disk>"
    )


@pytest.fixture
def image(needs_qemu_img: None, tmp_path: Path) -> Callable[..., Path]:
    """Make an image of that name and size with qemu-img."""

    def make(name: str, size: str, *options: str) -> Path:
        path = tmp_path / name
        form = path.suffix[1:]
        subprocess.run(["qemu-img", "create", "-qf", form, *options, str(path), size], check=True)
        return path

    return make


def used(*words: str) -> list[dict[str, Any]]:
    return valid("usage", run("usage", "-f", "json", *words).stdout)


def taken(path: Path) -> int:
    """Return what the file takes on the host."""
    return path.stat().st_blocks * 512


# How much


@pytest.fixture
def host(tmp_path: Path, image: Callable[..., Path]) -> str:
    one = disk(image("one.raw", "20G")) + disk("/dev/mapper/lun", "vdb").replace(
        "type='file'", "type='block'", 1
    ).replace("file=", "dev=")
    off = disk(image("off.raw", "64M", "-o", "preallocation=full"))
    return served(
        tmp_path,
        [
            replace(nova_instance(1), devices=one),
            replace(nova_instance(2), devices=""),
            replace(nova_instance(3, active=False), devices=off),
            handmade(0),
            appliance(1),
        ],
    )


def test_a_table_with_its_total(host: str, tmp_path: Path) -> None:
    one, off = taken(tmp_path / "one.raw"), taken(tmp_path / "off.raw")
    grows = [20 * GIB - one, 0, (64 << 20) - off]
    sizes = [
        *[("20.0 GiB", words.size(one), words.size(grows[0]))],
        *[("0 B", "0 B", "0 B")],
        *[("64.0 MiB", words.size(off), words.size(grows[2]))],
        *[("20.1 GiB", words.size(one + off), words.size(sum(grows)))],
    ]
    columns = [f"  {a:>8}  {b:>9}  {c:>8}  " for a, b, c in sizes]
    ended = run("usage", "-c", host)
    assert ended.returncode == Exit.OK
    assert ended.stdout.splitlines() == [
        "NAME               VCPUS   MEMORY      DISK  ALLOCATED  MAY GROW  DEVICES  UNKNOWN",
        f"instance-00000001      1  2.0 GiB{columns[0]}      1        1",
        f"instance-00000002      2  4.0 GiB{columns[1]}      0        0",
        f"instance-00000003      0      0 B{columns[2]}      0        0",
        "-----------------  -----  -------  --------  ---------  --------  -------  -------",
        f"3 instances            3  6.0 GiB{columns[3]}      1        1",
    ]
    assert ended.stderr == (
        f"guestlist: {host}: not known, and counted as nothing: "
        "instance-00000001: disk vdb: no such file\n"
    )


def test_json_is_exact(host: str, tmp_path: Path) -> None:
    (found,) = used("-c", host)
    one, two, off = found["instances"]
    assert one == {
        "name": "instance-00000001",
        "uuid": str(nova_instance(1).uuid),
        "vcpus": 1,
        "memory_kib": 2 << 20,
        "disk_virtual_bytes": 20 * GIB,
        "disk_allocated_bytes": taken(tmp_path / "one.raw"),
        "disk_over_committed_bytes": 20 * GIB - taken(tmp_path / "one.raw"),
        "block_devices": ["/dev/mapper/lun"],
        "unknown": ["disk vdb: no such file"],
    }
    assert (two["vcpus"], two["disk_virtual_bytes"], two["unknown"]) == (2, 0, [])
    assert (off["vcpus"], off["memory_kib"]) == (0, 0)
    assert off["disk_allocated_bytes"] == taken(tmp_path / "off.raw")
    assert (found["host"], found["unknown"]) == (
        host,
        ["instance-00000001: disk vdb: no such file"],
    )
    for key, total in found["total"].items():
        parts = [each[key] for each in found["instances"]]
        assert total == sum(parts, [] if isinstance(total, list) else 0)


def test_yaml_carries_the_same_and_csv_the_instances(host: str) -> None:
    (found,) = used("-c", host)
    assert yaml.safe_load(run("usage", "-f", "yaml", "-c", host).stdout) == [found]
    rows = list(csv.DictReader(io.StringIO(run("usage", "-f", "csv", "-c", host).stdout)))
    assert rows == [
        {
            "host": host,
            **{
                name: ",".join(value) if isinstance(value, list) else str(value)
                for name, value in one.items()
            },
        }
        for one in found["instances"]
    ]


def test_whose(host: str) -> None:
    def names(*words: str) -> list[str]:
        return [one["name"] for one in used("-c", host, *words)[0]["instances"]]

    ours = [nova_instance(n).name for n in (1, 2, 3)]
    assert names() == names("--verify") == ours
    everybody = sorted([*ours, handmade(0).name, appliance(1).name])
    assert names("-a") == names("--all") == names("--foreign") == everybody
    assert names("--name-template", "vm-%08x") == ours  # by their metadata


def test_domain_0_counts(proxy: Proxy) -> None:
    proxy.set_id(handmade(0).name, 0)
    (found,) = used("-c", proxy.uri(node([nova_instance(1), handmade(0)])))
    assert {one["name"] for one in found["instances"]} == {
        nova_instance(1).name,
        handmade(0).name,
    }


def test_it_costs_a_call_and_one_for_each_of_ours(proxy: Proxy) -> None:
    run("usage", "-c", proxy.uri(node([nova_instance(1), nova_instance(2), appliance(1)])))
    about_domains = [call for call in proxy.calls if "DOMAIN" in call and "EVENT" not in call]
    assert sorted(about_domains) == ["CONNECT_GET_ALL_DOMAIN_STATS", *["DOMAIN_GET_XML_DESC"] * 2]


# Sizes


def with_disks(place: Path, *disks: str) -> str:
    return served(place, [replace(nova_instance(1), devices="".join(disks))])


def test_ten_tebibytes(tmp_path: Path) -> None:
    huge = tmp_path / "huge.raw"
    with huge.open("wb") as file:
        file.truncate(10 << 40)
    uri = with_disks(tmp_path, disk(huge))
    (found,) = used("-c", uri)
    assert found["total"]["disk_virtual_bytes"] == 10 << 40
    assert found["total"]["disk_over_committed_bytes"] == (10 << 40) - taken(huge)
    assert "  10.0 TiB  " in run("usage", "-c", uri).stdout.splitlines()[-1]


def test_qcow2(tmp_path: Path, image: Callable[..., Path]) -> None:
    path = image("disk.qcow2", "40G")
    (found,) = used("-c", with_disks(tmp_path, disk(path, format="qcow2")))
    assert found["unknown"] == []
    assert found["total"]["disk_virtual_bytes"] == 40 * GIB
    assert found["total"]["disk_allocated_bytes"] == taken(path)


def test_a_raw_image_that_is_full_is_a_little_below_nothing(tmp_path: Path) -> None:
    full = tmp_path / "full.raw"
    full.write_bytes(os.urandom(1))
    (found,) = used("-c", with_disks(tmp_path, disk(full)))
    assert found["total"]["disk_over_committed_bytes"] == 1 - taken(full)


def test_a_thousand_disks(tmp_path: Path, image: Callable[..., Path]) -> None:
    """Half of them missing: a short line, a short table, and exact JSON."""
    path = image("disk.raw", "1M")
    names = [f"vd{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(26 * 26)]
    names += [f"sd{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(1000 - len(names))]
    disks = [
        disk(path if n % 2 else tmp_path / "missing", name).replace(
            "virtio", "virtio" if name.startswith("v") else "scsi"
        )
        for n, name in enumerate(names)
    ]
    uri = with_disks(tmp_path, *disks)
    (found,) = used("-c", uri)
    assert found["total"]["disk_virtual_bytes"] == 500 << 20
    assert len(found["unknown"]) == len(found["instances"][0]["unknown"]) == 500
    ended = run("usage", "-c", uri)
    assert ended.stderr == (
        f"guestlist: {uri}: not known, and counted as nothing: "
        "instance-00000001: disk vdaa: no such file; instance-00000001: disk vdac: no such file; "
        "instance-00000001: disk vdae: no such file; and 497 more, which -f json names\n"
    )
    assert all(len(line) < 100 for line in ended.stdout.splitlines())


# Not known


def test_a_missing_image_is_named_and_no_failure(tmp_path: Path) -> None:
    uri = with_disks(tmp_path, disk(tmp_path / "missing"))
    ended = run("usage", "-c", uri)
    row, _, total = ended.stdout.splitlines()[1:]
    assert row.split() == ["instance-00000001", "1", "2.0", "GiB", "-", "-", "-", "0", "1"]
    assert total.split()[2:] == ["1", "2.0", "GiB", *["0", "B"] * 3, "0", "1"]
    assert (ended.returncode, ended.stderr.count("\n")) == (Exit.OK, 1)
    (found,) = used("-c", uri)
    assert found["instances"][0]["disk_virtual_bytes"] is None
    assert found["instances"][0]["unknown"] == ["disk vda: no such file"]


def test_details_that_cannot_be_read_are_one_line(proxy: Proxy) -> None:
    proxy.fail("DOMAIN_GET_XML_DESC", 1)
    uri = proxy.uri(node([nova_instance(n) for n in range(1, 10)]))
    ended = run("usage", "-f", "json", "-c", uri)
    (found,) = valid("usage", ended.stdout)
    assert found["total"]["vcpus"] == 17  # libvirt tells that apart from the XML
    assert all(one["disk_virtual_bytes"] is None and one["unknown"] for one in found["instances"])
    assert (ended.returncode, ended.stderr.count("\n")) == (Exit.OK, 1)
    assert " more, which -f json names" in ended.stderr


def test_verbose_has_each_in_the_log(proxy: Proxy) -> None:
    proxy.fail("DOMAIN_GET_XML_DESC", 1)
    ours = [nova_instance(1), nova_instance(2)]
    said = run("usage", "-v", "-c", proxy.uri(node(ours))).stderr
    for one in ours:
        assert f"the XML of domain '{one.name}' cannot be read" in said


def test_a_name_forges_no_line(proxy: Proxy) -> None:
    proxy.rename("instance-00000001", b"a\n9 instances\x1b[2K" + b"x" * 500)
    proxy.fail("DOMAIN_GET_XML_DESC", 1)
    ended = run("usage", "-a", "-c", proxy.uri(node([nova_instance(1)])))
    assert len(ended.stdout.splitlines()) == 4
    (line,) = ended.stderr.splitlines()
    assert r"a\n9 instances\x1b[2K" in line
    assert line.isprintable()
    assert "…" in line


# Order


@pytest.mark.parametrize("name", USAGE_COLUMNS)
def test_any_column_sorts(name: str) -> None:
    rows = [
        UsageRow(
            "a", InstanceUsage(UUID(int=2), "b", 2, 1 << 20, ("/dev/sda",), 3, 2, 1, ("details",))
        ),
        UsageRow("a", InstanceUsage(UUID(int=3), "c", None, None, (), None, None, None, ())),
        UsageRow("a", InstanceUsage(UUID(int=1), "a", 1, 1 << 10, (), 1, 1, -1, ())),
    ]
    column = USAGE_COLUMNS[name]
    values = [column.value(row) for row in in_order(rows, column, reverse=True)]
    known: list[Any] = [value for value in values if value is not None]
    assert known == sorted(known, reverse=True)
    assert values[len(known) :] == [None] * (3 - len(known))


@pytest.mark.parametrize("name", ["disk_virtual_bytes", "unknown"])
def test_the_largest_first(host: str, name: str) -> None:
    rows = run("usage", "--sort", name, "--reverse", "-c", host).stdout.splitlines()
    assert rows[1].split()[0] == nova_instance(1).name


def test_across_hosts_in_a_table_and_within_each_in_json(tmp_path: Path) -> None:
    uris = [served(tmp_path, [nova_instance(n), nova_instance(n + 4)], f"node{n}") for n in (1, 2)]
    options = ("-c", uris[0], "-c", uris[1], "--sort", "name", "-r")
    rows = run("usage", "--no-headers", *options).stdout.splitlines()
    assert [row.split()[1][-1] for row in rows[:4]] == ["6", "5", "2", "1"]
    assert [[one["name"][-1] for one in found["instances"]] for found in used(*options)] == [
        ["5", "1"],
        ["6", "2"],
    ]


# Of which instances


def test_several_hosts_each_with_its_total_and_one_of_all(tmp_path: Path) -> None:
    one = served(tmp_path, [nova_instance(1)], "one")
    two = served(tmp_path, [nova_instance(2), nova_instance(3)], "two")
    lines = run("usage", "-c", one, "-c", two).stdout.splitlines()
    assert lines[0].split()[:3] == ["HOST", "NAME", "VCPUS"]
    assert set(lines[4]) == {"-", " "}
    assert [" ".join(line.split()[:4]) for line in lines[5:]] == [
        f"{one} 1 instance 1",
        f"{two} 2 instances 6",
        "2 hosts 3 instances",
    ]
    assert [(found["host"], found["total"]["vcpus"]) for found in used("-c", one, "-c", two)] == [
        (one, 1),
        (two, 6),
    ]


def test_a_host_that_fails_is_told_beside_the_others(host: str) -> None:
    ended = run("usage", "-f", "json", "-c", NO_HOST, "-c", host)
    assert ended.returncode == Exit.PARTIAL
    assert [found["host"] for found in json.loads(ended.stdout)] == [host]
    assert ended.stderr.startswith(f"guestlist: cannot connect to {NO_HOST}: ")


@pytest.mark.parametrize("form", ["table", "json", "yaml", "csv"])
def test_a_failure_is_never_an_empty_answer(form: str) -> None:
    ended = run("usage", "-f", form, "-c", NO_HOST)
    assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
    assert ended.stderr.count("\n") == 1


def test_a_lost_connection(proxy: Proxy) -> None:
    proxy.drop_on("CONNECT_GET_ALL_DOMAIN_STATS")
    ended = run("usage", "-c", proxy.uri(node([nova_instance(1)])))
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (Exit.LOST, "", 1)


# No instance


@pytest.mark.parametrize("domains", [[], [handmade(0)]])
def test_a_host_without_instances_says_which_domains_it_hides(
    tmp_path: Path, domains: list[Domain]
) -> None:
    uri = served(tmp_path, domains)
    ended = run("usage", "-c", uri)
    why = (
        "nothing matches; 1 domain is hidden: 1 launched by others (--foreign); -a shows all"
        if domains
        else "there are no domains on this host"
    )
    assert (ended.returncode, ended.stderr) == (Exit.OK, f"guestlist: {uri}: {why}\n")
    assert ended.stdout.splitlines()[-1].split()[:4] == ["0", "instances", "0", "0"]
    (found,) = used("-c", uri)
    assert (found["instances"], set(map(str, found["total"].values()))) == ([], {"0", "[]"})


def test_an_empty_host_says_so_with_all(tmp_path: Path) -> None:
    uri = served(tmp_path, [])
    said = run("usage", "-a", "-c", uri).stderr
    assert said == f"guestlist: {uri}: there are no domains on this host\n"


# The schema


def test_the_schema_has_every_key_and_no_other() -> None:
    host = schema("usage")["items"]["properties"]
    one = host["instances"]["items"]
    assert list(one["properties"]) == [name for name in USAGE_COLUMNS if name != "host"]
    assert one["required"] == list(one["properties"])
    assert host["total"]["required"] == list(host["total"]["properties"])
    assert set(host["total"]["properties"]) == set(one["properties"]) - {"name", "uuid", "unknown"}
    assert described(one["properties"])
    assert described(host["total"]["properties"])
    assert described(host)


def test_libvirts_own_test_host() -> None:
    (found,) = used("-a", "-c", TEST_HOST)
    assert (found["total"]["vcpus"], found["total"]["memory_kib"]) == (2, 2 << 20)
