"""docs/glossary.md: each name that it gives in backticks exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lab.names import is_command, is_module, is_nova_option, is_parameter, is_public_name

TEXT = (Path(__file__).parent.parent / "docs" / "glossary.md").read_text()
NAMES = sorted(set(re.findall(r"`([^`]+)`", TEXT)))
NOT_NAMES = {"code font", "guestfs-"}

TERMS = re.findall(r"^\*\*(.+?)\.\*\*", TEXT, re.M)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_NAMES])
def test_each_name_in_the_glossary_exists(name: str):
    assert (
        is_public_name(name)
        or is_parameter(name)
        or is_nova_option(name)
        or is_module(name)
        or is_command(name)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        *("Snapshot.age", "LibvirtDriver", "whom", "max_staleness", "guestlist.looks"),
        *("guestlist ls --nobody", "guestlist look", "compute", "ls", "guestlist ls rest"),
    ],
)
def test_a_name_that_does_not_exist_is_found(wrong: str):
    assert not any(
        check(wrong)
        for check in (is_public_name, is_parameter, is_nova_option, is_module, is_command)
    )


def test_each_term_is_explained_once():
    words = [word.lower() for term in TERMS for word in term.split(", ")]
    assert len(words) == len(set(words))


def test_the_words_of_the_project_are_explained():
    words = {word.lower() for term in TERMS for word in term.split(", ")}
    assert words >= {
        *("domain", "guest", "instance", "ours", "foreign", "launcher", "domain-0", "host"),
        *("listing", "bulk call", "walk", "snapshot", "state", "reason", "details", "statistics"),
        *("call", "peer", "event loop", "event", "live view", "change", "in step", "stale"),
        *("stale_for", "resync", "drift", "recheck", "being changed by nova", "label", "driver"),
        *("appliance", "orphan", "reader", "subscriber", "caller"),
        *("scrape", "metric family", "series", "sample", "collector", "target", "lane", "round"),
    }
