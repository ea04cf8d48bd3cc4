"""Hands: they act on the domains of a host, one act at a time, and record what each domain was.

In: the name of an act ("start") and a place in the cast: all domains that may exist. Out: the act
is done, on a fake host or by libvirt, to a domain that can undergo it; and `history`: everything
that a reader could see of each domain, in order. A live view may show of a domain only what is in
there, in that order.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import libvirt
from lab import fake_host
from lab.fake_host import FakeHost
from lab.nodes import Domain, domain_xml

Seen = tuple[str, int | None, int, int]
"""Name, id, state and reason."""

_WORDS = {0: "odd", 1: "running", 2: "odd", 3: "paused", 4: "ending", 5: "off", 6: "crashed"}
_STARTING_UP = 11

_THERE = frozenset({"running", "paused", "starting", "ending", "crashed", "off"})
_UP = frozenset({"running", "paused"})


@dataclass(frozen=True, slots=True)
class Standing:
    """A domain's state in one word, and its name. "lingering": shut off, but with an id."""

    word: str = "gone"
    name: str = ""
    persistent: bool = False

    @classmethod
    def of(cls, seen: Seen, *, active: bool, persistent: bool) -> Standing:
        name, _, state, reason = seen
        word = _WORDS.get(state, "odd")
        if word == "paused" and reason == _STARTING_UP:
            word = "starting"
        if word == "off" and active:
            word = "lingering"
        return cls(word, name, persistent)


@dataclass(frozen=True, slots=True)
class Act:
    """An act, and the words of the domains that can undergo it.

    `persistent`: only these; None: persistent or not.
    """

    words: frozenset[str]
    do: Callable[[Domain], object]
    persistent: bool | None = None

    def fits(self, standing: Standing) -> bool:
        """Return whether a domain of this standing can undergo it."""
        return standing.word in self.words and self.persistent in (None, standing.persistent)


class Hand:
    """Acts on a host. Threads may share it: the thread that holds `turn` acts alone."""

    def __init__(self, cast: Iterable[Domain]) -> None:
        self.cast = tuple(cast)
        self._acts: dict[str, Act] = {}
        self._vcpus = {domain.uuid: domain.vcpus for domain in self.cast}
        self.turn = threading.RLock()

    @property
    def history(self) -> Mapping[uuid.UUID, Sequence[Seen | None]]:
        """All that each domain has been, in order; None: it did not exist."""
        raise NotImplementedError

    def can(self, act: str) -> bool:
        """Return whether any domain can undergo this act now."""
        with self.turn:
            return any(self._acts[act].fits(self.standing(domain)) for domain in self.cast)

    def do(self, act: str, place: int) -> None:
        """Do it to the domain at this place, or to the first after it that can undergo it."""
        with self.turn:
            for domain in self.cast[place:] + self.cast[:place]:
                standing = self.standing(domain)
                if self._acts[act].fits(standing):
                    self._acts[act].do(replace(domain, name=standing.name or domain.name))
                    return

    def standing(self, domain: Domain) -> Standing:
        """Return the standing of a domain now."""
        raise NotImplementedError

    def _another(self, domain: Domain) -> Domain:
        """Return the domain with another number of vCPUs than the last time."""
        vcpus = self._vcpus[domain.uuid] = self._vcpus[domain.uuid] % 7 + 1
        return replace(domain, vcpus=vcpus)

    def _alias(self, domain: Domain) -> str:
        """Return the other of its two names. An alias does not look like a name of Nova's."""
        name = next(one.name for one in self.cast if one.uuid == domain.uuid)
        return f"{name}-alias" if domain.name == name else name


