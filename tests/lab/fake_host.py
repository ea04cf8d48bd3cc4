"""The host behind fake connections: its domains, what becomes of them, and who is told of it.

In: `Domain` values, and what a test does to them. Out: each domain as it is (`Guest`), as it has
been (`history`, the truth that a view is held against), and events to every connection. What
libvirt's test driver does too is done as it does it, its errors and events included, and the
contract suite says so; the rest is as QEMU's does it: starts that fail without a word, guests that
shut down or crash by themselves, devices plugged, migrations.

All changes are atomic and made under `lock`: who holds it sees a host that stands still, and no
call is answered meanwhile. Knows nothing of connections but that they have a `Mail`.

Source: libvirt src/test/test_driver.c; FACTS measured on its QEMU driver (a start that fails).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import libvirt
from lab.fake_mail import Letter, Mail
from lab.nodes import Domain

FROM_TEST, FROM_DOMAIN = 12, 20
LIFECYCLE, REBOOT, DISK_CHANGE, TRAY_CHANGE, BALLOON_CHANGE = 0, 1, 9, 10, 13
DEVICE_REMOVED, BLOCK_JOB_2, DEVICE_ADDED, METADATA_CHANGE = 15, 16, 19, 23
RUNNING, PAUSED, SHUTDOWN, SHUTOFF, CRASHED = 1, 3, 4, 5, 6

_DEFINED, _UNDEFINED, _STARTED, _SUSPENDED, _RESUMED, _STOPPED, _SHUTDOWN = range(7)
_PANICKED = 8
_REMOVED, _RENAMED_AWAY = range(2)
_ADDED, _UPDATED, _RENAMED = range(3)
_BOOTED, _UNPAUSED = 1, 5
_BY_USER, _STARTING_UP = 1, 11
_OFF, _DESTROYED, _CRASHED, _MIGRATED, _SAVED, _FAILED = range(1, 7)
"""Why a domain is shut off. Of all but the last, its event's detail is one less."""


def libvirt_error(code: int, message: str, domain: int = FROM_TEST) -> libvirt.libvirtError:
    """An error as libvirt-python raises it: `get_error_code()` and the rest say what is given."""
    error = libvirt.libvirtError(message)
    error.err = (code, domain, message, libvirt.VIR_ERR_ERROR, message, None, None, -1, -1)
    error.args = (message,)
    return error


@dataclass(frozen=True, slots=True)
class Guest:
    """One domain at one instant. `domain` is the definition in force.

    `later` is that of its next start, None of one that has no other: transient ones, and those that
    are shut off.
    """

    domain: Domain
    id: int
    state: int
    reason: int
    persistent: bool
    later: Domain | None = None

    @property
    def active(self) -> bool:
        """Whether libvirt calls it active: it has an id."""
        return self.id >= 0

    @property
    def seen(self) -> tuple[str, int | None, int, int]:
        """What a reader may see of it: name, id, state and reason. Who is shut off has no id."""
        id = self.id if self.active and self.state != SHUTOFF else None
        return self.domain.name, id, self.state, self.reason


class Client(Protocol):
    """A connection to the host."""

    mail: Mail
    alive: bool


