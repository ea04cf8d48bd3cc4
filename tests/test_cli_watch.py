"""`guestlist watch`: what it tells, about which domains, in which form; and how it ends.

On real daemons: a test changes something and waits for the line about it.
"""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
import pytest
from jsonschema import Draft202012Validator
from lab.churn import Churner, populated
from lab.command import NO_HOST, TEST_HOST, environment, run, served, uri_of
from lab.daemon import Daemon
from lab.hostile import HOSTILE, hostile
from lab.nodes import Domain, domain_xml, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.qemu import guests
from lab.schemas import described, schema, valid
from lab.terminal import on_a_terminal
from lab.watching import Watching

from guestlist.cli.exits import Exit
from guestlist.cli.show.differences import SHOWN
from guestlist.cli.show.news_lines import Lines
from guestlist.cli.show.news_records import news_record
from guestlist.domainxml import parse
from guestlist.errors import AccessDenied, ConnectionLost
from guestlist.event import Event, EventKind, Lifecycle
from guestlist.inventory.changes import (
    Change,
    Changed,
    Defined,
    Gone,
    News,
    Resynced,
    Stale,
    Started,
    Stopped,
)
from guestlist.launcher import Launcher
from guestlist.records import Details, Instance, Snapshot
from guestlist.states import DomainState

ONE, TWO, OFF = nova_instance(1), nova_instance(2), nova_instance(3, active=False)


def defined(connection: libvirt.virConnect, domain: Domain) -> libvirt.virDomain:
    return connection.defineXML(domain_xml(domain))


# What happens


def test_a_line_for_each_change_and_why(daemon: Daemon) -> None:
    with (
        populated(daemon.uri(), [ONE, OFF]) as connection,
        Watching("-c", daemon.uri()) as watching,
    ):
        assert watching.line() == "watching 2 domains"
        domain = connection.lookupByName(OFF.name)
        for change, said in {
            domain.create: "started (booted)",
            domain.suspend: "changed: state running -> paused; suspended (paused)",
            domain.resume: "changed: state paused -> running; resumed (unpaused)",
            domain.destroy: "stopped (destroyed)",
            domain.undefine: "undefined (removed)",
        }.items():
            change()
            assert watching.line() == f"{OFF.name}  {said}"
        defined(connection, TWO)
        assert watching.line() == f"{TWO.name}  defined (added)"
        connection.lookupByName(ONE.name).shutdown()
        assert watching.line() == f"{ONE.name}  stopped (shutdown)"


def test_a_domain_that_is_renamed_and_redefined(daemon: Daemon) -> None:
    with (
        populated(daemon.uri(), [OFF]) as connection,
        Watching("-c", daemon.uri()) as watching,
    ):
        assert watching.line() == "watching 1 domain"
        defined(connection, replace(OFF, vcpus=7, memory_kib=3 << 20))
        said = "changed: vcpus 4 -> 7, memory 8.0 GiB -> 3.0 GiB; defined (updated)"
        assert watching.line() == f"{OFF.name}  {said}"
        connection.lookupByName(OFF.name).rename(TWO.name)
        said = f"{TWO.name}  changed: name {OFF.name} -> {TWO.name}; undefined (renamed)"
        assert watching.line().startswith(said)


def test_one_that_was_transient_is_gone_when_it_stops(daemon: Daemon) -> None:
    with (
        populated(daemon.uri(), []) as connection,
        Watching("-c", daemon.uri()) as watching,
    ):
        assert watching.line() == "watching 0 domains"
        assert "there are no domains on this host" in watching.complaint()
        visitor = connection.createXML(domain_xml(ONE))
        assert watching.line() == f"{ONE.name}  started (booted)"
        visitor.destroy()
        assert watching.line() == f"{ONE.name}  stopped (destroyed): it is gone"


