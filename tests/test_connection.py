"""Opening, losing and reopening: every failure one clear error, in bounded time, nothing leaked."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import libvirt
import pytest
from lab.churn import populated
from lab.nodes import nova_instance
from lab.proxy import Proxy

from guestlist import AccessDenied, ConnectionFailed, ConnectionLost, GuestlistError, Host
from guestlist.connection import Connection
from guestlist.event_loop import ensure_loop


def test_nothing_is_opened_until_asked(rpc):
    with rpc.counting() as calls:
        with Host(rpc.uri()) as host:
            assert host.bulk_listing is None
            assert "not asked" not in repr(host)
    assert calls == []


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("nonsense", "does not include a driver name"),
        ("foo bar", "Unable to parse URI"),
        ("nosuchdriver:///system", "cannot connect to nosuchdriver:///system"),
        ("qemu+carrier-pigeon:///system", "transport in URL not recognised"),
        ("qemu+unix:///session?socket=/nonexistent/socket", "No such file or directory"),
        ("qemu+tcp://127.0.0.1:1/system", "Connection refused"),
        ("test:///nonexistent/node.xml", "node.xml"),
        ("test:///etc/passwd", "Start tag expected"),
    ],
)
def test_what_cannot_be_opened_says_what_whom_and_what_to_do(uri, says):
    with Host(uri) as host, pytest.raises(ConnectionFailed, match="cannot connect to") as raised:
        host.list_instance_domains()
    message = str(raised.value)
    assert says in message
    assert uri in message
    assert "check the URI" in message
    assert "\n" not in message
    assert isinstance(raised.value, ConnectionError)
    assert isinstance(raised.value.__cause__, libvirt.libvirtError)


@pytest.mark.parametrize(
    "uri",
    [
        "qemu+ssh://{}/system",
        "test:///{}",
        "{}",
        "qemu:///session?socket=/{}",
        "nosuch+{}:///x",
    ],
)
def test_a_uri_without_end_is_cut_in_every_message_and_nowhere_else(uri, caplog):
    uri = uri.format("a" * 5000)
    with Host(uri) as host:
        with pytest.raises(ConnectionFailed) as raised:
            host.list_instance_domains()
        assert len(str(raised.value)) < 800
        assert uri[:90] in str(raised.value)
        assert len(host.label) < 300
        assert len(repr(host)) < 300
        assert host.uri == host.resolved_uri == uri


def test_a_socket_without_permission_is_access_denied(daemon):
    """As another ordinary user, for root may connect to anything."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    script = (
        "import os; from guestlist import AccessDenied, Host; os.setuid(1)\n"
        "try: Host(%r).list_instance_domains()\n"
        "except AccessDenied as error: print(error)" % daemon.uri()
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert "Permission denied" in said
    assert "group" in said


def test_wrong_credentials_are_access_denied(tmp_path):
    node = tmp_path / "node.xml"
    node.write_text("<node><auth><user password='right'>keeper</user></auth></node>")
    with Host(f"test://{node}") as host, pytest.raises(AccessDenied, match=r"auth\.conf") as raised:
        host.list_instance_domains()
    assert isinstance(raised.value, PermissionError)


def test_credentials_in_libvirts_own_file_open_the_door(tmp_path, monkeypatch):
    node = tmp_path / "node.xml"
    node.write_text("<node><auth><user password='right'>keeper</user></auth></node>")
    auth = tmp_path / "auth.conf"
    auth.write_text(
        "[credentials-lab]\nusername=keeper\npassword=right\n[auth-test-default]\n"
        "credentials=lab\n[auth-test-localhost]\ncredentials=lab\n"
    )
    monkeypatch.setenv("LIBVIRT_AUTH_FILE", str(auth))
    with Host(f"test://{node}") as host:
        assert host.list_instance_domains() == []


def test_a_daemon_that_speaks_nonsense_is_a_failed_connection(rpc):
    rpc.garbage()
    with Host(rpc.uri()) as host, pytest.raises(GuestlistError) as raised:
        host.list_instance_domains()
    assert isinstance(raised.value, ConnectionError)


def test_somebody_who_accepts_and_never_answers_is_given_up(tmp_path):
    path = str(tmp_path / "deaf")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(path)
        deaf.listen()
        with (
            Host(f"test+unix:///default?socket={path}", open_timeout=0.2) as host,
            pytest.raises(ConnectionFailed, match=r"no answer within 0\.2 s"),
        ):
            host.list_instance_domains()


