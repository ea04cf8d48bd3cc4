"""`./dev torture cuts`: what happens to a libvirtd whose clients are cut off.

Clients connect to a real daemon; some follow its events, some make calls, some are idle. Then their
sockets are shut, as by a broken network. Prints a line per kind of client: how many were cut off,
and how often the daemon died of it. It measures libvirt, not guestlist, and always exits 0.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lab.daemon import Daemon
from lab.events import turn_events
from lab.nodes import node, nova_instance

AT_ONCE = 10
DOMAINS = 20


class Kind(NamedTuple):
    """A kind of client."""

    says: str
    follows: bool
    asks: bool


KINDS = (
    Kind("follow events, ask", follows=True, asks=True),
    Kind("ask", follows=False, asks=True),
    Kind("follow events, idle", follows=True, asks=False),
)


def main() -> int:
    """Run every kind of client; return 0."""
    options = _options()
    libvirt.registerErrorHandler(lambda *_: None, None)
    turn_events()
    print(f"{'clients that':20} {'cuts':>7} {'per s':>6} {'died':>5}  how")
    for kind in KINDS:
        _run(kind, options.cuts)
    return 0


def _run(kind: Kind, cuts: int) -> None:
    """Print the line of one kind of client."""
    ends: list[str] = []
    done, start = 0, time.monotonic()
    with Daemon() as daemon:
        host = daemon.uri(node(nova_instance(number) for number in range(DOMAINS)))
        while done < cuts:
            with contextlib.suppress(libvirt.libvirtError):  # the daemon died while they connected
                done += _cut(daemon, host, kind)
            if (end := daemon.end) is not None:
                ends.append(end)
                daemon.restart()
    rate = done / (time.monotonic() - start)
    how = ", ".join(sorted(set(ends)))
    row = f"{kind.says:20} {done:7,} {rate:6,.0f} {len(ends):5}  {how}"
    print(row.rstrip(), flush=True)


def _cut(daemon: Daemon, host: str, kind: Kind) -> int:
    """Connect some clients, and cut them all off; return how many."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(_connected(host, kind)) for _ in range(AT_ONCE)]
        callers = connections if kind.asks else []
        asking = threading.Barrier(len(callers) + 1)
        threads = [threading.Thread(target=_ask, args=(each, asking)) for each in callers]
        for thread in threads:
            thread.start()
        asking.wait()
        _shut(daemon)
        for thread in threads:
            thread.join()
    return AT_ONCE


@contextlib.contextmanager
def _connected(host: str, kind: Kind) -> Iterator[libvirt.virConnect]:
    with contextlib.ExitStack() as stack:
        connection = libvirt.open(host)
        stack.callback(_quietly, connection.close)
        if kind.follows:
            callback = connection.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda *_: None, None
            )
            # otherwise libvirt keeps the connection, and its file, for ever
            stack.callback(_quietly, connection.domainEventDeregisterAny, callback)
        yield connection


def _quietly(call: Callable[..., object], *arguments: object) -> None:
    """Make a call over a connection that may be gone."""
    with contextlib.suppress(libvirt.libvirtError):
        call(*arguments)


def _ask(connection: libvirt.virConnect, asking: threading.Barrier) -> None:
    """Ask until the connection is cut off."""
    asking.wait()
    with contextlib.suppress(libvirt.libvirtError):
        while True:
            connection.listAllDomains()


def _shut(daemon: Daemon) -> None:
    """Shut this process's connections to the daemon; the files stay libvirt's."""
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if file.is_socket():
                with socket.socket(fileno=os.dup(int(file.name))) as one:
                    if one.getpeername() == daemon.socket:
                        one.shutdown(socket.SHUT_RDWR)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev torture cuts", description=__doc__)
    parser.add_argument("--cuts", type=int, default=10_000, help="cuts for each kind of client")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
