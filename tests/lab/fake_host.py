"""The host behind fake connections: its domains, what happens to them, and the events of that.

In: `Domain` values, and what a test does to them. Out: each domain as it is (`Guest`), all that it
has been (`history`, the truth with which a view is compared), and events to every connection. What
libvirt's test driver can do is done in the same way, with the same errors and events; the contract
suite tests that. The rest is done as QEMU's driver does it: starts that fail without an event,
guests that shut down or crash by themselves, devices that are plugged, migrations.

All changes are atomic and made under `lock`: while a thread holds it the host does not change, and
no call is answered. Of a connection it knows only the `Mail`.

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
"""Why a domain is shut off. The detail of the event is one less, except for the last."""


def libvirt_error(code: int, message: str, domain: int = FROM_TEST) -> libvirt.libvirtError:
    """Return an error as libvirt-python raises it: `get_error_code()` and the rest return these."""
    error = libvirt.libvirtError(message)
    error.err = (code, domain, message, libvirt.VIR_ERR_ERROR, message, None, None, -1, -1)
    error.args = (message,)
    return error


@dataclass(frozen=True, slots=True)
class Guest:
    """One domain at one instant. `domain` is the definition in force.

    `later` is the definition of its next start; None if it has no other definition: a transient
    domain, and one that is shut off.
    """

    domain: Domain
    id: int
    state: int
    reason: int
    persistent: bool
    later: Domain | None = None

    @property
    def active(self) -> bool:
        """Whether libvirt calls it active, which is: it has an id."""
        return self.id >= 0

    @property
    def seen(self) -> tuple[str, int | None, int, int]:
        """What a reader may see of it: name, id, state and reason. Shut off, it has no id."""
        id = self.id if self.active and self.state != SHUTOFF else None
        return self.domain.name, id, self.state, self.reason


class Client(Protocol):
    """A connection to the host."""

    mail: Mail
    alive: bool


class FakeHost:
    """A host with these domains. Threads may share it.

    `history` has all that each domain has ever been, in order; None: it did not exist. While `down`
    is set no client can connect.
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
        """Return the domain as it is; raise `libvirtError` 42 if it does not exist."""
        with self.lock:
            if identity not in self.guests:
                text = f"Domain not found: no domain with matching uuid '{identity}'"
                raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, text)
            return self.guests[identity]

    def named(self, name: str) -> Guest | None:
        """Return the domain with this name."""
        with self.lock:
            return next((g for g in self.guests.values() if g.domain.name == name), None)

    # What only a test does

    def put(self, domain: Domain) -> None:
        """Add a domain, or replace the one with its UUID; send the events of that."""
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
        """Give an active domain this id; with 0 it looks like Xen's Domain-0."""
        with self._changing():
            self._set(replace(self.guest(identity), id=number))

    # As every driver does it

    def define(self, domain: Domain) -> None:
        """Define it, or define it again: a running domain uses that at its next start."""
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
        """Remove its definition; a running domain becomes transient."""
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
        """Start it without defining it; a defined one runs with this until it is shut off."""
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
        """Resume it."""
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
        """Destroy it: shut it off without asking its guest."""
        with self._changing():
            self._stop(self._running(identity), _DESTROYED)

    def save(self, identity: uuid.UUID) -> None:
        """Save its memory and shut it off; a transient domain is refused."""
        with self._changing():
            guest = self._running(identity)
            if not guest.persistent:
                raise _invalid("cannot do managed save for transient domain", FROM_TEST)
            self._stop(guest, _SAVED)

    def crash(self, identity: uuid.UUID) -> None:
        """Crash it; it is shut off for that reason."""
        with self._changing():
            self._stop(self._running(identity), _CRASHED)

    def rename(self, identity: uuid.UUID, name: str) -> None:
        """Give a domain that is shut off another name."""
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
        """Change the definition in force, send an event of that kind, and leave the state as it is.

        `alter(uuid, DEVICE_ADDED, "net1", devices=…)`; without fields only the event is sent.
        """
        with self._changing():
            guest = self.guest(identity)
            if fields:
                changed: Domain = replace(guest.domain, **fields)  # type: ignore[arg-type]
                self._set(replace(guest, domain=changed))
            self._say(guest, kind, *facts)

    # As QEMU's driver does it

    def begin_start(self, identity: uuid.UUID) -> None:
        """Begin a start: it has an id and is paused (starting up); no event is sent."""
        with self._changing():
            self._start(self.guest(identity), PAUSED, _STARTING_UP, told=False)

    def begin_transient(self, domain: Domain) -> None:
        """Begin the start of a domain that is not defined; no event is sent."""
        with self._changing():
            self._refuse_twins(domain)
            self._set(Guest(domain, next(self._ids), PAUSED, _STARTING_UP, persistent=False))

    def finish_start(self, identity: uuid.UUID) -> None:
        """Complete a start that was begun."""
        with self._changing():
            guest = replace(self.guest(identity), state=RUNNING, reason=_BOOTED)
            self._set(guest)
            self._say(guest, LIFECYCLE, _STARTED, 0)

    def fail_start(self, identity: uuid.UUID) -> None:
        """Fail a start that was begun: it is shut off or gone again; no event is sent."""
        with self._changing():
            self._stop(self.guest(identity), _FAILED, told=False)

    def shut_down(self, identity: uuid.UUID, *, told: bool = True) -> None:
        """Put it into the state "shutting down"; `shutdown` or `fail_start` ends that."""
        with self._changing():
            guest = replace(self.guest(identity), state=SHUTDOWN, reason=0)
            self._set(guest)
            if told:
                self._say(guest, LIFECYCLE, _SHUTDOWN, 0)

    def panic(self, identity: uuid.UUID) -> None:
        """Let its kernel panic; it stays, crashed, with its id."""
        with self._changing():
            guest = replace(self.guest(identity), state=CRASHED, reason=1)
            self._set(guest)
            self._say(guest, LIFECYCLE, _PANICKED, 0)

    def migrate_away(self, identity: uuid.UUID, *, kept: bool) -> None:
        """Migrate it to another host; a persistent one stays defined here if it is `kept`."""
        with self._changing():
            guest = self.guest(identity)
            undefined = guest.persistent and not kept
            self._stop(replace(guest, persistent=guest.persistent and kept), _MIGRATED)
            if undefined:
                self._say(replace(guest, id=-1), LIFECYCLE, _UNDEFINED, _REMOVED)

    def linger(self, identity: uuid.UUID, *, told: bool) -> None:
        """Destroy a transient domain, but let it be seen shut off before it is gone.

        libvirt sends the event before it is gone (`told`), or after (`vanish(told=True)`).
        """
        with self._changing():
            guest = replace(self.guest(identity), state=SHUTOFF, reason=_DESTROYED)
            self._set(guest)
            if told:
                self._say(guest, LIFECYCLE, _STOPPED, _DESTROYED - 1)

    def vanish(self, identity: uuid.UUID, *, told: bool) -> None:
        """Remove it, with the event of a domain that was destroyed, or without an event."""
        with self._changing():
            guest = self.guest(identity)
            self._remove(guest)
            if told:
                self._say(guest, LIFECYCLE, _STOPPED, _DESTROYED - 1)

    # What happens to the daemon

    def break_off(self) -> None:
        """Break every connection. The domains do not change."""
        with self.lock:
            for client in self.clients:
                client.alive = False
            self.clients.clear()

    def renumber(self) -> None:
        """Give every active domain another id, as a restarted daemon may do."""
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
        if guest.later is None:  # it was never defined: libvirt leaves it its id
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