def test_attempts_that_were_given_up_are_few_however_long_nobody_answers(tmp_path):
    """A live view tries again without end: it left a thread and a socket behind each time."""
    path = str(tmp_path / "deaf")

    def attempts():
        return [each for each in threading.enumerate() if each.name == "guestlist-open"]

    before = attempts()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(path)
        deaf.listen(100)
        connection = Connection(f"test+unix:///default?socket={path}", open_timeout=0.01)
        for _ in range(100):
            with pytest.raises(ConnectionFailed, match=r"no answer within 0\.01 s"):
                connection.peer()
        begun = set(attempts()) - set(before)
        assert 1 <= len(begun) < 25, "after n times the timeout there are log n"
    for attempt in begun:
        attempt.join(30)
        assert not attempt.is_alive()


def test_after_attempts_that_were_given_up_one_that_is_answered_connects(rpc):
    rpc.stall()
    connection = Connection(rpc.uri(), open_timeout=0.1)
    for _ in range(3):
        with pytest.raises(ConnectionFailed, match="no answer"):
            connection.peer()
    connection.open_timeout = 30.0
    threading.Timer(0, rpc.resume).start()
    assert connection.peer().alive()
    connection.close()


def test_a_connection_that_opens_too_late_is_closed(rpc):
    rpc.stall()
    with Host(rpc.uri(), open_timeout=0.1) as host:
        with pytest.raises(ConnectionFailed, match="no answer"):
            host.list_instance_domains()
        rpc.clear()
        rpc.resume()
        rpc.wait_called("CONNECT_CLOSE")


def test_no_uri_is_libvirts_own_default(monkeypatch, daemon):
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", daemon.uri())
    with Host() as host:
        host.list_instance_domains()
        assert daemon.uri() in repr(host)
        assert host.uri is None


def test_readonly_is_enough_and_is_read_only(daemon):
    with populated(daemon.uri(), [nova_instance(1)]), Host(daemon.uri(), readonly=True) as host:
        (domain,) = host.list_instance_domains()
        assert len(host.snapshot()) == 1
        with pytest.raises(libvirt.libvirtError, match="read only"):
            domain.destroy()


def test_a_hung_daemon_becomes_a_loss_and_the_next_call_reconnects(rpc):
    with Host(rpc.uri(), keepalive_interval=1, keepalive_count=1) as host:
        host.list_instance_domains()
        rpc.stall()
        with pytest.raises(ConnectionLost):
            host.list_instance_domains()
        rpc.resume()
        assert isinstance(host.list_instance_domains(), list)


def test_a_killed_daemon_is_a_loss_and_its_return_is_noticed(own_daemon):
    with Host(own_daemon.uri()) as host:
        host.list_instance_domains()
        own_daemon.kill()
        with pytest.raises(ConnectionError):
            host.list_instance_domains()
        with pytest.raises(ConnectionFailed):
            host.list_instance_domains()
        own_daemon.restart()
        host.list_instance_domains()
        assert host.bulk_listing is True


def test_a_daemon_killed_in_mid_call_is_a_loss(own_daemon):
    with Proxy(own_daemon) as proxy, Host(proxy.uri()) as host:
        proxy.on_call("CONNECT_LIST_ALL_DOMAINS", own_daemon.kill)
        with pytest.raises(ConnectionLost):
            host.list_instance_domains()


def test_closed_it_lets_go_and_opens_again_when_asked(rpc):
    host = Host(rpc.uri())
    host.list_instance_domains()
    host.close()
    rpc.wait_called("CONNECT_CLOSE")
    host.close()
    host.list_instance_domains()
    host.close()


@pytest.mark.parametrize(
    ("ask", "procedure"),
    [
        (Host.list_instance_domains, "CONNECT_LIST_ALL_DOMAINS"),
        (Host.snapshot, "CONNECT_GET_LIB_VERSION"),
        (Host.node, "NODE_GET_INFO"),
    ],
)
def test_a_connection_lost_before_it_told_its_version_is_a_loss(rpc, ask, procedure):
    """It was an AttributeError: the error names the version, of a peer that was closed."""
    rpc.cut(procedure, times=1)
    with Host(rpc.uri()) as host:
        with pytest.raises(ConnectionLost, match="the connection is lost"):
            ask(host)
        ask(host)


