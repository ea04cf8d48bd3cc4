"""Statistics that libvirt may have to ask the guests for: how they are asked for, and read.

In: the names of groups. Out: what libvirt knows of each active domain, whether all of it came, and
typed records of it. Listing and states never come here.

    asking    the calls: on a separate connection, within a deadline, also while a guest is stuck
    reading   libvirt's names and values to records                        (pure)
"""

from guestlist.statistics.asking import GROUPS, Answer, Answers, Statistics
from guestlist.statistics.reading import (
    Balloon,
    Block,
    Counters,
    CpuTotal,
    Interface,
    Values,
    Vcpu,
    balloon_in,
    blocks_in,
    counters_in,
    cpu_total_in,
    interfaces_in,
    tells_of_disks,
    vcpus_in,
)

__all__ = [
    "GROUPS",
    "Answer",
    "Answers",
    "Balloon",
    "Block",
    "Counters",
    "CpuTotal",
    "Interface",
    "Statistics",
    "Values",
    "Vcpu",
    "balloon_in",
    "blocks_in",
    "counters_in",
    "cpu_total_in",
    "interfaces_in",
    "tells_of_disks",
    "vcpus_in",
]
