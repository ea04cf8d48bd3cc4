"""One audit from its first look to its last.

In: hosts and a Nova, each of which can be looked at. Out: an `Audit`. Looks at Nova, at all hosts
and at Nova again; then the same a second time at the suspects alone. The order of the looks is
here; what they mean is up to `rule`. Changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Protocol
from uuid import UUID

from guestlist.audit import rule
from guestlist.audit.findings import Audit
from guestlist.audit.rows import HostLook, NovaLook, Round
from guestlist.audit.settle import SETTLE
from guestlist.errors import GuestlistError, one_line


class Nova(Protocol):
    """Nova, as an audit looks at it."""

    @property
    def can_look_again(self) -> bool:
        """Whether a second look can show anything new: not where the servers came from a file."""

    def servers(self) -> NovaLook:
        """Return all servers, of all projects and cells.

        Raises:
            GuestlistError: Nova could not be asked.
        """

    def some(self, uuids: Collection[UUID]) -> NovaLook:
        """Return the servers with these UUIDs, deleted ones too, with migrations and actions.

        Raises:
            GuestlistError: Nova could not be asked.
        """


class Hosts(Protocol):
    """The hosts of an audit. A host that fails is a look without domains."""

    def look(self, names: Collection[str] | None = None) -> tuple[HostLook, ...]:
        """Return a look at all hosts, or at those with these names (`HostLook.host`)."""


def audit(
    hosts: Hosts,
    nova: Nova,
    *,
    settle: float = SETTLE,
    tell: Callable[[str], object] = lambda _: None,
) -> Audit:
    """Compare what the hosts run with what Nova believes.

    Args:
        hosts: the hosts to look at.
        nova: what Nova believes.
        settle: seconds for which a power state, a second copy or a tap device has to differ before
            it can be certain; they are waited for only if one does.
        tell: is called with a line for people before each step that takes time.

    Raises:
        GuestlistError: the first look at Nova failed. A later look that fails makes the audit
            incomplete.

    Cost: one listing call for each host, and one more for each host with a suspect; two lists of
    Nova's servers, and two questions by id about each suspect.
    """
    first = _first(hosts, nova, tell)
    suspects = rule.suspects(first)
    if not suspects or not nova.can_look_again:
        return rule.judge(first, settle=settle)
    if suspects.must_last and settle > 0:
        tell(f"{suspects.in_words} differ: the audit looks again in {settle:g} s")
        time.sleep(settle)
    else:
        tell(f"{suspects.in_words} differ: the audit looks again")
    try:
        before = nova.some(suspects.uuids)
        looks = hosts.look(suspects.hosts) if suspects.hosts else ()
        second = Round(before, looks, nova.some(suspects.uuids))
    except GuestlistError as error:
        return rule.judge(first, settle=settle, failure=one_line(str(error)))
    return rule.judge(first, second, settle=settle)


def _first(hosts: Hosts, nova: Nova, tell: Callable[[str], object]) -> Round:
    if nova.can_look_again:
        tell("asking Nova for its servers")
    before = nova.servers()
    tell("asking the hosts for their domains")
    looks = hosts.look()
    if not nova.can_look_again:
        return Round(before, looks)
    tell("asking Nova again")
    try:
        return Round(before, looks, nova.servers())
    except GuestlistError as error:
        return Round(before, looks, failure=one_line(str(error)))
