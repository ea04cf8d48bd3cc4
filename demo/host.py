"""`./dev demo`: list and watch a compute host as a person would; then compare old and new.

The host is libvirt's test driver behind a private libvirtd, which needs no privileges, touches no
other libvirt, and is gone when the demo ends. If no libvirtd can be started, the test driver serves
the same node files inside each process. Nothing is prepared: the shell runs the lines after `$`,
and the demo counts and measures while it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.showing import environment, run, say, show_command, show_until
from lab.churn import populated
from lab.daemon import Daemon, daemon_available
from lab.legacy import legacy_walk
from lab.nodes import believable_host, node, nova_instance
from lab.proxy import Proxy

from guestlist import Host

INSTANCES = 8
MANY = 1_000
REPETITIONS = 5
AWAY_MS = 20

COMMANDS = (
    ("Which of Nova's domains are running here?", 'guestlist ls -c "$host"'),
    ("Those that are shut off as well:", 'guestlist ls --inactive -c "$host"'),
    ("All domains, and who launched them:", 'guestlist ls -a -c "$host"'),
    (
        "What do they have, and who owns them?",
        'guestlist ls --columns name,vcpus,memory_mib,flavor,project,age_seconds -c "$host"',
    ),
    ("What do they use?", 'guestlist usage -c "$host"'),
    ("For a script, names only:", 'guestlist ls -q -c "$host" | head -n 3'),
    ("For a program:", 'guestlist ls -f json -c "$host" | head -n 10'),
    ("What can this libvirt do?", 'guestlist check -c "$host"'),
)

_LOCAL = {
    "virConnectIsAlive",
    "virDomainFree",
    "virDomainGetID",
    "virDomainGetName",
    "virDomainGetUUIDString",
}
"""Calls that never leave the client library."""

Listing = Callable[[], list[libvirt.virDomain]]


class Place(Protocol):
    """What serves the hosts of the demo."""

    counted: str
    """What `count` counts: the header of a column."""

    how: str
    """How `count` counts and what was timed: a sentence."""

    def watch(self) -> None:
        """Show the live view of a host that changes."""

    def uri(self, xml: str) -> str:
        """Return the URI of a host with the domains of this node XML."""

    def count(self, uri: str, prepare: Callable[[str], Listing]) -> int:
        """Return the number of calls in one listing of that host."""


class BehindDaemon:
    """A private daemon: calls are messages on its socket."""

    counted = "calls on the wire"
    how = (
        "The calls were counted by a proxy in front of the daemon's socket; the times are medians "
        f"of {REPETITIONS} listings without the proxy, over an open connection."
    )

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def watch(self) -> None:
        """See `Place`."""
        say(
            "Now a live view: the domains of a host while they change, one call for each change. "
            "The daemon may go away meanwhile."
        )
        show_watching(self._daemon)

    def uri(self, xml: str) -> str:
        """See `Place`."""
        return self._daemon.uri(xml)

    def count(self, uri: str, prepare: Callable[[str], Listing]) -> int:
        """See `Place`."""
        with Proxy(self._daemon) as proxy:
            listing = prepare(uri.replace(self._daemon.socket, proxy.socket))
            with proxy.counting() as calls:
                listing()
        return len(calls)


class InProcess:
    """The test driver inside this process: without a wire, calls into libvirt's library count."""

    counted = "calls into libvirt"
    how = (
        "There is no wire, so these are libvirt-python's calls into libvirt that a daemon would "
        f"have to answer. The times are medians of {REPETITIONS} listings; a daemon would add its "
        "share to each call."
    )

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def watch(self) -> None:
        """See `Place`."""
        say("Without a daemon no other program can change the host: there is nothing to watch.")

    def uri(self, xml: str) -> str:
        """See `Place`."""
        path = self._directory / f"node-{len(list(self._directory.iterdir())) + 1}.xml"
        path.write_text(xml)
        return f"test://{path}"

    def count(self, uri: str, prepare: Callable[[str], Listing]) -> int:
        """See `Place`."""
        listing = prepare(uri)
        calls = 0

        def note(_frame: FrameType, event: str, function: Any) -> None:
            nonlocal calls
            if event == "c_call" and _is_call(function):
                calls += 1

        sys.setprofile(note)
        try:
            listing()
        finally:
            sys.setprofile(None)
        return calls


def main() -> int:
    """Show all parts and return the exit code."""
    options = _options()
    libvirt.registerErrorHandler(lambda *_: None, None)
    with _place(options) as place:
        show_commands(place)
        place.watch()
        compare(place)
    return 0


def show_commands(place: Place) -> None:
    """Show the command as a person types it, and its output."""
    domains = believable_host(INSTANCES)
    off = sum(not domain.active for domain in domains[:INSTANCES])
    host = place.uri(node(domains))
    say(
        f"On the host: {INSTANCES} instances of OpenStack Nova, {off} of them shut off and one "
        "paused; a libguestfs appliance at work on a disk; two domains made by hand."
    )
    print(f"\n$ host='{host}'")
    for title, command in COMMANDS:
        say(title)
        show_command(command, {"host": host})


