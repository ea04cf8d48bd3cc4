"""Counters of libvirt's events, by their words; and when a guest last had a fault.

In: the events that come over the connections of a live view. Out: lines of the exposition. Makes no
call. The counters of a host have no label that grows: an event and its reason, in virsh's words.
Those of a kind that this libvirt has are there from the first connection on, with 0, so that
Prometheus's `increase()` sees the first event. A counter never falls.

Events are missed while there is no connection. So the counters are absent until it is back: a
counter that stands still would say that nothing happened. `…_connections_total` counts the
connections; each one after the first stands for such a gap.

A fault is an event that an operator must look after: an I/O error, a watchdog that fired, a memory
failure, an error of the monitor, a crash, the end of QEMU. For alerts by domain there are a counter
of I/O errors for every domain, and the time of the last fault for the domains that had one. A time
needs no 0 before the first event, as a counter does, so domains without a fault cost no series.
Both go with their domain.

Source: libvirt include/libvirt/libvirt-domain.h (virDomainEventID, and the callback of each kind);
words as virsh prints them (tools/virsh-domain-event.c).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from guestlist.event import LIFECYCLE_WORDS, EventKind, Lifecycle, lifecycle_words
from guestlist.exporter.by_domain import ByDomain
from guestlist.inventory import Inventory, InventoryStatistics
from guestlist.inventory.lifetime import listen
from guestlist.unpatched import threading

if TYPE_CHECKING:
    import libvirt

EVENTS = "libvirt_domain_events_total"
IO_ERRORS = "libvirt_domain_io_errors_total"
LAST_FAULT = "libvirt_domain_last_fault_timestamp_seconds"
CONNECTIONS = "guestlist_exporter_connections_total"
LOSSES = "guestlist_exporter_event_losses_total"

Words = tuple[str, str]
"""The labels of a counter: the event, and its reason; "" where libvirt tells none."""


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else f"reason {number}"


_WATCHDOG = ("none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi")
_IO_ERROR = ("unknown", "enospc", "message")
_AGENT = {1: "agent connected", 2: "agent disconnected"}
_AGENT_REASON = ("unknown", "domain started", "channel event")
_MEMORY_FAILURE = ("ignore", "inject", "fatal", "reset")


def _reboot() -> Words:
    return "rebooted", ""


def _watchdog(action: int) -> Words:
    return "watchdog", _word(_WATCHDOG, action)


def _io_error(_path: str, _alias: str, _action: int, reason: str) -> Words:
    return "I/O error", reason if reason in _IO_ERROR else "unknown"


def _control_error() -> Words:
    return "control error", ""


def _agent(state: int, reason: int) -> Words:
    return _AGENT.get(state, "agent"), _word(_AGENT_REASON, reason)


def _block_threshold(_device: str, _path: str | None, _threshold: int, _excess: int) -> Words:
    return "block threshold", ""


def _memory_failure(_recipient: int, action: int, _flags: int) -> Words:
    return "memory failure", _word(_MEMORY_FAILURE, action)


class _Kind(NamedTuple):
    """A kind of event: the libvirt that brought it, its words, and all words that are known."""

    since: int
    words: Callable[..., Words]
    known: tuple[Words, ...]


def _all(event: str, reasons: Iterable[str] = ("",)) -> tuple[Words, ...]:
    return tuple((event, reason) for reason in reasons)


_KINDS: Mapping[int, _Kind] = {
    25: _Kind(6_009_000, _memory_failure, _all("memory failure", _MEMORY_FAILURE)),
    24: _Kind(3_002_000, _block_threshold, _all("block threshold")),
    EventKind.AGENT_LIFECYCLE: _Kind(
        EventKind.AGENT_LIFECYCLE.since,
        _agent,
        tuple(words for event in _AGENT.values() for words in _all(event, _AGENT_REASON)),
    ),
    7: _Kind(9_002, _control_error, _all("control error")),
    6: _Kind(8_001, _io_error, _all("I/O error", _IO_ERROR)),
    3: _Kind(8_000, _watchdog, _all("watchdog", _WATCHDOG)),
    EventKind.REBOOT: _Kind(EventKind.REBOOT.since, _reboot, _all("rebooted")),
    EventKind.LIFECYCLE: _Kind(
        EventKind.LIFECYCLE.since,
        lifecycle_words,
        tuple(
            words for event, reasons in LIFECYCLE_WORDS.values() for words in _all(event, reasons)
        ),
    ),
}
"""By VIR_DOMAIN_EVENT_ID_*. The names are libvirt's: MEMORY_FAILURE, BLOCK_THRESHOLD,
AGENT_LIFECYCLE, CONTROL_ERROR, IO_ERROR_REASON, WATCHDOG, REBOOT, LIFECYCLE."""

_IO_ERROR_REASON = 6
_IO_ERRORS = "I/O error"
_CRASHED = "crashed"

_FAULTS: Mapping[Words, str] = {
    **{words: words[0] for number in (25, 7, 6, 3) for words in _KINDS[number].known},
    **dict.fromkeys(_all(_CRASHED, LIFECYCLE_WORDS[Lifecycle.CRASHED][1]), _CRASHED),
    ("stopped", "crashed"): _CRASHED,
    ("stopped", "failed"): "failed",
}
"""The events that are faults, and the word for each. "failed": QEMU ended without a word."""


class _Faults:
    """The faults of one domain: when the last one of each was, and the number of I/O errors."""

    __slots__ = ("at", "io_errors")

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.io_errors = 0


class Events:
    """The counters of one host. Threads may share it.

    Attach it before the view is started, and give each scrape the domains that exist then.
    """

    kinds: Mapping[int, int] = {number: kind.since for number, kind in _KINDS.items()}

    def __init__(self) -> None:
        self._counts: dict[Words, int] = {}
        self._faults: ByDomain[_Faults] = ByDomain()
        self._heard: Collection[int] = ()
        self._lock = threading.Lock()

    def attach(self, view: Inventory) -> None:
        """Hear the events of a live view.

        Raises:
            RuntimeError: the view was started already.

        Cost: a registration for each kind that the view does not hear: 5 calls for each connection.
        """
        listen(view, self)

    def lines(
        self, labels: Mapping[UUID, str], existing: Container[UUID], view: InventoryStatistics
    ) -> dict[str, str]:
        """Return the lines of the collector "events", by family.

        Args:
            labels: the finished label of each domain that is announced
                (`domain="instance-00000001"`).
            existing: all domains that exist, also those that are not announced; what is kept of
                other domains is dropped.
            view: what the live view has done so far.

        Cost: no call.
        """
        lines = {
            CONNECTIONS: f"{CONNECTIONS} {view.connections}\n",
            LOSSES: f"{LOSSES} {view.losses}\n",
        }
        with self._lock:
            self._faults.keep_only(existing)
            if self._heard:
                lines[EVENTS] = "".join(map(_event_line, self._counts.items()))
            if _IO_ERROR_REASON in self._heard:
                lines[IO_ERRORS] = "".join(
                    f"{IO_ERRORS}{{{label}}} {self._io_errors(uuid)}\n"
                    for uuid, label in labels.items()
                )
            lines[LAST_FAULT] = "".join(
                f'{LAST_FAULT}{{{labels[uuid]},fault="{fault}"}} {at:.3f}\n'
                for uuid, faults in self._faults.items()
                if uuid in labels
                for fault, at in faults.at.items()
            )
        return {name: text for name, text in lines.items() if text}

    def _io_errors(self, uuid: UUID) -> int:
        faults = self._faults.get(uuid)
        return faults.io_errors if faults is not None else 0

    # As a listener of the view

    def begin(self, kinds: Collection[int]) -> None:
        """Count the events of these kinds, from 0 on where they were not counted before."""
        with self._lock:
            self._heard = kinds
            for number in kinds:
                for words in _KINDS[number].known:
                    self._counts.setdefault(words, 0)

    def hear(self, kind: int, domain: libvirt.virDomain, *facts: Any) -> None:
        """Count an event."""
        words = _known(_KINDS[kind], _KINDS[kind].words(*facts))
        fault = _FAULTS.get(words)
        uuid = UUID(bytes=domain.UUID()) if fault is not None else None
        with self._lock:
            self._counts[words] = self._counts.get(words, 0) + 1
            if fault is not None and uuid is not None:
                faults = self._faults.get(uuid) or _Faults()
                faults.at[fault] = time.time()
                faults.io_errors += fault == _IO_ERRORS
                self._faults.put(uuid, faults)

    def end(self) -> None:
        """Show no counter of events until the next connection: events are missed until then."""
        with self._lock:
            self._heard = ()


def _known(kind: _Kind, words: Words) -> Words:
    """Return the words; "other" in place of those that a newer libvirt may have.

    So the number of series is bounded, whatever numbers a daemon sends.
    """
    if words in kind.known:
        return words
    is_event = any(event == words[0] for event, _ in kind.known)
    return (words[0] if is_event else "other"), "other"


def _event_line(counted: tuple[Words, int]) -> str:
    (event, reason), count = counted
    return f'{EVENTS}{{event="{event}",reason="{reason}"}} {count}\n'
