"""What differs between the findings of one audit and those of the next. Pure.

In: audits, one after the other. Out: for each finding that is new, has become certain or is
resolved, one piece of news. What an audit could not look at is not resolved by it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from enum import StrEnum
from typing import NamedTuple

from guestlist.audit.findings import Audit, Certainty, Finding


class Event(StrEnum):
    """What happened to a finding. A value keeps its meaning for ever."""

    NEW = "new"
    CERTAIN = "certain"
    RESOLVED = "resolved"


class FindingNews(NamedTuple):
    """What happened to a finding; if it is resolved, the finding as it was last seen."""

    event: Event
    finding: Finding


class KnownFindings:
    """The findings of the audits so far that are not resolved."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Finding] = {}

    def news(self, audit: Audit, was_looked_at: Callable[[Finding], bool]) -> Iterator[FindingNews]:
        """Take an audit in and yield its news: what is resolved first, then its findings.

        A finding that was certain and is only possible now is no news, and neither is its return.

        Args:
            audit: the audit.
            was_looked_at: tells of an earlier finding whether this audit could see that it is
                resolved. Not asked if the audit is complete.
        """
        found = {finding.key: finding for finding in audit.findings}
        for key, finding in list(self._known.items()):
            if key not in found and (audit.complete or was_looked_at(finding)):
                del self._known[key]
                yield FindingNews(Event.RESOLVED, finding)
        for key, finding in found.items():
            before = self._known.get(key)
            if before is not None and before.certainty is Certainty.CERTAIN:
                continue
            self._known[key] = finding
            if before is None:
                yield FindingNews(Event.NEW, finding)
            elif finding.certainty is Certainty.CERTAIN:
                yield FindingNews(Event.CERTAIN, finding)
