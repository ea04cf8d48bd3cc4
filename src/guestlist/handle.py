"""A domain's handle, and what it tells without a call: UUID, id and name.

In: a `libvirt.virDomain`. Out: its UUID, id and name, read once, because the binding takes a third
of a microsecond for each. They are true at the instant of the listing, and never change here.
"""

from __future__ import annotations

import libvirt

_SHUTOFF = 5

INACTIVE_ID = -1
"""The id that libvirt gives for an inactive domain, which has none."""


class Handle:
    """A domain's handle. `uuid` has 16 bytes; `id` is `INACTIVE_ID` if the domain was inactive."""

    __slots__ = ("domain", "id", "name", "uuid")

    def __init__(self, domain: libvirt.virDomain) -> None:
        self.domain = domain
        self.uuid: bytes = domain.UUID()
        self.id: int = domain.ID()
        self.name: str = domain.name()

    def over(self, domain: libvirt.virDomain) -> Handle:
        """Return the same handle for another connection, where `domain` is the domain's handle."""
        other = Handle(domain)
        other.id = self.id
        return other


class Stated(Handle):
    """A handle, and the state of the domain under its id: virDomainState and its reason.

    A domain that is shut off has no id here. libvirt may still give its last one: the test driver
    lists a transient domain that is being destroyed as shut off, with its id (56 of 5,000 lists).
    """

    __slots__ = ("reason", "state")

    def __init__(self, domain: libvirt.virDomain, state: int, reason: int) -> None:
        self.domain = domain  # not by `super`: a live view makes a thousand a second
        self.uuid = domain.UUID()
        self.id = INACTIVE_ID if state == _SHUTOFF else domain.ID()
        self.name = domain.name()
        self.state = state
        self.reason = reason