def test_real_guests(qemu_daemon: Daemon) -> None:
    with guests(qemu_daemon.qemu_uri, [ONE]):
        connection = libvirt.open(qemu_daemon.qemu_uri)
        with Watching("-c", qemu_daemon.qemu_uri) as watching:
            assert watching.line() == "watching 1 domain"
            connection.lookupByName(ONE.name).destroy()
            line = watching.line()
            if "-> in shutdown" in line:  # QEMU takes its time
                line = watching.line()
            assert line.startswith(f"{ONE.name}  stopped")
        connection.close()


# About which domains


def test_only_ours_unless_said_otherwise(daemon: Daemon) -> None:
    other = handmade(0, active=False)
    with populated(daemon.uri(), [OFF, other]) as connection:
        for words, expected in {
            (): [OFF.name],
            ("-a",): [other.name, OFF.name],
            ("--all",): [other.name, OFF.name],
            ("--foreign",): [other.name, OFF.name],
            ("--foreign", "--verify"): [other.name, OFF.name],
            ("--name-template", "build-%s"): [OFF.name],
        }.items():
            with Watching("-c", daemon.uri(), *words) as watching:
                assert watching.line().startswith("watching ")
                for name in (other.name, OFF.name):
                    connection.lookupByName(name).create()
                assert watching.lines(len(expected)) == [f"{n}  started (booted)" for n in expected]
                for name in (other.name, OFF.name):
                    connection.lookupByName(name).destroy()


def test_a_host_without_a_matching_domain_says_why(daemon: Daemon) -> None:
    with populated(daemon.uri(), [handmade(0)]), Watching("-c", daemon.uri()) as watching:
        assert watching.line() == "watching 0 domains"
        assert "1 domain is hidden: 1 launched by others (--foreign)" in watching.complaint()


def test_each_of_two_hosts_is_named(daemon: Daemon, own_daemon: Daemon) -> None:
    near, far = daemon.uri(), own_daemon.uri()
    with populated(near, [ONE]) as first, populated(far, [ONE, TWO]) as second:
        with Watching("-c", near, "-c", far) as watching:
            assert set(watching.lines(2)) == {
                f"{near}  watching 1 domain",
                f"{far}  watching 2 domains",
            }
            first.lookupByName(ONE.name).destroy()
            assert watching.line() == f"{near}  {ONE.name}  stopped (destroyed)"
            second.lookupByName(ONE.name).destroy()
            assert watching.line() == f"{far}  {ONE.name}  stopped (destroyed)"


def test_without_a_uri_libvirt_chooses_and_json_names_the_host() -> None:
    with Watching("-f", "json", LIBVIRT_DEFAULT_URI=TEST_HOST) as watching:
        assert watching.told()["host"] == TEST_HOST


# For programs


def test_json_tells_all(daemon: Daemon) -> None:
    with populated(daemon.uri(), [ONE, OFF]) as connection:
        with Watching("-f", "json", "-c", daemon.uri()) as watching:
            first = watching.told()
            assert (first["change"], first["host"], first["missed"]) == (
                "resynced",
                daemon.uri(),
                0,
            )
            assert [one["name"] for one in first["instances"]] == [ONE.name, OFF.name]
            listed = json.loads(
                run("ls", "-l", "--inactive", "-f", "json", "-c", daemon.uri()).stdout
            )
            for one in listed:
                del one["host"], one["age_seconds"]
            assert first["instances"] == listed

            connection.lookupByName(OFF.name).create()
            started = watching.told()
            assert (started["change"], started["name"]) == ("started", OFF.name)
            assert started["uuid"] == str(OFF.uuid)
            assert started["before"] == listed[1]
            assert (started["after"]["state"], started["after"]["reason"]) == ("running", "booted")
            assert {"id", "state", "reason", "active"} <= set(started["differs"])
            assert started["why"] == "started (booted)"
            assert [event["event"] for event in started["events"]] == ["started (booted)"]
            assert started["told_at"] == started["events"][0]["at"] <= started["learned_at"]

            connection.lookupByName(OFF.name).destroy()
            stopped = watching.told_of("stopped")
            assert stopped["after"]["id"] is None
            connection.lookupByName(OFF.name).undefine()
            gone = watching.told_of("undefined")
            assert (gone["name"], gone["after"], gone["differs"]) == (OFF.name, None, [])


