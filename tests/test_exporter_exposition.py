"""Prometheus's text format: prometheus_client's parser reads what guestlist writes."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from guestlist.exporter.collectors import COLLECTORS
from guestlist.exporter.exposition import (
    LONGEST_LABEL,
    Family,
    Kind,
    body,
    escaped,
    extended,
    label,
    labels,
    sample,
)
from guestlist.exporter.families import ALIASES, COMPAT, FAMILIES, families

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
GAUGE = Family("libvirt_domain_info", Kind.GAUGE, "The domain.", "")


def read_back(exposition: bytes) -> list[tuple[str, dict[str, str], float]]:
    families = text_string_to_metric_families(exposition.decode())
    return [(each.name, each.labels, each.value) for family in families for each in family.samples]


@given(TEXTS, TEXTS)
@example('"} 1\nlibvirt_up 0\n', "\\")
@example("\\n", '\\"')
@example("\r\n\x00\x1b[2J\x85\u2028", "")
def test_hostile_text_stays_inside_its_label(name: str, other: str) -> None:
    line = sample(GAUGE.name, labels(domain=name, uuid=other), 1)
    assert line.count("\n") == 1
    (found,) = read_back(body([GAUGE], [{GAUGE.name: line}]))
    assert found == (GAUGE.name, {"domain": name, "uuid": other}, 1.0)


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert escaped("a\udc80b") == "a?b"


@given(st.text("ab", min_size=LONGEST_LABEL + 1, max_size=LONGEST_LABEL + 40))
def test_a_long_value_is_bounded_and_stays_its_own(text: str) -> None:
    assert len(escaped(text)) == LONGEST_LABEL
    assert escaped(text) == escaped(text)
    assert escaped(text) != escaped(text + "a")


def test_a_value_of_100_kb_is_bounded() -> None:
    assert len(escaped("\n" * 100_000)) <= 2 * LONGEST_LABEL


@given(TEXTS)
def test_a_label_that_is_there_is_not_written_twice(text: str) -> None:
    base = labels(domain=text, uuid="1")
    assert extended(base, {"uuid"}, uuid="2", name=text) == f"{base},{label('name', text)}"


def test_whole_numbers_stay_exact() -> None:
    assert sample("x", "", 2**64 - 1) == "x 18446744073709551615\n"
    assert sample("x", "", 0.1) == "x 0.1\n"


def test_families_come_in_their_order_each_with_its_header_once() -> None:
    first, second = Family("a", Kind.COUNTER, "A.", ""), Family("b", Kind.GAUGE, "B.", "")
    unused = Family("c", Kind.GAUGE, "C.", "")
    parts = [{"b": "b 1\n"}, {"a": 'a{x="1"} 1\n', "b": 'b{x="1"} 2\n'}, {"other": "other 1\n"}]
    assert body([first, second, unused], parts) == (
        b'# HELP a A.\n# TYPE a counter\na{x="1"} 1\n# HELP b B.\n# TYPE b gauge\nb 1\nb{x="1"} 2\n'
    )


def test_each_family_has_one_name_a_help_and_a_known_collector() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    for family in FAMILIES:
        assert family.collector in {"", *COLLECTORS, *COMPAT}
        assert family.help.endswith(".")
        assert "\n" not in family.help
        if family.kind is Kind.COUNTER:
            assert family.name.endswith("_total")


def test_aliases_are_families_of_their_exporter_and_have_the_same_type() -> None:
    by_name = {family.name: family for family in FAMILIES}
    for exporter, aliases in ALIASES.items():
        for name, alias in aliases.items():
            assert by_name[alias].collector == exporter
            assert by_name[alias].kind == by_name[name].kind


def test_a_collector_that_is_off_takes_its_families_away() -> None:
    assert {family.collector for family in families(frozenset({"vcpu"}))} == {"", "vcpu"}
    chosen = {family.collector for family in families(frozenset(), "kumina")}
    assert chosen == {"", "kumina"}
