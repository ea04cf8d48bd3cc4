"""Statistics that libvirt may have to ask the guests for: how they are asked for, and read.

In: the names of groups. Out: what libvirt knows of each active domain, whether all of it came, and
typed records of it. Listing and states never come here.

    asking     what a Host asks for: within a deadline, over separate connections
    rounds     the calls under way, and what is known of the guests between two rounds
    one_round  all guests asked once, also while some of them are stuck
    calls      the calls to libvirt: all guests, some of them, one disk after the other
    groups     the groups by name, and whether a guest has answered         (pure)
    reading    libvirt's names and values to records                        (pure)
"""

from guestlist.statistics.asking import Answers, Statistics
from guestlist.statistics.calls import Answer
from guestlist.statistics.groups import GROUPS
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
