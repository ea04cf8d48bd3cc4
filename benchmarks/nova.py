"""A released Nova's driver and guestlist's drop-in for it, side by side: calls, processes, times.

In: an environment with Nova (`./dev nova-env`), a daemon, QEMU. Out: docs/benchmarks/nova.*. Nova's
own loader loads both drivers, each in a process of its own, over the same daemon and a proxy of its
own, which counts. The two are asked the same questions about the same domains, in turns. The run
ends if their answers differ.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.nova_report import Figures, Results, markdown, plot
from benchmarks.harness.options import Options
from benchmarks.harness.pages import publish, report
from benchmarks.harness.race import Wrong
from benchmarks.harness.setting import setting
from lab.churn import populated
from lab.daemon import Daemon, daemon_available
from lab.images import MIB, make_image, qemu_img_available
from lab.nodes import Domain, nova_instance
from lab.nova import (
    CONTEXT,
    SERIES,
    VOLATILE,
    VOLUMES,
    Answer,
    NovaDriver,
    instance,
    nova_available,
)
from lab.proxy import Proxy
from lab.qemu import guests, qemu_available
from lab.waiting import wait_until

DRIVERS = {"Nova": "libvirt.LibvirtDriver", "guestlist": "guestlist.LibvirtDriver"}

_PAUSED, _RUNNING = 3, 1
_MOST_ROUNDS = 51
_SECONDS = 1.0
"""A question is asked `--rounds` times, and more often while that takes less than this; its answers
come within a millisecond, and three of them say little."""

_QEMU_IMG = "qemu-img"
_TEST_VOLUME = """<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/>
  <source file='/var/lib/nova/volume-{}'/><target dev='vdb' bus='virtio'/></disk>"""


class Asked:
    """One driver in a process of its own, and a proxy that counts its calls alone."""

    def __init__(self, nova: NovaDriver, proxy: Proxy, domains: Sequence[Domain]) -> None:
        self._nova = nova
        self._proxy = proxy
        self._domains = domains

    def ask(self, question: str) -> tuple[Any, float, int]:
        """Return the answer, the seconds within Nova's process, and its qemu-img processes.

        Raises:
            Wrong: Nova raised.
        """
        answers = list(self._answers(question))
        for answer in answers:
            if answer.error:
                raise Wrong(f"{question}: {answer.error}")
        values = [answer.value for answer in answers]
        return (
            values if question == "get_info" else values[0],
            sum(answer.seconds for answer in answers),
            sum(_QEMU_IMG in process for answer in answers for process in answer.processes),
        )

    def count(self, question: str) -> tuple[Any, float, int, int]:
        """Return what `ask` returns, and the calls on the wire."""
        with self._proxy.counting() as calls:
            answer, seconds, processes = self.ask(question)
        return answer, seconds, processes, len(calls)

    def settle(self, question: str) -> None:
        """Return when the live view is in step.

        Before `get_info`, also wait until the view must be compared again: the synchronization of
        power states comes every ten minutes.
        """
        wait_until(lambda: self._nova.viewed(self._domains[0].uuid) is not None)
        if question == "get_info":
            longest = self._nova.see("nova.conf:CONF.guestlist.max_list_age")
            since = "_gate._host._live.seconds_since_list"
            wait_until(lambda: self._nova.see(since) > longest)

    def _answers(self, question: str) -> Iterator[Answer]:
        match question:
            case "get_info":
                for domain in self._domains:
                    yield self._nova.ask("get_info", instance(domain.uuid))
            case "instance_exists":
                yield self._nova.ask("instance_exists", instance(self._domains[0].uuid))
            case "get_all_volume_usage":
                yield self._nova.ask("get_all_volume_usage", CONTEXT, VOLUMES)
            case "mount state":
                yield self._nova.mount_state()
            case "get_available_resource":
                yield self._nova.ask("get_available_resource", "here")
            case method:
                yield self._nova.ask(method)


def measure(
    daemon: Daemon, scheme: str, domains: Sequence[Domain], options: argparse.Namespace, state: int
) -> Figures:
    """Return what every question costs either driver, warm. The two are asked in turns.

    Raises:
        Wrong: a driver failed, or the two drivers gave different answers.
    """
    figures = Figures(len(domains))
    with contextlib.ExitStack() as stack:
        drivers = {
            name: stack.enter_context(
                _asked(daemon, scheme, domains, options=options, compute_driver=driver, state=state)
            )
            for name, driver in DRIVERS.items()
        }
        for question in figures.questions:
            report(f"{len(domains):,} domains: {question}")
            _measure(question, drivers, figures, options.rounds)
    return figures


def _measure(question: str, drivers: Mapping[str, Asked], figures: Figures, rounds: int) -> None:
    answers: dict[str, Any] = {}
    calls: dict[str, int] = {}
    processes: dict[str, int] = {}
    times: dict[str, list[float]] = {}
    for name, asked in drivers.items():
        asked.ask(question)
        if name == "guestlist":
            asked.settle(question)
        answer, seconds, processes[name], calls[name] = asked.count(question)
        answers[name], times[name] = _comparable(question, answer), [seconds]
    first, second = answers.values()
    if first != second:
        raise Wrong(f"{question}: {_difference(first, second)}")
    slowest = max(seconds for (seconds,) in times.values())
    order = list(drivers.items())
    for _ in range(max(rounds, min(_MOST_ROUNDS, int(_SECONDS / slowest))) - 1):
        order.reverse()
        for name, asked in order:
            times[name].append(asked.ask(question)[1])
    for name in drivers:
        figures.put(name, question, calls[name], processes[name], median(times[name]))


@contextlib.contextmanager
def _asked(
    daemon: Daemon,
    scheme: str,
    domains: Sequence[Domain],
    *,
    options: argparse.Namespace,
    compute_driver: str,
    state: int,
) -> Iterator[Asked]:
    with Proxy(daemon) as proxy:
        uri = proxy.qemu_uri if scheme == "qemu" else proxy.uri()
        with NovaDriver(
            uri, mode=options.mode, compute_driver=compute_driver, series=options.series
        ) as nova:
            for domain in domains:
                volumes = {"/dev/vdb": domain.uuid}
                nova.add_instance(domain.uuid, domain.name, volumes=volumes, power_state=state)
            yield Asked(nova, proxy, domains)


def _comparable(question: str, answer: Any) -> Any:
    if question == "get_all_volume_usage":  # the test driver makes counters from its clock
        return [each["volume"] for each in answer]
    if question == "get_available_resource":
        return {key: value for key, value in answer.items() if key not in VOLATILE}
    return answer


def _difference(first: Any, second: Any) -> str:
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [key for key in first if first[key] != second.get(key)]
        first, second = ({key: each.get(key) for key in keys} for each in (first, second))
    return f"{str(second)[:500]}, and was {str(first)[:500]} before"


def main(arguments: Sequence[str]) -> int:
    """Measure, write and print. Returns the exit code: 1 if two answers differ."""
    options = _options(arguments)
    libvirt.registerErrorHandler(lambda *_: None, None)
    missing = daemon_available() or qemu_available() or qemu_img_available()
    if reason := missing or nova_available(options.series):
        report(f"nothing to measure: {reason}")
        return 1
    results = Results(series=options.series, mode=options.mode, rounds=options.rounds)
    try:
        for size in options.sizes:
            _measure_test(size, options, results)
        for size in options.guests:
            _measure_guests(size, options, results)
        _measure_disks(options.disks, options, results)
    except Wrong as error:
        report(str(error))
        return 1
    publish(options.output, "nova", markdown(results), plot(results), results)
    return 0


def _measure_test(size: int, options: argparse.Namespace, results: Results) -> None:
    domains = [
        replace(nova_instance(n), devices=_TEST_VOLUME.format(n)) for n in range(1, size + 1)
    ]
    with Daemon() as daemon, populated(daemon.uri(), domains) as connection:
        results.setting = setting(connection, options.command)
        results.test[size] = measure(daemon, "test", domains, options, _RUNNING)


def _measure_guests(size: int, options: argparse.Namespace, results: Results) -> None:
    """Measure guests that have a volume each, and no image of Nova's."""
    report(f"{size:,} guests: starting them")
    with Daemon() as daemon:
        domains = [replace(nova_instance(n), devices=_volume(daemon)) for n in range(1, size + 1)]
        with guests(daemon.qemu_uri, domains):
            results.guests[size] = measure(daemon, "qemu", domains, options, _PAUSED)


