"""The progress line: when it is shown, what it counts, and that nothing of it remains.

The command runs on a pseudo-terminal, and a proxy holds the answer that it waits for. No test waits
for a time: the line comes, and then the answer is let go.
"""

import contextlib
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.command import NO_HOST, served
from lab.nodes import node, nova_instance
from lab.proxy import Proxy
from lab.terminal import OnTerminal, Screen, on_a_terminal
from lab.waiting import LONG

from guestlist.cli.exits import Exit
from guestlist.cli.show import progress as module
from guestlist.cli.show import terminal
from guestlist.cli.show.progress import Progress

CTRL_S = b"\x13"

XML, STATES = "DOMAIN_GET_XML_DESC", "CONNECT_GET_ALL_DOMAIN_STATS"

MANY = [nova_instance(n) for n in range(1, 31)]


class Gate:
    """Holds calls of a procedure from the first one on, until it is opened."""

    def __init__(self, proxy: Proxy, procedure: str) -> None:
        self._is_open = threading.Event()
        proxy.on_call(procedure, self._is_open.wait)

    def open(self) -> None:
        self._is_open.set()


@contextlib.contextmanager
def held(proxy: Proxy, procedure: str) -> Iterator[Gate]:
    """Hold the calls of a procedure; let them go at the end, whatever happened."""
    gate = Gate(proxy, procedure)
    try:
        yield gate
    finally:
        gate.open()


def passes(command: OnTerminal, text: str) -> Screen:
    """Return the screen as soon as its last line is this line of progress."""
    is_there = re.compile(f"guestlist: {text}").fullmatch
    return command.shows(lambda screen: is_there(screen.status) is not None)


# What it counts


def test_it_counts_the_domains_that_are_read_and_leaves_the_table_alone(proxy: Proxy) -> None:
    uri = proxy.uri(node(MANY))
    words = ("ls", "-l", "-c", uri)
    table = on_a_terminal(*words, width=200, NO_COLOR="1").splitlines()
    with held(proxy, XML) as gate, OnTerminal(*words, height=50, NO_COLOR="1") as command:
        assert len(passes(command, "0 of 30 domains read").lines) == 1
        gate.open()
        assert command.end().lines == table
        assert command.process.wait() == Exit.OK


def test_it_counts_the_hosts_that_have_answered(proxy: Proxy, tmp_path: Path) -> None:
    uris = [served(tmp_path, MANY[:1], "a"), NO_HOST, proxy.uri(node(MANY[1:2]))]
    words = [word for uri in uris for word in ("-c", uri)]
    with held(proxy, STATES) as gate, OnTerminal("ls", *words, width=900) as command:
        passes(command, "2 of 3 hosts answered")
        gate.open()
        failure, header, *rows = command.end().lines
        assert failure.startswith("guestlist: cannot connect to ")
        assert header.split() == ["HOST", "ID", "NAME", "STATE", "UUID"]
        assert len(rows) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["show", "--by", "nova_name", "db-1"],
        ["usage"],
        ["fleet", "ls", "-l"],
    ],
)
def test_every_command_that_reads_many_domains_counts_them(proxy: Proxy, words: list[str]) -> None:
    uri = proxy.uri(node(MANY))
    with held(proxy, XML) as gate, OnTerminal(*words, "-c", uri, height=80) as command:
        passes(command, "0 of 30 domains read")
        gate.open()
        assert "domains read" not in "\n".join(command.end().lines)
        assert command.process.wait() == Exit.OK


def test_watch_counts_until_it_has_something_to_tell(proxy: Proxy) -> None:
    with held(proxy, XML) as gate, OnTerminal("watch", "-c", proxy.uri(node(MANY))) as command:
        passes(command, "0 of 30 domains read")
        gate.open()
        screen = command.shows(lambda screen: "watching 30 domains" in screen.status)
        assert len(screen.lines) == 1


def test_domains_and_hosts_are_counted_side_by_side(proxy: Proxy, tmp_path: Path) -> None:
    words = ("-c", served(tmp_path, MANY[:2]), "-c", proxy.uri(node(MANY)))
    with held(proxy, XML) as gate, OnTerminal("ls", "-l", *words, height=80) as command:
        passes(command, "1 of 2 hosts answered; 2 of 32 domains read")
        gate.open()
        command.end()


def test_an_audit_tells_its_steps_and_counts_in_them(proxy: Proxy, tmp_path: Path) -> None:
    servers = tmp_path / "servers.json"
    servers.write_text("[]")
    uris = (served(tmp_path, MANY[:2]), proxy.uri(node(MANY)))
    words = [word for uri in uris for word in ("-c", uri)]
    with held(proxy, STATES) as gate:
        with OnTerminal("audit", "--servers", str(servers), *words) as command:
            passes(command, "asking the hosts for their domains: 1 of 2 hosts answered")
            gate.open()
            assert "asking" not in "\n".join(command.end().lines)


# What removes it


