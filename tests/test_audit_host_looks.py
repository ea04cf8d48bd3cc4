"""The hosts of an audit, asked side by side; and what only this machine can tell."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lab.command import NO_HOST
from lab.daemon import Daemon
from lab.hanging import hanging, hanging_available
from lab.images import Image, make_image
from lab.needs import require
from lab.nodes import Domain, appliance, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.qemu import guest_xml, guests
from lab.system import SystemDaemon, system_available
from lab.wire import xdr_string

from guestlist import Host, Snapshot
from guestlist.audit import disks_gone, taps, this_machine
from guestlist.audit.disks_gone import DisksGone
from guestlist.audit.host_looks import AuditedHost, HostLooks
from guestlist.audit.rows import HostLook, LostDisk
from guestlist.launcher import Launcher
from guestlist.records import (
    Details,
    Disk,
    DiskDevice,
    Instance,
    Nic,
    Slice,
    Source,
    SourceKind,
)
from guestlist.states import DomainState

ONE, TWO, OFF = nova_instance(1), nova_instance(2), nova_instance(3, active=False)
LIST = "CONNECT_GET_ALL_DOMAIN_STATS"


@contextlib.contextmanager
def looking(
    *hosts: str | tuple[str, str], timeout: float = 30.0, **options: Any
) -> Iterator[HostLooks]:
    """Looks at hosts, given as URIs or as names and URIs."""
    audited = []
    for each in hosts:
        name, uri = (None, each) if isinstance(each, str) else each
        audited.append(AuditedHost(Host(uri, readonly=True, open_timeout=timeout), name))
    looks = HostLooks(audited, timeout=timeout, **options)
    try:
        yield looks
    finally:
        looks.close()


def names(look: HostLook) -> list[str]:
    assert look.domains is not None, look.failure
    return [instance.name for instance in look.domains]


def test_a_look_has_all_domains_of_any_launcher(daemon: Daemon) -> None:
    everyone = [ONE, OFF, appliance(1), handmade(1)]
    with looking(("node1", daemon.uri(node(everyone))), daemon.uri(node([TWO]))) as looks:
        one, other = looks.look()
    assert one.host == "node1"
    assert one.names == ("node1",)
    assert names(one) == sorted(each.name for each in everyone)
    assert names(other) == [TWO.name]
    assert other.names == (libvirts_hostname(daemon),)
    assert one.failure is other.failure is None
    assert one.began <= one.ended
    assert one.lost_disks is one.taps is other.lost_disks is other.taps is None


def libvirts_hostname(daemon: Daemon) -> str:
    with Host(daemon.uri(), readonly=True) as host:
        return host.hostname()


@pytest.mark.parametrize("name", [None, "node1"])
def test_a_second_look_costs_one_call(proxy: Proxy, name: str | None) -> None:
    uri = proxy.uri(node([ONE, OFF]))
    with looking((name, uri) if name else uri) as looks:
        with proxy.counting() as calls:
            looks.look()
        assert calls.count("CONNECT_GET_HOSTNAME") == (name is None)
        assert calls.count(LIST) == 1
        assert not [call for call in calls if call.startswith("DOMAIN_")]
        with proxy.counting() as calls:
            looks.look()
        assert calls == [LIST]


def test_an_xml_of_qemu_is_read_once(qemu_daemon: Daemon) -> None:
    with Proxy(qemu_daemon) as proxy, guests(qemu_daemon.qemu_uri, [ONE, OFF]):
        with looking(("here", proxy.qemu_uri)) as looks:
            with proxy.counting() as calls:
                [look] = looks.look()
            assert calls.count(LIST) == 1
            assert calls.count("DOMAIN_GET_XML_DESC") == 2
            with proxy.counting() as calls:
                looks.look()
            assert calls == [LIST]
    assert look.lost_disks == ()
    assert look.taps is None  # a session has none


def test_only_the_named_hosts_are_looked_at(daemon: Daemon) -> None:
    with looking(("a", daemon.uri(node([ONE]))), ("b", daemon.uri(node([TWO]))), NO_HOST) as looks:
        assert [look.host for look in looks.look()] == ["a", "b", NO_HOST]
        [second] = looks.look({"b"})
        assert (second.host, names(second)) == ("b", [TWO.name])
        assert looks.look(()) == ()
        [failed] = looks.look([NO_HOST, "unknown"])
    assert failed.domains is None


# Hosts that fail


def test_a_host_that_fails_is_one_line_and_delays_no_other(daemon: Daemon, proxy: Proxy) -> None:
    proxy.stall_on(LIST)
    stalled = proxy.uri(node([ONE]))
    with looking(NO_HOST, ("stalled", stalled), daemon.uri(node([TWO])), timeout=5.0) as looks:
        refused, hanging, answered = looks.look()
        assert names(answered) == [TWO.name]
        for each in (refused, hanging):
            assert each.domains is None
            assert each.failure
            assert "\n" not in each.failure
        assert refused.names == ()
        assert hanging.names == ("stalled",)
        proxy.resume()
        assert names(looks.look({"stalled"})[0]) == [ONE.name]


def test_a_daemon_that_is_stopped_or_dead_fails_and_is_asked_again(own_daemon: Daemon) -> None:
    uri = own_daemon.uri(node([ONE]))
    with looking(uri, timeout=5.0) as looks:
        [first] = looks.look()
        own_daemon.stop()
        [stopped] = looks.look()
        own_daemon.cont()
        own_daemon.kill()
        [dead] = looks.look()
        own_daemon.restart()
        [again] = looks.look()
    assert first.names == stopped.names == dead.names == again.names != ()
    assert [look.domains is None for look in (first, stopped, dead, again)] == [
        False,
        True,
        True,
        False,
    ]


def test_what_no_libvirt_says_is_a_failure_too(daemon: Daemon) -> None:
    class Broken(Host):
        def snapshot(self, **_: object) -> Snapshot:  # type: ignore[override]
            raise ZeroDivisionError("one\ntwo")

    with Broken(daemon.uri(node([ONE]))) as host:
        [look] = HostLooks([AuditedHost(host, "a")]).look()
    assert look.failure == "a: unexpected ZeroDivisionError: one two"


# Two URIs of one host


@pytest.fixture
def twice(qemu_daemon: Daemon) -> Iterator[tuple[str, str]]:
    """Two URIs of one host, which has a domain."""
    with Proxy(qemu_daemon) as proxy, guests(qemu_daemon.qemu_uri, [OFF]):
        yield qemu_daemon.qemu_uri, proxy.qemu_uri


def test_a_host_given_twice_is_looked_at_once(
    twice: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = twice
    with looking(one, other) as looks:
        for _ in range(2):
            seen = [(look.host, look.failure, names(look)) for look in looks.look()]
            assert seen == [(one, None, [OFF.name])]
    assert caplog.messages == [f"{other} is the same host as {one}"]
    with looking(one, ("node1", other)) as looks:
        [look] = looks.look()
    assert (look.host, look.names) == ("node1", ("node1",))


def test_a_name_service_that_fails_now_and_then_makes_no_second_host(qemu_daemon: Daemon) -> None:
    with Proxy(qemu_daemon) as proxy, guests(qemu_daemon.qemu_uri, [OFF]):
        with Host(qemu_daemon.qemu_uri, readonly=True) as host:
            full = f"{host.hostname().partition('.')[0]}.cloud.example"
        proxy.rewrite("CONNECT_GET_HOSTNAME", lambda _: xdr_string(full.encode()))
        with looking(qemu_daemon.qemu_uri, proxy.qemu_uri) as looks:
            assert [look.host for look in looks.look()] == [qemu_daemon.qemu_uri]


def test_a_uuid_that_libvirt_invents_makes_no_second_host(qemu_daemon: Daemon) -> None:
    """Two clients that are the first to ask may be told two: only the later answer stays."""
    answers = itertools.count()

    def change(payload: bytes) -> bytes:
        first = next(answers) == 0
        return re.sub(rb"(?<=<uuid>)[0-9a-f-]{8}", b"01234567", payload) if first else payload

    with Proxy(qemu_daemon) as proxy, guests(qemu_daemon.qemu_uri, [OFF]):
        proxy.rewrite("CONNECT_GET_CAPABILITIES", change)
        with looking(qemu_daemon.qemu_uri, proxy.qemu_uri) as looks:
            assert [look.host for look in looks.look()] == [qemu_daemon.qemu_uri]


def test_a_host_is_asked_once_who_it_is(qemu_daemon: Daemon) -> None:
    with Proxy(qemu_daemon) as proxy, guests(qemu_daemon.qemu_uri, [OFF]):
        with looking(qemu_daemon.qemu_uri, proxy.qemu_uri) as looks:
            looks.look()
            assert proxy.calls.count("CONNECT_GET_CAPABILITIES") == 2
            with proxy.counting() as calls:
                looks.look()
            assert calls == [LIST]


def test_one_host_under_two_names_is_no_host(twice: tuple[str, str]) -> None:
    one, other = twice
    with looking(("node1", one), ("node2", other)) as looks:
        looked = looks.look()
    assert [look.domains for look in looked] == [None, None]
    assert {look.failure for look in looked} == {
        "node1 and node2 are one host under 2 names: correct the URIs in the file of hosts"
    }


def test_a_host_that_does_not_tell_who_it_is_fails(daemon: Daemon, proxy: Proxy) -> None:
    """Two hosts with one domain: one host, or a migration."""
    with looking(("a", daemon.uri(node([ONE]))), ("b", proxy.uri(node([ONE])))) as looks:
        assert [names(look) for look in looks.look()] == [[ONE.name]] * 2
    proxy.fail("CONNECT_GET_CAPABILITIES", 1, 0, "no capabilities")
    with looking(("a", daemon.uri(node([ONE]))), ("b", proxy.uri(node([ONE])))) as looks:
        well, failed = looks.look()
    assert names(well) == [ONE.name]
    assert failed.domains is None
    assert "no capabilities" in str(failed.failure)


# Which hosts are this machine


@pytest.mark.parametrize(
    ("uri", "is_here", "owns_taps"),
    [
        (None, True, True),  # libvirt may choose the system's QEMU
        ("qemu:///system", True, True),
        ("qemu+unix:///system?socket=/run/libvirt/virtqemud-sock", True, True),
        ("qemu:///session", True, False),
        ("xen:///system", True, False),
        ("lxc:///system", True, False),
        ("test:///default", False, False),
        ("esx://node1/?no_verify=1", False, False),
        ("qemu://node1/system", False, False),
        ("qemu+tls://node1/system", False, False),
        ("qemu+ssh://localhost/system", False, False),
        ("qemu+ext:///system?command=/x", False, False),
    ],
)
def test_a_host_is_this_machine_by_its_uri(
    uri: str | None, is_here: bool, owns_taps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    monkeypatch.setattr("guestlist.uris._configuration", lambda: "")
    location = this_machine.before_it_opens(uri)
    assert (this_machine.is_here(location), this_machine.owns_taps(location)) == (
        is_here,
        owns_taps,
    )


# Disks of this machine


def with_disks(n: int, *disks: str, active: bool = False) -> Domain:
    return replace(nova_instance(n, active=active), devices="".join(disks))


def disk(source: str, target: str = "vda", *, device: str = "disk", more: str = "") -> str:
    kind, name = ("block", "dev") if source.startswith("/dev/") else ("file", "file")
    return (
        f"<disk type='{kind}' device='{device}'><driver name='qemu' type='raw'/>"
        f"<source {name}='{source}'/>{more}<target dev='{target}' bus='scsi'/></disk>"
    )


def test_a_disk_is_gone_when_its_file_is_not_there(qemu_daemon: Daemon, tmp_path: Path) -> None:
    there, gone, unmounted = tmp_path / "there", tmp_path / "gone", tmp_path / "no" / "disk"
    empty = tmp_path / "empty"
    empty.mkdir()
    link, dangling = tmp_path / "link", tmp_path / "dangling"
    there.touch()
    link.symlink_to("there")
    dangling.symlink_to("no/such/disk")
    domains = [
        with_disks(1, disk(f"{there}"), disk(f"{gone}", "vdb"), disk("/dev/gl-gone", "vdc")),
        with_disks(5, disk(f"{empty}/disk")),
        with_disks(2, disk(f"{unmounted}"), disk(f"{link}", "vdb"), disk(f"{dangling}", "vdc")),
        with_disks(3, disk(f"{there}/below"), disk(f"{gone}", "sdb", device="cdrom")),
        with_disks(
            4,
            "<disk type='volume' device='disk'><source pool='p' volume='v'/>"
            "<target dev='vda'/></disk>",
        ),
    ]
    with guests(qemu_daemon.qemu_uri, domains), looking(("here", qemu_daemon.qemu_uri)) as looks:
        [look] = looks.look()
        gone.touch()
        [later] = looks.look()
    one, five, two, *_ = domains
    assert look.lost_disks == (
        LostDisk(one.uuid, "vdb", str(gone), has_directory=True),
        LostDisk(two.uuid, "vda", str(unmounted), has_directory=False),
        LostDisk(two.uuid, "vdc", str(dangling), has_directory=False),
        LostDisk(five.uuid, "vda", f"{empty}/disk", has_directory=False),
    )
    assert later.lost_disks == (*look.lost_disks[1:],)


def test_a_running_guest_may_have_lost_its_disk_and_the_image_below(disk_daemon: Daemon) -> None:
    base = make_image(disk_daemon)
    top = disk_daemon.directory / "top.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-qf", "qcow2", "-b", base.path, "-F", "qcow2", top], check=True
    )
    disk_daemon.give(top)
    guest = with_disks(1, Image(top, "qcow2").disk(), active=True)
    with guests(disk_daemon.qemu_uri, [guest]), looking(disk_daemon.qemu_uri) as looks:
        assert looks.look()[0].lost_disks == ()
        base.path.unlink()
        [look] = looks.look()
        assert look.lost_disks == (LostDisk(guest.uuid, "vda", str(base.path), has_directory=True),)
        top.unlink()
        [look] = looks.look()
    assert [lost.location for lost in look.lost_disks or ()] == [str(top), str(base.path)]


def test_a_domain_that_is_gone_has_lost_no_disk(qemu_daemon: Daemon, tmp_path: Path) -> None:
    """Nova undefines a domain and then deletes its files, both perhaps after the list."""
    domain = with_disks(1, disk(f"{tmp_path}/gone"))
    with Proxy(qemu_daemon) as proxy, guests(qemu_daemon.qemu_uri, [domain]):

        def undefine() -> None:
            if proxy.calls.count(LIST) == 2:
                connection = libvirt.open(qemu_daemon.qemu_uri)
                connection.lookupByUUIDString(str(domain.uuid)).undefine()
                connection.close()

        with looking(("here", proxy.qemu_uri)) as looks:
            proxy.on_call(LIST, undefine)
            [look] = looks.look()
    assert names(look) == [domain.name]
    assert look.lost_disks == ()


def test_a_disk_that_was_exchanged_without_an_event_is_not_lost(
    qemu_daemon: Daemon, tmp_path: Path
) -> None:
    before, after = (with_disks(1, disk(f"{tmp_path}/{name}")) for name in ("old", "new"))
    (tmp_path / "old").touch()
    (tmp_path / "new").touch()
    with Proxy(qemu_daemon) as proxy, guests(qemu_daemon.qemu_uri, [before]):
        with looking(("here", proxy.qemu_uri)) as looks:
            assert looks.look()[0].lost_disks == ()
            proxy.swallow("DOMAIN_EVENT_CALLBACK_LIFECYCLE")
            connection = libvirt.open(qemu_daemon.qemu_uri)
            connection.defineXML(guest_xml(after))
            connection.close()
            (tmp_path / "old").unlink()
            assert looks.look()[0].lost_disks == ()


def test_storage_that_hangs_delays_a_look_once_and_accuses_no_disk(
    qemu_daemon: Daemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require(hanging_available())
    with hanging() as there:
        domain = with_disks(1, disk(f"{there.path}/disk"), disk(f"{tmp_path}/gone", "vdb"))
        with guests(qemu_daemon.qemu_uri, [domain]):
            with looking(("here", qemu_daemon.qemu_uri), disks_deadline=0.5) as looks:
                for _ in range(2):
                    [look] = looks.look()
                    assert [lost.target for lost in look.lost_disks or ()] == ["vdb"]
    [said] = caplog.messages
    assert said.startswith("here: not known whether all disks are there: 1 could not be")


def test_disks_can_be_left_out_and_then_no_xml_is_read(qemu_daemon: Daemon) -> None:
    domain = with_disks(1, disk("/nowhere/disk"))
    with Proxy(qemu_daemon) as proxy, guests(qemu_daemon.qemu_uri, [domain]):
        with looking(proxy.qemu_uri, disks=False, tap_devices=False) as looks:
            [look] = looks.look()
        assert "DOMAIN_GET_XML_DESC" not in proxy.calls
    assert look.lost_disks is look.taps is None


A, TOP = Source(SourceKind.FILE, "/a"), Source(SourceKind.FILE, "/top")


@pytest.mark.parametrize(
    ("one", "active", "paths"),
    [
        (Disk("vda", None, DiskDevice.DISK, A), True, ["/a"]),
        (Disk("vda", None, DiskDevice.LUN, Source(SourceKind.BLOCK, "/dev/a")), True, ["/dev/a"]),
        (Disk("vda", None, DiskDevice.DISK, replace(A, slice=Slice(0, 512))), True, ["/a"]),
        (Disk("vda", None, DiskDevice.DISK, replace(A, fd_group="libvirt-1-a")), True, []),
        (Disk("vda", None, DiskDevice.DISK, replace(A, location="a")), True, []),
        (Disk("vda", None, DiskDevice.DISK, Source(SourceKind.VOLUME, "pool/a")), True, []),
        (Disk("vda", None, DiskDevice.DISK, Source(SourceKind.NETWORK, "rbd:///a")), True, []),
        (Disk("vda", None, DiskDevice.DISK, Source(None, None), (A,)), True, ["/a"]),
        (Disk("sda", None, DiskDevice.CDROM, Source(SourceKind.NONE, None)), True, []),
        (Disk("sda", None, DiskDevice.CDROM, A), True, []),
        (Disk("sda", None, None, A), True, []),
        (Disk("vda", None, DiskDevice.DISK, TOP, (A,), transient=True), True, ["/a"]),
        (Disk("vda", None, DiskDevice.DISK, A, transient=True), False, ["/a"]),
        (Disk("vda", None, DiskDevice.DISK, Source(SourceKind.BLOCK, "/dev/a")), False, []),
    ],
)  # fmt: skip
def test_only_files_and_devices_that_the_xml_names_are_looked_at(
    one: Disk, active: bool, paths: list[str]
) -> None:
    assert list(disks_gone.paths(one, active=active)) == paths


@pytest.mark.parametrize("has_devices", [True, False])
def test_a_device_that_a_container_does_not_have_may_be_there(
    has_devices: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks_gone, "has_machines_devices", lambda _: has_devices)
    source = Source(SourceKind.BLOCK, "/dev/gl-gone")
    known = replace(details(), disks=(Disk("vda", None, DiskDevice.LUN, source),))
    guest = instance(1, known)
    found = DisksGone().among([guest], lambda _: [guest])
    assert found == ((LostDisk(guest.uuid, "vda", "/dev/gl-gone", has_directory=has_devices),), 0)


def test_what_may_not_be_looked_at_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    disks = tuple(
        Disk(None, None, DiskDevice.DISK, Source(SourceKind.FILE, path))
        for path in (f"{tmp_path}/file/below", "/" + "x" * 300, "/a\0b", f"{tmp_path}/file")
    )
    found = DisksGone().among([instance(1, replace(details(), disks=disks))], lambda _: [])
    assert found == ((), 3)


@pytest.mark.parametrize(
    ("lines", "is_so"),
    [
        ("22 28 0:6 / /dev rw - devtmpfs devtmpfs rw\n", True),
        ("22 28 0:6 / /dev rw,nosuid shared:1 - devtmpfs udev rw\n", True),
        ("22 28 0:6 / /dev rw - tmpfs tmpfs rw\n23 22 0:6 / /dev/pts rw - devpts p rw\n", False),
        ("22 28 0:6 / /dev rw - devtmpfs d rw\n29 22 0:9 / /dev rw - tmpfs tmpfs rw\n", False),
        ("", False),
    ],
)
def test_a_container_has_not_the_devices_of_the_machine(
    tmp_path: Path, lines: str, is_so: bool
) -> None:
    (tmp_path / "mounts").write_text(lines)
    assert disks_gone.has_machines_devices(tmp_path / "mounts") is is_so
    assert not disks_gone.has_machines_devices(tmp_path / "none")


# Tap devices of this machine

LOOK_AT_TAPS = """
import json, sys
from guestlist import Host, quiet
from guestlist.audit.disks_gone import DisksGone
from guestlist.audit.host_looks import AuditedHost, HostLooks
quiet()
looks = HostLooks([AuditedHost(Host(uri, readonly=True)) for uri in sys.argv[1:]], timeout=5.0)
every, first = looks.look(), looks.look({sys.argv[1]})
looks.close()
print(json.dumps([[look.taps for look in each] for each in (every, first)]))
"""


@pytest.fixture
def system(needs_libvirtd: None, needs_qemu: None) -> Iterator[SystemDaemon]:
    require(system_available())
    with SystemDaemon() as daemon:
        yield daemon


def taps_beside(system: SystemDaemon, *uris: str) -> Any:
    """The tap devices of each look: at all hosts, then at the first of them."""
    return json.loads(system.python(LOOK_AT_TAPS, *uris))


def make_taps(system: SystemDaemon, *names: str) -> None:
    for name in names:
        system.run("ip", "tuntap", "add", name, "mode", "tap")
        system.run("ip", "link", "set", name, "up")


def nic(tap: str) -> str:
    return f"<interface type='ethernet'><target dev='{tap}' managed='no'/></interface>"


def test_a_tap_device_that_neither_a_domain_nor_a_process_has(system: SystemDaemon) -> None:
    held, named, left = (f"tap0000000{n}-aa" for n in (1, 2, 3))
    make_taps(system, held, named, left, "vnet7", "theirs0")
    system.run("ip", "tuntap", "add", "vnet8", "mode", "tap")  # down, and nothing tells its carrier
    running = replace(nova_instance(1), devices=nic(held))
    off = replace(nova_instance(2, active=False), devices=nic(named))
    with guests(system.uri, [running, off]):
        assert taps_beside(system, system.uri) == [[[left, "vnet7"]]] * 2
    assert taps_beside(system, system.uri) == [[[held, named, left, "vnet7"]]] * 2


def test_a_tap_device_of_another_daemon_of_this_machine_is_not_accused(
    system: SystemDaemon, qemu_daemon: Daemon
) -> None:
    make_taps(system, "vnet1", "vnet2")
    theirs = replace(nova_instance(1, active=False), devices=nic("vnet2"))
    with guests(qemu_daemon.qemu_uri, [theirs]):
        both = system.uri, qemu_daemon.qemu_uri
        assert taps_beside(system, *both) == [[["vnet1"], None], [["vnet1"]]]
        assert taps_beside(system, *reversed(both)) == [[None, ["vnet1"]], [None]]
        assert taps_beside(system, system.uri) == [[["vnet1", "vnet2"]]] * 2
    qemu_daemon.kill()
    assert taps_beside(system, *both) == [[None, None], [None]]


def details(*targets: str | None, unknown: tuple[str, ...] = ()) -> Details:
    nics = tuple(Nic(None, "bridge", target=target) for target in targets)
    return Details(None, None, "kvm", 1, 1, 1, 1, nics=nics, unknown=unknown)


def instance(n: int, known: Details | None, *, active: bool = True) -> Instance:
    state = DomainState.RUNNING if active else DomainState.SHUTOFF
    return Instance(ONE.uuid, f"a{n}", n if active else None, state, 1, Launcher.NOVA, known)


IDLE = frozenset({taps.Tap("vnet1", "4"), taps.Tap("vnet2", "5")})


@pytest.mark.parametrize(
    ("instances", "after", "found"),
    [
        ([], IDLE, ("vnet1", "vnet2")),
        ([instance(1, details("vnet1", None))], IDLE, ("vnet2",)),
        ([instance(1, details("vnet2"), active=False)], IDLE, ("vnet1",)),
        ([], frozenset({taps.Tap("vnet1", "4"), taps.Tap("vnet2", "6")}), ("vnet1",)),
        ([instance(1, None)], IDLE, None),
        ([instance(1, details(unknown=("xml: no answer within 3 s",)))], IDLE, None),
        ([instance(1, None, active=False)], IDLE, ("vnet1", "vnet2")),
        ([instance(1, details(unknown=("disk vda: source",)))], IDLE, ("vnet1", "vnet2")),
    ],
)
def test_a_tap_device_is_without_domain_only_if_all_devices_are_known(
    instances: list[Instance], after: frozenset[taps.Tap], found: tuple[str, ...] | None
) -> None:
    assert taps.without_domain(IDLE, after, instances) == found


def test_without_sysfs_no_tap_device_is_known(tmp_path: Path) -> None:
    assert taps.idle(tmp_path) == frozenset()
    with pytest.raises(OSError, match="none"):
        taps.idle(tmp_path / "none")
    (tmp_path / "vnet1").mkdir()
    for name, text in {"tun_flags": "0x1802\n", "carrier": "0\n", "ifindex": "4\n"}.items():
        (tmp_path / "vnet1" / name).write_text(text)
    (tmp_path / "vnet2").mkdir()  # no tap device
    assert taps.idle(tmp_path) == {taps.Tap("vnet1", "4")}
    (tmp_path / "vnet1" / "tun_flags").write_text("0x1002\n")  # it ends with its process
    assert taps.idle(tmp_path) == frozenset()
