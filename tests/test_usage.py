"""What instances use of their host, counted as Nova counts."""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestlist import domainxml, usage
from guestlist.images import Image, Images
from guestlist.launcher import Launcher
from guestlist.records import Details, Disk, DiskDevice, Instance, Snapshot, Source, SourceKind
from guestlist.states import DomainState

GIB = 2**30

QCOW2 = Source(SourceKind.FILE, "/images/root", "qcow2")
RAW = Source(SourceKind.FILE, "/images/swap", "raw")
UNSAID = Source(SourceKind.FILE, "/images/old")
VMDK = Source(SourceKind.FILE, "/images/esx", "vmdk")
BLOCK = Source(SourceKind.BLOCK, "/dev/vg/one", "raw")
RBD = Source(SourceKind.NETWORK, "rbd://ceph:6789/pool/one", "raw")
EMPTY = Source(SourceKind.NONE, None)

SIZES = {
    QCOW2: Image(10 * GIB, 3 * GIB),
    RAW: Image(2 * GIB, 2 * GIB + 4096),
    UNSAID: Image(5 * GIB, 1 * GIB),
    VMDK: Image(4 * GIB, 1 * GIB),
    BLOCK: Image(8 * GIB, 8 * GIB),
    RBD: Image(None, None, "on a network"),
}


def disk(
    source: Source, target: str | None = "vda", device: DiskDevice | None = DiskDevice.DISK
) -> Disk:
    return Disk(target=target, bus="virtio", device=device, source=source)


def details(*disks: Disk, **changes) -> Details:
    known = {
        "uuid": None,
        "name": None,
        "type": "kvm",
        "vcpus": 4,
        "current_vcpus": 2,
        "memory_kib": 4096,
        "current_memory_kib": 2048,
        "disks": disks,
    }
    return Details(**(known | changes))


def instance(n: int, details: Details | None, *, id: int | None = 7, **changes) -> Instance:
    state = DomainState.SHUTOFF if id is None else DomainState.RUNNING
    known = {
        "uuid": uuid.UUID(int=n),
        "name": f"instance-{n:08x}",
        "id": id,
        "state": state,
        "reason": 0,
        "launcher": Launcher.NOVA,
        "details": details,
    }
    return Instance(**(known | changes))


def of_one(details: Details | None, images=SIZES, **changes) -> usage.InstanceUsage:
    (one,) = usage.of(Snapshot([instance(1, details, **changes)]), images).instances
    return one


# vCPUs, memory, block devices


def test_only_active_instances_use_vcpus_memory_and_block_devices():
    all_of_them = [
        instance(1, details(disk(BLOCK))),
        instance(2, details(disk(BLOCK)), id=None),
        instance(3, details(current_vcpus=1, current_memory_kib=100)),
    ]
    used = usage.of(Snapshot(all_of_them), SIZES)
    assert used.vcpus_used == 3
    assert used.memory_used_kib == 2148
    assert used.block_devices == ("/dev/vg/one",)
    assert [(one.vcpus, one.memory_kib) for one in used.instances] == [(2, 2048), (0, 0), (1, 100)]
    assert used.unknown == ()


def test_a_paused_instance_is_active():
    assert of_one(details(), state=DomainState.PAUSED).vcpus == 2


def test_block_devices_are_in_order_and_as_often_as_attached():
    other = Source(SourceKind.BLOCK, "/dev/vg/another", "qcow2")
    lost = Source(SourceKind.BLOCK, None)
    disks = [disk(source) for source in (other, BLOCK, QCOW2, BLOCK, lost)]
    snapshot = Snapshot([instance(1, details(*disks)), instance(2, details(disk(BLOCK)))])
    expected = ("/dev/vg/another", "/dev/vg/one", "/dev/vg/one", "/dev/vg/one")
    assert usage.block_devices(snapshot) == expected


def test_instances_are_in_the_order_of_the_snapshot():
    snapshot = Snapshot(instance(n, details()) for n in (3, 1, 2))
    assert [one.uuid for one in usage.of(snapshot).instances] == list(snapshot)


@pytest.mark.parametrize(
    ("changes", "used"),
    [
        ({"id": 0, "launcher": Launcher.DOM0}, 1048),
        ({"id": 0, "launcher": Launcher.OTHER}, 1048),
        ({"id": 5, "launcher": Launcher.DOM0}, 1048),
        ({"id": 5}, 2048),
        ({"id": None, "launcher": Launcher.DOM0}, 0),
    ],
)
def test_domain_0_does_not_use_what_the_host_has_available(changes: dict, used: int):
    snapshot = Snapshot([instance(1, details(), **changes), instance(2, details())])
    assert usage.memory_used_kib(snapshot, 1000) == used + 2048
    assert usage.memory_used_kib(snapshot, host_available_kib=10**9) in (2048, 4096)
    assert usage.of(snapshot, host_available_kib=1000).memory_used_kib == used + 2048


