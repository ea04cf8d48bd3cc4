"""A process or a thread that changes domains while a test lists them.

In: a URI, the UUIDs of domains that exist there, and a mode. Out: changes, which are counted: as
many as one writer can make, or as many a second as `rate` says. `Churner` works in a process of its
own, so that it does not compete for the interpreter with the code under test; `ThreadChurner` works
in a thread, for the test driver without a daemon.

Every domain given exists during the whole run, whatever the mode does to it. ("come-and-go" leaves
these domains alone; other domains come and go.) So a listing that misses one of them is wrong.

modes:
    switch       persistent domains change between running and shut off
    rename       shut off domains change their name
    redefine     domains are defined again with another number of vCPUs: over the old definition, or
                 after they are undefined while they run
    kind         running domains change between persistent and transient
    come-and-go  transient domains with new names and UUIDs appear and disappear
    boot         QEMU guests are started, paused, and destroyed; one that cannot start fails to

`test:///default` is one host for all connections of a process (the daemon's, or this one). It
lives only as long as one of them is open: keep one open, as `populated` does.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import select
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

import libvirt

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.nodes import Domain, domain_xml

Mode = Literal["switch", "rename", "redefine", "kind", "come-and-go", "boot"]
_PASSERS_BY = 4


def starts_active(mode: Mode, n: int) -> bool:
    """Return whether the n-th domain should run when churn of this mode begins."""
    return mode == "kind" or (mode == "redefine" and n % 2 == 0)


def populate(uri: str, domains: Iterable[Domain]) -> libvirt.virConnect:
    """Create these domains, each in its state; return the connection that keeps the node alive.

    Cost: 1 to 3 calls a domain.
    """
    connection = libvirt.open(uri)
    for domain in domains:
        xml = domain_xml(domain)
        handle = connection.createXML(xml) if domain.transient else connection.defineXML(xml)
        if domain.active and not domain.transient:
            handle.create()
        if domain.paused:
            handle.suspend()
    return connection


def clear(uri: str) -> None:
    """Remove every domain, the test driver's own "test" included."""
    with _connected(uri) as connection:
        for handle in connection.listAllDomains():
            for remove in (handle.destroy, handle.undefine):
                with contextlib.suppress(libvirt.libvirtError):
                    remove()


@contextlib.contextmanager
def populated(uri: str, domains: Iterable[Domain]) -> Iterator[libvirt.virConnect]:
    """Let the node have these domains and no others until the block ends."""
    with _connected(uri):
        clear(uri)
        connection = populate(uri, domains)
        try:
            yield connection
        finally:
            clear(uri)
            connection.close()


