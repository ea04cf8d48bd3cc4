"""A domain that was found, its host, and the sizes of its disks.

In: the domains that were found on a host. Out: each with what `guestlist ls` and `guestlist usage`
know of it. Images are measured on the machine where they are, and nowhere else; no libvirt call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from guestlist import usage
from guestlist.cli.show.columns import DomainRow

if TYPE_CHECKING:
    from uuid import UUID

    from guestlist.host import Host
    from guestlist.images import Image
    from guestlist.records import Disk, Snapshot, Source
    from guestlist.usage import InstanceUsage

Sizes = Mapping["Source", "Image"]


class FoundDomain(NamedTuple):
    """A domain, its row in `guestlist ls`, what it uses, and the sizes of its images."""

    row: DomainRow
    usage: InstanceUsage
    sizes: Sizes

    def size(self, disk: Disk) -> tuple[int | None, int | None]:
        """Return the bytes of a disk that the guest sees, and those that its image takes."""
        image = self.sizes.get(disk.source)
        return (image.virtual_bytes, image.allocated_bytes) if image else (None, None)

    @property
    def unknown(self) -> list[str]:
        """What is not known, each once: of the XML, and of the sizes of disks."""
        details = self.row.instance.details
        of_xml = details.unknown if details else ()
        return list(dict.fromkeys((*of_xml, *self.usage.unknown)))


def measured(host: Host, snapshot: Snapshot, deadline: float) -> Sizes:
    """Return the sizes of all images, which take `deadline` seconds at most. Cost: no call."""
    sources = usage.sources(snapshot)
    if not sources:
        return {}
    from guestlist.images import Image, Images  # noqa: PLC0415  many domains have no disk

    if not host.is_local:
        return dict.fromkeys(sources, Image(None, None, "on another machine"))
    return Images(deadline=deadline).measure(sources)


def domains(
    host: str, snapshot: Snapshot, sizes: Sizes, now: datetime
) -> Iterator[tuple[UUID, FoundDomain]]:
    """Yield each domain of a host by its UUID; `now` is the time of the question."""
    for used in usage.of(snapshot, sizes).instances:
        row = DomainRow(host, snapshot[used.uuid], now)
        yield used.uuid, FoundDomain(row, used, sizes)
