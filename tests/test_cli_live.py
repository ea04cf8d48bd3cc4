"""`guestlist ls --live`: what the screen shows while hosts change, and when it ends.

The command runs on a pseudo-terminal whose output a small terminal of our own obeys: it knows the
control sequences that the command may send, and fails on any other.
"""

import re
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lab.churn import populated
from lab.command import NO_HOST, TEST_HOST, refused, served
from lab.daemon import Daemon
from lab.hostile import hostile
from lab.nodes import appliance, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.terminal import Live, on_a_terminal

from guestlist.cli.exits import Exit

ONE, TWO, OFF = nova_instance(1), nova_instance(2), nova_instance(3, active=False)


@pytest.fixture
def host(tmp_path: Path) -> str:
    return served(tmp_path, [ONE, TWO, OFF, handmade(0), appliance(1)])


# In its place


def test_what_changes_is_drawn_in_its_place(daemon: Daemon) -> None:
    with populated(daemon.uri(), [ONE, OFF]) as connection:
        with Live("--inactive", "-c", daemon.uri()) as live:
            screen = live.in_step(2)
            header, first, second = screen.table
            assert header.split() == ["ID", "NAME", "STATE", "UUID"]
            assert [first.split()[1:3], second.split()[1:4]] == [
                [ONE.name, "running"],
                [OFF.name, "shut", "off"],
            ]
            assert screen.status == "2 domains, 1 host in step; 0 changes seen"
            connection.lookupByName(OFF.name).create()
            screen = live.shows(lambda screen: "shut off" not in "".join(screen.table))
            assert screen.table[1].split()[1:] == first.split()[1:]
            assert screen.table[2].split()[1:3] == [OFF.name, "running"]
            connection.lookupByName(ONE.name).destroy()
            connection.lookupByName(ONE.name).undefine()
            screen = live.in_step(1)
            assert (len(screen.lines), screen.above) == (3, [])


def test_it_is_the_table_of_ls(host: str) -> None:
    for words in (
        [],
        ["--inactive"],
        ["-a"],
        ["--foreign", "--no-headers"],
        ["-a", "--columns", "name,launcher,vcpus", "--sort", "vcpus", "--reverse"],
        ["-a", "-l", "--sort", "name"],
        ["--name-template", "build-%s", "--inactive"],
    ):
        table = on_a_terminal("ls", "-c", host, *words, width=200, NO_COLOR="1").splitlines()
        with Live("-c", host, *words, NO_COLOR="1") as live:
            screen = live.shows(lambda screen: "1 host in step" in screen.status)
            assert screen.table == table
            assert screen.colours == set()


def test_ages_grow_though_nothing_happens(tmp_path: Path) -> None:
    """The column stood still until something changed."""
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    metadata = re.sub("(?<=creationTime>)[^<]+", now, ONE.metadata)
    uri = served(tmp_path, [replace(ONE, metadata=metadata)])
    with Live("-c", uri, "--columns", "name,age_seconds") as live:
        age = live.in_step(1).table[-1]
        live.shows(lambda screen: len(screen.table) == 2 and screen.table[-1] != age)


def test_it_is_coloured_as_a_terminal_may_be(host: str) -> None:
    with Live("--inactive", "-c", host) as live:
        assert {"32", "2", "1"} <= live.in_step(3).colours


def test_several_hosts(host: str, tmp_path: Path) -> None:
    other = served(tmp_path, [TWO], "other")
    with Live("-c", host, "-c", other) as live:
        screen = live.shows(lambda screen: "2 of 2 hosts in step" in screen.status)
        assert [line.split()[0] for line in screen.table] == ["HOST", host, host, other]
        assert screen.status == "3 domains, 2 of 2 hosts in step; 0 changes seen"


def test_nobody_is_said_to_match(tmp_path: Path) -> None:
    uri = served(tmp_path, [OFF])
    with Live("-c", uri) as live:
        screen = live.in_step(0)
        assert screen.table[1].startswith(f"{uri}: nothing matches; 1 domain is hidden: 1 not runn")


# The terminal


def test_more_rows_than_lines_are_counted(tmp_path: Path) -> None:
    uri = served(tmp_path, [nova_instance(n) for n in range(1, 41)])
    with Live("-c", uri, height=10, LINES="24") as live:
        screen = live.in_step(40)
        assert len(screen.lines) == 10
        assert screen.table[7].split()[1] == "instance-00000007"
        assert screen.table[8] == "… and 33 more"
        assert screen.above == []
        live.resize(3, 200)
        screen = live.in_step(40)
        assert screen.table[1] == "… and 40 more"
        live.resize(1, 200)
        assert live.in_step(40).lines == ["40 domains, 1 host in step; 0 changes seen"]