def test_what_lasts_is_asked_for_once_per_connection(rpc):
    with Host(rpc.uri()) as host:
        name = host.hostname()
        host.hostname()
        assert rpc.calls.count("CONNECT_GET_HOSTNAME") == 1
        facts = host.hypervisor()
        assert facts.hostname == name
        with rpc.counting() as calls:
            assert host.hypervisor() is host.node().hypervisor
            assert host.hostname() == name
        assert calls == ["NODE_GET_INFO", "NODE_GET_CPU_MAP"]
        host.close()
        rpc.clear()
        assert host.hypervisor() == facts
        host.hostname()
        assert rpc.calls.count("CONNECT_GET_HOSTNAME") == 1


@pytest.mark.parametrize("release", [None, "0.9.12"])
def test_losses_and_closes_leak_neither_descriptors_nor_connections(daemon, rpc, release):
    if release:
        rpc.older_daemon(release)
    ensure_loop()
    gc.collect()
    descriptors = Path("/proc/self/fd")

    def held():
        gc.collect()
        connections = sum(isinstance(thing, libvirt.virConnect) for thing in gc.get_objects())
        return len(list(descriptors.iterdir())), connections

    with Host(rpc.uri()) as host:
        host.list_instance_domains(include_inactive=True)
        before = held()
        for _ in range(5):
            rpc.drop()
            try:
                host.list_instance_domains(include_inactive=True)
            except ConnectionLost:
                host.list_instance_domains(include_inactive=True)
            assert host.list_instance_domains(include_inactive=True) == []
            host.close()
            host.list_instance_domains(include_inactive=True)
        assert held() == before


def test_eight_threads_open_one_connection(rpc):
    gate = threading.Barrier(8)
    with Host(rpc.uri()) as host, rpc.counting() as calls:

        def ask():
            gate.wait()
            host.list_instance_domains()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert calls.count("CONNECT_OPEN") == 1


@pytest.mark.parametrize("fault", ["lost", "closed"])
def test_a_connection_lost_or_closed_under_six_threads_ends_no_process(daemon, rpc, fault):
    """libvirt 9.0 crashes when several threads wait on a connection that goes: they take turns."""
    domains = [nova_instance(n) for n in range(10)]
    wrong = []
    finished = threading.Event()
    with populated(daemon.uri(), domains), Host(rpc.uri()) as host:

        def ask():
            while not finished.is_set():
                try:
                    listed = host.list_instance_domains()
                except ConnectionLost:
                    continue
                except Exception as error:
                    wrong.append(error)
                    return
                if len(listed) != len(domains):
                    wrong.append(listed)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            rpc.clear()
            rpc.wait_called("CONNECT_LIST_ALL_DOMAINS", times=3)
            if fault == "lost":
                rpc.drop()
            else:
                host.close()
        finished.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_keepalive_can_be_turned_off(rpc):
    with Host(rpc.uri(), keepalive_interval=0) as host:
        assert host.capabilities().keepalive is False
    with Host(rpc.uri()) as host:
        assert host.capabilities().keepalive is True


BORROWER = """
import sys, threading, libvirt
from guestlist import Host, Inventory
from guestlist import use_running_event_loop

def turn():
    while True:
        libvirt.virEventRunDefaultImpl()

if sys.argv[2] == "another":
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=turn, name="another", daemon=True).start()
print(use_running_event_loop(), use_running_event_loop())
with Inventory(sys.argv[1], details=False) as live:
    live.wait_synced(30)
    changes = live.changes()
    (domain,) = live.host.list_instance_domains()
    domain.suspend()
    print(changes.get(timeout=30).after.state.name)
    print(sorted(each.name for each in threading.enumerate() if "events" in each.name))
"""


@pytest.mark.parametrize(
    ("loop", "borrowed", "own"),
    [("another", True, []), ("none", False, ["guestlist-libvirt-events"])],
)
def test_a_loop_that_turns_already_is_borrowed_and_one_that_does_not_is_ours(
    daemon, loop, borrowed, own
):
    with populated(daemon.uri(), [nova_instance(1)]):
        ended = subprocess.run(
            [sys.executable, "-c", BORROWER, daemon.uri(), loop],
            check=False,
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert ended.stdout.splitlines() == [f"{borrowed} {borrowed}", "PAUSED", str(own)], ended.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"keepalive_interval": 1.5},
        {"keepalive_interval": -1},
        {"keepalive_count": 2**31},
        {"keepalive_count": None},
    ],
)
def test_keepalive_that_libvirt_would_not_take_is_refused_when_a_host_is_made(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is .*: it must be a whole number"):
        Host(**options)
