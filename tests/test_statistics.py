"""Statistics to records: what libvirt tells, what it leaves out, and what no libvirt would say."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, astuple, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.images import MIB, make_image
from lab.nodes import nova_instance
from lab.qemu import guests, stuck
from lab.waiting import wait_until

from guestlist import Host
from guestlist.statistics import (
    Balloon,
    Block,
    CpuTotal,
    Interface,
    Vcpu,
    balloon_in,
    blocks_in,
    counters_in,
    cpu_total_in,
    interfaces_in,
    vcpus_in,
)

READERS = (blocks_in, vcpus_in, interfaces_in, balloon_in, cpu_total_in, counters_in)

# As libvirt 9.0 answers for a guest with one disk, its drive without a medium, and one interface.
ANSWER = {
    "state.state": 1,
    "cpu.time": 3_000,
    "cpu.user": 1_000,
    "cpu.system": 2_000,
    "cpu.haltpoll.success.time": 5,
    "cpu.haltpoll.fail.time": 6,
    "balloon.current": 524_288,
    "balloon.maximum": 1_048_576,
    "balloon.swap_in": 0,
    "balloon.last-update": 1_700_000_000,
    "balloon.hugetlb_pgalloc": 1,
    "balloon.rss": 200_000,
    "vcpu.current": 2,
    "vcpu.maximum": 4,
    "vcpu.0.state": 1,
    "vcpu.0.time": 10,
    "vcpu.0.wait": 0,
    "vcpu.0.halted": True,
    "vcpu.0.delay": 12,
    "vcpu.2.state": 2,
    "net.count": 1,
    "net.0.name": "tap0",
    "net.0.rx.bytes": 100,
    "net.0.tx.drop": 3,
    "block.count": 2,
    "block.0.name": "vda",
    "block.0.path": "/images/disk",
    "block.0.rd.reqs": 1,
    "block.0.rd.bytes": 2,
    "block.0.rd.times": 3,
    "block.0.wr.reqs": 4,
    "block.0.wr.bytes": 5,
    "block.0.wr.times": 6,
    "block.0.fl.reqs": 7,
    "block.0.fl.times": 8,
    "block.0.allocation": 9,
    "block.0.capacity": 10,
    "block.0.physical": 11,
    "block.0.backingIndex": 3,
    "block.1.name": "sda",
    "block.10.name": "vda",
    "block.10.backingIndex": 1,
    "block.10.rd.reqs": 90,
    "block.10.rd.bytes": 91,
    "block.10.wr.reqs": 92,
    "block.10.wr.bytes": 93,
}


def test_each_key_of_libvirts_is_in_the_field_of_its_name():
    assert cpu_total_in(ANSWER) == CpuTotal(3_000, 1_000, 2_000, 5, 6)
    assert balloon_in(ANSWER) == Balloon(
        current=524_288,
        maximum=1_048_576,
        swap_in=0,
        last_update=1_700_000_000,
        hugetlb_pgalloc=1,
        rss=200_000,
    )
    assert vcpus_in(ANSWER) == (
        Vcpu(0, state=1, time=10, wait=0, halted=True, delay=12),
        Vcpu(2, state=2),
    )
    assert interfaces_in(ANSWER) == (Interface(0, name="tap0", rx_bytes=100, tx_drop=3),)
    disk, drive, image = blocks_in(ANSWER)
    assert disk == Block(
        *(0, "vda", "/images/disk", 3),
        *(1, 2, 3, 4, 5, 6, 7, 8),
        *(None, 9, 10, 11, None),
    )
    assert drive == Block(1, name="sda")
    assert (image.index, image.backing_index, image.rd_reqs) == (10, 1, 90)


def test_counters_are_those_of_disks_that_answered_and_of_no_image_below_them():
    assert counters_in(ANSWER) == {"vda": (1, 2, 4, 5)}


def test_what_libvirt_does_not_tell_is_none_and_not_zero():
    for read in READERS:
        assert not read({})
    assert balloon_in({"state.state": 1}) is None
    assert set(astuple(blocks_in({"block.0.name": "vda"})[0])[2:]) == {None}
    assert interfaces_in({"net.count": 3}) == ()


def test_a_domain_has_the_disks_whose_keys_are_there_whatever_their_number_is_said_to_be():
    values = {"block.count": 2**64 - 1, "block.4294967295.name": "vda", "vcpu.maximum": 2**40}
    assert blocks_in(values) == (Block(4_294_967_295, name="vda"),)
    assert vcpus_in(values) == ()


@pytest.mark.parametrize(
    "key",
    [
        "block",
        "block.",
        "block.0",
        "block.0.",
        "block..name",
        "block.00.name",
        "block.-1.name",
        "block.+1.name",
        "block. 1.name",
        "block.\u0661.name",
        "block.1_0.name",
        "block.99999999999.name",
        "block." + "9" * 10_000 + ".name",
        "block.0.name.more",
        "block.0.index",
        "block.0.rd_bytes",
        "block.0.backing_index",
        "block.0.to.be.invented",
    ],
)
def test_a_key_that_is_not_libvirts_is_ignored(key: str):
    assert blocks_in({key: "vda"}) == ()


@pytest.mark.parametrize("value", ["1", 1.0, True, None, -1, 2**64, b"1", [1], {}])
def test_a_count_that_is_none_is_none(value: object):
    """Another disk, or another field, keeps its own."""
    alone = {key: told for key, told in ANSWER.items() if not key.startswith("block.10.")}
    values = {**alone, "block.0.rd.reqs": value, "net.0.rx.bytes": value, "cpu.time": value}
    assert blocks_in(values)[0] == Block(
        **{**asdict(blocks_in(ANSWER)[0]), "rd_reqs": None},
    )
    assert interfaces_in(values)[0].rx_bytes is None
    assert cpu_total_in(values) == CpuTotal(None, 1_000, 2_000, 5, 6)
    assert counters_in(values) == {}


def test_a_text_and_a_flag_are_what_they_should_be():
    values = {"block.0.name": 7, "block.0.path": None, "vcpu.0.halted": 1, "vcpu.0.state": 1}
    assert blocks_in(values) == (Block(0),)
    assert vcpus_in(values) == (Vcpu(0, state=1),)


KEYS = st.one_of(
    st.sampled_from(sorted(ANSWER)),
    st.builds(
        "{}.{}.{}".format,
        st.sampled_from(["block", "vcpu", "net", "cpu", "balloon"]),
        st.integers(-1, 2**70) | st.text(max_size=3),
        st.sampled_from(["name", "state", "rd.bytes", "rx.bytes", "time"]) | st.text(max_size=5),
    ),
    st.text(max_size=12),
)
ANYTHING = st.integers(-(2**70), 2**70) | st.text(max_size=5) | st.booleans() | st.floats()


@given(st.dictionaries(KEYS, ANYTHING, max_size=20))
def test_any_answer_is_read(values: dict[str, object]):
    for read in READERS:
        read(values)
    for records in (blocks_in(values), vcpus_in(values), interfaces_in(values)):
        assert len(records) <= len(values)
        assert [record.index for record in records] == sorted({one.index for one in records})


def test_a_real_guest_is_read_whole(disk_daemon):
    """Each key that libvirt answers is in a field, or is a count."""
    disk = make_image(disk_daemon).disk()
    guest = replace(nova_instance(1), devices=disk)
    with guests(disk_daemon.qemu_uri, [guest]), Host(disk_daemon.qemu_uri) as host:
        asked = ["block", "vcpu", "interface", "balloon", "cpu-total"]
        snapshot = host.snapshot(statistics=asked, deadline=60.0)
        assert not snapshot.unanswered
        values = snapshot[guest.uuid].statistics
    records = (
        *(*blocks_in(values), *vcpus_in(values), *interfaces_in(values)),
        *(balloon_in(values), cpu_total_in(values)),
    )
    told = [value for record in records for value in facts(record).values() if value is not None]
    counts = {
        *("block.count", "net.count", "vcpu.current", "vcpu.maximum"),
        "cpu.cache.monitor.count",
    }
    assert len(told) == len(values.keys() - counts)
    [block] = blocks_in(values)
    assert (block.name, block.capacity) == ("vda", 64 * MIB)
    assert counters_in(values) == {
        "vda": (block.rd_reqs, block.rd_bytes, block.wr_reqs, block.wr_bytes)
    }


def test_more_than_four_stuck_guests_leave_the_others_their_statistics(qemu_daemon):
    with guests(qemu_daemon.qemu_uri, 7) as domains, Host(qemu_daemon.qemu_uri) as host:
        with contextlib.ExitStack() as stack:
            for domain in domains[:5]:
                stack.enter_context(stuck(qemu_daemon, domain))
            snapshot = host.snapshot(statistics=["balloon", "block"], deadline=30.0)
            assert snapshot.unanswered == {domain.uuid for domain in domains[:5]}
            for domain in domains[5:]:
                assert snapshot[domain.uuid].statistics["balloon.rss"] > 0
            assert host._sessions.statistics._rounds.hanging == 5
        wait_until(lambda: not host.snapshot(statistics=["balloon"], deadline=30.0).unanswered)


def facts(record: object) -> dict[str, object]:
    """Return what libvirt told: the index is a part of its key."""
    return {name: value for name, value in asdict(record).items() if name != "index"}