class Churner:
    """A process that changes domains; a context manager.

    Raises:
        RuntimeError: that process failed; on entry or at a later question. The message has what it
            wrote on standard error.
    """

    def __init__(
        self,
        uri: str,
        domains: Sequence[uuid.UUID],
        mode: Mode = "switch",
        *,
        rate: float | None = None,
        seed: int = 0,
    ) -> None:
        self._task = {
            "uri": uri,
            "domains": [str(domain) for domain in domains],
            "mode": mode,
            "rate": rate,
            "seed": seed,
        }

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(self._task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started = time.monotonic()
        try:
            self._ask("count")
        except BaseException:
            self._end()
            raise
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def changes(self) -> int:
        """Return how many changes it has made so far."""
        return self._ask("count")

    @property
    def rate(self) -> float:
        """Return its changes per second since it started, pauses included."""
        return self.changes / (time.monotonic() - self._started)

    def pause(self) -> int:
        """Stop making changes; the last one is complete then. Return the changes so far."""
        return self._ask("pause")

    def resume(self) -> None:
        """Make changes again."""
        self._ask("resume")

    def wait_changes(self, more: int, timeout: float = 60.0) -> None:
        """Return when it has made `more` changes since this was called.

        Raises:
            TimeoutError: it made fewer within `timeout` seconds.
        """
        _wait_changes(lambda: self.changes, more, timeout)

    def _ask(self, question: str) -> int:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(question + "\n")
            stdin.flush()
        if answer := stdout.readline():
            return int(answer)
        _, said = self._process.communicate()
        raise RuntimeError(f"the churner failed:\n{said}")

    def _end(self) -> None:
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()


class ThreadChurner:
    """The same as `Churner`, in a thread of this process.

    Raises:
        libvirt.libvirtError: when the context ends, if an error had ended the thread.
    """

    def __init__(
        self,
        uri: str,
        domains: Sequence[uuid.UUID],
        mode: Mode = "switch",
        *,
        rate: float | None = None,
        seed: int = 0,
    ) -> None:
        self._uri, self._domains, self._mode, self._seed = uri, domains, mode, seed
        self._rate = rate
        self._thread = threading.Thread(target=self._run, name="churner", daemon=True)
        self._turn = threading.Lock()  # held while a change is made
        self._finished = False
        self._paused = False
        self._error: BaseException | None = None
        self._count = 0

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._finished = True
        self.resume()
        self._thread.join()
        if self._error and error is None:
            raise self._error

    @property
    def changes(self) -> int:
        """Return how many changes it has made so far."""
        if self._error:
            raise self._error
        return self._count

    @property
    def rate(self) -> float:
        """Return its changes per second since it started, pauses included."""
        return self.changes / (time.monotonic() - self._started)

    def pause(self) -> int:
        """Stop making changes; the last one is complete then. Return the changes so far."""
        if not self._paused:
            self._turn.acquire()
            self._paused = True
        return self.changes

    def resume(self) -> None:
        """Make changes again."""
        if self._paused:
            self._paused = False
            self._turn.release()

    def wait_changes(self, more: int, timeout: float = 60.0) -> None:
        """Return when it has made `more` changes since this was called.

        Raises:
            TimeoutError: it made fewer within `timeout` seconds.
        """
        _wait_changes(lambda: self.changes, more, timeout)

    def _run(self) -> None:
        pace = _Pace(self._rate)
        try:
            with _connected(self._uri) as connection:
                changes = _changes(connection, self._domains, self._mode, self._seed)
                while not self._finished:
                    with self._turn:
                        next(changes)
                        self._count += 1
                    pace.made()
                    time.sleep(pace.patience())  # 0: give way to a thread that waits for the turn
        except BaseException as error:
            self._error = error


def _wait_changes(count: Callable[[], int], more: int, timeout: float) -> None:
    first, deadline = count(), time.monotonic() + timeout
    while count() < first + more:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {more} changes in {timeout} s")
        time.sleep(0.001)


class _Pace:
    """The times at which changes are due."""

    def __init__(self, rate: float | None) -> None:
        self._step = 1 / rate if rate else 0.0
        self._due = time.monotonic()

    def made(self) -> None:
        """Count a change. A late change does not make the later ones come sooner."""
        self._due = max(self._due + self._step, time.monotonic())

    def patience(self) -> float:
        """Return the seconds until the next change is due."""
        return max(0.0, self._due - time.monotonic())


@contextlib.contextmanager
def _connected(uri: str) -> Iterator[libvirt.virConnect]:
    connection = libvirt.open(uri)
    try:
        yield connection
    finally:
        connection.close()


def _changes(
    connection: libvirt.virConnect, domains: Sequence[uuid.UUID], mode: Mode, seed: int
) -> Iterator[None]:
    """Make one change at each step, without end, to a domain chosen at random."""
    chance = random.Random(seed)
    if mode == "come-and-go":
        changers = [_come_and_go(connection, chance) for _ in range(_PASSERS_BY)]
    else:
        change = {
            "switch": _switch,
            "rename": _rename,
            "redefine": _redefine,
            "kind": _kind,
            "boot": _boot,
        }[mode]
        changers = [
            change(connection, connection.lookupByUUIDString(str(domain))) for domain in domains
        ]
    while True:
        next(chance.choice(changers))
        yield


def _switch(connection: libvirt.virConnect, handle: libvirt.virDomain) -> Iterator[None]:
    while True:
        if handle.isActive():
            handle.destroy()
        else:
            handle.create()
        yield


def _boot(connection: libvirt.virConnect, handle: libvirt.virDomain) -> Iterator[None]:
    while True:
        if handle.isActive():
            handle.destroy()
        else:
            with contextlib.suppress(libvirt.libvirtError):
                handle.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        yield


def _rename(connection: libvirt.virConnect, handle: libvirt.virDomain) -> Iterator[None]:
    name = handle.name()
    for other in itertools.cycle([f"{name}-renamed", name]):
        handle.rename(other)
        yield


def _redefine(connection: libvirt.virConnect, handle: libvirt.virDomain) -> Iterator[None]:
    xml = handle.XMLDesc()
    for vcpus in itertools.cycle(range(1, 5)):
        if vcpus % 2 == 0 and handle.isActive():  # otherwise it would not exist for a moment
            handle.undefine()
        connection.defineXML(re.sub(r">\d+</vcpu>", f">{vcpus}</vcpu>", xml))
        yield


def _kind(connection: libvirt.virConnect, handle: libvirt.virDomain) -> Iterator[None]:
    xml = handle.XMLDesc()
    while True:
        if handle.isPersistent():
            handle.undefine()
        else:
            connection.defineXML(xml)
        yield


def _come_and_go(connection: libvirt.virConnect, chance: random.Random) -> Iterator[None]:
    while True:
        identity = uuid.UUID(int=chance.getrandbits(128), version=4)
        visitor = Domain(name=f"visitor-{identity.hex[:12]}", uuid=identity, transient=True)
        handle = connection.createXML(domain_xml(visitor))
        yield
        handle.destroy()
        yield


def _main(task: str) -> None:
    """Make changes until standard input ends; answer each line on it with the count."""
    settings = json.loads(task)
    libvirt.registerErrorHandler(lambda context, error: None, None)
    domains = [uuid.UUID(domain) for domain in settings["domains"]]
    pace, count, paused = _Pace(settings["rate"]), 0, False
    with _connected(settings["uri"]) as connection:
        changes = _changes(connection, domains, settings["mode"], settings["seed"])
        while True:
            asked, _, _ = select.select([0], [], [], None if paused else pace.patience())
            if asked:
                questions = os.read(0, 4096).decode()
                if not questions:
                    return
                for question in questions.split():
                    paused = {"pause": True, "resume": False}.get(question, paused)
                    print(count, flush=True)
            elif not paused:
                next(changes)
                count += 1
                pace.made()


if __name__ == "__main__":
    _main(sys.argv[1])
