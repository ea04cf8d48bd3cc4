"""`./dev bench fleet`: lists of up to a million domains in etcd, and how far behind a reader is.

Fleets of several sizes are written as agents write them, and read in processes of their own, in
turns: bare, as a snapshot, and with every row made. Then a real libvirtd, its agent, an etcd and a
reader: seconds from a change to the reader, and what the agent costs. Writes a page and every
single time; prints the page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.fleet_costs import costs, processor
from benchmarks.harness.fleet_report import markdown
from benchmarks.harness.fleet_results import WAYS, Agents, Followed, Read, Results, Sized
from benchmarks.harness.fleet_writing import FLEET, ON_A_HOST, write_fleet
from benchmarks.harness.options import Options
from benchmarks.harness.pages import publish, report
from benchmarks.harness.setting import Others, setting
from lab.churn import populated
from lab.command import COMMAND, environment
from lab.daemon import Daemon, daemon_available
from lab.etcd import RELEASES, Member, etcd_available, etcd_version
from lab.etcd import Etcd as Lab
from lab.nodes import nova_instance
from lab.waiting import LONG, wait_until

from guestlist.fleet.etcd import kv
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.span import Span
from guestlist.fleet.reading import Fleet

_FULL = {
    "sizes": [10_000, 100_000, 1_000_000],
    "rounds": 5,
    "rate": 300,
    "domains": 200,
    "seconds": 20.0,
    "calls": 3_000,
    "connections": 300,
    "release": "bookworm",
}
_QUICK = {**_FULL, "sizes": [1_000], "rounds": 1, "domains": 20, "seconds": 2.0, "calls": 100}

_HARNESS = Path(__file__).resolve().parent / "harness"
_QUOTA = "--quota-backend-bytes=8000000000"


class Memory:
    """The most memory that an etcd was seen to use while the block ran."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = member.rss()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, self._member.rss())

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def read(results: Results, options: argparse.Namespace) -> None:
    """Write a fleet of each size, and read it."""
    for size in options.sizes:
        report(f"{size:,} domains: writing")
        with Lab(options.release, options=[_QUOTA]) as lab:
            results.sizes[size] = sized = Sized(size // ON_A_HOST, size)
            start = time.monotonic()
            with Etcd(lab.endpoints, timeout=60.0) as etcd:
                write_fleet(etcd, size)
            sized.written_seconds = time.monotonic() - start
            lab.stop()
            lab.start()
            member = lab.members[0]
            sized.file = sum(each.stat().st_size for each in member.data.glob("member/snap/db"))
            sized.etcd_before = member.rss()
            with Memory(member) as memory:
                for turn in range(options.rounds):
                    report(f"{size:,} domains: turn {turn + 1} of {options.rounds}")
                    for way in WAYS:
                        _read(sized, way, member)
            sized.etcd_most = memory.most


def _read(sized: Sized, way: str, member: Member) -> None:
    command = [sys.executable, str(_HARNESS / "fleet_readers.py"), way, member.endpoint, FLEET]
    before = processor(member.pid)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["complete"]
    assert way == "bare" or said["rows"] == sized.guests, said
    into = sized.read.setdefault(way, Read())
    into.seconds.append(said["seconds"])
    into.processor.append(said["processor"] + processor(member.pid) - before)
    into.memory.append(said["memory"])


def follow(results: Results, options: argparse.Namespace) -> None:
    """Measure how far behind a reader is, and what the agent costs."""
    domains = [nova_instance(n) for n in range(options.domains)]
    with (
        Lab(options.release) as lab,
        Daemon() as daemon,
        populated(daemon.uri(), domains) as connection,
        _agent(daemon, lab) as agent,
        Etcd(lab.endpoints) as etcd,
    ):
        results.setting = setting(connection, options.command)
        results.setting["etcd"] = ".".join(map(str, etcd_version(options.release)))
        agents = results.agents = Agents(options.domains)
        report(f"idling for {options.seconds:g} s")
        before = _revision(etcd)
        with _shares(agent.pid, lab.members[0].pid) as idle:
            time.sleep(options.seconds)
        agents.idle_share, agents.etcd_idle_share, agents.idle_seconds = idle
        agents.idle_revisions, before = _revision(etcd) - before, _revision(etcd)
        report(f"following {options.rate:,} changes a second")
        with _shares(agent.pid, lab.members[0].pid) as busy:
            results.followed = _followed(daemon.uri(), lab.endpoints[0], options)
        agents.busy_share, agents.etcd_busy_share, agents.busy_seconds = busy
        agents.busy_revisions = _revision(etcd) - before
        agents.memory = _resident(agent.pid)


@contextlib.contextmanager
def _agent(daemon: Daemon, lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    command = [*COMMAND, "agent", f"--endpoints={lab.endpoints[0]}", f"--fleet={FLEET}"]
    command += ["--host=h1", "-c", daemon.uri()]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as agent:
        try:
            with Fleet(lab.endpoints, fleet=FLEET) as fleet:
                wait_until(lambda: fleet.snapshot().complete, LONG)
            yield agent
        finally:
            agent.kill()


def _followed(uri: str, endpoint: str, options: argparse.Namespace) -> Followed:
    watcher = [sys.executable, str(_HARNESS / "fleet_watcher.py"), endpoint, FLEET]
    changer = [sys.executable, str(_HARNESS / "changer.py"), uri]
    changer += [str(options.rate), str(options.seconds)]
    with subprocess.Popen(
        watcher, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdin is not None
        assert watching.stdout is not None
        assert watching.stdout.readline() == "ready\n"
        done = subprocess.run(changer, capture_output=True, text=True, check=True)
        time.sleep(2.0)
        watching.stdin.write("\n")
        watching.stdin.flush()
        seen: defaultdict[tuple[str, bool], list[float]] = defaultdict(list)
        for uuid, active, at in json.loads(watching.stdout.readline()):
            seen[uuid, active].append(at)
        watching.stdin.close()
    return _matched(json.loads(done.stdout), seen)


def _matched(
    made: Sequence[tuple[str, bool, float, float]], seen: dict[tuple[str, bool], list[float]]
) -> Followed:
    """Give each change the next news of its kind; news that came before it belong to none."""
    followed = Followed(len(made) / (made[-1][3] - made[0][2]), changes=len(made))
    later: dict[tuple[str, bool], float] = {}
    for uuid, active, before, _ in reversed(made):
        times = seen.get((uuid, active), [])
        end = later.get((uuid, active), float("inf"))
        found = [at for at in times if before <= at < end]
        later[uuid, active] = before
        if found:
            followed.lags.append(found[0] - before)
        else:
            followed.missed += 1
    return followed


@contextlib.contextmanager
def _shares(*pids: int) -> Iterator[list[float]]:
    """Yield a list that has, after the block, the share of a core of each process, and seconds."""
    into: list[float] = []
    start, before = time.monotonic(), [processor(each) for each in pids]
    yield into
    seconds = time.monotonic() - start
    into += [(processor(pid) - was) / seconds for pid, was in zip(pids, before, strict=True)]
    into.append(seconds)


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


def _revision(etcd: Etcd) -> int:
    return kv.read(etcd, Span(b"/none"), count_only=True).revision


def main(arguments: Sequence[str]) -> int:
    """Measure, write and print; return the exit code."""
    options = _options(arguments)
    libvirt.registerErrorHandler(lambda *_: None, None)
    if reason := daemon_available() or etcd_available(options.release):
        report(f"nothing to measure: {reason}")
        return 1
    others = Others()
    results = Results(rounds=options.rounds)
    follow(results, options)
    report("the calls of an agent")
    with Lab(options.release) as lab:
        results.costs = costs(lab, options.calls, options.connections)
    read(results, options)
    results.setting["Others on the machine"] = others.share()
    publish(options.output, "fleet", markdown(results), None, results)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = Options("fleet", "What a fleet in etcd costs.", full=_FULL, quick=_QUICK)
    add = options.parser.add_argument
    add("--rate", type=int, metavar="N", help="changes a second")
    add("--domains", type=int, metavar="N", help="domains of the host that changes")
    add("--seconds", type=float, metavar="S", help="how long the host changes, and idles")
    add("--calls", type=int, metavar="N", help="calls of each kind whose cost is measured")
    add("--connections", type=int, metavar="N", help="connections whose cost is measured")
    add("--release", choices=RELEASES, help="the etcd, by Debian's release")
    return options.parse(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