def test_domain_0_is_no_guest_and_counts_for_its_memory_alone():
    (used,) = usage.of(Snapshot([instance(1, details(disk(BLOCK)), id=0)]), {}).instances
    assert (used.vcpus, used.memory_kib, used.block_devices, used.unknown) == (0, 2048, (), ())


def test_nobody_asks_for_sizes_and_none_is_unknown():
    used = usage.of(Snapshot([instance(1, details(disk(QCOW2), disk(RBD)))]))
    assert used.unknown == ()
    assert used.instances[0].disk_virtual_bytes is None
    assert used.vcpus_used == 2


def test_domain_0_uses_no_less_than_nothing():
    assert usage.memory_used_kib(Snapshot([instance(1, details(), id=0)]), 10**9) == 0


# Disks


@pytest.mark.parametrize(
    ("source", "over_committed"),
    [
        (QCOW2, 7 * GIB),
        (RAW, -4096),
        (UNSAID, 4 * GIB),
        (VMDK, 3 * GIB),
        (BLOCK, 0),
        (EMPTY, 0),
    ],
)
@pytest.mark.parametrize("device", [DiskDevice.DISK, DiskDevice.CDROM])
@pytest.mark.parametrize("id", [7, None])
def test_over_commit_is_what_images_may_still_grow(source, over_committed, device, id):
    one = of_one(details(disk(QCOW2, "sda"), disk(source, "sdb", device)), id=id)
    if source is EMPTY and device is DiskDevice.DISK:
        assert one.unknown == ("disk sdb: no source",)
    else:
        assert one.unknown == ()
    assert one.disk_over_committed_bytes == 7 * GIB + over_committed


@pytest.mark.parametrize("format", ["qcow2", "vmdk", "vdi", "raw", None])
def test_only_a_raw_image_may_be_larger_than_its_disk(format: str | None):
    source = Source(SourceKind.FILE, "/images/full", format)
    one = of_one(details(disk(source)), {source: Image(GIB, GIB + 65536)})
    assert one.disk_over_committed_bytes == (-65536 if format in ("raw", None) else 0)


def test_a_qcow2_on_a_block_device_is_not_over_committed():
    source = Source(SourceKind.BLOCK, "/dev/vg/two", "qcow2")
    one = of_one(details(disk(source)), {source: Image(9 * GIB, GIB)})
    assert one.disk_over_committed_bytes == 0
    assert (one.disk_virtual_bytes, one.disk_allocated_bytes) == (9 * GIB, GIB)


def test_the_disk_numbers_are_sums_over_the_disks_that_are_known():
    one = of_one(details(disk(QCOW2, "vda"), disk(RBD, "vdb"), disk(BLOCK, "vdc")))
    assert one.disk_virtual_bytes == 18 * GIB
    assert one.disk_allocated_bytes == 11 * GIB
    assert one.disk_over_committed_bytes == 7 * GIB
    assert one.unknown == ("disk vdb: on a network",)


def test_the_images_below_do_not_count():
    top = dataclasses.replace(disk(QCOW2), backing=(VMDK, RAW), backing_known=True)
    assert of_one(details(top)).disk_over_committed_bytes == 7 * GIB
    assert usage.sources(Snapshot([instance(1, details(top))])) == (QCOW2,)


def test_an_image_of_two_disks_counts_twice():
    snapshot = Snapshot(instance(n, details(disk(QCOW2))) for n in (1, 2))
    assert usage.disk_over_committed_bytes(snapshot, SIZES) == 14 * GIB
    assert usage.sources(snapshot) == (QCOW2,)


def test_without_disks_nothing_is_used_and_all_is_known():
    one = of_one(details())
    numbers = one.disk_virtual_bytes, one.disk_allocated_bytes, one.disk_over_committed_bytes
    assert numbers == (0, 0, 0)
    assert one.unknown == ()