class FakeHand(Hand):
    """Acts on a `FakeHost`: everything that libvirt's drivers are known to do."""

    def __init__(self, host: FakeHost, cast: Iterable[Domain]) -> None:
        super().__init__(cast)
        self._host = host
        self._unsaid: set[uuid.UUID] = set()
        nic = "<interface type='bridge'><source bridge='br0'/></interface>"
        disk = "<disk type='file' device='disk'><source file='/{}'/><target dev='vda'/></disk>"
        disks = (disk.format("a"), disk.format("b"))
        nova = next(one.metadata for one in self.cast if one.metadata)
        starting, ending = frozenset({"starting"}), frozenset({"ending"})
        gone, off, paused = frozenset({"gone"}), frozenset({"off"}), frozenset({"paused"})
        running, lingering = frozenset({"running"}), frozenset({"lingering"})
        self._acts = {
            "define": Act(gone, lambda domain: host.define(self._another(domain))),
            "redefine": Act(_THERE, lambda domain: host.define(self._another(domain))),
            "undefine": Act(_THERE, _to(host.undefine), persistent=True),
            "start": Act(off, _to(host.create)),
            "create transient": Act(gone, host.create_transient),
            "pause": Act(running, _to(host.suspend)),
            "resume": Act(paused, _to(host.resume)),
            "shut down": Act(_UP | ending, _to(host.shutdown)),
            "destroy": Act(_THERE - off, _to(host.destroy)),
            "save": Act(_UP, _to(host.save), persistent=True),
            "rename": Act(off, lambda domain: host.rename(domain.uuid, self._alias(domain))),
            "crash": Act(_UP, _to(host.crash)),
            "panic": Act(_UP, _to(host.panic)),
            "be shutting down": Act(_UP, _to(host.shut_down)),
            "begin to start": Act(off, _to(host.begin_start)),
            "begin to start transient": Act(gone, host.begin_transient),
            "finish to start": Act(starting, _to(host.finish_start)),
            "give a start up": Act(starting, _to(partial(host.shut_down, told=False))),
            "fail to start": Act(starting | ending, _to(host.fail_start)),
            "migrate away": Act(_UP, _to(partial(host.migrate_away, kept=False))),
            "migrate away, kept": Act(_UP, _to(partial(host.migrate_away, kept=True))),
            "linger": Act(_UP, partial(self._linger, told=False), persistent=False),
            "linger, told": Act(_UP, partial(self._linger, told=True), persistent=False),
            "vanish": Act(lingering, self._vanish),
            "plug": self._alter(fake_host.DEVICE_ADDED, "net0", devices=(nic, "")),
            "unplug": self._alter(fake_host.DEVICE_REMOVED, "net0", devices=("", nic)),
            "exchange a medium": self._alter(
                fake_host.DISK_CHANGE, "/a", "/b", "vda", 0, devices=disks
            ),
            "pivot": self._alter(fake_host.BLOCK_JOB_2, "vda", 4, 0, devices=disks),
            "balloon": self._alter(fake_host.BALLOON_CHANGE, 1, memory_kib=(4096, 8192)),
            "set metadata": self._alter(
                fake_host.METADATA_CHANGE, 2, "http://example.org/", metadata=(nova, "")
            ),
            "move the tray": self._alter(fake_host.TRAY_CHANGE, "ide0", 0),
            "reboot": self._alter(fake_host.REBOOT),
        }

    @property
    def history(self) -> Mapping[uuid.UUID, Sequence[Seen | None]]:
        with self._host.lock:
            return {
                identity: [guest.seen if guest else None for guest in guests]
                for identity, guests in self._host.history.items()
            }

    def standing(self, domain: Domain) -> Standing:
        guest = self._host.guests.get(domain.uuid)
        if guest is None:
            return Standing()
        return Standing.of(guest.seen, active=guest.active, persistent=guest.persistent)

    def _alter(self, kind: int, *facts: object, **values: tuple[object, object]) -> Act:
        """Return an act: an event of that kind, and for each field the other of two values."""

        def alter(domain: Domain) -> None:
            now = self._host.guest(domain.uuid).domain
            fields = {
                name: either[getattr(now, name) == either[0]] for name, either in values.items()
            }
            self._host.alter(domain.uuid, kind, *facts, **fields)

        return Act(_UP, alter)

    def _linger(self, domain: Domain, *, told: bool) -> None:
        if not told:
            self._unsaid.add(domain.uuid)
        self._host.linger(domain.uuid, told=told)

    def _vanish(self, domain: Domain) -> None:
        told = domain.uuid in self._unsaid
        self._unsaid.discard(domain.uuid)
        self._host.vanish(domain.uuid, told=told)


