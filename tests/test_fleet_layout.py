"""The keys and values of the store: what is written is read, and a bad row loses no other."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestlist.fleet import stored
from guestlist.fleet.layout import (
    BadRow,
    InvalidName,
    Layout,
    host_record,
    live_record,
    valid_name,
)
from guestlist.fleet.rows import Fate, Phase, Publication, Tombstone
from guestlist.fleet.values import (
    HostRecord,
    LiveRecord,
    publication_value,
    record_value,
    tombstone_value,
)
from guestlist.launcher import Launcher
from guestlist.records import Details, Instance, NovaMetadata, Owner
from guestlist.states import DomainState

LAYOUT = Layout("prod")
UUIDS = [UUID(int=n) for n in range(1, 4)]


class Row(NamedTuple):
    """A key-value as etcd returns it."""

    key: bytes
    value: bytes
    create_revision: int = 7
    mod_revision: int = 9
    version: int = 1
    lease: int = 0


def published(publication: Publication) -> Row:
    key = LAYOUT.domain(publication.host, publication.instance.uuid)
    return Row(key, publication_value(publication), publication.born)


DETAILS = Details(
    None,
    None,
    None,
    4,
    2,
    8 << 20,
    4 << 20,
    nova=NovaMetadata("", None, None, None, None, Owner("u" * 32, None, "p" * 32, None)),
    unknown=("devices",),
)
GUEST = Instance(UUIDS[0], "instance-00000001", 5, DomainState.RUNNING, 1, Launcher.NOVA, DETAILS)

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
NUMBER = st.none() | st.integers(0, 2**40)
NAMES = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z._:@-]{0,20}", fullmatch=True)
OWNERS = st.builds(Owner, TEXT, st.none(), TEXT, st.none())
INSTANCES = st.builds(
    Instance,
    st.uuids(),
    TEXT,
    NUMBER,
    st.sampled_from(DomainState),
    st.integers(-1, 100),
    st.sampled_from(Launcher),
    st.none()
    | st.builds(
        lambda vcpus, memory, owner: replace(
            DETAILS,
            vcpus=vcpus,
            memory_kib=memory,
            nova=owner and NovaMetadata("", None, None, None, None, owner),
        ),
        NUMBER,
        NUMBER,
        st.none() | OWNERS,
    ),
    st.none(),
    st.booleans(),
)


@given(
    st.builds(
        Publication, NAMES, INSTANCES, st.sampled_from(Phase), st.booleans(), st.integers(1, 2**50)
    )
)
def test_a_publication_is_read_as_it_was_written(publication: Publication):
    read = LAYOUT.read([published(publication)])
    assert read == ([publication], [], [])


def test_a_run_that_began_after_its_key_was_created_is_told():
    key, seen = LAYOUT.domain("h1", GUEST.uuid), Publication("h1", GUEST, born=7)
    old, new = publication_value(seen), publication_value(seen, 12)
    assert LAYOUT.read([Row(key, old)]).publications == [seen]
    for created, born in [(7, 12), (12, 12), (13, 13)]:
        row = Row(key, new, created)
        (read,) = LAYOUT.read([row]).publications
        (page,) = stored.publications(["h1"], [GUEST.uuid.int], [created], [new])
        assert read.born == page.born == stored.made(page).born == born
        assert stored.publication("h1", GUEST.uuid.int, row).born == born
    assert msgspec.json.decode(new) == {**msgspec.json.decode(old), "began": 12}


@given(
    st.builds(Tombstone, NAMES, INSTANCES, st.sampled_from(Fate), st.integers(1, 2**50)),
)
def test_a_tombstone_is_read_as_it_was_written(tombstone: Tombstone):
    key = LAYOUT.gone(tombstone.host, tombstone.instance.uuid)
    assert LAYOUT.read([Row(key, tombstone_value(tombstone))]) == ([], [tombstone], [])


def test_a_tombstone_of_what_was_not_published_is_as_old_as_its_key():
    row = Row(LAYOUT.gone("h1", UUIDS[0]), tombstone_value(Tombstone("h1", GUEST, Fate.LEFT)), 33)
    (read,) = LAYOUT.read([row]).tombstones
    assert read.born == 33


def test_what_is_not_published_of_the_details_is_named_as_unknown():
    publication = Publication("h1", replace(GUEST, details=replace(DETAILS, unknown=())))
    (read,) = LAYOUT.read([published(publication)]).publications
    details = read.instance.details
    assert details is not None
    assert not details.devices_known
    assert (details.current_vcpus, details.current_memory_kib) == (2, 4 << 20)


def test_a_value_is_small_and_the_same_each_time():
    value = publication_value(Publication("h1", GUEST))
    assert value == publication_value(Publication("h1", replace(GUEST)))
    assert len(value) < 290


def test_what_no_value_may_hold_is_changed_and_not_refused():
    details = replace(DETAILS, vcpus=2**200, memory_kib=-1)
    hostile = replace(GUEST, name="\ud800" + "x" * 5000, details=details)
    (read,) = LAYOUT.read([published(Publication("h1", hostile))]).publications
    assert read.instance.name == "?" + "x" * 4095
    assert read.instance.details == replace(DETAILS, vcpus=None, memory_kib=None)


GOOD = publication_value(Publication("h1", GUEST))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (GOOD.replace(b'"v":1', b'"v":2'), "version 2, and this guestlist reads version 1"),
        (b'{"v":99,"all":"new"}', "version 99"),
        (b"", "none of guestlist's"),
        (b"\xff\xfe", "none of guestlist's"),
        (b"[]", "none of guestlist's"),
        (b"[" * 100_000, "none of guestlist's"),
        (GOOD[:-1] + b',"later":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested too deeply"),
        (b'{"v":"1"}', "none of guestlist's"),
        (b'{"v":1}', "missing required field"),
        (GOOD.replace(b'"id":5', b'"id":-5'), ">= 0"),
        (GOOD.replace(b'"id":5', b'"id":true'), "bool"),
        (GOOD.replace(b'"state":1', b'"state":1e400'), "cannot be read"),
        (GOOD.replace(b'"name":"', b'"name":"' + b"x" * 5000), "4096"),
        (GOOD.replace(b'"reason":1', b'"phase":"flying","reason":1'), "flying"),
        (GOOD.replace(b'"name":"', b'"name":"\xed\xa0\x80'), "invalid"),
    ],
)
def test_a_value_that_cannot_be_read_is_an_error_of_its_row_alone(value: bytes, why: str):
    rows = [published(Publication("h1", replace(GUEST, uuid=uuid))) for uuid in UUIDS]
    rows[1] = rows[1]._replace(value=value)
    read = LAYOUT.read(rows)
    assert [each.instance.uuid for each in read.publications] == [UUIDS[0], UUIDS[2]]
    (bad,) = read.bad
    assert (bad.key, bad.host) == (rows[1].key, "h1")
    assert why in bad.why
    assert "\n" not in str(bad)
    assert len(str(bad)) < 600


@pytest.mark.parametrize(
    "tail",
    [
        b"dom/h1/",
        b"dom/h1/no-uuid",
        b"dom/h1",
        b"dom/a b/%s",
        b"dom//%s",
        b"dom/h1/%s/x",
        b"new/%s",
    ],
)
def test_a_key_that_is_none_is_an_error_of_its_row_alone(tail: bytes):
    key = LAYOUT.root + tail.replace(b"%s", str(UUIDS[0]).encode())
    read = LAYOUT.read([Row(key, GOOD), published(Publication("h1", GUEST))])
    assert (len(read.publications), [bad.key for bad in read.bad]) == (1, [key])


def test_a_uuid_in_capitals_is_no_second_domain():
    key = LAYOUT.domain("h1", UUID(int=0xABC)).upper().replace(LAYOUT.root.upper(), LAYOUT.root)
    assert LAYOUT.read([Row(key.replace(b"DOM/H1", b"dom/h1"), GOOD)]).publications == []


def test_a_launcher_or_a_state_that_comes_later_is_no_error():
    later = GOOD.replace(b'"nova"', b'"later"').replace(b'"state":1', b'"state":77')
    row = published(Publication("h1", GUEST))._replace(value=later)
    (read,) = LAYOUT.read([row]).publications
    assert (read.instance.launcher, read.instance.state) == (Launcher.OTHER, DomainState.NOSTATE)


def test_a_field_that_comes_later_is_skipped():
    row = published(Publication("h1", GUEST))
    later = row._replace(value=row.value[:-1] + b',"later":[1]}')
    assert LAYOUT.read([later]) == LAYOUT.read([row])


# Hosts


@pytest.mark.parametrize(
    "record",
    [
        HostRecord(5, True, 12, 100, "guestlist 1", "2026-11-27T00:00:00Z"),
        HostRecord(1, False, 0, 0),
    ],
)
def test_a_hosts_record_is_read_as_it_was_written(record: HostRecord):
    assert host_record(Row(LAYOUT.host("h1"), record_value(record))) == record


def test_who_holds_a_lease_is_read_as_it_was_written():
    record = LiveRecord("machine", "incarnation", "guestlist 1")
    assert live_record(Row(LAYOUT.live("h1"), record_value(record))) == record


@pytest.mark.parametrize("value", [b"", b'{"v":2}', b'{"v":1,"term":-1}', b"null"])
def test_a_record_that_cannot_be_read_names_its_key_and_its_host(value: bytes):
    for read, key in ((host_record, LAYOUT.host("h1")), (live_record, LAYOUT.live("h1"))):
        bad = read(Row(key, value))
        assert isinstance(bad, BadRow)
        assert bad[:2] == (key, "h1")


@pytest.mark.parametrize("name", ["a", "compute-1.example.org", "a_b", "fe80::1", "A@b", "x" * 253])
def test_a_name_of_a_host_can_be_part_of_a_key(name: str):
    assert valid_name(name) == name
    assert LAYOUT.host_of(LAYOUT.host(name)) == ("host", name)
    assert LAYOUT.host_of(LAYOUT.live(name)) == ("live", name)


@pytest.mark.parametrize(
    "name", ["", "a/b", "a\0", "a\n", "-a", ".", "ä", "a b", "x" * 254, "a\x1b["]
)
def test_other_names_are_refused(name: str):
    for make in (valid_name, Layout, LAYOUT.host, LAYOUT.domains):
        with pytest.raises(InvalidName, match="cannot name a"):
            make(name)


def within(key: bytes, span: tuple[bytes, bytes]) -> bool:
    return span[0] <= key < span[1] if span[1] else key == span[0]


@given(NAMES, NAMES, st.uuids())
def test_what_a_host_writes_is_its_own_and_of_no_other(host: str, other: str, uuid: UUID):
    keys = [
        LAYOUT.host(host),
        LAYOUT.live(host),
        LAYOUT.domain(host, uuid),
        LAYOUT.gone(host, uuid),
    ]
    for key in keys:
        assert sum(within(key, span) for span in LAYOUT.own(host)) == 1
        assert within(key, LAYOUT.everything)
        if other != host:
            assert not any(within(key, span) for span in LAYOUT.own(other))
    assert [within(key, LAYOUT.summary) for key in keys] == [True, True, False, False]


@given(st.sets(NAMES, max_size=30), st.sets(NAMES, max_size=5), st.integers(1, 7), st.uuids())
def test_pages_have_each_domain_once_and_few_hosts_each(
    hosts: set[str], unnamed: set[str], in_a_page: int, uuid: UUID
):
    pages = LAYOUT.pages_of_domains(hosts, in_a_page)
    for host in hosts | unnamed:
        assert sum(within(LAYOUT.domain(host, uuid), page) for page in pages) == 1
    for page in pages:
        assert sum(within(LAYOUT.domain(host, uuid), page) for host in hosts) <= in_a_page
    assert LAYOUT.pages_of_tombstones(hosts)[0].start == LAYOUT.root + b"gone/"
