"""`./dev bench listing`: every way to list a host, in one run, from 100 domains to 10,000.

A private libvirtd serves libvirt's test driver with running instances of Nova. C, libvirt-python,
guestlist, the legacy walk and virsh list them in turns: over the unix socket, and through a proxy
that makes every round trip longer. That proxy also counts calls on the wire, in turns of their own.
Writes a page, a plot and all single times; prints the page.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.listing_report import Results, markdown, plot
from benchmarks.harness.options import Options
from benchmarks.harness.pages import publish, report
from benchmarks.harness.race import (
    Command,
    Entrant,
    Figures,
    Lister,
    Seconds,
    Wrong,
    keep,
    race,
)
from benchmarks.harness.setting import Others, setting
from lab.churn import populated
from lab.daemon import Daemon, daemon_available
from lab.nodes import nova_instance
from lab.proxy import Proxy

_HERE = Path(__file__).resolve().parent
_FULL = {
    "sizes": [100, 1_000, 10_000],
    "rounds": 15,
    "round_trip": 20.0,
    "walk_limit": 1_000,
}
_QUICK = {"sizes": [5, 20], "rounds": 2, "round_trip": 1.0, "walk_limit": 5}

_CONNECTING = {
    "AUTH_LIST",
    "CONNECT_SUPPORTS_FEATURE",
    "CONNECT_OPEN",
    "CONNECT_GET_LIB_VERSION",
    "CONNECT_CLOSE",
}

_TEST_HOST = "test:///default"
"""libvirt's built-in host, inside the process that asks."""

_BARE = "import libvirt; print(*[d.name() for d in libvirt.open({uri!r}).listAllDomains()])"
"""The shortest program that lists a host with libvirt-python."""


