"""Details that follow a real guest of QEMU: its agent, and what libvirt writes of its devices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import libvirt
import pytest
from lab.agent import agent_available, agent_guest, press_key
from lab.daemon import Daemon
from lab.needs import require
from lab.nodes import nova_instance
from lab.qemu import guest_xml
from lab.waiting import LONG, wait_until

from guestlist import Changed, Details, EventKind, Host, Inventory, IoTune

ONE = nova_instance(1)


@pytest.fixture
def agent(qemu_daemon: Daemon) -> Iterator[libvirt.virDomain]:
    """A paused guest with an agent that has not connected yet."""
    require(agent_available())
    with agent_guest(qemu_daemon, ONE) as handle:
        yield handle


def details_of(source: Host | Inventory) -> Details:
    details = source.snapshot()[ONE.uuid].details
    assert details is not None
    return details


def test_an_agent_that_connects_and_disconnects_is_noticed(
    qemu_daemon: Daemon, agent: libvirt.virDomain
):
    with Host(qemu_daemon.qemu_uri) as host:
        assert details_of(host).agent_connected is False
        agent.resume()
        wait_until(lambda: details_of(host).agent_connected)
        press_key(agent)
        wait_until(lambda: not details_of(host).agent_connected)
        assert details_of(host).agent_connected is False
        assert host.snapshot().cost == 1


def test_a_live_view_tells_that_an_agent_connects(qemu_daemon: Daemon, agent: libvirt.virDomain):
    with Inventory(qemu_daemon.qemu_uri) as live:
        live.wait_synced(LONG)
        assert details_of(live).agent_connected is False
        with live.changes() as changes:
            agent.resume()
            told = False
            while not told:
                change = changes.get(timeout=LONG)
                assert isinstance(change, Changed)
                assert change.after is not None
                assert change.after.details is not None
                told = bool(change.after.details.agent_connected)
            assert EventKind.AGENT_LIFECYCLE in {event.kind for event in change.events}


_DEVICES = """
<disk type='file' device='disk'>
  <driver name='qemu' type='raw' cache='none' discard='unmap'/>
  <source file='/images/a.img'/><target dev='vda' bus='virtio'/>
  <iotune><total_iops_sec>500</total_iops_sec><read_bytes_sec>0</read_bytes_sec></iotune>
</disk>
<disk type='network' device='cdrom'>
  <driver name='qemu' type='raw'/>
  <source protocol='nbd' name='a'><host name='localhost' port='10809'/></source>
  <target dev='hda' bus='ide'/>
</disk>
<interface type='bridge'>
  <mac address='fa:16:3e:00:00:01'/><source bridge='br-int'/><mtu size='1442'/>
  <virtualport type='openvswitch'>
    <parameters interfaceid='567a4527-b0e4-4d0a-bcc2-71fda37897f7'/>
  </virtualport>
</interface>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""


def test_what_qemus_driver_writes_is_read(qemu_daemon: Daemon):
    connection = libvirt.open(qemu_daemon.qemu_uri)
    handle = connection.defineXML(guest_xml(replace(ONE, devices=_DEVICES)))
    try:
        with Host(qemu_daemon.qemu_uri) as host:
            details = host.snapshot(include_inactive=True)[ONE.uuid].details
        assert details is not None
        assert details.unknown == ()
        disk, cdrom = details.disks
        assert (disk.driver, disk.cache, disk.discard) == ("qemu", "none", "unmap")
        assert disk.iotune == IoTune(total_iops_sec=500)
        assert (cdrom.source.protocol, cdrom.iotune) == ("nbd", None)
        [nic] = details.nics
        found = nic.bridge, nic.mtu, str(nic.interface_id)
        assert found == ("br-int", 1442, "567a4527-b0e4-4d0a-bcc2-71fda37897f7")
        assert details.os is not None
        assert details.os.type == "hvm"
        assert details.os.machine not in (None, "", "pc", "virt")  # libvirt names the version
        assert details.agent_connected is None
    finally:
        handle.undefine()
        connection.close()
