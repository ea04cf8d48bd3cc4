"""Numbers of vCPUs are remembered while a domain keeps its id, for a bounded time."""

from __future__ import annotations

import math
from types import SimpleNamespace
from uuid import UUID

from guestlist import NotSupported
from guestlist.nova.vcpus import VcpuMemory, Vcpus

ONE, TWO = UUID(int=1), UUID(int=2)
THREE_VCPUS = {"vcpu.current": 3, **{f"vcpu.{n}.state": 1 for n in range(3)}}
NONE_NAMED = {"vcpu.current": 3}


class Taken(dict):
    """A snapshot: instances by UUID."""

    def __init__(self, *instances, failure=None):
        super().__init__({uuid: SimpleNamespace(id=id, statistics=s) for uuid, id, s in instances})
        self.statistics_failure = failure


def read(*instances, max_age=math.inf, failure=None):
    memory = VcpuMemory(max_age)
    counts = memory.read(Taken(*instances, failure=failure))
    return memory, [count.listed for count in counts]


def test_the_vcpus_that_libvirt_names_are_counted_and_one_where_it_names_none():
    _, listed = read((ONE, 1, THREE_VCPUS), (TWO, 2, NONE_NAMED))
    assert listed == [3, 1]


def test_a_number_is_remembered_for_one_start():
    memory, _ = read((ONE, 1, THREE_VCPUS), (TWO, 2, NONE_NAMED))
    assert memory.counts(Taken((ONE, 1, None))) == [Vcpus(str(ONE), 1, 3)]
    assert memory.counts(Taken((ONE, 9, None))) is None, "it has started again"
    assert memory.counts(Taken((ONE, 1, None), (UUID(int=3), 3, None))) is None, "one is new"


def test_a_number_is_read_again_after_a_time():
    memory, _ = read((ONE, 1, THREE_VCPUS), max_age=0.0)
    assert memory.counts(Taken((ONE, 1, None))) is None


def test_a_domain_that_libvirt_could_not_be_asked_about_is_not_remembered():
    memory, listed = read((ONE, 1, None))
    assert listed == [None]
    assert memory.counts(Taken((ONE, 1, None))) is None


def test_that_libvirt_has_no_such_statistics_is_remembered():
    """Its record is empty, or the call does not exist."""
    for memory, listed in (
        read((ONE, 1, {})),
        read((ONE, 1, None), failure=NotSupported("before 1.2.8")),
    ):
        assert listed == [None]
        assert memory.counts(Taken((ONE, 1, None))) == [Vcpus(str(ONE), 1, None)]