def test_nothing_is_lost_between_hosts_that_change_all_the_time(
    daemon: Daemon, own_daemon: Daemon
) -> None:
    """A reader that applies each change has what the next `before` says, and finally the list."""
    guests = [nova_instance(n) for n in range(10, 20)]
    uris = [daemon.uri(), own_daemon.uri()]
    with populated(uris[0], guests) as first, populated(uris[1], guests) as second:
        connections = dict(zip(uris, (first, second), strict=True))
        with Watching("-f", "json", "-c", uris[0], "-c", uris[1]) as watching:
            known: dict[tuple[str, str], dict[str, Any]] = {}
            for _ in uris:
                told = watching.told()
                known |= {(told["host"], one["uuid"]): one for one in told["instances"]}
            domains = [guest.uuid for guest in guests]
            with Churner(uris[0], domains) as here, Churner(uris[1], domains) as there:
                here.wait_changes(150)
                there.wait_changes(150)
            listed = {}
            for uri, connection in connections.items():
                defined(connection, ONE).create()  # the last change of each
                for one in connection.listAllDomains():
                    listed[uri, one.UUIDString()] = bool(one.isActive())
            while {whose: one["active"] for whose, one in known.items()} != listed:
                told = watching.told()
                assert told["change"] != "resynced"
                whose = told["host"], told["uuid"]
                assert known.pop(whose, None) == told["before"]
                if told["after"] is not None:
                    known[whose] = told["after"]


def test_a_new_domain_comes_with_its_details_whatever_launched_it(daemon: Daemon) -> None:
    """Its XML was read to tell who launched it, and what the XML said was not told."""
    guest = replace(handmade(2), transient=True)
    with populated(daemon.uri(), []) as connection:
        with Watching("-a", "-f", "json", "-c", daemon.uri()) as watching:
            assert watching.told()["instances"] == []
            created = connection.createXML(domain_xml(guest))
            told = watching.told()
            while told["after"]["vcpus"] is None:
                told = watching.told()
            assert told["after"]["vcpus"] == guest.vcpus
            created.destroy()


def test_the_schema_has_every_key_and_no_other() -> None:
    watch = schema("watch")
    Draft202012Validator.check_schema(watch)
    known = watch["$defs"]
    listed = schema("ls")["items"]["properties"]
    assert list(known["domain"]["properties"]) == [column.name for column in SHOWN]
    assert set(listed) - set(known["domain"]["properties"]) == {"host", "age_seconds"}
    for kind in ("change", "resynced", "stale", "domain"):
        assert known[kind]["required"] == list(known[kind]["properties"])
    for kind in ("change", "resynced", "stale"):
        told = {n: each for n, each in known[kind]["properties"].items() if "description" in each}
        assert described(told)
    assert known["change"]["properties"]["change"]["enum"] == [
        kind.__name__.lower() for kind in Change.__subclasses__()
    ]


# A host that is away


def test_a_daemon_that_dies_and_comes_back_with_others(own_daemon: Daemon) -> None:
    uri = own_daemon.uri()
    with populated(uri, [ONE, OFF]), Watching("-a", "-c", uri) as watching:
        assert watching.line() == "watching 2 domains"
        own_daemon.kill()
        assert watching.line().startswith("connection lost: ")
        own_daemon.restart()  # it serves the built-in host again
        assert set(watching.lines(3)) == {
            f"{ONE.name}  gone: was running",
            f"{OFF.name}  gone: was shut off",
            "test  started",
        }
        assert watching.line() == "back in step: 1 domain"
        connection = libvirt.open(uri)
        connection.lookupByName("test").destroy()
        assert watching.line() == "test  stopped (destroyed)"
        connection.close()
        watching.process.terminate()
        assert watching.process.communicate() == ("", "")