# What is not known


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (None, "not measured"),
        (Image(None, None, "gone"), "gone"),
        (Image(None, 4096, "not qcow2"), "not qcow2"),
        (Image(4096, None, "permission denied"), "permission denied"),
        (Image(None, None), "not known"),
    ],
)
def test_a_disk_that_is_not_known_is_named_and_not_counted(image: Image | None, why: str):
    images = {} if image is None else {QCOW2: image}
    used = usage.of(Snapshot([instance(1, details(disk(QCOW2)))]), images)
    (one,) = used.instances
    assert one.disk_virtual_bytes is None
    assert one.disk_allocated_bytes is None
    assert one.disk_over_committed_bytes is None
    assert one.unknown == (f"disk vda: {why}",)
    assert used.disk_over_committed_bytes == 0
    assert used.unknown == (f"instance-00000001: disk vda: {why}",)


def test_a_disk_without_a_target_is_named_by_its_place():
    one = of_one(details(disk(QCOW2), disk(RBD, None), disk(RBD, "")))
    assert one.unknown == ("disk #2: on a network", "disk #3: on a network")


@pytest.mark.parametrize("id", [7, None])
def test_an_instance_without_details_is_unknown_altogether(id: int | None):
    used = usage.of(Snapshot([instance(1, None, id=id), instance(2, details())]), SIZES)
    lost = used.instances[0]
    assert lost.vcpus is lost.memory_kib is None
    assert lost.disk_virtual_bytes is lost.disk_allocated_bytes is None
    assert lost.disk_over_committed_bytes is None
    assert lost.block_devices == ()
    assert used.unknown == ("instance-00000001: details",)
    assert (used.vcpus_used, used.memory_used_kib) == (2, 2048)


def test_what_the_xml_does_not_tell_is_named_of_an_active_instance():
    blank = details(current_vcpus=None, current_memory_kib=None)
    used = usage.of(Snapshot([instance(1, blank), instance(2, blank, id=None)]))
    assert used.unknown == ("instance-00000001: vcpus", "instance-00000001: memory")
    assert (used.vcpus_used, used.memory_used_kib) == (0, 0)


@pytest.mark.parametrize("hides", ["devices", "domain", "xml: undeclared entity, line 9"])
def test_xml_that_may_hide_disks_is_named(hides: str):
    assert of_one(details(unknown=(hides,))).unknown == (hides,)
    assert of_one(details(unknown=(hides,))).disk_virtual_bytes is None
    one = of_one(details(disk(QCOW2), unknown=("nova: flavor", hides, "disk vda: bus")))
    assert one.unknown == (hides,)
    assert one.disk_over_committed_bytes == 7 * GIB


def test_names_are_handed_on_as_they_are():
    hostile = "\x1b[2J\n; rm -rf / \ud800"
    used = usage.of(
        Snapshot([instance(1, details(disk(RBD, "vd\x07a")), name=hostile), instance(2, None)]), {}
    )
    assert f"{hostile}: disk vd\x07a: not measured" in used.unknown


# All together


def test_the_whole_way_from_xml_and_files(tmp_path: Path):
    full, sparse = tmp_path / "full", tmp_path / "sparse"
    full.write_bytes(bytes(2**20))
    sparse.touch()
    os.truncate(sparse, 3 * 2**20)
    xml = f"""
    <domain type='kvm'><name>a</name><uuid>{uuid.UUID(int=1)}</uuid>
      <memory unit='MiB'>64</memory><vcpu current='2'>4</vcpu>
      <devices>
        <disk type='file'><source file='{full}'/><target dev='vda'/></disk>
        <disk type='file'><driver type='raw'/><source file='{sparse}'/><target dev='vdb'/></disk>
        <disk type='file'><source file='{tmp_path}/gone'/><target dev='vdc'/></disk>
        <disk type='file' device='cdrom'><target dev='sda'/></disk>
        <disk type='network'><source protocol='rbd' name='p/v'/><target dev='vdd'/></disk>
      </devices></domain>"""
    snapshot = Snapshot([instance(1, domainxml.parse(xml))])
    for path in (full, sparse):
        with path.open("rb") as file:
            os.fsync(file)
    used = usage.of(snapshot, Images().measure(usage.sources(snapshot)))
    (one,) = used.instances
    assert (one.vcpus, one.memory_kib) == (2, 64 * 1024)
    assert one.disk_virtual_bytes == 4 * 2**20
    allocated = (full.stat().st_blocks + sparse.stat().st_blocks) * 512
    assert one.disk_allocated_bytes == allocated
    assert used.disk_over_committed_bytes == 4 * 2**20 - allocated
    assert one.unknown == ("disk vdc: no such file", "disk vdd: on a network")


