"""Connections that a program carries: it ends with its attempt, and asks only if it may."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lab.command import MAIN, environment, run
from lab.ssh import Ssh
from lab.waiting import LONG, wait_until
from lab.watching import Watching

from guestlist import AccessDenied, ConnectionFailed, Host, Inventory, tunnel, uris
from guestlist.cli.exits import Exit

BATCH = ["-o", "BatchMode=yes"]
BOUND = 60
"""Seconds after which a command that does not end fails its test."""


@pytest.fixture
def ssh(tmp_path, daemon, monkeypatch):
    ssh = Ssh(tmp_path, daemon.socket)
    monkeypatch.setenv("PATH", ssh.path)
    return ssh


def uri(host, **parameters):
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"test+ssh://{host}/default" + (f"?{query}" if query else "")


def is_batch(started):
    return BATCH[1] in started.words


def all_gone(ssh):
    """Return whether no process is left: each has ended, and was waited for."""
    return ssh.started and not any(each.is_there for each in ssh.started)


# An attempt that is given up


@pytest.mark.parametrize("host", ["silent", "stubborn"])
def test_it_ends_with_the_attempt_that_is_given_up(ssh, host):
    """libvirt ends its program only when the attempt returns, which it never did."""
    before = set(threading.enumerate())
    with Host(uri(host), open_timeout=1.0) as asked:
        with pytest.raises(ConnectionFailed, match="ssh waits for an answer") as raised:
            asked.list_instance_domains()
    assert "no answer within 1 s" in str(raised.value)
    wait_until(lambda: all_gone(ssh))
    wait_until(lambda: not any("open" in each.name for each in set(threading.enumerate()) - before))


def test_an_attempt_that_is_given_up_before_its_turn_starts_no_program(ssh):
    """It used to start ssh after its caller had gone, and then nothing ended it."""
    before = set(threading.enumerate())
    with Host(uri("silent"), open_timeout=0.2) as asked, tunnel._starting:
        with pytest.raises(ConnectionFailed):
            asked.list_instance_domains()
    wait_until(lambda: not any("open" in each.name for each in set(threading.enumerate()) - before))
    assert not ssh.started


def test_one_that_has_connected_stays_when_another_is_given_up(ssh, daemon):
    with Host(uri("relay")) as good, Host(uri("silent"), open_timeout=0.5) as bad:
        names = [domain.name() for domain in good.list_instance_domains(include_foreign=True)]
        with pytest.raises(ConnectionFailed):
            bad.list_instance_domains()
        again = good.list_instance_domains(include_foreign=True)
        assert [domain.name() for domain in again] == names
        wait_until(lambda: [each.is_there for each in ssh.started] == [True, False])
        del again
    wait_until(lambda: all_gone(ssh))


def test_of_attempts_side_by_side_each_ends_its_own(ssh):
    opened, hosts = [], [Host(uri("relay")) for _ in range(4)]
    failing = [Host(uri("silent"), open_timeout=0.5) for _ in range(4)]

    def ask(host):
        try:
            opened.append(host.list_instance_domains(include_foreign=True))
        except ConnectionFailed as error:
            opened.append(error)

    threads = [threading.Thread(target=ask, args=(host,)) for host in [*hosts, *failing]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert sum(isinstance(each, ConnectionFailed) for each in opened) == 4
    wait_until(lambda: sum(each.is_there for each in ssh.started) == 4)
    opened.clear()
    for host in hosts:
        host.list_instance_domains()
        host.close()
    wait_until(lambda: all_gone(ssh))


def test_a_live_view_that_tries_again_leaves_none(ssh):
    host = Host(uri("silent"), open_timeout=0.2)
    with Inventory(host) as live:
        wait_until(lambda: len(ssh.started) > 2)
        live.close()
    wait_until(lambda: all_gone(ssh))


def test_it_ends_with_the_interpreter(ssh):
    """An attempt is under way when a program ends."""
    script = (
        "import sys, threading; from guestlist import Host\n"
        "host = Host(sys.argv[1], open_timeout=1000)\n"
        "threading.Thread(target=host.list_instance_domains, daemon=True).start()\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, uri("silent")], stdin=subprocess.PIPE, env=environment()
    ) as program:
        wait_until(lambda: ssh.started)
        program.communicate(timeout=BOUND)
    wait_until(lambda: all_gone(ssh))


# The command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_a_signal_ends_leaves_none(ssh, number):
    words = ["ls", "--timeout", "1000", "-c", uri("silent"), "-c", uri("stubborn")]
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as command:
        wait_until(lambda: len(ssh.started) == 3)
        command.send_signal(number)
        assert command.communicate(timeout=BOUND) == (b"", b"")
    assert command.returncode == -number
    wait_until(lambda: all_gone(ssh))


def test_a_command_that_gives_up_leaves_none(ssh):
    ended = run("ls", "-a", "--timeout", "1", "-c", uri("silent"), "-c", uri("relay"))
    assert ended.returncode == Exit.PARTIAL
    wait_until(lambda: all_gone(ssh))


def test_a_network_that_falls_silent_leaves_none(ssh):
    """Its ssh does not see that the connection is closed."""
    with Watching("-a", "-c", uri("relay")) as watching:
        assert watching.line().startswith("watching ")
        (started,) = ssh.started
        os.kill(started.pid, signal.SIGSTOP)
        watching.process.send_signal(signal.SIGTERM)
        assert watching.process.wait(BOUND) == -signal.SIGTERM
    wait_until(lambda: all_gone(ssh))


# Questions


class Asked:
    """Start `guestlist words…` with a terminal of its own, as a person does."""

    def __init__(self, *words):
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "guestlist", *words],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        os.close(self.ours)


def test_at_a_terminal_one_host_may_ask_until_the_timeout(ssh):
    with Asked("ls", "--timeout", "2", "-c", uri("password")) as command:
        assert os.read(command.ours, 100) == b"password: "
        _, said = command.process.communicate(timeout=BOUND)
        assert b"no answer within 2 s" in said
        wait_until(lambda: all_gone(ssh))
        assert ssh.typed == []
        assert not is_batch(ssh.started[0])


def test_at_a_terminal_several_hosts_do_not_ask(ssh):
    with Asked("ls", "-c", uri("refused"), "-c", uri("stranger")) as command:
        _, said = command.process.communicate(timeout=BOUND)
    assert said.count(b"ssh must get in without a question") == 2
    assert all(map(is_batch, ssh.started))
    assert len(ssh.started) == 2


@pytest.mark.parametrize("words", [["ls"], ["watch", "--once"], ["usage"], ["check"]])
def test_without_a_terminal_nobody_is_asked_unless_the_uri_says_so(ssh, words):
    """The user tells the runs apart: an ssh that a run leaves behind may come to light later."""
    run(*words, "-c", uri("refused"))
    run(*words, "-c", uri("visitor@refused", no_tty=0))
    asked = [each for each in ssh.started if "visitor" in each.words]
    assert asked
    assert not any(map(is_batch, asked))
    assert all(is_batch(each) for each in ssh.started if each not in asked)


def test_a_library_asks_unless_it_is_told_not_to(ssh):
    for prompts in (True, False):
        with Host(uri("refused"), prompts=prompts) as host, pytest.raises(AccessDenied):
            host.list_instance_domains()
    assert list(map(is_batch, ssh.started)) == [False, True]


def test_a_host_keeps_the_name_that_it_was_given(ssh, monkeypatch):
    with Host(uri("relay"), prompts=False) as host:
        host.list_instance_domains()
        assert host.label == uri("relay")
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", uri("relay"))
    with Host(prompts=False) as host:
        host.list_instance_domains()
        assert host.label == uri("relay")
    assert all(map(is_batch, ssh.started))


CONFIGURATION = """
uri_aliases = [
  "node1=qemu+ssh://root@node1.example.com/system",
  'here=qemu:///system',
]
#uri_default = "qemu:///session"
uri_default = "node1"
"""


@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ("qemu+ssh://node/system", "qemu+ssh://node/system?no_tty=1"),
        ("qemu+ssh://node/system?keyfile=k", "qemu+ssh://node/system?keyfile=k&no_tty=1"),
        ("qemu+ssh://node/system#x", "qemu+ssh://node/system?no_tty=1#x"),
        ("qemu+ssh://node/system?no_tty=0", "qemu+ssh://node/system?no_tty=0"),
        ("qemu+ssh://node/system?no_tty=1", "qemu+ssh://node/system?no_tty=1"),
        ("node1", "qemu+ssh://root@node1.example.com/system?no_tty=1"),
        (None, "qemu+ssh://root@node1.example.com/system?no_tty=1"),
        ("here", "here"),
        ("nowhere", "nowhere"),
        ("qemu:///system", "qemu:///system"),
        ("qemu+tls://node/system", "qemu+tls://node/system"),
        ("qemu+libssh2://node/system", "qemu+libssh2://node/system"),
        ("qemu+ssh://[/", "qemu+ssh://[/"),
        ("nonsense", "nonsense"),
    ],
)
def test_prompts_are_switched_off_where_ssh_has_them(tmp_path, monkeypatch, given, opened):
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "libvirt" / "libvirt.conf"
    path.parent.mkdir()
    path.write_text(CONFIGURATION)
    monkeypatch.setattr(uris, "_SYSTEM", path)
    assert uris.without_prompts(given) == opened


def test_without_a_configuration_a_uri_is_what_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(uris, "_SYSTEM", Path("/nonexistent"))
    assert uris.without_prompts(None) is None
    assert uris.without_prompts("node1") == "node1"


# What ssh says


@pytest.mark.parametrize(
    ("host", "kind", "said"),
    [
        ("refused", AccessDenied, "Permission denied (publickey,password)"),
        ("stranger", ConnectionFailed, "Host key verification failed"),
    ],
)
def test_what_ssh_says_is_quoted_with_advice_that_fits(ssh, host, kind, said):
    with Host(uri(host)) as asked, pytest.raises(kind) as raised:
        asked.list_instance_domains()
    message = str(raised.value)
    assert said in message
    assert "ssh must get in without a question" in message
    assert "group" not in message


def test_without_ssh_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with Host(uri("anywhere")) as host, pytest.raises(ConnectionFailed, match="ssh"):
        host.list_instance_domains()


def test_a_live_view_and_a_host_that_are_closed_while_they_connect_leave_none(ssh):
    """ssh stayed until the timeout, and `Host.close` waited for it."""
    live = Inventory(Host(uri("silent"), open_timeout=None))
    live.start()
    wait_until(lambda: [each.is_there for each in ssh.started] == [True])
    live.close()
    wait_until(lambda: all_gone(ssh))
    host, failures = Host(uri("silent"), open_timeout=None), []

    def ask():
        with pytest.raises(ConnectionFailed, match="it was closed while it connected") as failure:
            host.snapshot()
        failures.append(failure)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: [each.is_there for each in ssh.started] == [False, True])
    host.close()
    asking.join(LONG)
    assert failures
    wait_until(lambda: all_gone(ssh))
