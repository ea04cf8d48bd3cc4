"""The keys of one host in one fleet. Pure."""

from __future__ import annotations

from uuid import UUID

from guestlist.fleet.etcd.span import Span
from guestlist.fleet.layout import Layout


class HostKeys:
    """The keys of one host.

    Raises:
        InvalidName: the name of the fleet, or of the host, cannot be part of a key.
    """

    def __init__(self, fleet: str, host: str) -> None:
        self.layout = Layout(fleet)
        self.host = host
        self.live = self.layout.live(host)
        """The key on the host's lease."""
        self.record = self.layout.host(host)
        self.domains: Span = self.layout.domains(host)
        self.tombstones: Span = self.layout.tombstones(host)

    def domain(self, uuid: UUID) -> bytes:
        """Return the key of a domain."""
        return self.domains.start + str(uuid).encode()

    def tombstone(self, uuid: UUID) -> bytes:
        """Return the key of a domain's tombstone."""
        return self.tombstones.start + str(uuid).encode()
