"""`./dev torture audit`: audits of a Nova that is at work, with faults planted meanwhile.

A released Nova's API, compute hosts (private libvirtds with the test driver, one with QEMU where it
is installed), and threads that play Nova's operations, in Nova's order of writes, with pauses. One
audit follows the other. Counts the findings that accuse what Nova does by right, and the faults
that an audit did not find; then the same with a cell that is down, a host that hangs, and a list
that was cut. Exits 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lab.daemon import Daemon
from lab.nova_api import NovaApi as NovaServer
from lab.nova_crowd import LONG, Crowd
from lab.nova_faults import Faults, Planted
from lab.nova_life import Host, Life
from lab.qemu import guest_xml, qemu_available
from lab.system import SystemDaemon, system_available

import guestlist
from guestlist.audit import servers_file
from guestlist.audit.findings import Audit, Certainty, Finding, Kind
from guestlist.audit.host_looks import AuditedHost, HostLooks
from guestlist.audit.nova_api import NovaApi
from guestlist.audit.rounds import Nova, audit
from guestlist.errors import GuestlistError

MAX_LIMIT = 25
"""Servers in a page of Nova's API, so that a list has several."""

CUT = 10
"""Servers of the list that is cut."""

PATIENCE = 30.0
"""Seconds that a host or Nova has to answer; `HURRY` where a host hangs on purpose."""
HURRY = 1.0

ALONE, FAULTS = 0.4, 24
"""The share of the operations before the first fault; the others are divided among the faults."""

MOST_WRONG = 40
"""Lines about what is wrong that are printed of each condition."""

_INSIDE = "GUESTLIST_TORTURE_INSIDE"
_OWN_NETWORK = (
    *("unshare", "--net", "--mount", "sh", "-c"),
    'ip link set lo up && mount -t sysfs none /sys && exec "$@"',
    "sh",
)
"""Begins a command in a network of its own, where tap devices are made."""

OF_NOVA_ALONE = frozenset((Kind.UNKNOWN_TO_NOVA, Kind.DELETED_IN_NOVA, Kind.TAP_WITHOUT_DOMAIN))
"""Kinds that a cell that is down can explain wherever the domain is."""

HEADER = (
    f"{'audits with':16} {'audits':>6} {'worst s':>7} {'possible':>8} {'certain':>7}"
    f" {'planted':>7} {'false':>5} {'missed':>6} {'explained':>9}"
)


@dataclass(slots=True)
class Line:
    """What is counted of audits under one condition, and what was wrong."""

    name: str
    audits: int = 0
    worst: float = 0.0
    possible: int = 0
    certain: int = 0
    planted: int = 0
    false: int = 0
    missed: int = 0
    explained: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.name:16} {self.audits:6,} {self.worst:7.1f} {self.possible:8,}"
            f" {self.certain:7,} {self.planted:7,} {self.false:5,} {self.missed:6,}"
            f" {self.explained:9,}"
        )


class Garden:
    """The faults that were planted so far, and the UUIDs that they involve. Threads share it."""

    def __init__(self) -> None:
        self.planted: list[Planted] = []
        self._uuids: set[UUID] = set()

    def announce(self, uuids: Collection[UUID]) -> None:
        """Take note that a fault with these UUIDs is about to be planted."""
        self._uuids |= set(uuids)

    def has(self, finding: Finding) -> bool:
        """Return whether the finding is about something planted."""
        return finding.uuid in self._uuids or any(each.is_told(finding) for each in self.planted)