def test_json_tells_of_a_loss(own_daemon: Daemon) -> None:
    uri = own_daemon.uri()
    with populated(uri, [ONE]), Watching("-f", "json", "-c", uri) as watching:
        assert watching.told()["change"] == "resynced"
        own_daemon.kill()
        lost = watching.told()
        assert (lost["change"], lost["host"]) == ("stale", uri)
        assert uri in lost["error"]
        assert lost["since"] <= lost["learned_at"]
        own_daemon.restart()
        gone = watching.told()
        assert (gone["change"], gone["after"], gone["events"]) == ("gone", None, [])
        assert (gone["told_at"], gone["why"]) == (None, "")
        assert watching.told()["change"] == "resynced"


def test_a_host_that_is_not_there_yet(own_daemon: Daemon) -> None:
    own_daemon.kill()
    with Watching("-a", "-c", own_daemon.uri(), "-c", TEST_HOST) as watching:
        assert watching.line().split() == [TEST_HOST, "watching", "1", "domain"]
        said = watching.complaint()
        assert said.startswith(f"guestlist: cannot connect to {own_daemon.uri()}: ")
        assert said.endswith("; it is tried again until it answers\n")
        own_daemon.restart()
        assert watching.line() == f"{own_daemon.uri()}  watching 1 domain"
        watching.process.terminate()
        assert watching.process.communicate() == ("", "")


def test_a_host_that_hangs_at_the_start_is_told_of_once(
    deaf: socket.socket, tmp_path: Path
) -> None:
    other = served(tmp_path, [ONE])
    with Watching("--timeout", "0.3", "-c", uri_of(deaf), "-c", other) as watching:
        assert watching.line().split() == [other, "watching", "1", "domain"]
        assert f" {uri_of(deaf)}" in watching.complaint()


# Once


def test_once_tells_which_domains_there_are_and_ends(tmp_path: Path) -> None:
    uri = served(tmp_path, [ONE, nova_instance(2, paused=True), OFF, handmade(0)])
    ended = run("watch", "--once", "-c", uri)
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert [line[10:] for line in ended.stdout.splitlines()] == [
        "3 domains",
        f"{ONE.name}  present: running",
        f"{TWO.name}  present: paused",
        f"{OFF.name}  present: shut off",
    ]
    ended = run("watch", "--once", "-f", "json", "-a", "-c", uri)
    told = valid("watch", ended.stdout)
    assert told["change"] == "resynced"
    assert len(told["instances"]) == 4


def test_once_of_hosts_good_and_bad(tmp_path: Path, deaf: socket.socket) -> None:
    good, other = served(tmp_path, [ONE], "a"), served(tmp_path, [], "b")
    ended = run("watch", "--once", "-c", NO_HOST, "-c", good, "-c", other)
    assert ended.returncode == Exit.PARTIAL
    width = max(len(good), len(other))
    assert [line[10:] for line in ended.stdout.splitlines()] == [
        f"{good:<{width}}  1 domain",
        f"{good:<{width}}  {ONE.name}  present: running",
        f"{other:<{width}}  0 domains",
    ]
    assert ended.stderr.splitlines()[0].startswith(f"guestlist: cannot connect to {NO_HOST}: ")
    assert ended.stderr.splitlines()[1:] == [
        f"guestlist: {other}: there are no domains on this host"
    ]
    silent = run("watch", "--once", "--timeout", "0.5", "-c", uri_of(deaf))
    assert (silent.returncode, silent.stdout) in [(Exit.UNREACHABLE, ""), (Exit.LOST, "")]
    assert silent.stderr.count("\n") == 1


