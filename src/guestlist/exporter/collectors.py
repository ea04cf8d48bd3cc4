"""The groups of metric families that are switched on and off together. Pure.

In: nothing. Out: what each collector is about, and which group of libvirt's statistics it
needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Collector(NamedTuple):
    """A group of families that is switched on and off together."""

    about: str
    """Completes "collect …" in the help."""

    is_default: bool = True
    statistics: str | None = None
    """The group of libvirt's statistics that it asks of the guests, if it asks any."""


COLLECTORS: Mapping[str, Collector] = {
    "state": Collector("the state with its word, a series for each word"),
    "openstack": Collector("what Nova wrote into the metadata: instance, flavor, owner"),
    "interface": Collector("network interfaces"),
    "iotune": Collector("limits of disks"),
    "block": Collector("disks", statistics="block"),
    "balloon": Collector("memory, as the guest tells it", statistics="balloon"),
    "vcpu": Collector("virtual CPUs", statistics="vcpu"),
    "cpu": Collector("processor time", statistics="cpu-total"),
    "job": Collector("migrations that are under way"),
    "events": Collector("counters of events"),
    "pool": Collector("storage pools; 1 call more for each pool", is_default=False),
    "process": Collector("the exporter itself"),
}
"""By the name in `--collector.NAME`. Families of the collector "" are always there."""
