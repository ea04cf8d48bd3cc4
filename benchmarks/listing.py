"""`./dev bench listing`: every way to list a host, in one run, from 100 domains to 10,000.

A private libvirtd serves libvirt's test driver with running instances of Nova. C, libvirt-python,
guestlist, the legacy walk and virsh list them in turns: over the unix socket, and through a proxy
that makes every round trip longer. Calls on the wire are counted by that proxy in turns of their
own. Writes a page, a plot and all single times; prints the page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.listing_report import Results, markdown, plot
from benchmarks.harness.race import Command, Entrant, Figures, Resident, Wrong, race
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
    "output": _HERE.parent / "docs" / "benchmarks",
}
_QUICK = {"sizes": [5, 20], "rounds": 2, "round_trip": 1.0, "walk_limit": 5, "output": None}

_CONNECTING = {"AUTH_LIST", "CONNECT_SUPPORTS_FEATURE", "CONNECT_OPEN", "CONNECT_CLOSE"}

Seconds = dict[str, dict[int, list[float]]]
"""Of each turn, by figure and by the number of domains."""


class Bench:
    """One run. Measures a size at a time; `results` is what there is by then."""

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

    def measure(self, size: int) -> None:
        """Everything at one number of domains.

        Raises:
            Wrong: somebody failed, or did not find as many domains as there are.
        """
        rounds = self._options.rounds
        domains = [nova_instance(n) for n in range(1, size + 1)]
        _report(f"{size:,} domains: making them")
        with Daemon() as daemon, populated(daemon.uri(), domains) as connection:
            self._setting = setting(connection, self._options.command)
            _report(f"{size:,} domains: over the socket, {rounds} rounds")
            with self._entrants(daemon.uri(), size) as entrants:
                race(list(entrants.values()), 1)
                _keep(self._socket, size, race(list(entrants.values()), rounds))
            with Proxy(daemon) as proxy, self._entrants(proxy.uri(), size) as entrants:
                _report(f"{size:,} domains: counting calls")
                for entrant in entrants.values():
                    self._count(proxy, entrant, size)
                _report(f"{size:,} domains: {self._options.round_trip:g} ms away, {rounds} rounds")
                proxy.delay(self._options.round_trip / 1e3)
                walk = entrants.pop("legacy")
                if size <= self._options.walk_limit:
                    _keep(self._far, size, race([walk], 1))
                _keep(self._far, size, race(list(entrants.values()), rounds))

    def results(self) -> Results:
        """What was measured so far."""
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
        )

    @contextlib.contextmanager
    def _entrants(self, uri: str, size: int) -> Iterator[dict[str, Entrant]]:
        """Everybody who can list that host, and the command that only connects to it."""
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
                name: stack.enter_context(Resident(command, figures, size))
                for name, (command, figures) in residents.items()
            }
            if self._virsh:
                virsh = [self._virsh, "-q", "-c", uri]
                entrants["virsh"] = Command([*virsh, "list", "--all", "--name"], "virsh", size)
                entrants["virsh uri"] = Command([*virsh, "uri"], "virsh uri", 1)
            yield entrants

    def _count(self, proxy: Proxy, entrant: Entrant, size: int) -> None:
        entrant.turn()  # opens the connection, where it is kept
        with proxy.counting() as calls:
            figures = entrant.turn()
        for figure in figures:
            counted = [call for call in calls if figure != "first" or call not in _CONNECTING]
            self._calls.setdefault(figure, {})[size] = len(counted)

    def _compiled(self, tools: Path) -> Path | None:
        """The C program, made now; None, and a word about it, where it cannot be made."""
        program = tools / "list_domains"
        source = _HERE / "list_domains.c"
        command = f"cc -O2 -o {program} {source} $(pkg-config --cflags --libs libvirt)"
        done = subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return program
        self._left_out.append("C, for want of a compiler, pkg-config or libvirt's headers")
        _report(f"cannot compile {source.name}: {done.stderr.strip()}")
        return None


def main(arguments: Sequence[str]) -> int:
    """Measure, write and print; the exit code."""
    options = _options(arguments)
    libvirt.registerErrorHandler(lambda *_: None, None)
    if reason := daemon_available():
        _report(f"nothing to measure: {reason}")
        return 1
    with tempfile.TemporaryDirectory(prefix="gl-") as tools:
        bench = Bench(options, Path(tools))
        try:
            for size in options.sizes:
                bench.measure(size)
        except Wrong as error:
            _report(str(error))
            return 1
    results = bench.results()
    page = markdown(results)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "listing.md").write_text(page)
        (options.output / "listing.json").write_text(_written(results))
        (options.output / "listing.svg").write_text(plot(results))
    print(page, end="")
    return 0


def _keep(seconds: Seconds, size: int, figures: Figures) -> None:
    for figure, times in figures.items():
        seconds.setdefault(figure, {})[size] = times


def _report(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _written(results: Results) -> str:
    """Results as JSON, each list of times on a line."""
    text = json.dumps(asdict(results), indent=2)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text) + "\n"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench listing",
        description="Every way to list a host, in one run: calls on the wire and times.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="how many domains")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns that each entrant takes")
    parser.add_argument("--round-trip", type=float, metavar="MS", help="added round trip")
    parser.add_argument(
        "--walk-limit",
        type=int,
        metavar="N",
        help="most domains for which the walk is raced with it: each is a round trip",
    )
    parser.add_argument("--output", type=Path, help="the directory to write to")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few domains and turns, to see that it works; written only where --output says",
    )
    parser.set_defaults(**(_QUICK if "--quick" in arguments else _FULL))
    options = parser.parse_args(arguments)
    options.sizes = sorted(set(options.sizes))
    options.command = shlex.join(["./dev", "bench", "listing", *arguments])
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
