"""`./dev bench callers`: a compute driver's questions, by guestlist and domain by domain.

A private libvirtd serves libvirt's test driver with 10, 100 and 400 running instances of Nova, and
then real QEMU guests, paused, with a qcow2 disk each. guestlist's `ComputeDriver` and the
per-domain way of Nova's own driver, both over a connection that stays and over a new one, answer
every question in turns; all must give the same answer. A proxy counts calls on the wire in turns of
their own. In the end one guest hangs. The parser is timed too. Writes a page, a plot and all single
times; prints the page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.callers_report import markdown, plot
from benchmarks.harness.callers_results import (
    LIMITED_METHODS,
    METHODS,
    Hanging,
    Measured,
    Results,
    figure,
)
from benchmarks.harness.options import Options
from benchmarks.harness.pages import publish, report
from benchmarks.harness.parsing import Parsed, measure
from benchmarks.harness.race import Resident, Wrong, keep, race
from benchmarks.harness.setting import Others, setting
from lab.churn import populated
from lab.daemon import Daemon, daemon_available
from lab.images import MIB, make_image, qemu_img_available
from lab.nodes import Domain, nova_instance
from lab.proxy import Proxy
from lab.qemu import guests, qemu_available, stuck

from guestlist.capabilities import version_text

_QUESTIONS = Path(__file__).resolve().parent / "harness" / "questions.py"
_FULL = {"sizes": [10, 100, 400], "guests": [10, 40], "rounds": 15}
_QUICK = {"sizes": [3, 6], "guests": [2], "rounds": 2}
_STUCK_TURNS = 3
_PARSING_ROUNDS = 20
"""Rounds of the parser for each round of the questions: it takes 5 ms."""

_VOLUME = """\
<disk type='block' device='disk'>
  <driver name='qemu' type='raw'/>
  <source dev='/dev/volumes/of-{}'/>
  <target dev='vda' bus='virtio'/>
</disk>"""


@dataclass(frozen=True, slots=True)
class Place:
    """A number of domains behind a daemon, and a proxy beside it that counts."""

    daemon: Daemon
    proxy: Proxy
    size: int
    qemu: bool = False

    @property
    def uri(self) -> str:
        """The URI of the daemon."""
        return self.daemon.qemu_uri if self.qemu else self.daemon.uri()

    @property
    def counted_uri(self) -> str:
        """The URI of the proxy, which counts calls."""
        return self.proxy.qemu_uri if self.qemu else self.proxy.uri()

    def __str__(self) -> str:
        return f"{self.size:,} {'guests' if self.qemu else 'domains'}"


class Ledger:
    """The first answer to each question: all later answers, in every way, must be the same."""

    def __init__(self, size: int) -> None:
        self._answers: dict[str, Any] = {"get_num_instances": size, "instance_exists": True}

    def compare(self, way: str, method: str, answer: Any) -> None:
        """Compare an answer with the first one.

        Raises:
            Wrong: it differs.
        """
        first = self._answers.setdefault(method, answer)
        if answer != first:
            raise Wrong(f"{way}: {method} is {_short(answer)}, and was {_short(first)} before")

    def agrees(self, method: str, answer: Any) -> bool:
        """Return whether an answer is the same as the first one."""
        return bool(self._answers[method] == answer)


class Question:
    """One method, asked in one way: what takes turns here."""

    def __init__(self, resident: Resident, way: str, method: str, ledger: Ledger) -> None:
        self.way, self.method = way, method
        self._resident, self._ledger = resident, ledger

    def ask(self) -> dict[str, Any]:
        """Ask it once; return what the process tells, without comparing its answer."""
        told: dict[str, Any] = json.loads(self._resident.ask(self.method))
        return told

    def turn(self) -> dict[str, float]:
        """Take a turn; see `Entrant`."""
        return {figure(self.way, self.method): self.told()["ns"] / 1e9}

    def told(self) -> dict[str, Any]:
        """Ask it once; return what the process tells.

        Raises:
            Wrong: the answer is not the one of before.
        """
        told = self.ask()
        self._ledger.compare(self.way, self.method, told["answer"])
        return told


class Bench:
    """One run. Measures one size at a time; `results` returns what was measured so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._others = Others()
        self._setting: dict[str, str] = {}
        self._test, self._qemu = Measured(), Measured()
        self._hanging: Hanging | None = None
        self._parsing: dict[str, Parsed] = {}

    def measure_test(self, size: int) -> None:
        """Measure all on the test driver with that many instances, each with a volume.

        Raises:
            Wrong: a way failed, or two ways gave different answers.
        """
        domains = [replace(nova_instance(n), devices=_VOLUME.format(n)) for n in range(1, size + 1)]
        report(f"{size:,} domains: making them")
        with Daemon() as daemon, populated(daemon.uri(), domains) as connection:
            self._setting = setting(connection, self._options.command)
            with Proxy(daemon) as proxy:
                self._measure(Place(daemon, proxy, size), self._test)

    def measure_guests(self, size: int) -> None:
        """Measure all with that many paused QEMU guests, each with a qcow2 disk; then one hangs.

        Raises:
            Wrong: a way failed, or two ways gave different answers.
        """
        report(f"{size:,} guests: starting them")
        with Daemon() as daemon:
            domains = [
                replace(nova_instance(n), devices=_image(daemon, n)) for n in range(1, size + 1)
            ]
            with guests(daemon.qemu_uri, domains), Proxy(daemon) as proxy:
                self._setting["QEMU"] = _qemu_version(daemon)
                place = Place(daemon, proxy, size, qemu=True)
                ledger = self._measure(place, self._qemu)
                report(f"{place}: one hangs")
                self._hanging = self._hang(place, domains, ledger)

    def measure_parser(self) -> None:
        """Parse Nova's documents, with guestlist's parser and with lxml alone."""
        report("parsing")
        self._parsing = measure(self._options.rounds * _PARSING_ROUNDS)

    def results(self) -> Results:
        """Return what was measured so far."""
        return Results(
            setting={
                **self._setting,
                "Others on the machine, guests included": self._others.share(),
            },
            rounds=self._options.rounds,
            test=self._test,
            qemu=self._qemu,
            hanging=self._hanging,
            parsing=self._parsing,
        )

    def _measure(self, place: Place, measured: Measured) -> Ledger:
        """Race, then count; return the answers that all ways gave."""
        rounds, ledger = self._options.rounds, Ledger(place.size)
        with _questions(place, place.uri, ledger) as questions:
            report(f"{place}: {rounds} rounds")
            race(questions, 1)
            keep(measured.seconds, place.size, race(questions, rounds))
        with _questions(place, place.counted_uri, ledger) as questions:
            report(f"{place}: counting calls")
            race(questions, 1)
            for question in questions:
                with place.proxy.counting() as calls:
                    told = question.told()
                name = figure(question.way, question.method)
                measured.calls.setdefault(name, {})[place.size] = len(calls)
                measured.programs.setdefault(name, {})[place.size] = told["programs"]
        return ledger

    def _hang(self, place: Place, domains: Sequence[Domain], ledger: Ledger) -> Hanging:
        """Return what guestlist says, and how soon, when the first guest's QEMU is stopped."""
        hanging = Hanging(guests=len(domains), guest=domains[0].name)
        with _resident("guestlist", place, place.uri) as resident:
            questions = [Question(resident, "guestlist", method, ledger) for method in METHODS]
            race(questions, 1)
            with stuck(place.daemon, domains[0]):
                for question in questions * _STUCK_TURNS:
                    told = question.ask()
                    hanging.seconds.setdefault(question.method, []).append(told["ns"] / 1e9)
                    same = ledger.agrees(question.method, told["answer"])
                    hanging.same[question.method] = same and hanging.same.get(question.method, True)
                    if question.method == "get_all_volume_usage":
                        hanging.volumes.append(len(told["answer"]))
                    hanging.named.extend(
                        domain.name
                        for domain in domains
                        if domain.name not in hanging.named
                        and any(_names(text, domain) for text in told["said"])
                    )
        return hanging