def test_another_size_is_drawn_anew(host: str) -> None:
    with Live("--inactive", "-c", host, width=80) as live:
        whole = live.in_step(3).table
        live.resize(24, 40)
        narrow = live.in_step(3).table
        assert all(len(line) <= 40 for line in narrow)
        assert narrow[1].endswith("…")
        live.resize(24, 80)
        assert live.in_step(3).table == whole
        assert live.screen.modes == {"?25": True, "?7": True}


def test_a_line_too_long_is_cut_and_wraps_nothing(host: str) -> None:
    with Live("--inactive", "-l", "-c", host, width=30) as live:
        screen = live.shows(lambda screen: screen.status.startswith("3 domains"))
        assert screen.status == "3 domains, 1 host in step; 0 …"
        assert screen.above == []


def test_a_name_forges_no_line(tmp_path: Path, proxy: Proxy) -> None:
    uri = served(tmp_path, [hostile("a\u202e\u009b2Jb\\")])
    with Live("-a", "-c", uri) as live:
        assert r"a\u202e\x9b2Jb\\" in live.in_step(1).table[1]
    proxy.rename(ONE.name, b"a\nforged\x1b[2K\rb")
    with Live("-a", "-c", proxy.uri(node([ONE]))) as live:
        assert r"a\nforged\x1b[2K\rb" in live.in_step(1).table[1]


@pytest.mark.parametrize("words", [[], ["-a", "-c", TEST_HOST]])
def test_a_pipe_is_refused(words: list[str]) -> None:
    assert "'guestlist watch'" in refused("ls", "--live", *words)


def test_a_dumb_terminal_is_refused() -> None:
    with Live("-c", TEST_HOST, TERM="dumb") as live:
        assert "--live wants a terminal" in "".join(live.end().lines)
        assert live.process.wait() == Exit.USAGE


# A host that is away


def test_a_daemon_that_dies_and_comes_back(own_daemon: Daemon) -> None:
    uri = own_daemon.uri()
    with populated(uri, [ONE, OFF]), Live("-a", "-c", uri) as live:
        table = live.in_step(2).table
        own_daemon.kill()
        screen = live.shows(lambda screen: "stale for" in screen.status)
        assert screen.table == table
        assert re.search(rf"{re.escape(uri)} stale for \d+ s: ", screen.status)
        live.shows(lambda screen: "stale for 2 s" in screen.status)
        own_daemon.restart()
        screen = live.shows(lambda screen: screen.status.endswith("in step; 3 changes seen"))
        assert screen.table[1].split()[1:3] == ["test", "running"]
        assert len(screen.lines) == 3
        assert screen.above == []


def test_what_there_is_to_complain_about_stands_above(host: str) -> None:
    words = ("-c", NO_HOST, "-c", host, "-c", host)
    with Live(*words, width=400, NO_COLOR="1") as live:
        screen = live.shows(lambda s: "1 of 2 hosts in step" in s.status and len(s.lines) == 6)
        assert screen.lines[0] == f"guestlist: {host} was given 2 times and is asked once"
        assert screen.lines[1].startswith(f"guestlist: cannot connect to {NO_HOST}: ")
        assert screen.lines[2].split() == ["HOST", "ID", "NAME", "STATE", "UUID"]
        assert f"; {NO_HOST} not in step yet: cannot connect" in screen.status


def test_the_log_is_said_above(proxy: Proxy) -> None:
    proxy.older_daemon("0.9.12")
    with Live("-a", "-c", proxy.uri(node([ONE])), NO_COLOR="1") as live:
        screen = live.shows(lambda s: s.status.startswith("1 domain, 1 host in step"))
        screen = live.shows(lambda s: "walking instead" in s.lines[0])
        assert screen.lines[0].startswith("guestlist: warning: ")


# Its end


def test_ctrl_c_leaves_the_last_table(host: str) -> None:
    with Live("-c", host) as live:
        lines = live.in_step(2).lines
        live.process.send_signal(signal.SIGINT)
        screen = live.end()
        assert screen.lines == lines
        assert (screen.row, screen.column) == (len(lines), 0)
        assert screen.modes == {"?25": True, "?7": True}
        assert live.process.wait() == -signal.SIGINT


def test_whatever_ends_it_leaves_the_terminal_as_it_was(host: str) -> None:
    with Live("-c", host) as live:
        live.in_step(2)
        live.process.kill()
        assert live.end().modes == {"?25": True, "?7": True}


# What it costs


def test_drawing_costs_no_call(proxy: Proxy) -> None:
    with Live("-c", proxy.uri(node([ONE]))) as live:
        live.in_step(1)
        proxy.clear()
        live.resize(20, 100)
        live.in_step(1)
        assert [call for call in proxy.calls if "DOMAIN" in call] == []
