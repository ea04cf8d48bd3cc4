"""A page of a fleet's keys is taken at once: it must come to what each key alone comes to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.published import guest

from guestlist.fleet import values
from guestlist.fleet.claims import Claims
from guestlist.fleet.content import Content
from guestlist.fleet.layout import Layout
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


class Row(NamedTuple):
    """A key and its value, as etcd has them."""

    key: bytes
    value: bytes
    create_revision: int = 1
    mod_revision: int = 1
    version: int = 1
    lease: int = 0


FEW = [b"00000000-0000-4000-8000-00000000000%d" % n for n in range(4)]
FIELDS = GOOD[1:]  # behind the bracket
_names = st.sampled_from(
    [b"h1", b"h1-", b"h1.", b"h10", b"h", b"", b"h1/x", b"/", b"\xff", b"\\xff", b"h1/" + FEW[0]]
)
_values = st.sampled_from(
    [
        GOOD,
        values.publication_value(Publication("h2", guest(), Phase.INCOMING), 7),
        values.publication_value(Publication("h2", guest(), Phase.OUTGOING, arrived=True)),
        b'{"v":1.0,' + FIELDS.partition(b",")[2],
        b'{"v":true,' + FIELDS.partition(b",")[2],
        b'{"v":"1",' + FIELDS.partition(b",")[2],
        b'{"v":2,' + FIELDS,
        GOOD[:-1] + b',"v":2}',
        GOOD[:-1] + b',"later":"\xff"}',
        GOOD[:-1] + b',"later":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        GOOD[:-1] + b',"began":-1}',
        GOOD[:-1] + b',"began":1e99}',
        GOOD + b" \n",
        GOOD + b"\0",
        b"\xef\xbb\xbf" + GOOD,
        b"null",
        b"",
    ]
)
_rows = st.builds(
    Row,
    st.tuples(_names, st.one_of(st.sampled_from(FEW), _tails)).map(
        lambda each: ROOT + each[0] + b"/" + each[1]
    )
    | st.binary(max_size=40).map(lambda each: ROOT + each),
    st.one_of(st.just(GOOD), _values),
    st.integers(1, 9),
)
_good_rows = st.builds(
    Row,
    st.tuples(_names.filter(lambda each: b"/" not in each), st.sampled_from(FEW) | _uuids).map(
        lambda each: ROOT + each[0] + b"/" + each[1]
    ),
    st.sampled_from([GOOD, values.publication_value(Publication("h2", guest()), 5)]),
    st.integers(1, 9),
)
_pages = st.one_of(
    st.lists(_good_rows, max_size=8), st.lists(_good_rows | _rows, max_size=8), st.lists(_rows)
)


def seen(content: Content) -> object:
    """Return all that a reader sees of a content."""
    states = content.states()
    counts = {each.host: (each.domains, each.summary()) for each in content.roster}
    return states, counts, dict(content.claims.rows(states)), sorted(content.claims.by_host())


def one_by_one(rows: Sequence[Row]) -> Content:
    content = Content(Layout("f"))
    for row in rows:
        content.put(row, is_new=True)
    return content


@settings(max_examples=1_000)
@given(_pages)
def test_a_page_changes_a_fleet_as_its_rows_do_one_by_one(page: list[Row]):
    """Whatever the keys and the values are; in etcd's order, where each key is there once."""
    rows = sorted({row.key: row for row in page}.values())
    content = Content(Layout("f"))
    content.put_domains(rows)
    assert seen(content) == seen(one_by_one(rows))


@settings(max_examples=500)
@given(_pages, st.sampled_from([list, sorted]))
def test_a_page_is_taken_as_its_rows_also_where_keys_are_repeated_or_out_of_order(
    page: list[Row], arranged: Callable[[list[Row]], list[Row]]
):
    rows = arranged(page)
    content, other = Content(Layout("f")), Content(Layout("f"))
    content.put_domains(rows)
    for row in rows:
        other.put_domains([row])
    assert seen(content) == seen(other)


@pytest.mark.parametrize("text", ["", "x"])
def test_a_text_that_is_no_value_is_none(text: str):
    assert not values.are_domains([json.dumps(text).encode()])