@pytest.mark.parametrize(("code", "status"), [(88, Exit.DENIED), (1, Exit.FAILED)])
def test_once_fails_with_the_status_of_the_failure(proxy: Proxy, code: int, status: Exit) -> None:
    proxy.fail("CONNECT_GET_ALL_DOMAIN_STATS", code)
    ended = run("watch", "--once", "-c", proxy.uri(node([ONE])))
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.count("\n") == 1
    assert "the laboratory says no" in ended.stderr


def test_once_without_an_answer_is_a_failure() -> None:
    for form in ("lines", "json"):
        ended = run("watch", "--once", "-f", form, "-c", NO_HOST)
        assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
        assert ended.stderr.count("\n") == 1


# What a terminal gets to see


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_a_name_is_shown_harmless_and_carried_exactly(
    tmp_path: Path, name: str, shown: str
) -> None:
    uri = served(tmp_path, [hostile(name)])
    assert run("watch", "--once", "-a", "-c", uri).stdout.splitlines()[1][10:] == (
        f"{shown}  present: running"
    )
    exact = run("watch", "--once", "-a", "-f", "json", "-c", uri).stdout
    assert exact.isascii()
    assert exact.count("\n") == 1
    assert json.loads(exact)["instances"][0]["name"] == name


def test_nothing_that_libvirt_says_forges_a_line(proxy: Proxy) -> None:
    proxy.rename(ONE.name, b"a\n00:00:00  forged  started\x1b[2K\rb")
    uri = proxy.uri(node([ONE]))
    with Watching("-a", "-c", uri) as watching:
        assert watching.line() == "watching 1 domain"
        proxy.fail("CONNECT_GET_ALL_DOMAIN_STATS", 1, message="no\nguestlist: well\x1b[2K\u202e")
        proxy.drop()
        assert watching.line().startswith("connection lost: ")
    once = run("watch", "--once", "-a", "-c", uri)
    assert once.stderr.count("\n") == 1
    assert once.stderr[:-1].isprintable()


def test_kinds_are_coloured_on_a_terminal_only() -> None:
    now = datetime.now(UTC)
    news = Gone(instance(), None, (), now)
    assert "\x1b[31mgone\x1b[0m: was running" in Lines([], colours=True).of("x", news)
    assert "\x1b" not in Lines([], colours=False).of("x", news)
    words = ("watch", "--once", "-a", "-c", TEST_HOST)
    shown, piped = (text.splitlines() for text in (on_a_terminal(*words), run(*words).stdout))
    assert [line[8:] for line in shown] == [line[8:] for line in piped]


# Ends


def test_ctrl_c_ends_it_quietly(daemon: Daemon) -> None:
    with populated(daemon.uri(), [ONE]), Watching("-a", "-c", daemon.uri()) as watching:
        assert watching.line() == "watching 1 domain"
        watching.process.send_signal(signal.SIGINT)
        assert watching.process.communicate() == ("", "")
        assert watching.process.returncode == -signal.SIGINT


def test_a_reader_that_leaves_ends_it_though_nothing_happens(daemon: Daemon) -> None:
    with populated(daemon.uri(), [ONE]), Watching("-a", "-c", daemon.uri()) as watching:
        assert watching.line() == "watching 1 domain"
        assert watching.process.stdout is not None
        watching.process.stdout.close()
        assert watching.complaint() == ""
        assert watching.process.wait() == -signal.SIGPIPE


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        ended = run("watch", "-a", "-c", TEST_HOST, stdout=full)
    assert ended.returncode == Exit.FAILED
    said = "guestlist: cannot write to standard output: No space left on device\n"
    assert ended.stderr == said


def test_an_unexpected_error_is_one_line() -> None:
    script = (
        "import guestlist.cli, guestlist.several.following\n"
        "guestlist.several.following.await_step = lambda *_: [][0]\n"
        "raise SystemExit(guestlist.cli.main())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "watch", "-c", TEST_HOST],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert "unexpected IndexError" in ended.stderr
    assert ended.stderr.count("\n") == 1


# Words, without a host


NOW = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)
IDENTITY = UUID(int=7)


