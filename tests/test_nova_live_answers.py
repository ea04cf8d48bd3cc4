"""When `get_info` may be answered from the live view: the table, and what docs/nova.md says."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from lab.command import served
from lab.nodes import nova_instance
from lab.waiting import LONG

from guestlist import Anyone, Inventory
from guestlist.inventory.evidence import Evidence
from guestlist.nova.live_answers import POWER_STATES, Facts, Reason, may_answer
from guestlist.nova.questions import _seen
from guestlist.states import DomainState

DOCS = Path(__file__).parents[1] / "docs" / "nova.md"
GOING_ON = [
    DomainState.RUNNING,
    DomainState.BLOCKED,
    DomainState.PAUSED,
    DomainState.PMSUSPENDED,
]
OTHERS = [state for state in DomainState if state not in GOING_ON]


def seen(state=DomainState.RUNNING, **facts):
    return Evidence(True, True, False, SimpleNamespace(state=state))._replace(**facts)


ALL_IS_WELL = Facts(
    allows_cache=True,
    has_view=True,
    max_list_age=1.0,
    is_being_changed=False,
    task_state=None,
    power_state=1,
    view=seen(),
    seconds_since_list=0.5,
)


def test_where_all_is_well_the_view_may_answer():
    assert may_answer(ALL_IS_WELL) is None


AGAINST = [
    (Reason.CACHE_REFUSED, {"allows_cache": False}),
    (Reason.NO_VIEW, {"has_view": False}),
    (Reason.NO_LIST_AGE, {"max_list_age": 0.0}),
    (Reason.BEING_CHANGED, {"is_being_changed": True}),
    (Reason.TASK_UNDER_WAY, {"task_state": "powering-off"}),
    (Reason.NOT_READ, {"view": None}),
    (Reason.STALE, {"view": seen(is_in_step=False)}),
    (Reason.EVENTS_WAITING, {"view": seen(are_events_drained=False)}),
    (Reason.IN_DOUBT, {"view": seen(is_in_doubt=True)}),
    (Reason.UNKNOWN, {"view": seen(instance=None)}),
    *[
        (Reason.NOT_GOING_ON, {"view": seen(state), "power_state": POWER_STATES[state]})
        for state in OTHERS
    ],
    (Reason.NEWS, {"power_state": 3}),
    (Reason.NEWS, {"power_state": 4}),
    (Reason.LIST_TOO_OLD, {"seconds_since_list": 1.5}),
]


@pytest.mark.parametrize(("reason", "facts"), AGAINST)
def test_a_single_fact_against_it_is_enough(reason, facts):
    assert may_answer(replace(ALL_IS_WELL, **facts)) is reason


def test_every_reason_is_in_the_table():
    assert {reason for reason, _ in AGAINST} == set(Reason)


@pytest.mark.parametrize("state", GOING_ON)
def test_a_state_that_goes_on_is_confirmed(state):
    facts = replace(ALL_IS_WELL, view=seen(state))
    assert may_answer(replace(facts, power_state=POWER_STATES[state])) is None
    assert may_answer(replace(facts, power_state=None)) is None, "Nova's record was not loaded"
    assert may_answer(replace(facts, power_state=0)) is None, "Nova has no state yet"


def test_a_list_that_began_after_the_question_is_never_too_old():
    facts = replace(ALL_IS_WELL, max_list_age=0.000001, seconds_since_list=-0.01)
    assert may_answer(facts) is None


def test_a_list_that_is_merged_while_the_view_is_read_does_not_count(tmp_path):
    """What was read of the view is older than that list."""

    class ListedMeanwhile(Inventory):
        def evidence(self, uuid):
            found = super().evidence(uuid)
            self.resync(LONG)
            return found

    # A host of its own: tests of this process share the domain of test:///default.
    uri = served(tmp_path, [nova_instance(1)])
    with ListedMeanwhile(uri, launched_by=Anyone(), details=False) as live:
        live.wait_synced(LONG)
        uuid = next(iter(live.snapshot()))
        live._follower.progress.listed_at -= LONG
        facts = _seen(live, str(uuid), replace(ALL_IS_WELL, view=None), time.monotonic())
    assert facts.view.instance.uuid == uuid
    assert may_answer(facts) is Reason.LIST_TOO_OLD


def test_of_several_reasons_the_first_is_given():
    """So that what costs time, reading and comparing the view, comes last."""
    facts = ALL_IS_WELL
    for reason, against in reversed(AGAINST):
        if reason is not Reason.NOT_GOING_ON:  # it sets two facts at once
            facts = replace(facts, **against)
            assert may_answer(facts) is reason


def test_facts_that_were_not_looked_at_speak_against_the_view():
    assert may_answer(replace(ALL_IS_WELL, view=Evidence())) is Reason.STALE
    in_step = Evidence(is_in_step=True)
    assert may_answer(replace(ALL_IS_WELL, view=in_step)) is Reason.EVENTS_WAITING


def test_the_operators_page_gives_the_same_reasons_in_the_same_order():
    page = DOCS.read_text()
    section = page[page.index("**The live view**") : page.index("**A stuck guest**")]
    items = re.findall(r"^- (.+?)(?=^- |\n\n)", section, re.M | re.S)
    said = [" ".join(item.split()).rstrip(";.") for item in items]
    assert said == [reason.value for reason in Reason]
