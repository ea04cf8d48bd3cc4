"""`guestlist audit --os-cloud` with a released Nova's own API, and hosts of the test driver."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab.command import MAIN, environment, run, served
from lab.nodes import Domain, appliance, nova_instance
from lab.nova import SERIES
from lab.nova_api import NovaApi
from lab.schemas import valid

from guestlist.cli.exits import Exit

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("nova-api"),
    pytest.mark.skipif(SERIES != "2026.2", reason="the API of one series is enough"),
]

FINE, RUNS, AWAY, MISSING, DELETED, UNKNOWN = (nova_instance(number) for number in range(101, 107))


@pytest.fixture(scope="module")
def nova(needs_nova: None) -> Iterator[NovaApi]:
    with NovaApi(cells=2) as api:
        api.add_host("node1")
        api.add_host("node2")
        yield api


def created(nova: NovaApi, domain: Domain, host: str, **columns: object) -> Domain:
    """Create the domain's server; return the domain with the name that Nova gives it."""
    name = nova.create(domain.uuid, host, name=f"web of {domain.name}")
    nova.update(domain.uuid, **{"power_state": 1, **columns})
    return replace(domain, name=name)


@pytest.fixture(scope="module")
def hosts(nova: NovaApi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of two hosts, with a fault of each kind that a list of servers can show."""
    folder = tmp_path_factory.mktemp("audit")
    here = [
        created(nova, FINE, "node1"),
        created(nova, RUNS, "node1", vm_state="stopped", power_state=4),
        created(nova, AWAY, "node2"),
        created(nova, DELETED, "node1"),
        replace(UNKNOWN, name="instance-0000ffff"),
        appliance(1),
    ]
    created(nova, MISSING, "node1")
    nova.delete(DELETED.uuid)
    file = folder / "hosts.yml"
    file.write_text(
        f"node1: {served(folder, here, 'node1')}\nnode2: {served(folder, [], 'node2')}\n"
    )
    return file


def audited(nova: NovaApi, hosts: Path, cloud: str = "lab") -> subprocess.CompletedProcess[str]:
    words = "--hosts", str(hosts), "--os-cloud", cloud, "--settle", "0.1", "-f", "json"
    return run("audit", *words, OS_CLIENT_CONFIG_FILE=str(nova.clouds_yaml))


def test_each_fault_is_certain(nova: NovaApi, hosts: Path) -> None:
    ended = audited(nova, hosts)
    assert ended.returncode == Exit.FINDINGS
    told = valid("audit", ended.stdout)
    assert told["counts"] == {
        "hosts": 2,
        "domains": 6,
        "servers": 4,
        "hosts_not_asked": 0,
        "others": {"libguestfs": 1},
    }
    assert {one["certainty"] for one in told["findings"]} == {"certain"}
    assert [(one["kind"], one["uuid"]) for one in told["findings"]] == [
        ("running-though-shutoff", str(RUNS.uuid)),
        ("wrong-host", str(AWAY.uuid)),
        ("deleted-in-nova", str(DELETED.uuid)),
        ("unknown-to-nova", str(UNKNOWN.uuid)),
        ("missing", str(MISSING.uuid)),
    ]
    assert told["findings"][0]["server_name"] == f"web of {RUNS.name}"
    assert ended.stderr == (
        "guestlist: 5 findings, certain: 6 domains on 2 hosts against 4 servers; 1 domain of other "
        "launchers was counted; nothing was changed\n"
    )


@pytest.mark.parametrize("cloud", ["member", "reader", "expired"])
def test_a_user_without_rights_is_one_line(nova: NovaApi, hosts: Path, cloud: str) -> None:
    ended = audited(nova, hosts, cloud)
    assert (ended.returncode, ended.stdout) == (Exit.DENIED, "")
    assert ended.stderr.count("\n") == 1
    assert f"cloud '{cloud}'" in ended.stderr


def test_a_cell_that_is_down_makes_it_incomplete(nova: NovaApi, hosts: Path) -> None:
    nova.cell_down("cell1")
    try:
        ended = audited(nova, hosts)
    finally:
        nova.cell_up("cell1")
    assert ended.returncode == Exit.PARTIAL
    told = valid("audit", ended.stdout)
    assert [(one["kind"], one["certainty"]) for one in told["findings"]] == [
        ("unknown-to-nova", "possible")
    ]
    assert ended.stderr.startswith("guestlist: incomplete: a cell of Nova is down")


def test_watch_tells_when_a_fault_is_repaired(nova: NovaApi, hosts: Path) -> None:
    def told() -> dict[str, Any]:
        assert process.stdout is not None
        found: dict[str, Any] = json.loads(process.stdout.readline())
        return found

    words = "--hosts", str(hosts), "--os-cloud", "lab", "--settle", "0.1", "-f", "json"
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "audit", *words, "--watch=0.05"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(OS_CLIENT_CONFIG_FILE=str(nova.clouds_yaml)),
    ) as process:
        try:
            assert [told()["event"] for _ in range(5)] == ["new"] * 5
            nova.update(AWAY.uuid, host="node1")
            repaired = told()
            assert (repaired["event"], repaired["uuid"]) == ("resolved", str(AWAY.uuid))
            nova.update(AWAY.uuid, host="node2")
            again = told()
            assert (again["event"], again["kind"]) == ("new", "wrong-host")
        finally:
            process.kill()
