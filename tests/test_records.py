"""Frozen values, and libvirt's words."""

from __future__ import annotations

from uuid import UUID

import libvirt
import pytest

from guestlist.launcher import Launcher
from guestlist.records import Details, Instance
from guestlist.states import DomainState, state_reason

REASONS = {
    "NOSTATE_UNKNOWN": "unknown",
    "RUNNING_UNKNOWN": "unknown",
    "RUNNING_BOOTED": "booted",
    "RUNNING_MIGRATED": "migrated",
    "RUNNING_RESTORED": "restored",
    "RUNNING_FROM_SNAPSHOT": "from snapshot",
    "RUNNING_UNPAUSED": "unpaused",
    "RUNNING_MIGRATION_CANCELED": "migration canceled",
    "RUNNING_SAVE_CANCELED": "save canceled",
    "RUNNING_WAKEUP": "event wakeup",
    "RUNNING_CRASHED": "crashed",
    "RUNNING_POSTCOPY": "post-copy",
    "RUNNING_POSTCOPY_FAILED": "post-copy failed",
    "BLOCKED_UNKNOWN": "unknown",
    "PAUSED_UNKNOWN": "unknown",
    "PAUSED_USER": "user",
    "PAUSED_MIGRATION": "migrating",
    "PAUSED_SAVE": "saving",
    "PAUSED_DUMP": "dumping",
    "PAUSED_IOERROR": "I/O error",
    "PAUSED_WATCHDOG": "watchdog",
    "PAUSED_FROM_SNAPSHOT": "from snapshot",
    "PAUSED_SHUTTING_DOWN": "shutting down",
    "PAUSED_SNAPSHOT": "creating snapshot",
    "PAUSED_CRASHED": "crashed",
    "PAUSED_STARTING_UP": "starting up",
    "PAUSED_POSTCOPY": "post-copy",
    "PAUSED_POSTCOPY_FAILED": "post-copy failed",
    "PAUSED_API_ERROR": "api error",
    "SHUTDOWN_UNKNOWN": "unknown",
    "SHUTDOWN_USER": "user",
    "SHUTOFF_UNKNOWN": "unknown",
    "SHUTOFF_SHUTDOWN": "shutdown",
    "SHUTOFF_DESTROYED": "destroyed",
    "SHUTOFF_CRASHED": "crashed",
    "SHUTOFF_MIGRATED": "migrated",
    "SHUTOFF_SAVED": "saved",
    "SHUTOFF_FAILED": "failed",
    "SHUTOFF_FROM_SNAPSHOT": "from snapshot",
    "SHUTOFF_DAEMON": "daemon",
    "CRASHED_UNKNOWN": "unknown",
    "CRASHED_PANICKED": "panicked",
    "PMSUSPENDED_UNKNOWN": "unknown",
}
"""libvirt's constants, without VIR_DOMAIN_, and what virsh says for each."""


@pytest.mark.parametrize(("name", "words"), REASONS.items())
def test_a_reason_has_virshs_words_at_libvirts_number(name: str, words: str):
    number = getattr(libvirt, f"VIR_DOMAIN_{name}", None)
    if number is None:
        pytest.skip("this libvirt-python is older than the reason")
    assert state_reason(DomainState[name.partition("_")[0]], number) == words


@pytest.mark.parametrize("state", DomainState)
def test_a_reason_that_libvirt_adds_later_is_unknown(state: DomainState):
    for reason in (-1, -2, 15, 1000, 2**31):
        assert state_reason(state, reason) == "unknown"


def test_a_state_that_libvirt_adds_later_has_no_reason():
    for state in (8, 99, -1):
        assert state_reason(state, 1) == "unknown"


def test_an_instance_tells_its_reason_in_words():
    def text(state: DomainState, reason: int) -> str:
        return Instance(UUID(int=1), "a", 1, state, reason, Launcher.NOVA).reason_text

    assert text(DomainState.RUNNING, 1) == "booted"
    assert text(DomainState.SHUTOFF, 2) == "destroyed"
    assert text(DomainState.PAUSED, 0) == "unknown"
    assert text(DomainState.RUNNING, 17) == "reason 17"
    assert text(DomainState.RUNNING, -1) == "reason -1"


def test_an_instance_may_be_without_details():
    uuid = UUID(int=1)
    bare = Instance(uuid, "a", None, DomainState.SHUTOFF, 1, Launcher.NOVA)
    assert bare.details is None
    details = Details(uuid, "a", "kvm", 1, 1, 1024, 1024)
    known = Instance(uuid, "a", None, DomainState.SHUTOFF, 1, Launcher.NOVA, details)
    assert known != bare
    assert len({known, bare}) == 2
