"""What is kept of each guest between two scrapes: its labels, and lines that have not changed.

In: what libvirt and the live view tell of a domain now. Out: its lines by family. Lines are made
again when the record that they come from is another one, so a scrape of a quiet host makes few.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from uuid import UUID

from guestlist.exporter import from_statistics, from_xml
from guestlist.exporter.exposition import Lines, sample
from guestlist.exporter.families import ALIASES
from guestlist.exporter.labels import GuestLabels, LabelStyle
from guestlist.exporter.lane import Reading
from guestlist.records import Instance
from guestlist.states import DomainState
from guestlist.statistics.reading import Values


class GuestNow(NamedTuple):
    """One domain, as it is told now."""

    uuid: UUID
    name: str
    id: int | None
    state: DomainState
    reason: int
    instance: Instance | None
    """Its record in the live view; None where the view lacks it so far."""
    values: Values
    """The statistics of this moment; empty while libvirt does not answer."""
    reading: Reading | None
    """The last statistics that the guest itself told; None if there are none, or too old ones."""
    has_answered: bool | None
    """Whether it answered the last time that it was asked for them; None: it was not asked."""


class _Kept:
    """One guest's labels, and the lines made of its record and of its last statistics."""

    __slots__ = ("guest", "instance", "labels", "name", "network", "reading", "told", "xml")

    def __init__(self, now: GuestNow, style: LabelStyle) -> None:
        self.name = now.name
        self.instance = now.instance
        self.labels = GuestLabels(now.name, now.instance, style)
        self.xml: Lines = {}
        if now.instance is not None:
            self.xml = from_xml.lines_of(now.instance, self.labels)
        self.network = from_statistics.Reader(self.labels)
        self.guest = from_statistics.Reader(self.labels)
        self.reading: Reading | None = None
        self.told: Lines = {}


class Guests:
    """The guests of one host. Not for several threads at a time."""

    def __init__(self, style: LabelStyle, compat: str | None) -> None:
        self._style = style
        self._aliases = ALIASES.get(compat or "", {})
        self._kept: dict[UUID, _Kept] = {}

    def lines(self, guests: Iterable[GuestNow], now: float) -> Iterator[Lines]:
        """Yield the lines of each guest, in parts; forget all other guests.

        Of two domains that have one name while they are renamed, the first is told of.

        Args:
            guests: the domains of this moment.
            now: monotonic seconds.
        """
        before, self._kept = self._kept, {}
        names: set[str] = set()
        for guest in guests:
            if guest.name in names:
                continue
            names.add(guest.name)
            kept = before.get(guest.uuid)
            if kept is None or kept.instance is not guest.instance or kept.name != guest.name:
                kept = _Kept(guest, self._style)
                kept.xml = self._with_aliases(kept.xml)
            self._kept[guest.uuid] = kept
            yield kept.xml
            yield self._with_aliases(from_xml.state_lines(guest.state, guest.reason, kept.labels))
            yield kept.network.lines(guest.values)
            if guest.has_answered is not None:
                family = "libvirt_domain_timed_out"
                yield {family: sample(family, kept.labels.guest, int(not guest.has_answered))}
            if guest.reading is not None:
                yield from self._told(kept, guest.reading, now)

    def labels(self) -> Mapping[UUID, str]:
        """Return the labels of each guest whose lines were yielded last, by UUID."""
        return {uuid: kept.labels.guest for uuid, kept in self._kept.items()}

    def _told(self, kept: _Kept, reading: Reading, now: float) -> Iterator[Lines]:
        if kept.reading is not reading:
            kept.reading = reading
            kept.told = self._with_aliases(kept.guest.lines(reading.values))
        yield kept.told
        family = "libvirt_domain_statistics_age_seconds"
        age = round(now - reading.asked_at, 3)
        yield {family: sample(family, kept.labels.guest, age)}

    def _with_aliases(self, lines: Lines) -> Lines:
        """Return the lines, and those that another exporter has under another name."""
        found = {
            alias: _renamed(lines[family], family, alias)
            for family, alias in self._aliases.items()
            if family in lines
        }
        return {**lines, **found} if found else lines


def _renamed(lines: str, family: str, alias: str) -> str:
    """Return lines of one family under another name. The text of a label holds no newline."""
    return alias + lines[len(family) :].replace(f"\n{family}{{", f"\n{alias}{{")