numbers = st.none() | st.integers(0, 2**60)
sources = st.builds(
    Source,
    st.none() | st.sampled_from(SourceKind),
    st.none() | st.sampled_from(["/a", "/b", "/c"]),
    st.sampled_from([None, "raw", "qcow2", "vmdk"]),
)
targets = st.none() | st.sampled_from(["vda", "vdb"])
disks = st.builds(disk, sources, targets, st.none() | st.sampled_from(DiskDevice))
several_details = st.builds(
    lambda disks, vcpus, memory, unknown: details(
        *disks, current_vcpus=vcpus, current_memory_kib=memory, unknown=unknown
    ),
    st.lists(disks, max_size=4),
    numbers,
    numbers,
    st.sampled_from([(), ("devices",), ("uuid",)]),
)
ids = st.none() | st.integers(0, 9)
snapshots = st.lists(
    st.tuples(st.none() | several_details, ids, st.sampled_from([Launcher.NOVA, Launcher.DOM0])),
    max_size=5,
).map(
    lambda ones: Snapshot(
        instance(n, details, id=id, launcher=launcher)
        for n, (details, id, launcher) in enumerate(ones)
    )
)
sizes = st.dictionaries(sources, st.builds(Image, numbers, numbers, st.just("gone")))


def disks_of(snapshot: Snapshot) -> Iterable[Disk]:
    """Those of the guests: Domain-0 is none."""
    return [
        disk
        for one in snapshot.instances
        if one.details is not None and one.id != 0 and one.launcher is not Launcher.DOM0
        for disk in one.details.disks
    ]


@given(snapshots, sizes, st.integers(0, 2**60))
def test_the_instances_add_up(snapshot, images, available):
    used = usage.of(snapshot, images, host_available_kib=available)
    ones = used.instances
    assert [one.uuid for one in ones] == list(snapshot)
    assert used.vcpus_used == sum(one.vcpus or 0 for one in ones)
    assert used.memory_used_kib == sum(one.memory_kib or 0 for one in ones)
    assert used.disk_over_committed_bytes == sum(one.disk_over_committed_bytes or 0 for one in ones)
    assert used.block_devices == sum((one.block_devices for one in ones), ())
    assert used.unknown == tuple(f"{one.name}: {what}" for one in ones for what in one.unknown)
    assert min(used.vcpus_used, used.memory_used_kib) >= 0


@given(snapshots, sizes, st.integers(0, 2**60))
def test_one_number_is_that_of_all(snapshot, images, available):
    used = usage.of(snapshot, images, host_available_kib=available)
    assert usage.vcpus_used(snapshot) == used.vcpus_used
    assert usage.memory_used_kib(snapshot, available) == used.memory_used_kib
    assert usage.block_devices(snapshot) == used.block_devices
    assert usage.disk_over_committed_bytes(snapshot, images) == used.disk_over_committed_bytes


@given(snapshots, sizes)
def test_every_disk_is_either_counted_or_named(snapshot, images):
    """With 1 byte for each known image, the sum says how many images were counted."""
    known = {
        source: Image(1, 1)
        for source, image in images.items()
        if image.virtual_bytes is not None and image.allocated_bytes is not None
    }
    used = usage.of(snapshot, known)
    counted = sum(one.disk_virtual_bytes or 0 for one in used.instances)
    named = sum(": disk " in what for what in used.unknown)
    empty = sum(
        disk.source.kind is SourceKind.NONE and disk.device in (DiskDevice.CDROM, DiskDevice.FLOPPY)
        for disk in disks_of(snapshot)
    )
    assert counted + named + empty == len(disks_of(snapshot))


@given(snapshots, sizes)
def test_an_image_that_is_half_known_counts_like_one_that_is_not(snapshot, images):
    known = {
        source: image
        for source, image in images.items()
        if image.virtual_bytes is not None and image.allocated_bytes is not None
    }
    some, none_of_it = usage.of(snapshot, images), usage.of(snapshot, known)
    assert some.disk_over_committed_bytes == none_of_it.disk_over_committed_bytes
    assert [one.disk_virtual_bytes for one in some.instances] == [
        one.disk_virtual_bytes for one in none_of_it.instances
    ]
    assert len(some.unknown) == len(none_of_it.unknown)


@given(snapshots)
def test_with_all_sources_measured_no_disk_is_left_unmeasured(snapshot):
    wanted = usage.sources(snapshot)
    assert len(set(wanted)) == len(wanted)
    used = usage.of(snapshot, dict.fromkeys(wanted, Image(1, 1)))
    assert not any("not measured" in what for what in used.unknown)