class Bench:
    """One run. It measures one size at a time; `results` returns what was measured until then."""

    def __init__(self, options: argparse.Namespace, tools: Path) -> None:
        self._options = options
        self._others = Others()
        self._left_out: list[str] = []
        self._c_program = self._compiled(tools)
        self._virsh = shutil.which("virsh")
        if self._virsh is None:
            self._left_out.append("virsh, which is not installed")
        self._setting: dict[str, str] = {}
        self._calls: dict[str, dict[int, int]] = {}
        self._socket: Seconds = {}
        self._far: Seconds = {}
        self._processes: Figures = {}
        # Installed packages have their bytecode, and so has libvirt's binding here.
        self._environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tools / "bytecode")}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def measure_processes(self) -> None:
        """Race `guestlist ls -q` and the shortest program that does the same, as whole processes.

        Raises:
            Wrong: one of them failed.
        """
        report(f"whole processes, on {_TEST_HOST}: {self._options.rounds} rounds")
        entrants = list(self._commands(_TEST_HOST, None).values())
        race(entrants, 1)
        self._processes = race(entrants, self._options.rounds)

    def measure(self, size: int) -> None:
        """Measure everything at one number of domains.

        Raises:
            Wrong: a way failed, or did not find as many domains as there are.
        """
        rounds = self._options.rounds
        domains = [nova_instance(n) for n in range(1, size + 1)]
        report(f"{size:,} domains: making them")
        with Daemon() as daemon, populated(daemon.uri(), domains) as connection:
            self._setting = setting(connection, self._options.command)
            report(f"{size:,} domains: over the socket, {rounds} rounds")
            with self._entrants(daemon.uri(), size) as entrants:
                race(list(entrants.values()), 1)
                keep(self._socket, size, race(list(entrants.values()), rounds))
            with Proxy(daemon) as proxy, self._entrants(proxy.uri(), size) as entrants:
                report(f"{size:,} domains: counting calls")
                for entrant in entrants.values():
                    entrant.turn()  # opens the connection, where it is kept
                for entrant in entrants.values():
                    self._count(proxy, entrant, size)
                report(f"{size:,} domains: {self._options.round_trip:g} ms away, {rounds} rounds")
                proxy.delay(self._options.round_trip / 1e3)
                walk = entrants.pop("legacy")
                if size <= self._options.walk_limit:
                    keep(self._far, size, race([walk], 1))
                keep(self._far, size, race(list(entrants.values()), rounds))

    def results(self) -> Results:
        """Return what was measured so far."""
        return Results(
            setting={**self._setting, "Others on the machine": self._others.share()},
            sizes=self._options.sizes,
            rounds=self._options.rounds,
            round_trip_ms=self._options.round_trip,
            walk_limit=self._options.walk_limit,
            left_out=self._left_out,
            calls=self._calls,
            socket_seconds=self._socket,
            far_seconds=self._far,
            process_seconds=self._processes,
        )

    @contextlib.contextmanager
    def _entrants(self, uri: str, size: int) -> Iterator[dict[str, Entrant]]:
        """Yield every way to list that host, and the command that only connects to it."""
        python = [sys.executable, str(_HERE / "harness" / "listings.py")]
        residents = {
            "python": ([*python, "python", uri], ("python list", "python read")),
            "guestlist": ([*python, "guestlist", uri], ("guestlist",)),
            "new": ([*python, "new", uri], ("first", "new")),
            "legacy": ([*python, "legacy", uri], ("legacy",)),
        }
        if self._c_program:
            residents["c"] = ([str(self._c_program), uri], ("c list", "c read"))
        with contextlib.ExitStack() as stack:
            entrants: dict[str, Entrant] = {
                name: stack.enter_context(Lister(command, figures, size))
                for name, (command, figures) in residents.items()
            }
            if self._virsh:
                virsh = [self._virsh, "-q", "-c", uri]
                entrants["virsh"] = Command([*virsh, "list", "--all", "--name"], "virsh", size)
                entrants["virsh uri"] = Command([*virsh, "uri"], "virsh uri", 1)
            yield {**entrants, **self._commands(uri, size)}

    def _commands(self, uri: str, size: int | None) -> dict[str, Entrant]:
        """Return guestlist's command and the bare program, each a new process in each turn."""
        command = [sys.executable, "-m", "guestlist", "ls", "-q", "-c", uri]
        bare = [sys.executable, "-c", _BARE.format(uri=uri)]
        return {
            "ls": Command(command, "ls", size, self._environment),
            "bare": Command(bare, "bare", size, self._environment),
        }

    def _count(self, proxy: Proxy, entrant: Entrant, size: int) -> None:
        with proxy.counting() as calls:
            figures = entrant.turn()
        for figure in figures:
            counted = [call for call in calls if figure != "first" or call not in _CONNECTING]
            self._calls.setdefault(figure, {})[size] = len(counted)

    def _compiled(self, tools: Path) -> Path | None:
        """Compile the C program and return its path; where that fails, report why, return None."""
        program = tools / "list_domains"
        source = _HERE / "list_domains.c"
        command = f"cc -O2 -o {program} {source} $(pkg-config --cflags --libs libvirt)"
        done = subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return program
        self._left_out.append("C, because a compiler, pkg-config or libvirt's headers are missing")
        report(f"cannot compile {source.name}: {done.stderr.strip()}")
        return None


def main(arguments: Sequence[str]) -> int:
    """Measure, write and print; return the exit code."""
    options = _options(arguments)
    libvirt.registerErrorHandler(lambda *_: None, None)
    if reason := daemon_available():
        report(f"nothing to measure: {reason}")
        return 1
    with tempfile.TemporaryDirectory(prefix="gl-") as tools:
        bench = Bench(options, Path(tools))
        try:
            bench.measure_processes()
            for size in options.sizes:
                bench.measure(size)
        except Wrong as error:
            report(str(error))
            return 1
    results = bench.results()
    publish(options.output, "listing", markdown(results), plot(results), results)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = Options(
        "listing",
        "Every way to list a host, in one run: calls on the wire and times.",
        full=_FULL,
        quick=_QUICK,
    )
    add = options.parser.add_argument
    add("--round-trip", type=float, metavar="MS", help="added round trip")
    add(
        "--walk-limit",
        type=int,
        metavar="N",
        help="most domains for which the walk is measured with it: each costs a round trip",
    )
    return options.parse(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
