"""The labels of each metric family, taken from the samples of a guest that has everything.

In: the exporter's own modules. Out: the names of the labels, by family. Asks no libvirt:
the guest's XML is here, and its statistics are in `told`.
"""

from __future__ import annotations

from uuid import UUID

from lab import told
from prometheus_client.parser import text_string_to_metric_families

from guestlist import domainxml
from guestlist.exporter import own
from guestlist.exporter.exposition import body
from guestlist.exporter.families import FAMILIES
from guestlist.exporter.guests import GuestNow, Guests
from guestlist.exporter.labels import LabelStyle
from guestlist.exporter.lane import Reading
from guestlist.launcher import Launcher
from guestlist.records import Instance
from guestlist.states import DomainState

XML = """\
<domain type='kvm' id='7'>
  <name>instance-00000007</name>
  <uuid>5dd4cbd5-8f4e-4d9c-8b2e-3a4f26f1a5c7</uuid>
  <metadata>
    <nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>
      <nova:package version='32.0.0'/>
      <nova:name>web</nova:name>
      <nova:creationTime>2026-11-26 08:00:00</nova:creationTime>
      <nova:flavor name='m1.small' id='2'>
        <nova:memory>2048</nova:memory>
        <nova:vcpus>2</nova:vcpus>
      </nova:flavor>
      <nova:image uuid='0c9e5a4e-5b0d-4d52-9a6f-1f2d3c4b5a69'/>
      <nova:owner>
        <nova:user uuid='u-1'>anna</nova:user>
        <nova:project uuid='p-1'>shop</nova:project>
      </nova:owner>
      <nova:root type='image' uuid='0c9e5a4e-5b0d-4d52-9a6f-1f2d3c4b5a69'/>
    </nova:instance>
  </metadata>
  <memory unit='KiB'>2097152</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' discard='unmap'/>
      <source file='/var/lib/nova/instances/7/disk'/>
      <target dev='vda' bus='virtio'/>
      <serial>s-1</serial>
      <iotune>
        <total_bytes_sec>1000</total_bytes_sec>
        <total_iops_sec>10</total_iops_sec>
        <total_bytes_sec_max>2000</total_bytes_sec_max>
        <total_iops_sec_max>20</total_iops_sec_max>
        <total_bytes_sec_max_length>5</total_bytes_sec_max_length>
        <total_iops_sec_max_length>5</total_iops_sec_max_length>
        <size_iops_sec>4096</size_iops_sec>
      </iotune>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/var/lib/nova/instances/7/disk.eph0'/>
      <target dev='vdb' bus='virtio'/>
      <iotune>
        <read_bytes_sec>1000</read_bytes_sec>
        <write_bytes_sec>1000</write_bytes_sec>
        <read_iops_sec>10</read_iops_sec>
        <write_iops_sec>10</write_iops_sec>
        <read_bytes_sec_max>2000</read_bytes_sec_max>
        <write_bytes_sec_max>2000</write_bytes_sec_max>
        <read_iops_sec_max>20</read_iops_sec_max>
        <write_iops_sec_max>20</write_iops_sec_max>
        <read_bytes_sec_max_length>5</read_bytes_sec_max_length>
        <write_bytes_sec_max_length>5</write_bytes_sec_max_length>
        <read_iops_sec_max_length>5</read_iops_sec_max_length>
        <write_iops_sec_max_length>5</write_iops_sec_max_length>
      </iotune>
    </disk>
    <interface type='bridge'>
      <mac address='fa:16:3e:00:00:07'/>
      <source bridge='br-int'/>
      <virtualport type='openvswitch'>
        <parameters interfaceid='91c1f2b0-8a6e-4a55-8f2a-0a1b2c3d4e5f'/>
      </virtualport>
      <target dev='tap1'/>
      <model type='virtio'/>
      <mtu size='1442'/>
    </interface>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>
    </channel>
  </devices>
</domain>
"""

_UUID = UUID("5dd4cbd5-8f4e-4d9c-8b2e-3a4f26f1a5c7")
_NAME = "instance-00000007"


def labels(compat: str | None = None, *, nova_labels: bool = False) -> dict[str, frozenset[str]]:
    """Return the names of the labels of each family that a guest, or the exporter itself, fills.

    Args:
        compat: the value of `--compat`.
        nova_labels: kumina's `--libvirt.export-nova-metadata`.
    """
    instance = Instance(
        _UUID, _NAME, 7, DomainState.RUNNING, 1, Launcher.NOVA, domainxml.parse(XML)
    )
    reading = Reading(7, told.guest("vda", "vdb"), asked_at=0.0)
    now = GuestNow(
        _UUID, _NAME, 7, DomainState.RUNNING, 1, instance, told.network("tap1"), reading, True
    )
    guests = Guests(LabelStyle(compat == "kumina", nova_labels), compat)
    text = body(FAMILIES, [*guests.lines([now], 1.0), own.lines()]).decode()
    found: dict[str, frozenset[str]] = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            found[name] = found.get(name, frozenset()) | (sample.labels.keys() - {"le"})
    return found
