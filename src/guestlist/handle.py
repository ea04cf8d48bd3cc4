"""A domain's handle, and what it tells without a call: UUID, id and name.

In: a `libvirt.virDomain`. Out: the three, read off it once: the binding takes a third of a
microsecond for each, each time. They are those of the instant of the listing, and stay.
"""

from __future__ import annotations

import libvirt

_SHUTOFF = 5

INACTIVE_ID = -1
"""What libvirt gives as the id of a domain that has none."""


class Handle:
    """A handle. `uuid` are its 16 bytes; `id` is `INACTIVE_ID` if it was inactive."""

    __slots__ = ("domain", "id", "name", "uuid")

    def __init__(self, domain: libvirt.virDomain) -> None:
        self.domain = domain
        self.uuid: bytes = domain.UUID()
        self.id: int = domain.ID()
        self.name: str = domain.name()

    def over(self, domain: libvirt.virDomain) -> Handle:
        """The same, to be asked over another connection: through `domain`, its handle there."""
        other = Handle(domain)
        other.id = self.id
        return other


class Stated(Handle):
    """A handle, and the state of the domain under its id: virDomainState and its reason.

    One that is shut off has no id. libvirt may still give the last one: a transient domain that is
    being destroyed on the test driver is listed as shut off under its id (56 of 5,000 lists).
    """

    __slots__ = ("reason", "state")

    def __init__(self, domain: libvirt.virDomain, state: int, reason: int) -> None:
        super().__init__(domain)
        if state == _SHUTOFF:
            self.id = INACTIVE_ID
        self.state = state
        self.reason = reason
