"""Changes of domains whose project is not known yet: they wait until a filter can judge them.

In: changes as a live view or a fleet tells them, and what a filter says to each. Out: the changes
that the filter lets through, those of one domain in order. Asks no host.

The view learns of a new domain a moment before it has read its XML, so the start of the domain
comes without a project. If the domain goes before its project is known, its changes are let
through: none is lost because something is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from guestlist.errors import short
from guestlist.records import Instance

C = TypeVar("C")


class WaitingChanges(Generic[C]):
    """The changes that wait, by domain.

    Args:
        complain: is called with a line for each domain whose project cannot be known, once.
    """

    def __init__(self, complain: Callable[[str], object]) -> None:
        self._complain = complain
        self._waiting: dict[Hashable, list[C]] = {}
        self._named: set[Hashable] = set()

    def passed(
        self,
        change: C,
        domain: Hashable,
        instance: Instance,
        *,
        matches: bool,
        is_unjudged: bool,
        is_there: bool,
    ) -> Iterator[C]:
        """Yield the changes of a domain that may be shown now.

        Args:
            change: the latest change.
            domain: what tells this domain from others.
            instance: the domain after the change; before it, if it is gone.
            matches: whether the filter lets the change through.
            is_unjudged: whether only the project, which is not known, could make it match.
            is_there: whether the domain is there after the change.
        """
        changes = [*self._waiting.pop(domain, ()), change]
        if matches:
            yield from changes
        elif is_unjudged and instance.details is not None:
            self._name(domain, instance)
        elif is_unjudged and is_there:
            self._waiting[domain] = changes
        elif is_unjudged:
            yield from changes

    def passed_by_list(self, judge: Callable[[Hashable], bool | None]) -> Iterator[C]:
        """Yield the changes that a new list of domains lets through: no change may follow it.

        `judge` returns whether a domain matches; None: its project is still not known.
        """
        for domain in tuple(self._waiting):
            matches = judge(domain)
            if matches is not None:
                changes = self._waiting.pop(domain)
                yield from changes if matches else ()

    def _name(self, domain: Hashable, instance: Instance) -> None:
        if domain not in self._named:
            self._named.add(domain)
            self._complain(
                f"the project of domain {short(instance.name)} is not known: its changes are not "
                "shown"
            )