def details(**changes: Any) -> Details:
    found = parse(domain_xml(replace(ONE, name="a", uuid=IDENTITY)))
    return replace(found, **changes)


def instance(**changes: Any) -> Instance:
    running = Instance(IDENTITY, "a", 1, DomainState.RUNNING, 1, Launcher.NOVA, details(id=1))
    return replace(running, **changes)


def event(kind: Lifecycle, detail: int = 0) -> Event:
    return Event(IDENTITY, EventKind.LIFECYCLE, NOW, kind, detail)


def said(news: News, before: Iterable[News] = ()) -> str:
    """Return the line without its time."""
    lines = Lines([], colours=False)
    for each in before:
        lines.of("host", each)
    return lines.of("host", news)[10:].rstrip("\n")


OFF_NOW = {"id": None, "state": DomainState.SHUTOFF, "reason": 1}
REBOOT = Event(IDENTITY, EventKind.REBOOT, NOW)


@pytest.mark.parametrize(
    ("news", "line"),
    [
        (
            Started(
                instance(),
                instance(id=2),
                (event(Lifecycle.STOPPED, 1), event(Lifecycle.STARTED)),
                NOW,
            ),
            "a  restarted: stopped (destroyed), started (booted)",
        ),
        (Started(None, instance(reason=2), (), NOW), "a  started (migrated)"),
        (
            Started(None, instance(state=DomainState.PAUSED), (event(Lifecycle.STARTED, 1),), NOW),
            "a  started (migrated): paused",
        ),
        (Stopped(instance(), instance(**OFF_NOW), (), NOW), "a  stopped (shutdown)"),
        (
            Stopped(
                instance(),
                instance(**OFF_NOW),
                (event(Lifecycle.SHUTDOWN, 1), event(Lifecycle.STOPPED)),
                NOW,
            ),
            "a  stopped: shutdown (finished after guest request), stopped (shutdown)",
        ),
        (Defined(None, instance(**OFF_NOW), (), NOW), "a  defined (shutdown)"),
        (
            Changed(instance(), instance(state=DomainState.PAUSED, reason=5), (), NOW),
            "a  changed: state running -> paused, reason booted -> I/O error",
        ),
        (Changed(instance(), instance(reason=5), (), NOW), "a  changed: reason booted -> unpaused"),
        (Changed(instance(), instance(), (REBOOT,), NOW), "a  changed: rebooted"),
        (Changed(instance(), None, (), NOW), "a  changed: no longer one of those watched"),
        (Changed(None, instance(), (), NOW), "a  changed: now one of those watched"),
        (
            Changed(instance(), instance(details=details(max_memory_kib=1)), (), NOW),
            "a  changed: room for memory",
        ),
        (Changed(instance(details=None), instance(), (), NOW), ""),
        (Changed(instance(details=details()), instance(), (event(Lifecycle.STARTED),), NOW), ""),
        (Stale(NOW, ConnectionLost("it is\nlost"), NOW), r"connection lost: it is\nlost"),
        (Stale(NOW, AccessDenied("no"), NOW), "stale: no"),
    ],
)
def test_a_change_in_words(news: News, line: str) -> None:
    assert said(news) == line
    valid("watch", json.dumps(news_record("host", news)))


def test_a_resynced_in_words() -> None:
    def resynced(missed: int = 0) -> Resynced:
        return Resynced(Snapshot([instance()]), missed, NOW)

    assert said(resynced()) == "watching 1 domain"
    assert said(resynced(), [resynced()]) == "back in step: 1 domain"
    assert said(resynced(1_234), [resynced()]) == "1,234 changes missed: 1 domain now"


def test_times_are_this_machines() -> None:
    utc = run("watch", "--once", "-c", TEST_HOST, TZ="UTC").stdout.split(":")[0]
    later = run("watch", "--once", "-c", TEST_HOST, TZ="XXX-05").stdout.split(":")[0]
    assert (int(later) - int(utc)) % 24 in (5, 6)