class FakeHost:
    """A host with these domains. Threads may share it.

    `history` has all that each domain has ever been, in order, None where it was not there. While
    `down` is set nobody can connect.
    """

    def __init__(self, domains: Iterable[Domain] = ()) -> None:
        self.lock = threading.RLock()
        self.guests: dict[uuid.UUID, Guest] = {}
        self.history: defaultdict[uuid.UUID, list[Guest | None]] = defaultdict(lambda: [None])
        self.clients: list[Client] = []
        self.down = False
        self._ids = itertools.count(1)
        for domain in domains:
            self.put(domain)

    def guest(self, identity: uuid.UUID) -> Guest:
        """The domain as it is; `libvirtError` 42 if it is gone."""
        with self.lock:
            if identity not in self.guests:
                text = f"Domain not found: no domain with matching uuid '{identity}'"
                raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, text)
            return self.guests[identity]

    def named(self, name: str) -> Guest | None:
        """The domain with this name."""
        with self.lock:
            return next((g for g in self.guests.values() if g.domain.name == name), None)

    # As a test likes it

    def put(self, domain: Domain) -> None:
        """Add a domain, or change the one with its UUID to this; with the events of that."""
        runs = domain.active or domain.transient
        with self._changing():
            before = self.guests.get(domain.uuid)
            was = before is not None and before.active
            number = -1
            if runs:
                number = before.id if before and was else next(self._ids)
            guest = Guest(
                domain,
                number,
                domain.runstate,
                0,
                persistent=not domain.transient,
                later=domain if runs and not domain.transient else None,
            )
            self._set(guest)
            if before is None and guest.persistent:
                self._say(guest, LIFECYCLE, _DEFINED, _ADDED)
            if runs and not was:
                self._say(guest, LIFECYCLE, _STARTED, 0)
            if was and not runs:
                self._say(guest, LIFECYCLE, _STOPPED, 0)

    def set_id(self, identity: uuid.UUID, number: int) -> None:
        """Give an active domain this id: 0, and it looks like Xen's Domain-0."""
        with self._changing():
            self._set(replace(self.guest(identity), id=number))

    # As every driver does it

    def define(self, domain: Domain) -> None:
        """Define it, or define it anew: what runs takes that up at its next start."""
        with self._changing():
            self._refuse_twins(domain)
            plain = replace(domain, active=False, paused=False, transient=False)
            before = self.guests.get(domain.uuid)
            if before is None:
                guest = Guest(plain, -1, SHUTOFF, 0, persistent=True)
            elif before.active:
                guest = replace(before, later=plain, persistent=True)
            else:
                guest = replace(before, domain=plain)
            known = before is not None and not (before.active and before.later is None)
            self._set(guest)
            self._say(guest, LIFECYCLE, _DEFINED, _UPDATED if known else _ADDED)

    def undefine(self, identity: uuid.UUID) -> None:
        """Remove its definition; what runs becomes transient."""
        with self._changing():
            guest = self.guest(identity)
            if guest.active:
                self._set(replace(guest, persistent=False))
            else:
                self._remove(guest)
            self._say(guest, LIFECYCLE, _UNDEFINED, _REMOVED)

    def create(self, identity: uuid.UUID) -> None:
        """Start it."""
        with self._changing():
            self._start(self.guest(identity), RUNNING, _BOOTED, told=True)

    def create_transient(self, domain: Domain) -> None:
        """Start it without defining it; one that is defined runs so until it is shut off."""
        with self._changing():
            self._refuse_twins(domain)
            before = self.guests.get(domain.uuid)
            if before is not None and before.active:
                raise _invalid(f"domain '{domain.name}' is already active", FROM_DOMAIN)
            guest = Guest(domain, next(self._ids), RUNNING, _BOOTED, persistent=False)
            if before is not None:
                guest = replace(guest, persistent=True, later=before.domain)
            self._set(guest)
            self._say(guest, LIFECYCLE, _STARTED, 0)

    def suspend(self, identity: uuid.UUID) -> None:
        """Pause it."""
        with self._changing():
            guest = self._in_state(identity, RUNNING, "running")
            self._set(replace(guest, state=PAUSED, reason=_BY_USER))
            self._say(guest, LIFECYCLE, _SUSPENDED, 0)

    def resume(self, identity: uuid.UUID) -> None:
        """Let it go on."""
        with self._changing():
            guest = self._in_state(identity, PAUSED, "paused")
            self._set(replace(guest, state=RUNNING, reason=_UNPAUSED))
            self._say(guest, LIFECYCLE, _RESUMED, 0)

    def shutdown(self, identity: uuid.UUID) -> None:
        """Shut it off, at once."""
        with self._changing():
            guest = self.guest(identity)
            if not guest.active:
                raise _internal(f"domain '{guest.domain.name}' not running")
            self._stop(guest, _OFF)

    def destroy(self, identity: uuid.UUID) -> None:
        """Pull the plug."""
        with self._changing():
            self._stop(self._running(identity), _DESTROYED)

    def save(self, identity: uuid.UUID) -> None:
        """Save its memory and shut it off; not of a transient one."""
        with self._changing():
            guest = self._running(identity)
            if not guest.persistent:
                raise _invalid("cannot do managed save for transient domain", FROM_TEST)
            self._stop(guest, _SAVED)

    def crash(self, identity: uuid.UUID) -> None:
        """Have it crash, and shut it off for it."""
        with self._changing():
            self._stop(self._running(identity), _CRASHED)

    def rename(self, identity: uuid.UUID, name: str) -> None:
        """Give one that is shut off another name."""
        with self._changing():
            guest = self.guest(identity)
            if guest.active:
                raise _invalid("cannot rename active domain", FROM_TEST)
            if self.named(name) is not None:
                raise _invalid(f"domain with name '{name}' already exists", FROM_DOMAIN)
            after = replace(guest, domain=replace(guest.domain, name=name))
            self._set(after)
            self._say(guest, LIFECYCLE, _UNDEFINED, _RENAMED_AWAY)
            self._say(after, LIFECYCLE, _DEFINED, _RENAMED)

    def alter(self, identity: uuid.UUID, kind: int, *facts: object, **fields: object) -> None:
        """Change the definition in force while it stays in its state, with an event of that kind.

        `alter(uuid, DEVICE_ADDED, "net1", devices=…)`; without fields nothing is new but the event.
        """
        with self._changing():
            guest = self.guest(identity)
            if fields:
                changed: Domain = replace(guest.domain, **fields)  # type: ignore[arg-type]
                self._set(replace(guest, domain=changed))
            self._say(guest, kind, *facts)

    # As QEMU's driver does it

    def begin_start(self, identity: uuid.UUID) -> None:
        """Begin a start: it has an id and is paused, starting up, and nobody is told."""
        with self._changing():
            self._start(self.guest(identity), PAUSED, _STARTING_UP, told=False)

    def begin_transient(self, domain: Domain) -> None:
        """Begin the start of one that is not defined; nobody is told."""
        with self._changing():
            self._refuse_twins(domain)
            self._set(Guest(domain, next(self._ids), PAUSED, _STARTING_UP, persistent=False))

    def finish_start(self, identity: uuid.UUID) -> None:
        """Let a start succeed that was begun."""
        with self._changing():
            guest = replace(self.guest(identity), state=RUNNING, reason=_BOOTED)
            self._set(guest)
            self._say(guest, LIFECYCLE, _STARTED, 0)

    def fail_start(self, identity: uuid.UUID) -> None:
        """Let a start fail that was begun: it is shut off, or gone, again, and nobody is told."""
        with self._changing():
            self._stop(self.guest(identity), _FAILED, told=False)

    def shut_down(self, identity: uuid.UUID, *, told: bool = True) -> None:
        """Have it be shutting down; `shutdown` or `fail_start` ends that."""
        with self._changing():
            guest = replace(self.guest(identity), state=SHUTDOWN, reason=0)
            self._set(guest)
            if told:
                self._say(guest, LIFECYCLE, _SHUTDOWN, 0)

    def panic(self, identity: uuid.UUID) -> None:
        """Have its kernel panic; it is kept, crashed, with its id."""
        with self._changing():
            guest = replace(self.guest(identity), state=CRASHED, reason=1)
            self._set(guest)
            self._say(guest, LIFECYCLE, _PANICKED, 0)

    def migrate_away(self, identity: uuid.UUID, *, kept: bool) -> None:
        """Have it run elsewhere; a persistent one is defined here on, if it is `kept`."""
        with self._changing():
            guest = self.guest(identity)
            undefined = guest.persistent and not kept
            self._stop(replace(guest, persistent=guest.persistent and kept), _MIGRATED)
            if undefined:
                self._say(replace(guest, id=-1), LIFECYCLE, _UNDEFINED, _REMOVED)

    def linger(self, identity: uuid.UUID, *, told: bool) -> None:
        """Have a transient one be destroyed, and be seen shut off before it is gone.

        libvirt tells of it before it is gone, or after: `told`, or `vanish(told=True)`.
        """
        with self._changing():
            guest = replace(self.guest(identity), state=SHUTOFF, reason=_DESTROYED)
            self._set(guest)
            if told:
                self._say(guest, LIFECYCLE, _STOPPED, _DESTROYED - 1)

    def vanish(self, identity: uuid.UUID, *, told: bool) -> None:
        """Let it be gone; with the event of a domain that was destroyed, or in silence."""
        with self._changing():
            guest = self.guest(identity)
            self._remove(guest)
            if told:
                self._say(guest, LIFECYCLE, _STOPPED, _DESTROYED - 1)

    # What becomes of the daemon

    def break_off(self) -> None:
        """Lose every connection. The domains do not notice."""
        with self.lock:
            for client in self.clients:
                client.alive = False
            self.clients.clear()

    def renumber(self) -> None:
        """Give every active domain another id, as a daemon may that has been restarted."""
        with self._changing():
            for guest in list(self.guests.values()):
                if guest.active:
                    self._set(replace(guest, id=next(self._ids)))

    # How it is done

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self.lock:
            yield
            clients = list(self.clients)
        for client in clients:
            client.mail.deliver()

    def _set(self, guest: Guest) -> None:
        self.guests[guest.domain.uuid] = guest
        self.history[guest.domain.uuid].append(guest)

    def _remove(self, guest: Guest) -> None:
        del self.guests[guest.domain.uuid]
        self.history[guest.domain.uuid].append(None)

    def _say(self, guest: Guest, kind: int, *facts: object) -> None:
        for client in self.clients:
            client.mail.put(Letter(kind, guest, facts))

    def _start(self, guest: Guest, state: int, reason: int, *, told: bool) -> None:
        if guest.active:
            raise _internal(f"Domain '{guest.domain.name}' is already running")
        number = next(self._ids)
        after = replace(guest, id=number, state=state, reason=reason, later=guest.domain)
        self._set(after)
        if told:
            self._say(after, LIFECYCLE, _STARTED, 0)

    def _running(self, identity: uuid.UUID) -> Guest:
        guest = self.guest(identity)
        if not guest.active:
            raise _invalid("domain is not running", FROM_DOMAIN)
        return guest

    def _stop(self, guest: Guest, reason: int, *, told: bool = True) -> None:
        after = replace(guest, id=-1, state=SHUTOFF, reason=reason)
        if guest.later is None:  # never defined: libvirt does not take its id away
            after = replace(after, id=guest.id)
        else:
            after = replace(after, domain=guest.later, later=None)
        if guest.persistent:
            self._set(after)
        else:
            self._remove(guest)
        if told:
            self._say(after, LIFECYCLE, _STOPPED, reason - 1)

    def _in_state(self, identity: uuid.UUID, state: int, word: str) -> Guest:
        guest = self.guest(identity)
        if guest.state != state:
            raise _internal(f"domain '{guest.domain.name}' not {word}")
        return guest

    def _refuse_twins(self, domain: Domain) -> None:
        twin = self.named(domain.name)
        before = self.guests.get(domain.uuid)
        if twin is not None and twin.domain.uuid != domain.uuid:
            text = f"domain '{domain.name}' already exists with uuid {twin.domain.uuid}"
            raise libvirt_error(_OPERATION_FAILED, f"operation failed: {text}", FROM_DOMAIN)
        if before is not None and before.domain.name != domain.name:
            text = f"domain '{before.domain.name}' is already defined with uuid {domain.uuid}"
            raise libvirt_error(_OPERATION_FAILED, f"operation failed: {text}", FROM_DOMAIN)


_OPERATION_FAILED, _OPERATION_INVALID = 9, 55


def _internal(text: str) -> libvirt.libvirtError:
    return libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, f"internal error: {text}")


def _invalid(text: str, domain: int) -> libvirt.libvirtError:
    text = f"Requested operation is not valid: {text}"
    return libvirt_error(_OPERATION_INVALID, text, domain)
