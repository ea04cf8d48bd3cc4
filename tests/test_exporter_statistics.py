"""libvirt's statistics as samples: every key, and what does not become a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import told
from lab.scraped import Scraped, Series

from guestlist.exporter.exposition import Kind, Lines, body
from guestlist.exporter.families import FAMILIES
from guestlist.exporter.from_statistics import KEYS, Reader
from guestlist.exporter.labels import GuestLabels, LabelStyle

BY_NAME = {family.name: family for family in FAMILIES}


def reader(name: str = "instance-1") -> Reader:
    return Reader(GuestLabels(name, None, LabelStyle()))


def samples(lines: Lines) -> Mapping[Series, float]:
    """Return the samples; no series stands there twice."""
    return Scraped.of(body(FAMILIES, [lines])).values


def value(lines: Lines, name: str, **labels: str) -> float | None:
    return samples(lines).get((name, frozenset({"domain": "instance-1", **labels}.items())))


def test_each_row_leads_to_a_family_that_there_is() -> None:
    for key, row in KEYS.items():
        assert row.family in BY_NAME, key


def test_a_guest_that_has_everything_fills_each_row() -> None:
    lines = reader().lines(told.guest("vda", "vdb") | told.network("tap1"))
    assert {row.family for row in KEYS.values()} <= set(lines)


def test_units_are_those_of_prometheus() -> None:
    values = told.guest("vda") | {"cpu.time": 1_500_000_000, "balloon.rss": 3}
    lines = reader().lines(values | {"block.0.rd.times": 2_000_000_000})
    assert value(lines, "libvirt_domain_info_cpu_time_seconds_total") == 1.5
    assert value(lines, "libvirt_domain_memory_stats_rss_bytes") == 3_072
    name = "libvirt_domain_block_stats_read_time_seconds_total"
    assert value(lines, name, target_device="vda") == 2.0
    assert value(lines, "libvirt_domain_memory_stats_used_percent") == 75.0


def test_a_latency_histogram_is_added_up() -> None:
    lines = reader().lines(told.disks("vda"))
    name, at = "libvirt_domain_block_latency_seconds", {"target_device": "vda", "operation": "read"}
    assert BY_NAME[name].kind is Kind.HISTOGRAM
    assert value(lines, f"{name}_bucket", le="1e-05", **at) == 3
    assert value(lines, f"{name}_bucket", le="0.0001", **at) == 7
    assert value(lines, f"{name}_bucket", le="+Inf", **at) == 12
    assert value(lines, f"{name}_count", **at) == 12


def test_a_busy_guest_has_no_counters_rather_than_0() -> None:
    passed_over = {"block.count": 1, "block.0.name": "vda", "block.0.path": "/x"}
    assert reader().lines(passed_over) == {}


@pytest.mark.parametrize("bad", [-1, None, "7", 1.5, True, [], float("nan")])
def test_a_value_of_another_type_has_no_sample(bad: object) -> None:
    values = {"cpu.time": bad, "balloon.rss": bad, "block.0.name": "vda", "block.0.rd.reqs": bad}
    assert reader().lines(values) == {}


def test_a_device_without_a_name_has_no_samples() -> None:
    values = told.network("tap1")
    del values["net.0.name"]
    assert reader().lines(values) == {}
    assert reader().lines(values | {"net.0.name": ""}) == {}


def test_of_two_devices_with_one_name_the_first_is_told_of() -> None:
    lines = reader().lines(told.network("tap1", "tap1"))
    name = "libvirt_domain_interface_stats_receive_bytes_total"
    assert value(lines, name, target_device="tap1") == 1
    assert len(samples(lines)) == 8


def test_two_groups_or_monitors_of_one_name_make_no_series_twice() -> None:
    values = told.guest("vda")
    for key in list(values):
        if ".timed_group.0." in key or ".energy.monitor.0." in key:
            values[key.replace("group.0.", "group.1.").replace("monitor.0.", "monitor.1.")] = 7
    values |= {"block.0.timed_group.1.interval": 10, "cpu.energy.monitor.1.name": "all"}
    values |= {"cpu.energy.monitor.1.pkg.0.id": 0, "cpu.energy.monitor.2.pkg.0.core_energy": 9.0}
    lines = reader().lines(values)
    assert (
        value(lines, "libvirt_domain_cpu_energy_joules_total", monitor="all", package="0") == 12.5
    )
    assert len(list(samples(lines))) == len(list(samples(reader().lines(told.guest("vda")))))


def test_a_disk_that_takes_the_place_of_another_has_its_own_name() -> None:
    name, kept = "libvirt_domain_block_stats_read_requests_total", reader()
    first, second = told.disks("vda", "vdb"), told.disks("vdb")
    assert value(kept.lines(first), name, target_device="vda") == first["block.0.rd.reqs"]
    lines = kept.lines(second)
    assert value(lines, name, target_device="vdb") == second["block.0.rd.reqs"]
    assert value(lines, name, target_device="vda") is None


def test_a_key_that_is_not_known_is_left_out() -> None:
    values = told.guest("vda")
    newer = {"block.0.new.thing": 1, "cpu.new": 1, "block.99999999999.rd.reqs": 1, "": 1, ".": 1}
    assert reader().lines(values | newer) == reader().lines(values)


@given(
    st.dictionaries(
        st.text(max_size=20) | st.sampled_from(sorted(told.guest("vda"))),
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats()
        | st.text(max_size=9),
    )
)
def test_whatever_a_daemon_tells_is_an_exposition(values: dict[str, Any]) -> None:
    samples(reader('"\n\\').lines(values))
