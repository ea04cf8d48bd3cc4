"""A process that writes bodies of many guests and prints what that took, as one line of JSON.

In: numbers of guests and of bodies. Each guest has the statistics that libvirt 9.0 tells of a
running guest with a disk, a network interface and two vCPUs. Before each body every value is
another one, so that no line can be kept. Out: processor time of each body, uncompressed and
compressed, and the memory of this process; and what prometheus_client takes for the same samples.
The call to libvirt is no part of it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.harness.exporter_results import Writing
from lab import told
from lab.nodes import nova_instance
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from guestlist import domainxml
from guestlist.exporter.collectors import COLLECTORS
from guestlist.exporter.exposition import body
from guestlist.exporter.families import families
from guestlist.exporter.guests import GuestNow, Guests
from guestlist.exporter.labels import LabelStyle
from guestlist.exporter.lane import Reading
from guestlist.exporter.web import bodies
from guestlist.launcher import Launcher
from guestlist.records import Instance
from guestlist.states import DomainState

_XML = """
<domain type='kvm' id='{n}'>
  <name>{name}</name><uuid>{uuid}</uuid>
  <metadata>{metadata}</metadata>
  <memory unit='KiB'>2097152</memory><currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' discard='unmap'/>
      <source file='/var/lib/nova/instances/{uuid}/disk'/><target dev='vda' bus='virtio'/>
      <iotune><total_bytes_sec>100000000</total_bytes_sec><total_iops_sec>500</total_iops_sec></iotune>
    </disk>
    <interface type='bridge'>
      <mac address='fa:16:3e:00:00:07'/><source bridge='br-int'/>
      <virtualport type='openvswitch'><parameters interfaceid='{uuid}'/></virtualport>
      <target dev='tap{n}'/><model type='virtio'/><mtu size='1442'/>
    </interface>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>
    </channel>
  </devices>
</domain>
"""

_NEWER = "timed_group", "latency_histogram", "energy"
"""Parts of keys that libvirt 9.0 has not."""


def _guest(n: int) -> tuple[Instance, dict[str, Any], dict[str, Any]]:
    """Return the record of a guest, its statistics of the moment, and what it tells itself."""
    domain = nova_instance(n)
    xml = _XML.format(n=n, name=domain.name, uuid=domain.uuid, metadata=domain.metadata)
    details = domainxml.parse(xml)
    instance = Instance(domain.uuid, domain.name, n, DomainState.RUNNING, 1, Launcher.NOVA, details)
    lane = {
        key: value
        for key, value in told.guest("vda").items()
        if not any(part in key for part in _NEWER)
    }
    return instance, told.network(f"tap{n}"), lane


def _moved(values: dict[str, Any], by: int) -> dict[str, Any]:
    """Return the values, each number above 9 greater by that; the others are states."""
    return {
        key: value + by if type(value) is int and value > 9 else value
        for key, value in values.items()
    }


def _now(guest: tuple[Instance, dict[str, Any], dict[str, Any]], turn: int) -> GuestNow:
    instance, network, lane = guest
    reading = Reading(instance.id or 0, _moved(lane, turn), time.monotonic())
    return GuestNow(
        UUID(int=instance.uuid.int),
        instance.name,
        instance.id,
        instance.state,
        instance.reason,
        instance,
        _moved(network, turn),
        reading,
        True,
    )


class _Told(Collector):
    """Gives prometheus_client the samples of a body."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = [
            (each.name, each.documentation, each.type, each.samples) for each in families
        ]

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is, is not known before a scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the families, made again as a collector makes them."""
        for name, text, kind, samples in self._families:
            metric = Metric(name, text, kind)
            for sample in samples:
                metric.add_sample(sample.name, dict(sample.labels), sample.value)
            yield metric


def _by_client_library(plain: bytes, rounds: int) -> list[float]:
    """Return the processor time that prometheus_client takes for a body with the same samples."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(text_string_to_metric_families(plain.decode())))
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        generate_latest(registry)
        seconds.append(time.process_time() - start)
    return seconds


def main(count: str, rounds: str) -> None:
    """Write the bodies, and print what they took."""
    all_of_them = [_guest(n) for n in range(1, int(count) + 1)]
    chosen = families(frozenset(name for name, each in COLLECTORS.items() if each.is_default))
    guests = Guests(LabelStyle(), None)
    plain_seconds, gzip_seconds = [], []
    plain = compressed = b""
    for turn in range(int(rounds) + 1):
        now = [_now(guest, turn) for guest in all_of_them]
        start = time.process_time()
        plain = body(chosen, guests.lines(now, time.monotonic()))
        made = time.process_time()
        compressed = bodies._gzip(plain)
        ended = time.process_time()
        if turn:  # the first one makes the labels
            plain_seconds.append(made - start)
            gzip_seconds.append(ended - start)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    series = sum(not line.startswith(b"#") for line in plain.splitlines())
    memory = pages * resource.getpagesize()
    written = Writing(
        *(int(count), series, len(plain), len(compressed), memory),
        plain_seconds,
        gzip_seconds,
        _by_client_library(plain, int(rounds)),
    )
    print(json.dumps(asdict(written)))


if __name__ == "__main__":
    main(*sys.argv[1:])
