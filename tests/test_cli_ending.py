"""The command closes its connections in order, however it ends.

A libvirtd whose client is cut off may crash: see `./dev torture cuts`.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter

import pytest
from lab.churn import populated
from lab.command import MAIN, environment
from lab.daemon import Daemon
from lab.nodes import node, nova_instance
from lab.proxy import Proxy
from lab.terminal import Live
from lab.waiting import wait_until
from lab.watching import Watching

REGISTER = "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY"
DEREGISTER = "CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY"
STATS = "CONNECT_GET_ALL_DOMAIN_STATS"
BOUND = 60
"""Seconds after which a command that does not end fails its test."""

ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE]


def is_in_order(proxy: Proxy) -> bool:
    """Return whether each registration was taken back, and each connection closed after that."""
    calls = Counter(proxy.calls)
    return (
        calls[REGISTER] > 0
        and calls[DEREGISTER] == calls[REGISTER]
        and calls["CONNECT_CLOSE"] == calls["CONNECT_OPEN"] > 0
        and proxy.calls[-1] == "CONNECT_CLOSE"
    )


@pytest.mark.parametrize("number", ENDS)
def test_watch_takes_its_registrations_back(daemon: Daemon, number: signal.Signals) -> None:
    """It left all of them, on both hosts."""
    with (
        Proxy(daemon) as one,
        Proxy(daemon) as other,
        populated(daemon.uri(), [nova_instance(1)]),
        Watching("-a", "-c", one.uri(), "-c", other.uri()) as watching,
    ):
        for line in watching.lines(2):
            assert line.endswith("watching 1 domain")
        if number is signal.SIGPIPE:
            assert watching.process.stdout is not None
            watching.process.stdout.close()
        else:
            watching.process.send_signal(number)
        assert watching.process.wait(BOUND) == -number
        assert is_in_order(one)
        assert is_in_order(other)
        assert watching.complaint() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_live_table_does_too_and_stays_on_the_screen(
    proxy: Proxy, number: signal.Signals
) -> None:
    with populated(proxy.uri(), [nova_instance(1)]):
        proxy.clear()
        with Live("-c", proxy.uri()) as live:
            lines = live.in_step(1).lines
            live.process.send_signal(number)
            assert live.end().lines == lines
            assert live.process.wait(BOUND) == -number
            wait_until(lambda: is_in_order(proxy))


@pytest.mark.parametrize("words", [["ls", "-l"], ["watch", "--once"], ["usage"]])
def test_a_question_that_is_under_way_is_answered_first(proxy: Proxy, words: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *words, "-a", "-c", proxy.uri()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as command:
        proxy.on_call(STATS, lambda: command.send_signal(signal.SIGTERM), times=1)
        assert command.communicate(timeout=BOUND) == (b"", b"")
    assert command.returncode == -signal.SIGTERM
    wait_until(lambda: is_in_order(proxy))


def test_a_daemon_that_hangs_is_not_waited_for_without_end(own_daemon: Daemon) -> None:
    with populated(own_daemon.uri(), [nova_instance(1)]) as connection:
        with Watching("-a", "--timeout", "1000", "-c", own_daemon.uri()) as watching:
            assert watching.line() == "watching 1 domain"
            own_daemon.stop()
            try:
                watching.process.send_signal(signal.SIGTERM)
                assert watching.process.wait(BOUND) == -signal.SIGTERM
            finally:
                own_daemon.cont()
        assert connection.isAlive()


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    """Also while a close takes long."""
    script = (
        "import threading; from guestlist.cli import ending\n"
        "ending.LONGEST = 1000\n"
        "ending.on_end(lambda: (print('closing', flush=True), threading.Event().wait()))\n"
        f"{MAIN}"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, "watch", "-a", "-c", "test:///default"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as command:
        assert command.stdout is not None
        assert "watching 1 domain" in command.stdout.readline()
        command.send_signal(signal.SIGINT)
        assert command.stdout.readline() == "closing\n"
        command.send_signal(signal.SIGINT)
        assert command.wait(BOUND) == -signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_is_ignored_from_the_start_stays_so(number: signal.Signals) -> None:
    """So that `nohup guestlist watch` stays."""
    script = f"import signal; signal.signal({number:d}, signal.SIG_IGN)\n{MAIN}"
    with subprocess.Popen(
        [sys.executable, "-c", script, "watch", "-a", "-c", "test:///default"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as command:
        assert command.stdout is not None
        assert "watching 1 domain" in command.stdout.readline()
        command.send_signal(number)
        command.send_signal(signal.SIGINT)
        assert command.wait(BOUND) == -signal.SIGINT


LOADING = """
import signal
from guestlist.cli import arguments, main
parse = arguments.parse
def parse_and_tell(argv):
    options = parse(argv)
    told = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    assert told == (signal.SIG_DFL, signal.SIG_DFL), told
    return options
arguments.parse = parse_and_tell
raise SystemExit(main(["fleet", "ls", "--endpoints", "127.0.0.1:1"]))
"""


def test_while_the_command_is_loaded_a_signal_ends_it_by_itself() -> None:
    """An exception in the import of a package written in C may crash it: msgspec's did."""
    ended = subprocess.run([sys.executable, "-c", LOADING], check=False, timeout=BOUND)
    assert ended.returncode == 4


def test_hosts_that_cannot_be_closed_delay_no_other(own_daemon: Daemon, proxy: Proxy) -> None:
    # The client that is cut off may crash libvirtd: nothing connects to it afterwards.
    silent = own_daemon.uri(own_daemon.write_node(node([nova_instance(2)])))
    with (
        populated(proxy.uri(), [nova_instance(1)]),
        Watching("-a", "-c", silent, "-c", proxy.uri()) as watching,
    ):
        proxy.clear()
        assert len(watching.lines(2)) == 2
        own_daemon.stop()
        try:
            watching.process.send_signal(signal.SIGTERM)
            assert watching.process.wait(BOUND) == -signal.SIGTERM
        finally:
            own_daemon.cont()
        wait_until(lambda: proxy.calls[-1:] == ["CONNECT_CLOSE"])