def test_a_line_of_the_log_takes_its_place(proxy: Proxy) -> None:
    uri = proxy.uri(node(MANY[:2]))
    proxy.rewrite(XML, lambda payload: payload.replace(b"<vcpu", b"<&cpu"))
    words = ("ls", "--columns", "name,vcpus", "-c", uri)
    with held(proxy, XML) as gate, OnTerminal(*words, NO_COLOR="1") as command:
        passes(command, "0 of 2 domains read")
        gate.open()
        first, second, *table = command.end().lines
        assert first.startswith("guestlist: warning: ")
        assert second.startswith("guestlist: warning: ")
        assert [line.split() for line in table] == [
            ["NAME", "VCPUS"],
            *([one.name, "-"] for one in MANY[:2]),
        ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(proxy: Proxy, number: signal.Signals) -> None:
    with held(proxy, XML), OnTerminal("ls", "-l", "-c", proxy.uri(node(MANY))) as command:
        passes(command, "0 of 30 domains read")
        command.process.send_signal(number)
        assert command.end().lines == []
        assert command.process.wait() == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_that_takes_no_output_keeps_no_command(
    proxy: Proxy, number: signal.Signals
) -> None:
    with held(proxy, XML), OnTerminal("ls", "-l", "-c", proxy.uri(node(MANY))) as command:
        passes(command, "0 of 30 domains read")
        command.press(CTRL_S)
        command.process.send_signal(number)
        assert command.process.wait(LONG) == -number


def test_a_failure_leaves_its_own_line_alone(proxy: Proxy) -> None:
    with held(proxy, XML) as gate:
        with OnTerminal("ls", "-l", "-c", proxy.uri(node(MANY)), width=900) as command:
            passes(command, "0 of 30 domains read")
            proxy.drop()
            gate.open()
            (line,) = command.end().lines
            assert re.match("guestlist: .* the connection is lost", line)
            assert command.process.wait() == Exit.LOST


def test_the_data_of_a_pipe_has_nothing_of_it(proxy: Proxy) -> None:
    uri = proxy.uri(node(MANY))
    read, write = os.pipe()
    with (
        held(proxy, XML) as gate,
        OnTerminal("ls", "-l", "-f", "json", "-c", uri, stdout=write) as command,
    ):
        os.close(write)
        passes(command, "0 of 30 domains read")
        gate.open()
        with os.fdopen(read) as data:
            assert len(json.load(data)) == len(MANY)
        assert command.end().lines == []


def test_it_fits_the_line(proxy: Proxy) -> None:
    words = ("ls", "-l", "-c", proxy.uri(node(MANY)))
    with held(proxy, XML) as gate, OnTerminal(*words, width=16) as command:
        assert passes(command, "0 of").lines == ["guestlist: 0 of"]
        gate.open()
        screen = command.end()
        assert "guestlist" not in "".join([*screen.above, *screen.lines])


# Where there is none


def count(progress: Progress) -> None:
    with progress:
        progress.hosts(0, 1)
        progress.hosts(0, 2)
        progress.step("waiting")


def test_without_a_terminal_nothing_is_counted_and_no_thread_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[str] = []
    monkeypatch.setattr(module.threads, "start", lambda _job, name: started.append(name))
    count(Progress())
    assert started == []
    monkeypatch.setattr(terminal, "person_reads_errors", lambda: True)
    progress = Progress()
    progress.hosts(0, 1)
    assert started == []
    count(progress)
    assert started == ["guestlist-progress"]
    progress.hosts(1, 2)
    assert progress.line() == ""


ASK = "from guestlist.cli.show import terminal; print(terminal.person_reads_errors())"


@pytest.mark.parametrize(("term", "reads"), [("xterm", True), ("dumb", False)])
def test_a_dumb_terminal_gets_none(term: str, reads: bool) -> None:
    with OnTerminal(main=ASK, TERM=term) as command:
        assert command.end().lines == [str(reads)]


IN_BACKGROUND = f"""
import os, subprocess, sys
os.setsid()
os.close(os.open(os.ttyname(2), os.O_RDWR))  # from now on it controls this session
for group in (None, 0):
    subprocess.run([sys.executable, "-c", {ASK!r}], process_group=group)
"""


def test_a_job_in_the_background_writes_over_no_prompt() -> None:
    with OnTerminal(main=IN_BACKGROUND) as command:
        assert command.end().lines == ["True", "False"]


PASSES_BY = """
import sys
from guestlist.cli.show import terminal
sys.stdin.readline()
terminal.pass_by(lambda: "passing")
print("shown", flush=True)
sys.stdin.readline()
terminal.remove_passing()
"""

SENT_TO_BACKGROUND = f"""
import os, signal, subprocess, sys
os.setsid()
os.close(os.open(os.ttyname(2), os.O_RDWR))
signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # as a shell does
pipe = subprocess.PIPE
program = [sys.executable, "-c", {PASSES_BY!r}]
job = subprocess.Popen(program, process_group=0, stdin=pipe, stdout=pipe)
os.tcsetpgrp(2, job.pid)
job.stdin.write(b"\\n")
job.stdin.flush()
job.stdout.readline()
os.tcsetpgrp(2, os.getpgrp())
print(" $ my next command", end="", flush=True)
job.communicate(b"\\n")
"""


def test_a_job_that_was_sent_to_the_background_erases_no_prompt() -> None:
    with OnTerminal(main=SENT_TO_BACKGROUND) as command:
        assert command.end().lines == ["passing $ my next command"]
