"""A page of a fleet's keys is taken at once: it must come to what each key alone comes to."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.published import guest

from guestlist.fleet import values
from guestlist.fleet.claims import Claims
from guestlist.fleet.rows import HostState, Phase, Publication
from guestlist.fleet.stored import number_of, read_keys

ROOT = b"/guestlist/v1/f/dom/"
GOOD = values.publication_value(Publication("h1", guest("instance-00000001")))

_uuids = st.uuids().map(lambda each: str(each).encode())
_tails = st.one_of(
    _uuids,
    _uuids.map(bytes.upper),
    _uuids.map(lambda each: each[:-1]),
    _uuids.map(lambda each: each.replace(b"-", b"0", 1)),
    _uuids.map(lambda each: each[:8] + each[9:] + b"-"),
    st.binary(max_size=40),
)


_hosts = st.sampled_from([b"h1", b"h1.example", b"h10", b"h2", b"0"])
_rests = st.one_of(
    _tails,
    _uuids.map(lambda each: b"x/" + each),
    _uuids.map(lambda each: b"/" + each),
    _uuids.map(lambda each: ROOT + b"h1/" + each),
)


def alone(key: bytes) -> tuple[bytes, int] | None:
    host, _, rest = key.removeprefix(ROOT).partition(b"/")
    try:
        return host, number_of(rest)
    except ValueError:
        return None


def together(keys: list[bytes]) -> list[tuple[bytes, int]] | None:
    found = read_keys(keys, ROOT)
    if found is None:
        return None
    hosts = [host for host, count in found.hosts for _ in range(count)]
    return list(zip(hosts, found.numbers, strict=True))


@given(st.lists(st.tuples(_hosts, _uuids)))
def test_a_page_is_read_as_each_of_its_keys(some: list[tuple[bytes, bytes]]):
    keys = sorted({ROOT + host + b"/" + uuid for host, uuid in some})
    assert together(keys) == [alone(key) for key in keys]


@given(st.lists(st.tuples(_hosts, _rests), max_size=6), st.randoms())
def test_a_page_has_all_domains_or_none(some: list[tuple[bytes, bytes]], random: Random):
    keys = sorted({ROOT + host + b"/" + rest for host, rest in some})
    each_alone = [alone(key) for key in keys]
    assert together(keys) == (None if None in each_alone else each_alone)
    random.shuffle(keys)
    shuffled = together(keys)
    assert shuffled is None or shuffled == [alone(key) for key in keys]


@given(
    st.lists(
        st.sampled_from(
            [GOOD, GOOD + b"," + GOOD, b"", b"{}", GOOD[:-1], GOOD.replace(b'"v":1', b'"v":2')]
        )
    )
)
def test_a_page_is_good_if_each_value_is(page: list[bytes]):
    assert values.are_domains(page) == all(each == GOOD for each in page)


def test_values_that_are_domains_only_together_are_none():
    parts = [b'{"v":1,"zz":[{}', b"{}]," + GOOD[1:], GOOD + b"," + GOOD]
    assert not values.are_domains(parts)


def test_rows_are_the_same_one_by_one_and_all_together():
    claims = Claims()
    some = [guest() for _ in range(5)]
    for each in some:
        claims.publish(each.uuid.int, Publication("h1", each))
    claims.publish_all([some[0].uuid.int], [Publication("h2", some[0], Phase.INCOMING)])
    rows = claims.rows({each: HostState(each) for each in ("h1", "h2")})
    assert {row.uuid: row for row in rows.values()} == {each.uuid: rows[each.uuid] for each in some}
    assert len(list(rows.values())) == len(some)


@pytest.mark.parametrize("text", ["", "x"])
def test_a_text_that_is_no_value_is_none(text: str):
    assert not values.are_domains([json.dumps(text).encode()])
