"""`./dev bench inventory`: what a live view costs, and how far behind it is.

A private libvirtd serves libvirt's test driver with instances of Nova. guestlist's `Inventory` and
the barest view that could be written follow them in turns, each in a process of its own. Meanwhile
another process starts and stops domains at a fixed rate and writes down when. Writes a page, a plot
and every single staleness; prints the page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.inventory_report import Followed, Results, markdown, plot
from benchmarks.harness.options import Options
from benchmarks.harness.pages import publish, report
from benchmarks.harness.setting import Others, setting
from lab.churn import populated
from lab.daemon import Daemon, daemon_available
from lab.nodes import nova_instance
from lab.proxy import Proxy

_HARNESS = Path(__file__).resolve().parent / "harness"
_FULL = {
    "sizes": [100, 1_000, 10_000],
    "rounds": 3,
    "rates": [10, 100, 1_000],
    "domains": 2_000,
    "seconds": 10.0,
    "idle": 60.0,
}
_QUICK = {
    "sizes": [5, 20],
    "rounds": 1,
    "rates": [50],
    "domains": 20,
    "seconds": 0.5,
    "idle": 0.5,
}


class Viewer:
    """One of the two views, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, question: str) -> Any:
        """Return the process's answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{question}\n")
        stdin.flush()
        return json.loads(stdout.readline())


@contextlib.contextmanager
def viewer(way: str, uri: str) -> Iterator[Viewer]:
    """Yield a view that is in step."""
    command = [sys.executable, str(_HARNESS / "viewers.py"), way, uri]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield Viewer(process)
        assert process.stdin is not None
        process.stdin.close()


def _calls_of_reading(live: Viewer, proxy: Proxy) -> int:
    """Count the calls while snapshots are read, also calls that the view's own thread makes."""
    with proxy.counting() as calls:
        live.ask("snapshot")
    return len(calls)


def read(results: Results, sizes: Sequence[int], idle: float) -> None:
    """Measure snapshots and syncing at each number of domains, and idling at the largest."""
    for size in sizes:
        report(f"{size:,} domains: reading")
        with Daemon() as daemon, populated(daemon.uri(), _instances(size)) as connection:
            with Proxy(daemon) as proxy, viewer("live", proxy.uri()) as live:
                results.snapshot_calls[size] = min(_calls_of_reading(live, proxy) for _ in range(5))
            with viewer("live", daemon.uri()) as live:
                results.synced_seconds[size] = live.ask("synced_seconds")
                results.snapshot_seconds[size] = live.ask("snapshot")
                handle = connection.lookupByUUID(nova_instance(1).uuid.bytes)
                handle.suspend()
                live.ask("resync")
                results.first_snapshot_seconds[size] = live.ask("first_snapshot")
                if size == max(sizes):
                    report(f"{size:,} domains: idling for {idle:g} s")
                    results.idle_share = _idle(live, idle)
                    live.ask("begin")
                    live.ask("resync")
                    results.resync_cpu_seconds = live.ask("end")["cpu"]


def _idle(live: Viewer, seconds: float) -> float:
    live.ask("begin")
    time.sleep(seconds)
    ended = live.ask("end")
    return float(ended["cpu"] / ended["seconds"])


def follow(results: Results, options: argparse.Namespace) -> None:
    """Measure both views, in turns, at each rate of changes."""
    with Daemon() as daemon, populated(daemon.uri(), _instances(options.domains)) as connection:
        results.setting = setting(connection, options.command)
        for rate in options.rates:
            for turn in range(options.rounds):
                report(f"{rate:,} changes a second, turn {turn + 1} of {options.rounds}")
                for way in ("bare", "live"):
                    followed = results.followed.setdefault(way, {}).setdefault(rate, Followed())
                    with viewer(way, daemon.uri()) as view:
                        _follow(followed, view, daemon.uri(), rate, options.seconds)


def _follow(followed: Followed, view: Viewer, uri: str, rate: int, seconds: float) -> None:
    command = [sys.executable, str(_HARNESS / "changer.py"), uri, str(rate), str(seconds)]
    view.ask("begin")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    time.sleep(0.2)
    ended = view.ask("end")
    made = json.loads(done.stdout)
    seen: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for uuid, active, at in ended["seen"]:
        seen[uuid, active].append(at)
    for uuid, active, before, after in made:
        times = seen[uuid, active]
        if times:
            at = times.pop(0)
            followed.after_return.append(max(0.0, at - after))
            followed.after_call.append(at - before)
        else:
            followed.missed += 1
    followed.changes += len(made)
    followed.rates.append(len(made) / (made[-1][3] - made[0][2]))
    followed.calls += ended["calls"]
    followed.shares.append(ended["cpu"] / ended["seconds"])


def _instances(count: int) -> list[Any]:
    return [nova_instance(n) for n in range(1, count + 1)]


def main(arguments: Sequence[str]) -> int:
    """Measure, write and print; return the exit code."""
    options = _options(arguments)
    libvirt.registerErrorHandler(lambda *_: None, None)
    if reason := daemon_available():
        report(f"nothing to measure: {reason}")
        return 1
    others = Others()
    results = Results(sizes=options.sizes, domains=options.domains, rounds=options.rounds)
    results.seconds, results.idle_seconds = options.seconds, options.idle
    follow(results, options)
    read(results, options.sizes, options.idle)
    results.setting["Others on the machine"] = others.share()
    publish(options.output, "inventory", markdown(results), plot(results), results)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = Options(
        "inventory",
        "What a live view costs, and how far behind it is, beside the barest one.",
        full=_FULL,
        quick=_QUICK,
    )
    add = options.parser.add_argument
    add("--rates", type=int, nargs="+", metavar="N", help="changes a second")
    add("--domains", type=int, metavar="N", help="domains that change")
    add("--seconds", type=float, metavar="S", help="how long each turn takes")
    add("--idle", type=float, metavar="S", help="how long the largest view idles")
    return options.parse(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
