"""HostExporter: one host, and the body of a scrape.

In: a host. Out: its exposition. What enters no guest's monitor (states, network interfaces, what
the XML says) is of the moment of the scrape: one call, and the live view, which costs none. What
the guests themselves tell comes from the lane, with its age. A scrape ends within
`current.DEADLINE`, three times `LONGEST_CALLS`, and the time to write the body, whatever daemon and
guests do.

While libvirt is away, `libvirt_up` is 0; the domains stay as they were last seen, with the age of
the view; statistics of the moment are gone at once, those of the lane when they are too old.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterator, Mapping
from uuid import UUID

from guestlist.capabilities import Versions, version_text
from guestlist.errors import GuestlistError, NotSupported, NotSynced
from guestlist.exporter import own
from guestlist.exporter.collectors import COLLECTORS
from guestlist.exporter.current import CurrentCalls, CurrentDomain, CurrentDomains
from guestlist.exporter.events import Events
from guestlist.exporter.exposition import Lines, body, label, labels, sample
from guestlist.exporter.families import families
from guestlist.exporter.guests import GuestNow, Guests
from guestlist.exporter.incoming import Incoming
from guestlist.exporter.job_calls import JobCalls
from guestlist.exporter.jobs import Jobs
from guestlist.exporter.labels import LabelStyle
from guestlist.exporter.lane import Lane, Reading
from guestlist.exporter.pools import Pools
from guestlist.host import Host, connection_like
from guestlist.inventory import Inventory
from guestlist.records import Instance, Snapshot
from guestlist.statistics.reading import Values
from guestlist.unpatched import threading

log = logging.getLogger(__name__)

LONGEST_CALLS = 0.2
"""Seconds that a scrape waits for calls about targets of migrations, about jobs, and about storage
pools, each."""

LONGEST_ROUND = 60.0
"""Seconds that a round of statistics may take, even if rounds should come more often. No scrape
waits for it. 1,000 guests need some 7 s, and a third of it is left to any one call."""


class HostExporter:
    """The metrics of one host. Threads may share it.

    It has a live view, a connection for scrapes, and the connections of its lane. Start it, and
    close it when you are done.

    Args:
        host: the host; its connection is left alone.
        collectors: names of `collectors.COLLECTORS`.
        compat: a name of `families.COMPAT`, or None.
        interval: seconds between two rounds of the lane.
        nova_labels: kumina's `--libvirt.export-nova-metadata`.
    """

    def __init__(
        self,
        host: Host,
        *,
        collectors: frozenset[str],
        compat: str | None = None,
        interval: float = 15.0,
        nova_labels: bool = False,
    ) -> None:
        self._live = Inventory(host)
        self._current = CurrentCalls(connection_like(host))
        self._families = families(collectors, compat)
        groups = [
            collector.statistics
            for name, collector in COLLECTORS.items()
            if name in collectors and collector.statistics is not None
        ]
        self._lane = None
        if groups:
            longest = max(interval, LONGEST_ROUND)
            self._lane = Lane(connection_like(host), groups, interval=interval, deadline=longest)
        calls = JobCalls(connection_like(host))
        self._incoming = Incoming(calls)
        self._incoming.attach(self._live)
        self._events = Events() if "events" in collectors else None
        if self._events is not None:
            self._events.attach(self._live)
        self._jobs = Jobs(calls) if "job" in collectors else None
        if self._jobs is not None:
            self._jobs.attach(self._live)
        self._job_calls = calls
        self._pools = None
        if "pool" in collectors:
            self._pools = Pools(connection_like(host), for_tinkoff=compat == "tinkoff")
        self._guests = Guests(LabelStyle(compat == "kumina", nova_labels), compat)
        self._turn = threading.Lock()
        self._failure: str | None = None
        """Why libvirt did not answer the last scrape; None: it did."""
        self._readings: Mapping[bytes, Reading] = {}
        self._unanswered: Container[bytes] = ()

    @property
    def label(self) -> str:
        """The host's name in messages."""
        return self._live.label

    @property
    def live(self) -> Inventory:
        """The live view of the host, which is closed with the exporter."""
        return self._live

    def start(self) -> None:
        """Start to follow the host; opens its connections."""
        self._live.start()
        if self._lane is not None:
            self._lane.start()

    def close(self) -> None:
        """Close all connections; comes back within about a second each."""
        if self._lane is not None:
            self._lane.close()
        self._job_calls.close()
        if self._pools is not None:
            self._pools.close()
        self._current.close()
        self._live.close()

    @property
    def is_ready(self) -> bool:
        """Whether the live view has been in step once."""
        return self._live.stale_for is not None

    def wait_ready(self, timeout: float) -> None:
        """Wait until the view is in step and the lane has made its first round.

        Raises:
            GuestlistError: the view is not in step after `timeout` seconds.
        """
        end = time.monotonic() + timeout
        self._live.wait_synced(timeout)
        if self._lane is not None:
            self._lane.wait_round(max(0.0, end - time.monotonic()))

    def scrape(self) -> bytes:
        """Return the exposition of this moment, in UTF-8. Raises nothing because of libvirt.

        Cost: 1 call; 3 more, once per connection, for the versions.
        """
        with self._turn:
            return body(self._families, self._parts())

    def _parts(self) -> Iterator[Lines]:
        now: CurrentDomains | None = None
        is_up = True
        if self._lane is not None:
            self._readings, self._unanswered = self._lane.readings(), self._lane.unanswered
        try:
            now = self._current.ask()
            self._note(None)
        except NotSupported:
            is_up = self._live.stale_for == 0
        except GuestlistError as error:
            is_up = False
            self._note(str(error))
        view = self._view()
        known: Mapping[UUID, Instance] = {} if view is None else view
        if now is not None:
            guests = [self._guest(one, known.get(one.uuid), one.values) for one in now.domains]
            yield _versions(now.versions)
        else:
            guests = [self._guest(one, one, {}) for one in known.values()]
        patience = LONGEST_CALLS if now is not None else 0.0  # a daemon that hangs answers none
        elsewhere = self._incoming.withheld(guests, patience)
        withheld = [guest for guest in guests if guest.uuid in elsewhere]
        guests = [guest for guest in guests if guest.uuid not in elsewhere]
        yield _single("libvirt_up", int(is_up))
        if now is not None or view is not None:
            yield _single("libvirt_domains", len({guest.uuid for guest in guests}))
            yield _single("libvirt_domains_number", sum(guest.id is not None for guest in guests))
        yield from self._guests.lines(guests, time.monotonic())
        names = self._guests.labels()
        others = {guest.uuid: label("domain", guest.name) for guest in withheld}
        if self._events is not None:
            existing = {*names, *others, *known}
            yield self._events.lines(names, existing, self._live.statistics())
        if self._jobs is not None:
            # Of a guest that has moved in post-copy the job is still here.
            yield self._jobs.lines({**names, **others}, patience)
        if self._pools is not None and now is not None:
            yield self._pools.lines(LONGEST_CALLS)
        yield own.lines()
        yield from self._ages()

    def _note(self, failure: str | None) -> None:
        """Log why libvirt does not answer scrapes, once until the reason changes."""
        if failure != self._failure:
            if failure is None:
                log.info("%s: scrapes are answered again", self.label)
            else:
                log.warning("libvirt_up is 0: %s", failure)
        self._failure = failure

    def _view(self) -> Snapshot | None:
        try:
            return self._live.snapshot(
                include_inactive=True, include_foreign=True, include_dom0=True
            )
        except NotSynced:
            return None

    def _guest(
        self, one: CurrentDomain | Instance, instance: Instance | None, values: Values
    ) -> GuestNow:
        told = self._told(one.uuid.bytes, one.id)
        return GuestNow(one.uuid, one.name, one.id, one.state, one.reason, instance, values, *told)

    def _told(self, uuid: bytes, number: int | None) -> tuple[Reading | None, bool | None]:
        """Return what the guest itself last told since this start, and whether it answered last."""
        if self._lane is None or number is None or self._lane.age is None:
            return None, None
        reading = self._readings.get(uuid)
        if reading is not None and reading.id != number:
            reading = None
        if uuid in self._unanswered:
            return reading, False
        return reading, None if reading is None else True

    def _ages(self) -> Iterator[Lines]:
        stale_for = self._live.stale_for
        if stale_for is not None:
            yield _single("guestlist_exporter_view_stale_seconds", round(stale_for, 3))
        if self._lane is not None and self._lane.age is not None:
            yield _single("guestlist_exporter_statistics_age_seconds", round(self._lane.age, 3))
            duration = self._lane.duration
            if duration is not None:
                name = "guestlist_exporter_statistics_duration_seconds"
                yield _single(name, round(duration, 3))


def _single(family: str, value: float) -> Lines:
    return {family: sample(family, "", value)}


def _versions(versions: Versions) -> Lines:
    family = "libvirt_versions_info"
    running = versions.hypervisor, versions.daemon, versions.client
    names = "hypervisor_running", "libvirtd_running", "libvirt_library"
    texts = (None if number is None else version_text(number) for number in running)
    return {family: sample(family, labels(**dict(zip(names, texts, strict=True))), 1)}