def _measure_disks(size: int, options: argparse.Namespace, results: Results) -> None:
    """Measure guests that have two qcow2 images of Nova's and a volume each."""
    report(f"{size:,} guests with two qcow2 disks: starting them")
    with Daemon() as daemon:
        domains = [
            replace(nova_instance(n), devices=_images(daemon, n) + _volume(daemon))
            for n in range(1, size + 1)
        ]
        with guests(daemon.qemu_uri, domains):
            results.disks = measure(daemon, "qemu", domains, options, _PAUSED)


def _images(daemon: Daemon, n: int) -> str:
    root = make_image(daemon, size=(64 + n) * MIB, written=(n % 5 + 1) * MIB)
    return root.disk("vda") + make_image(daemon, size=(32 + n) * MIB).disk("vdc")


def _volume(daemon: Daemon) -> str:
    return make_image(daemon, size=MIB, written=0, format="raw").disk("vdb")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = Options(
        "nova",
        "Nova's libvirt driver and guestlist's drop-in for it, in one run: calls and times.",
        full={"sizes": [10, 100, 400], "rounds": 3, "guests": [10, 100, 400], "disks": 40},
        quick={"sizes": [5], "rounds": 1, "guests": [3], "disks": 2},
    )
    add = options.parser.add_argument
    add("--guests", type=int, nargs="*", metavar="N", help="how many QEMU guests")
    add("--disks", type=int, metavar="N", help="how many QEMU guests with two qcow2 disks")
    add("--mode", choices=("threading", "eventlet"), default="threading")
    add("--series", default=SERIES, help="which Nova")
    return options.parse(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
