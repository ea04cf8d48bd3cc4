"""When `get_info` may be answered from the live view: one pure function, `may_answer`.

In: `Facts`, what was seen of the view, of the domain and of Nova's record. Out: the reason why
libvirt must be asked, or None. The driver, the gate and the questions gather the facts and decide
nothing. Asks nothing, knows neither libvirt nor Nova. docs/nova.md lists the same reasons in the
same order, word for word: a test compares the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from guestlist.inventory.evidence import Evidence
from guestlist.states import DomainState

POWER_STATES = {0: 0, 1: 1, 2: 1, 3: 3, 4: 4, 5: 4, 6: 6, 7: 7}
"""Nova's power state for each of libvirt's states. `proof` compares it with Nova's own code."""

_NO_STATE = 0
"""The power state in Nova's record of an instance that Nova has not asked about yet."""

_GOING_ON = frozenset(
    {DomainState.RUNNING, DomainState.BLOCKED, DomainState.PAUSED, DomainState.PMSUSPENDED}
)
"""States that the view may report. Nova acts upon the others: it stops or deletes the instance."""


class Reason(Enum):
    """Why libvirt must be asked. The value is the sentence in docs/nova.md."""

    CACHE_REFUSED = "the caller does not allow a cached answer"
    NO_VIEW = "`live_view` is off"
    NO_LIST_AGE = "`max_list_age` is 0"
    BEING_CHANGED = "Nova has used the domain during the last minute, and may be changing it"
    TASK_UNDER_WAY = "Nova's record of the instance has a task under way"
    NOT_READ = "the view could not be read"
    STALE = "the view is not in step with libvirt"
    EVENTS_WAITING = (
        "the event loop has not turned within 0.1 s: events may have reached nova-compute that the "
        "view does not have yet"
    )
    IN_DOUBT = (
        "the view's connection is dead, events were lost, or an event or a recheck of the domain "
        "has no answer yet"
    )
    UNKNOWN = "the view does not have the domain"
    NOT_GOING_ON = "the domain is in another state than running, paused or suspended"
    NEWS = "Nova's record has another power state than the view"
    LIST_TOO_OLD = (
        "the view was compared with a list of all domains neither during the last `max_list_age` "
        "seconds nor for this question"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen when Nova asked for one instance. Reading the view comes last."""

    allows_cache: bool
    """The caller allows a cached answer."""
    has_view: bool
    """A live view is kept."""
    max_list_age: float
    """The option, in seconds."""
    is_being_changed: bool
    """Nova has used the domain during the last minute, and may be changing it."""
    task_state: str | None
    """The task in Nova's record; None: no task is under way, or the record was not loaded."""
    power_state: int | None
    """The power state in Nova's record; None: it was not loaded."""
    view: Evidence | None = None
    """What the view says of the domain; None: it was not read."""
    seconds_since_list: float = math.inf
    """Seconds from the start of the last compared list to this question; below 0: it came later."""


def may_answer(facts: Facts) -> Reason | None:  # noqa: PLR0911, PLR0912  one line a reason
    """Return why libvirt must be asked; None: the live view may answer.

    The first reason that holds, in the order of `Reason`. So no answer from the view says that a
    domain is shut down, crashed or gone, and none differs from Nova's record: libvirt itself gives
    those answers. Two reasons ask for another step: after `NOT_READ` the view is read, and after
    `LIST_TOO_OLD` it is compared with a list and read again.
    """
    if not facts.allows_cache:
        return Reason.CACHE_REFUSED
    if not facts.has_view:
        return Reason.NO_VIEW
    if not facts.max_list_age:
        return Reason.NO_LIST_AGE
    if facts.is_being_changed:
        return Reason.BEING_CHANGED
    if facts.task_state:
        return Reason.TASK_UNDER_WAY
    view = facts.view
    if view is None:
        return Reason.NOT_READ
    if not view.is_in_step:
        return Reason.STALE
    if not view.are_events_drained:
        return Reason.EVENTS_WAITING
    if view.is_in_doubt:
        return Reason.IN_DOUBT
    if view.instance is None:
        return Reason.UNKNOWN
    if view.instance.state not in _GOING_ON:
        return Reason.NOT_GOING_ON
    if facts.power_state not in (None, _NO_STATE, POWER_STATES[view.instance.state]):
        return Reason.NEWS
    if facts.seconds_since_list > facts.max_list_age:
        return Reason.LIST_TOO_OLD
    return None