class LibvirtHand(Hand):
    """Acts on libvirt's test driver, where nothing else acts: each act is complete at once.

    The host is empty at first, and after `close`.
    """

    def __init__(self, uri: str, cast: Iterable[Domain]) -> None:
        super().__init__(cast)
        self._uri = uri
        self._history: defaultdict[uuid.UUID, list[Seen | None]] = defaultdict(lambda: [None])
        self.connect()
        off, gone = frozenset({"off"}), frozenset({"gone"})
        self._acts = {
            "define": Act(gone, self._define),
            "redefine": Act(_THERE, self._define),
            "undefine": Act(_THERE, self._by("undefineFlags", 1), persistent=True),
            "start": Act(off, self._by("create")),
            "create transient": Act(gone, self._create_transient),
            "pause": Act(frozenset({"running"}), self._by("suspend")),
            "resume": Act(frozenset({"paused"}), self._by("resume")),
            "shut down": Act(_UP, self._by("shutdown")),
            "destroy": Act(_UP, self._by("destroy")),
            "save": Act(_UP, self._by("managedSave"), persistent=True),
            "rename": Act(off, self._rename),
            "set metadata": Act(
                _UP, self._by("setMetadata", 2, "<element/>", "key", "http://example.org/", 0)
            ),
        }

    @property
    def history(self) -> Mapping[uuid.UUID, Sequence[Seen | None]]:
        return self._history

    def connect(self) -> None:
        """Connect to a daemon, perhaps a restarted one; define again the domains that it lost."""
        was = {identity for identity, seen in self._history.items() if seen[-1] is not None}
        for identity in was:
            self._history[identity].append(None)
        self._connection = libvirt.open(self._uri)
        for handle in self._connection.listAllDomains():  # the test driver's own
            identity = uuid.UUID(bytes=handle.UUID())
            for act in (handle.destroy, handle.undefine):
                self._note(identity)
                act()
            self._note(identity)
        for domain in self.cast:
            if domain.uuid in was:
                self._define(domain)

    def close(self) -> None:
        """Remove all domains."""
        for handle in self._connection.listAllDomains():
            for remove in (handle.destroy, partial(handle.undefineFlags, 1)):
                with contextlib.suppress(libvirt.libvirtError):
                    remove()
        self._connection.close()

    def standing(self, domain: Domain) -> Standing:
        handle = self._handle(domain.uuid)
        seen = self._history[domain.uuid][-1]
        if handle is None or seen is None:
            return Standing()
        persistent = bool(handle.isPersistent())
        return Standing.of(seen, active=seen[1] is not None, persistent=persistent)

    def _handle(self, identity: uuid.UUID) -> libvirt.virDomain | None:
        try:
            return self._connection.lookupByUUIDString(str(identity))
        except libvirt.libvirtError:
            return None

    def _note(self, identity: uuid.UUID) -> None:
        """Record its state now. A domain that ends and is gone was shut off for an instant."""
        handle, last = self._handle(identity), self._history[identity][-1]
        if handle is None:
            if last is not None and last[1] is not None:
                self._history[identity] += [(last[0], None, 5, reason) for reason in (1, 2)]
            self._history[identity].append(None)
        else:
            state, reason = handle.state()
            id = None if handle.ID() < 0 else handle.ID()
            self._history[identity].append((handle.name(), id, state, reason))

    def _by(self, method: str, *arguments: object) -> Callable[[Domain], None]:
        def act(domain: Domain) -> None:
            getattr(self._connection.lookupByUUIDString(str(domain.uuid)), method)(*arguments)
            self._note(domain.uuid)

        return act

    def _define(self, domain: Domain) -> None:
        self._connection.defineXML(domain_xml(self._another(domain)))
        self._note(domain.uuid)

    def _create_transient(self, domain: Domain) -> None:
        self._connection.createXML(domain_xml(domain))
        self._note(domain.uuid)

    def _rename(self, domain: Domain) -> None:
        self._connection.lookupByUUIDString(str(domain.uuid)).rename(self._alias(domain))
        self._note(domain.uuid)


def _to(act: Callable[[uuid.UUID], object]) -> Callable[[Domain], object]:
    return lambda domain: act(domain.uuid)