@dataclass(eq=False, slots=True)
class World:
    """Everything that an audit of this torture needs."""

    nova: NovaServer
    hosts: Sequence[Host]
    daemons: dict[str, Daemon]
    garden: Garden
    settle: float
    progress: Callable[[str], object]

    def audits(
        self,
        line: Line,
        go_on: Callable[[], bool],
        *,
        source: Callable[[], Nova] | None = None,
        timeout: float = PATIENCE,
        explains: Callable[[Finding], bool] | None = None,
    ) -> None:
        """Run audits, one after the other, and count them in the line.

        Args:
            line: counts.
            go_on: whether another audit begins.
            source: makes what the audits take for Nova; None: Nova's API.
            timeout: seconds that a host has.
            explains: whether what is missing could explain a finding; None: nothing is missing.
        """
        hosts = [
            AuditedHost(guestlist.Host(each.uri, readonly=True), each.name) for each in self.hosts
        ]
        looks = HostLooks(hosts, timeout=timeout)
        make = source or (lambda: NovaApi("lab", PATIENCE))
        try:
            while go_on():
                planted, began = list(self.garden.planted), time.monotonic()
                try:
                    result = audit(looks, make(), settle=self.settle)
                except GuestlistError as error:
                    line.wrong.append(f"the audit failed: {error}")
                    continue
                line.worst = max(line.worst, time.monotonic() - began)
                so_far = len(line.wrong)
                self._count(line, result, planted, explains)
                for each in (str(line), *line.wrong[so_far:]):
                    self.progress(each)
        finally:
            looks.close()

    def _count(
        self,
        line: Line,
        result: Audit,
        planted: Sequence[Planted],
        explains: Callable[[Finding], bool] | None,
    ) -> None:
        line.audits += 1
        certain = [one for one in result.findings if one.certainty is Certainty.CERTAIN]
        line.certain += len(certain)
        line.possible += len(result.findings) - len(certain)
        line.kinds.update(f"{one.kind} {one.certainty}" for one in result.findings)
        for one in certain:
            if not self.garden.has(one):
                line.false += 1
                line.wrong.append(f"false: {_brief(one)}")
            elif explains and explains(one):
                line.explained += 1
                line.wrong.append(f"certain although something is missing: {_brief(one)}")
        if explains is None:
            line.planted += len(planted)
            for fault in planted:
                if not any(fault.is_told(one) for one in certain):
                    line.missed += 1
                    about = [one for one in result.findings if one.uuid in fault.uuids]
                    line.wrong.append(f"missed: {fault}; told: {[*map(_brief, about)]}")
            line.wrong += [f"incomplete: {each}" for each in result.incomplete]
        elif not result.incomplete:
            line.wrong.append("something is missing, and the audit says that it is complete")


def _brief(one: Finding) -> str:
    """Return what matters of a finding."""
    return f"{one.certainty} {one.kind} {one.uuid} on {one.hosts}: {one.reason} {one.nova}"


def main() -> int:
    """Run all of it, and return the exit code."""
    options = _options()
    if system_available() is None and _INSIDE not in os.environ:
        return subprocess.run(
            [*_OWN_NETWORK, sys.executable, *sys.argv, "--seed", str(options.seed)],
            env={**os.environ, _INSIDE: "yes"},
            check=False,
        ).returncode
    libvirt.registerErrorHandler(lambda *_: None, None)
    logging.getLogger("guestlist").setLevel(logging.CRITICAL)
    print(f"seed {options.seed}")
    began = time.monotonic()
    with _world(options.settle) as world:
        life = Life(world.nova)
        moving = [each for each in world.hosts if each.name in world.daemons]
        with Crowd(
            life, moving, servers=options.servers, threads=options.threads, seed=options.seed
        ) as crowd:
            if options.verbose:
                world.progress = lambda line: print(f"{crowd.total:6,} {line}", file=sys.stderr)
            lines = _run(world, life, crowd, options)
    print("\noperations, by kind:")
    for name, number in sorted(crowd.done.items()):
        print(f"  {name:18} {number:5,}")
    print(f"  {'total':18} {crowd.total:5,} in {time.monotonic() - began:,.0f} s")
    for line in lines:
        for what, number in sorted(line.kinds.items()):
            print(f"{line.name}: {number} {what}")
    for each in crowd.wrong[:MOST_WRONG]:
        print(each)
    return 1 if crowd.wrong or any(line.wrong for line in lines) else 0


def _run(world: World, life: Life, crowd: Crowd, options: argparse.Namespace) -> list[Line]:
    """Run the audits under each condition, and return the lines."""
    print(HEADER)
    lines = [Line("nothing missing")]
    after = threading.Event()
    planter = threading.Thread(
        target=_plant, args=(world, life, crowd, options, after), daemon=True
    )
    planter.start()
    left: int = options.audits

    def go_on() -> bool:
        nonlocal left
        if after.is_set() and crowd.total >= options.operations:
            left -= 1
        return left >= 0

    world.audits(lines[0], go_on)
    planter.join()
    _print(lines[0])

    lines.append(Line("a cell down"))
    far = {each.name for each in world.hosts if each.cell == "cell2"}
    with crowd.held("cell2"):
        world.nova.cell_down("cell2")
        world.audits(
            lines[-1],
            _times(options.audits),
            explains=lambda one: one.kind in OF_NOVA_ALONE or bool(far & set(one.hosts)),
        )
        world.nova.cell_up("cell2")
    _print(lines[-1])

    lines.append(Line("a host hanging"))
    world.daemons["two"].stop()
    world.audits(
        lines[-1],
        _times(options.audits),
        timeout=HURRY,
        explains=lambda one: (
            "two" in one.hosts
            or (one.kind in (Kind.MISSING, Kind.POWER_STATE) and one.nova.get("host") == "two")
        ),
    )
    world.daemons["two"].cont()
    _print(lines[-1])

    lines.append(Line("a list cut"))
    world.nova.limit(CUT)
    world.audits(
        lines[-1],
        _times(options.audits),
        source=lambda: _first_page(world.nova),
        explains=lambda _: True,
    )
    _print(lines[-1])
    return lines


