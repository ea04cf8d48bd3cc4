"""Drift: a difference between the view and libvirt of which no event told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from guestlist.event import Event
from guestlist.records import Instance


@dataclass(frozen=True, slots=True)
class Drift:
    """What the view had, and what libvirt answered twice; None: no such domain.

    `heard` are the last events of that domain, in order.
    """

    viewed: Instance | None
    found: Instance | None
    heard: tuple[Event, ...]
    noticed_at: datetime

    def __str__(self) -> str:
        """Return one line for a log."""
        either = self.found or self.viewed
        assert either is not None
        heard = ", ".join(f"{event} at {event.at:%H:%M:%S.%f}" for event in self.heard)
        return (
            f"domain {either.name!r} ({either.uuid}): the view had {_short(self.viewed)}, libvirt "
            f"has {_short(self.found)}; events: {heard or 'none'}"
        )


def _short(instance: Instance | None) -> str:
    if instance is None:
        return "none"
    return f"{instance.name!r}, {instance.state} (reason {instance.reason}), id {instance.id}"
