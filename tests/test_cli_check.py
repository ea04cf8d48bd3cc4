"""`guestlist check`: what a libvirt can do, and what to upgrade."""

import json

import pytest
import yaml
from lab.command import TEST_HOST, run
from lab.nodes import node, nova_instance
from lab.proxy import Proxy

from guestlist.capabilities import Capabilities, Versions
from guestlist.cli.check.run import upgrades
from guestlist.cli.exits import Exit

HOST = node([nova_instance(1)])


def test_a_host_in_this_process_has_it_all() -> None:
    ended = run("check", "-c", TEST_HOST)
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    first, *facts, last = ended.stdout.splitlines()
    assert (first, last) == (TEST_HOST, "  nothing to upgrade")
    assert [fact[20:] for fact in facts[3:]] == ["yes", "yes", "yes", "not needed"]
    assert facts[0].startswith("  client library    ")
    assert facts[1] == "  daemon            none"


def test_json_and_yaml_carry_the_same() -> None:
    (found,) = json.loads(run("check", "-c", TEST_HOST, "-f", "json").stdout)
    assert list(found) == [
        *("host", "client", "daemon", "driver", "driver_version"),
        *("bulk_listing", "bulk_stats", "lifecycle_events", "keepalive", "upgrade"),
    ]
    assert (found["bulk_listing"], found["keepalive"], found["upgrade"]) == (True, None, [])
    assert yaml.safe_load(run("check", "-c", TEST_HOST, "-f", "yaml").stdout) == [found]


def test_a_daemon_has_keepalive(proxy: Proxy) -> None:
    (found,) = json.loads(run("check", "-c", proxy.uri(HOST), "-f", "json").stdout)
    assert (found["keepalive"], found["upgrade"]) == (True, [])


def test_an_old_daemon_is_to_be_upgraded_which_is_no_failure(proxy: Proxy) -> None:
    proxy.older_daemon("0.9.12")
    ended = run("check", "-c", proxy.uri(HOST))
    assert ended.returncode == Exit.OK
    assert ended.stdout.splitlines()[-2:] == [
        "  to list in one call: upgrade the daemon (0.9.12) to 0.9.13 or newer",
        "  to have all states in one call: upgrade the daemon (0.9.12) to 1.2.8 or newer",
    ]


def test_several_hosts_are_a_block_each(proxy: Proxy) -> None:
    uri = proxy.uri(HOST)
    blocks = run("check", "-c", uri, "-c", TEST_HOST).stdout.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [uri, TEST_HOST]


def test_a_host_that_fails() -> None:
    silent = "test+unix:///default?socket=/nonexistent/libvirt-sock"
    ended = run("check", "-c", silent, "-f", "json")
    assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
    assert ended.stderr.startswith(f"guestlist: cannot connect to {silent}: ")


@pytest.mark.parametrize(
    ("client", "server", "label"),
    [
        (
            9_012,
            9_010,
            "upgrade the client library (0.9.12) and the daemon (0.9.10) to 0.9.13 or newer",
        ),
        (9_012, 9_000_000, "upgrade the client library (0.9.12) to 0.9.13 or newer"),
        (9_000_000, 9_012, "upgrade the daemon (0.9.12) to 0.9.13 or newer"),
        (9_000_000, 9_000_000, "driver PHYP or libvirt-python lacks it"),
        (9_000_000, None, "driver PHYP or libvirt-python lacks it"),
    ],
)
def test_whom_to_upgrade(client: int, server: int | None, label: str) -> None:
    lacking = Capabilities(
        uri="qemu:///system",
        versions=Versions(client=client, daemon=server, driver="PHYP", hypervisor=None),
        bulk_listing=False,
        bulk_stats=True,
        lifecycle_events=True,
        keepalive=True,
    )
    (line,) = upgrades(lacking)
    assert line.startswith("to list in one call: ")
    assert label in line


@pytest.mark.parametrize(("keepalive", "needed"), [(True, False), (False, True), (None, False)])
def test_keepalive_is_needed_where_there_is_a_daemon(keepalive: bool | None, needed: bool) -> None:
    deaf = Capabilities(
        uri="driver:///",
        versions=Versions(client=9_000_000, daemon=9_000_000, driver="?", hypervisor=None),
        bulk_listing=True,
        bulk_stats=True,
        lifecycle_events=True,
        keepalive=keepalive,
    )
    assert bool(list(upgrades(deaf))) == needed