def show_watching(daemon: Daemon) -> None:
    """Watch a host whose domains change, and whose daemon is killed and comes back."""
    uri = daemon.uri()
    web, batch = nova_instance(1), nova_instance(2, active=False)
    with populated(uri, [web, batch]) as connection:
        guest = connection.lookupByUUID(batch.uuid.bytes)
        doings: list[tuple[str | None, str, Callable[[], object]]] = [
            (None, "watching", lambda: None),
            ("start instance-00000002", "started", guest.create),
            ("suspend instance-00000002", "paused", guest.suspend),
            ("destroy instance-00000002", "stopped", guest.destroy),
            ("undefine instance-00000002", "undefined", guest.undefine),
            ("(the daemon is killed)", "connection lost", daemon.kill),
            ("(and started again: this host forgets its domains)", "back in step", daemon.restart),
        ]
        print(f"\n$ host='{uri}'\n$ guestlist watch -c \"$host\" &", flush=True)
        with subprocess.Popen(
            ["guestlist", "watch", "-c", uri],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(NO_COLOR="1"),
        ) as watching:
            try:
                for said, awaited, do in doings:
                    if said:
                        print(f"  # {said}", flush=True)
                    do()
                    show_until(watching, awaited)
            finally:
                watching.terminate()


def compare(place: Place) -> None:
    """Compare the legacy walk and guestlist on the same large host."""
    domains = [nova_instance(n, active=n % 4 != 0) for n in range(1, MANY + 1)]
    off = sum(not domain.active for domain in domains)
    say(
        f"Now a host with {MANY:,} domains, all launched by Nova, {off} of them shut off. All of "
        "them are listed twice: by the walk that Nova used before libvirt had a bulk call "
        "(numOfDomains, listDomainsID, lookupByID for each; numOfDefinedDomains, "
        "listDefinedDomains, lookupByName for each), and by guestlist's "
        "host.list_instance_domains(include_inactive=True)."
    )
    uri = place.uri(node(domains))
    expected = {str(domain.uuid) for domain in domains}
    results = [measure(place, uri, prepare, expected) for prepare in (legacy, ours)]
    (many, slow), (few, fast) = results
    print()
    print(f"  {'':17}{place.counted:>18}{'time':>13}")
    print(f"  {'the legacy walk':17}{many:>18,}{slow * 1e3:>10,.1f} ms")
    print(f"  {'guestlist':17}{few:>18,}{fast * 1e3:>10,.1f} ms")
    print(f"  {'ratio':17}{many / few:>17,.0f}x{slow / fast:>12,.0f}x", flush=True)
    say(f"Both found all {len(expected):,}. {place.how}")
    say(
        f"Over a network with a round trip of {AWAY_MS} ms, the walk waits "
        f"{many * AWAY_MS / 1e3:,.0f} s for answers, and guestlist's listing {few * AWAY_MS:,} ms. "
        "A domain that starts or stops during the walk can be missing from it; the one call "
        "misses no domain."
    )


def measure(
    place: Place, uri: str, prepare: Callable[[str], Listing], expected: set[str]
) -> tuple[int, float]:
    """Return the calls and seconds of one listing; one that misses a domain ends the demo."""
    calls = place.count(uri, prepare)
    listing = prepare(uri)
    if {domain.UUIDString() for domain in listing()} != expected:
        raise SystemExit(f"demo: wrong: {prepare.__name__} did not list each domain once")
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        domains = listing()
        seconds.append(time.perf_counter() - start)
        del domains  # not on the clock
    return calls, statistics.median(seconds)


def legacy(uri: str) -> Listing:
    """Return the legacy walk, over an open connection."""
    connection = libvirt.open(uri)
    return lambda: legacy_walk(connection)


def ours(uri: str) -> Listing:
    """Return guestlist's listing, over an open connection."""
    host = Host(uri)
    host.list_instance_domains()
    return lambda: host.list_instance_domains(include_inactive=True)


@contextlib.contextmanager
def _place(options: argparse.Namespace) -> Iterator[Place]:
    why = "--no-daemon was given" if options.no_daemon else daemon_available()
    with contextlib.ExitStack() as stack:
        if not why:
            try:
                daemon = stack.enter_context(Daemon())
            except RuntimeError as error:
                why = str(error).splitlines()[0]
        if why:
            say(
                f"No private libvirtd ({why}): using libvirt's test driver inside each process "
                "instead. It serves the same hosts, without a daemon and without a wire."
            )
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gl-", dir="/tmp"))
            yield InProcess(Path(directory))
        else:
            say(
                "A private libvirtd is running: rootless, in a directory of its own under /tmp, "
                "gone when this ends. It serves hosts of libvirt's test driver: real libvirt, "
                "simulated domains. The libvirt of this machine is not touched."
            )
            yield BehindDaemon(daemon)


def _is_call(function: Any) -> bool:
    module = getattr(getattr(function, "__self__", None), "__name__", "")
    return module == "libvirtmod" and function.__name__ not in _LOCAL


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev demo",
        description="List and watch a compute host, then compare the old way and the new.",
    )
    parser.add_argument(
        "--no-daemon", action="store_true", help="use the test driver without a daemon"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