def _print(line: Line) -> None:
    """Print a line, and what was wrong, each thing once."""
    print(line, flush=True)
    for what, number in Counter(line.wrong).most_common(MOST_WRONG):
        print(f"  {number} x {what}"[:2_000], flush=True)


def _plant(
    world: World, life: Life, crowd: Crowd, options: argparse.Namespace, after: threading.Event
) -> None:
    """Plant the faults, evenly over the operations."""
    by_name = {each.name: each for each in world.hosts}
    real = by_name.get("real")
    faults = Faults(world.nova, life, world.garden.announce).planting(
        by_name["one"],
        by_name["two"],
        by_name["far"],
        (real, world.daemons["far"]) if real else None,
        by_name.get("system"),
    )
    for number in range(1, 100):
        due = ALONE + (1 - ALONE) * number / FAULTS
        while crowd.total < due * options.operations:
            time.sleep(0.1)
        fault = next(faults, None)
        if fault is None:
            break
        world.garden.planted.append(fault)
    after.set()


def _times(number: int) -> Callable[[], bool]:
    """Return what is true so many times."""
    left = iter(range(number))
    return lambda: next(left, None) is not None


def _first_page(nova: NovaServer) -> Nova:
    """Return the first page of Nova's list, as a servers file."""
    headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "compute 2.69"}
    url = f"{nova.url}/servers/detail?all_tenants=1"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return servers_file.FileNova(
            servers_file.read(answer.read(), "a page", at=time.monotonic())
        )


@contextlib.contextmanager
def _world(settle: float) -> Iterator[World]:
    """Give Nova's API and the hosts: "one" and "two" in cell 1, "far" in cell 2.

    There are "real" with QEMU and "system", which owns the tap devices, where they can be; both in
    cell 2.
    """
    with contextlib.ExitStack() as stack:
        daemons = {name: stack.enter_context(Daemon()) for name in ("one", "two", "far")}
        nova = stack.enter_context(NovaServer(cells=2, max_limit=MAX_LIMIT))
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(nova.clouds_yaml)
        hosts = []
        for name, daemon in daemons.items():
            cell = "cell2" if name == "far" else "cell1"
            hosts.append(_host(stack, name, daemon.uri(), cell))
        hosts[0].neighbour, hosts[1].neighbour = hosts[1], hosts[0]
        if qemu_available() is None:
            hosts.append(_host(stack, "real", daemons["far"].qemu_uri, "cell2"))
            hosts[-1].xml = guest_xml
        if _INSIDE in os.environ:
            system = stack.enter_context(SystemDaemon(network=False))
            hosts.append(_host(stack, "system", system.uri, "cell2"))
        for each in hosts:
            nova.add_host(each.name, each.cell)
        yield World(nova, hosts, daemons, Garden(), settle, lambda _: None)


def _host(stack: contextlib.ExitStack, name: str, uri: str, cell: str) -> Host:
    connection = libvirt.open(uri)
    stack.callback(connection.close)
    for each in connection.listAllDomains():  # the test driver has one
        each.destroy()
        each.undefine()
    return Host(name, uri, connection, cell)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev torture audit", description=__doc__)
    parser.add_argument(
        "--operations", type=int, default=1_000, help="operations during audits; about 4 a second"
    )
    parser.add_argument("--servers", type=int, default=60, help="servers that Nova works on")
    parser.add_argument("--threads", type=int, default=16, help="operations at a time, at most")
    parser.add_argument(
        "--audits", type=int, default=10, help="audits when all is planted, and by condition"
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=LONG + 2,
        help="seconds for which a power state has to differ; pauses last up to %(default)s - 2",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="after each audit, the counts, and what was wrong"
    )
    parser.add_argument("--seed", type=int, default=None, help="repeats a choice of operations")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.randrange(1_000_000)
    return options


if __name__ == "__main__":
    sys.exit(main())