def main(arguments: Sequence[str]) -> int:
    """Measure, write and print; return the exit code: 1 if two answers differ."""
    options = _options(arguments)
    libvirt.registerErrorHandler(lambda *_: None, None)
    if reason := daemon_available() or qemu_available() or qemu_img_available():
        report(f"nothing to measure: {reason}")
        return 1
    bench = Bench(options)
    bench.measure_parser()
    try:
        for size in options.sizes:
            bench.measure_test(size)
        for size in options.guests:
            bench.measure_guests(size)
    except Wrong as error:
        report(str(error))
        return 1
    results = bench.results()
    publish(options.output, "callers", markdown(results), plot(results), results)
    return 0


@contextlib.contextmanager
def _questions(place: Place, uri: str, ledger: Ledger) -> Iterator[list[Question]]:
    """Yield every question, asked in every way."""
    ways: dict[str, Sequence[str]] = dict.fromkeys(
        ("guestlist", "new", "per domain", "new per domain"), METHODS
    )
    if place.qemu:
        ways["limited"] = LIMITED_METHODS
    with contextlib.ExitStack() as stack:
        residents = {way: stack.enter_context(_resident(way, place, uri)) for way in ways}
        yield [
            Question(residents[way], way, method, ledger)
            for way, methods in ways.items()
            for method in methods
        ]


def _resident(way: str, place: Place, uri: str) -> Resident:
    path, size = str(place.daemon.directory), str(place.size)
    return Resident([sys.executable, str(_QUESTIONS), way, uri, path, size])


def _image(daemon: Daemon, n: int) -> str:
    """Return a disk for the n-th guest, different from its neighbours'."""
    return make_image(daemon, size=(64 + n) * MIB, written=(n % 5 + 1) * MIB).disk()


def _names(text: str, domain: Domain) -> bool:
    return domain.name in text or str(domain.uuid) in text


def _qemu_version(daemon: Daemon) -> str:
    connection = libvirt.open(daemon.qemu_uri)
    try:
        version = connection.getVersion()
    finally:
        connection.close()
    return version_text(version)


def _short(answer: Any) -> str:
    text = json.dumps(answer)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = Options(
        "callers",
        "A driver's questions, by guestlist and domain by domain, in one run: calls and times.",
        full=_FULL,
        quick=_QUICK,
    )
    options.parser.add_argument(
        "--guests", type=int, nargs="+", metavar="N", help="how many QEMU guests"
    )
    parsed = options.parse(arguments)
    parsed.guests = sorted(set(parsed.guests))
    return parsed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
