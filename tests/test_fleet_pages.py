"""A page of a fleet's keys is taken at once: it must come to what each key alone comes to."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.published import guest

from guestlist.fleet import values
from guestlist.fleet.claims import Claims
from guestlist.fleet.rows import HostState, Phase, Publication
from guestlist.fleet.stored import number_of, numbers_of

START = b"/guestlist/v1/f/dom/h1/"
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


def number(tail: bytes) -> int | None:
    try:
        return number_of(tail)
    except ValueError:
        return None


@given(st.lists(_uuids))
def test_the_uuids_of_a_page_are_those_of_its_keys(tails: list[bytes]):
    assert numbers_of([START + each for each in tails]) == [
        UUID(each.decode()).int for each in tails
    ]


@given(st.lists(_tails, max_size=4))
def test_a_page_has_all_uuids_or_none(tails: list[bytes]):
    alone = [number(each.rpartition(b"/")[2]) for each in tails]
    expected = None if None in alone else alone
    assert numbers_of([START + each for each in tails]) == expected


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
