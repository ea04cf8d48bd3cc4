"""Scopes: the domains that a reader wants to see, and the part of a view that has them. Pure.

In: a view, and its changes. Out: the instances that a scope admits, and the changes as a reader of
that scope sees them. Work grows with the changes, not with the view: a part is filtered once, and
then follows the changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from guestlist.inventory.changes import Change
from guestlist.inventory.merging import View
from guestlist.launcher import Launcher
from guestlist.records import Instance, Snapshot, snapshot_over

_WORTH_FOLLOWING = 0.25
"""The share of a view. More changes than that cost more to follow than the part costs to filter."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The options of `Host.snapshot` that add domains to it, under their names."""

    include_inactive: bool = False
    include_foreign: bool = False
    include_dom0: bool = False

    def admits(self, instance: Instance) -> bool:
        """Whether a reader of this scope sees a domain."""
        if instance.id is None and not self.include_inactive:
            return False
        if instance.launcher is Launcher.DOM0:
            return self.include_dom0
        return instance.ours or self.include_foreign

    def seen(self, change: Change) -> Change | None:
        """Return the change as a reader of this scope sees it; None if it sees none."""
        before = change.before if change.before and self.admits(change.before) else None
        after = change.after if change.after and self.admits(change.after) else None
        if before is change.before and after is change.after:
            return change
        if before is None and after is None:
            return None
        return replace(change, before=before, after=after)


class Part:
    """The part of a view that one scope admits. One thread at a time."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._instances: Mapping[UUID, Instance] = {}  # never changed: another one replaces it
        self._in_order = False
        self._last: Snapshot | None = None
        self._coming: list[Change] | None = None  # None: filter the view again

    def follow(self, changes: Iterable[Change], view: View) -> None:
        """Note what was just merged into the view. Cost: no call, and little time."""
        if self._coming is not None:
            self._coming.extend(changes)
            if len(self._coming) > 16 + _WORTH_FOLLOWING * len(view):
                self._coming = None

    def snapshot(self, view: View, stale_for: float) -> Snapshot:
        """Return the part of a view; each change that led to the view was followed."""
        if self._coming is None:
            self._filter(view)
        elif self._coming:
            self._catch_up(self._coming)
        self._coming = []
        if self._last is None or self._last.stale_for or stale_for:
            self._last = snapshot_over(
                self._instances, in_order=self._in_order, stale_for=stale_for
            )
        return self._last

    def _filter(self, view: View) -> None:
        admitted = Snapshot(filter(self._scope.admits, view.values()))
        self._instances = {each.uuid: each for each in admitted.instances}
        self._in_order = True
        self._last = None

    def _catch_up(self, changes: Iterable[Change]) -> None:
        instances = dict(self._instances)
        for change in changes:
            before, after = instances.get(change.uuid), change.after
            if after is None or not self._scope.admits(after):
                instances.pop(change.uuid, None)
            else:
                self._in_order = self._in_order and before is not None and before.name == after.name
                instances[change.uuid] = after
        self._instances = instances
        self._last = None
