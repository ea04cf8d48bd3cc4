"""The laboratory's daemon, hosts and guests, against the real libvirt."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
from lab import nodes
from lab.daemon import Daemon
from lab.images import MIB, make_image
from lab.nodes import nova_instance
from lab.qemu import guests, stuck

BULK_LIMIT = 16_384


def test_serves_the_test_driver(daemon: Daemon):
    connection = libvirt.open(daemon.uri())
    assert connection.getType() == "TEST"
    connection.close()


def test_runs_without_privileges(daemon: Daemon):
    assert os.stat(f"/proc/{daemon.pid}").st_uid != 0  # noqa: PTH116


def test_several_do_not_disturb_each_other(daemon: Daemon, own_daemon: Daemon):
    assert daemon.socket != own_daemon.socket
    own_daemon.kill()
    libvirt.open(daemon.uri()).close()


def test_killed_it_is_gone_and_restarted_it_is_back_on_the_same_socket(own_daemon: Daemon):
    uri = own_daemon.uri()
    assert own_daemon.end is None
    own_daemon.kill()
    assert own_daemon.end == "SIGKILL"
    with pytest.raises(libvirt.libvirtError) as refused:
        libvirt.open(uri)
    assert refused.value.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR
    own_daemon.restart()
    libvirt.open(uri).close()


def test_stopped_it_is_silent_and_continued_it_answers(own_daemon: Daemon):
    connection = libvirt.open(own_daemon.uri())
    own_daemon.stop()
    own_daemon.cont()
    assert connection.numOfDomains() == 1
    connection.close()


def test_leaves_nothing_behind(needs_libvirtd):
    with Daemon() as daemon:
        directory, pid = daemon.directory, daemon.pid
        assert directory.is_dir()
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_ends_when_its_owner_dies_without_a_word(needs_libvirtd):
    """The guard cleans up before it closes its output: nothing here waits a guessed time."""
    owner = """
import os, signal
from lab.daemon import Daemon
daemon = Daemon().__enter__()
print(daemon.directory, daemon.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run(
        [sys.executable, "-c", owner],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    directory, pid = died.stdout.split()
    assert died.returncode == -signal.SIGKILL
    assert not Path(directory).exists()
    with contextlib.suppress(ProcessLookupError):  # gone; or ending, or not yet reaped
        ended, _, _ = select.select([os.pidfd_open(int(pid))], [], [], 30)
        assert ended


@pytest.mark.parametrize("domain", nodes.believable_host(), ids=lambda domain: domain.name)
def test_a_domain_is_served_as_it_was_made(daemon: Daemon, domain: nodes.Domain):
    connection = libvirt.open(daemon.uri(nodes.node([domain])))
    (handle,) = connection.listAllDomains()
    assert handle.name() == domain.name
    assert uuid.UUID(bytes=handle.UUID()) == domain.uuid
    assert handle.state()[0] == domain.runstate
    assert bool(handle.isPersistent()) is not domain.transient
    assert handle.info()[3] == domain.vcpus
    connection.close()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_nova_metadata_is_where_nova_puts_it(daemon: Daemon, version: str):
    instance = nodes.nova_instance(7, ns=version)
    connection = libvirt.open(daemon.uri(nodes.node([instance])))
    (handle,) = connection.listAllDomains()
    element = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    assert "<instance" in handle.metadata(element, nodes.NOVA_NAMESPACE + version)
    assert "OpenStack Nova" in handle.XMLDesc()
    connection.close()


def test_the_bulk_call_is_refused_beyond_its_limit_over_the_wire(daemon: Daemon):
    many = (nodes.Domain(f"d{n}", uuid.UUID(int=n + 1)) for n in range(BULK_LIMIT + 1))
    connection = libvirt.open(daemon.uri(nodes.node(many)))
    with pytest.raises(libvirt.libvirtError, match="Too many domains") as refused:
        connection.listAllDomains()
    assert refused.value.get_error_code() == libvirt.VIR_ERR_INTERNAL_ERROR
    assert connection.numOfDomains() == BULK_LIMIT + 1
    connection.close()


def test_real_guests_start_paused_and_survive_the_daemon(qemu_daemon: Daemon):
    with guests(qemu_daemon.qemu_uri, 1) as (guest,):
        qemu_daemon.restart()
        connection = libvirt.open(qemu_daemon.qemu_uri)
        (handle,) = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        assert handle.name() == guest.name
        assert handle.state()[0] == libvirt.VIR_DOMAIN_PAUSED
        connection.close()


def test_guests_end_with_the_daemon(qemu_daemon: Daemon):
    with guests(qemu_daemon.qemu_uri, [replace(nova_instance(1), transient=True)]):
        connection = libvirt.open(qemu_daemon.qemu_uri)
        assert connection.numOfDomains() == 1
        connection.close()
    connection = libvirt.open(qemu_daemon.qemu_uri)
    assert connection.listAllDomains() == []
    connection.close()


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_an_image_holds_what_was_written(disk_daemon: Daemon, format):
    image = make_image(disk_daemon, size=8 * MIB, written=2 * MIB, format=format)
    assert 2 * MIB <= image.allocated < 3 * MIB
    assert (image.path.stat().st_size == 8 * MIB) is (format == "raw")
    assert image.path.stat().st_uid == disk_daemon.directory.stat().st_uid


def test_a_guest_runs_on_its_disks(disk_daemon: Daemon):
    root, data = make_image(disk_daemon), make_image(disk_daemon, format="raw")
    instance = replace(nova_instance(1), devices=root.disk("vda") + data.disk("vdb"))
    with guests(disk_daemon.qemu_uri, [instance]):
        connection = libvirt.open(disk_daemon.qemu_uri)
        handle = connection.lookupByUUID(instance.uuid.bytes)
        assert str(root.path) in handle.XMLDesc()
        assert len(handle.blockStats("vdb")) == 5
        connection.close()


def test_a_stuck_guest_is_seen_and_its_monitor_silent_until_it_goes_on(disk_daemon: Daemon):
    instance = replace(nova_instance(1), devices=make_image(disk_daemon).disk())
    with guests(disk_daemon.qemu_uri, [instance]):
        handles = [
            libvirt.open(disk_daemon.qemu_uri).lookupByUUID(instance.uuid.bytes) for _ in range(2)
        ]
        with ThreadPoolExecutor(1) as pool:
            with stuck(disk_daemon, instance):
                waits = pool.submit(handles[0].blockStats, "vda")
                assert handles[1].state()[0] == libvirt.VIR_DOMAIN_PAUSED
                assert not waits.done()
            assert len(waits.result()) == 5


def test_a_stuck_guest_goes_on_in_time(disk_daemon: Daemon):
    instance = replace(nova_instance(1), devices=make_image(disk_daemon).disk())
    with guests(disk_daemon.qemu_uri, [instance]):
        connection = libvirt.open(disk_daemon.qemu_uri)
        with stuck(disk_daemon, instance, at_most=0.1):
            handle = connection.lookupByUUID(instance.uuid.bytes)
            assert len(handle.blockStats("vda")) == 5
        connection.close()
