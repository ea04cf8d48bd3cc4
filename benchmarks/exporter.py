"""`./dev bench exporter`: what a scrape of `guestlist exporter` costs, and what stops it.

The exporter is the real command, and what it asks are private libvirtds: one with the test driver
for numbers of domains, one with QEMU for guests that do not answer. Debian's exporter
(prometheus-libvirt-exporter, kumina's) takes turns with it. Writes a page and every single time;
prints the page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.exporter_report import markdown
from benchmarks.harness.exporter_results import (
    Duel,
    Fault,
    Results,
    Rival,
    Scrapes,
    Silent,
    Writing,
)
from benchmarks.harness.options import Options
from benchmarks.harness.pages import publish, report
from benchmarks.harness.setting import Others, setting
from benchmarks.harness.soak import soak
from lab.certificates import Authority
from lab.churn import populated
from lab.daemon import Daemon, daemon_available
from lab.exporters import Serving, cpu_seconds, free_port, guestlist_exporter, serving
from lab.images import make_image
from lab.migration import migrating, two_hosts
from lab.nodes import Domain, nova_instance
from lab.proxy import Proxy
from lab.qemu import guests, qemu_available, stuck
from lab.scraped import Scraped, Series
from lab.waiting import wait_until
from prometheus_client.parser import text_string_to_metric_families

_WRITING = Path(__file__).resolve().parent / "harness" / "writing.py"
_PEER = "prometheus-libvirt-exporter"

_FULL = {
    "sizes": [10, 100, 1_000, 5_000],
    "rounds": 5,
    "duel": 400,
    "guests": 20,
    "clients": 300,
    "minutes": 10.0,
}
_QUICK = {
    "sizes": [3, 10],
    "rounds": 1,
    "duel": 10,
    "guests": 3,
    "clients": 10,
    "minutes": 0.1,
}

_EACH = 5
"""Scrapes in each turn, one a second."""

_STUCK = 1, 6
"""How many guests are stopped."""

_EVERY = "--collector.interval=1"
_LISTED = "libvirt_domain_info_maximum_memory_bytes"
"""A family that a domain has as soon as its XML is read."""

_THEIRS = "go_", "process_", "promhttp_"
"""Families of Debian's exporter that its client library has by itself."""


def _every_second(serving: Serving, times: int) -> tuple[list[float], bytes]:
    """Scrape once a second; return the seconds of each scrape, and the last body."""
    seconds, body = [], b""
    due = time.monotonic()
    for _ in range(times):
        time.sleep(max(0.0, due - time.monotonic()))
        start = time.perf_counter()
        body = serving.get()
        seconds.append(time.perf_counter() - start)
        due = max(due + 1, time.monotonic())
    time.sleep(max(0.0, due - time.monotonic()))
    return seconds, body


@contextlib.contextmanager
def _in_step(uri: str, domains: int, *words: str) -> Iterator[Serving]:
    """Run guestlist's exporter; yield it when it tells of all domains and of a round."""
    with guestlist_exporter("-c", uri, _EVERY, *words) as exporter:
        wait_until(partial(_tells_of, exporter, domains), 120)
        yield exporter


def _tells_of(exporter: Serving, domains: int) -> bool:
    """Return whether it tells of all these domains, and of a round of statistics."""
    found = exporter.scrape()
    return (
        found.get("libvirt_domains") == len(found.domains(_LISTED)) == domains
        and found.get("guestlist_exporter_statistics_age_seconds") is not None
    )


def measure_sizes(results: Results, options: argparse.Namespace) -> None:
    """Count calls, domains, memory and time at each number of domains."""
    for size in options.sizes:
        report(f"{size:,} domains")
        times = _EACH * options.rounds
        with Daemon() as daemon, populated(daemon.uri(), _instances(size)) as connection:
            results.setting = setting(connection, options.command)
            with Proxy(daemon) as proxy, _in_step(proxy.uri(), size) as exporter:
                before = exporter.cpu_seconds()
                with proxy.counting() as calls:
                    seconds, body = _every_second(exporter, times)
                results.sizes[size] = Scrapes(
                    times,
                    dict(Counter(calls)),
                    size - len(Scraped.of(body).domains("libvirt_domain_info_vstate")),
                    exporter.resident_bytes(),
                    exporter.cpu_seconds() - before,
                    seconds,
                )


def measure_migration(results: Results) -> None:
    """Count the calls of a scrape beside a guest that migrates, and without one."""
    report("a guest that migrates")
    with (
        two_hosts() as (source, target),
        Proxy(source) as proxy,
        guestlist_exporter("-c", proxy.qemu_uri, "--collector.interval=600") as exporter,
    ):
        wait_until(partial(_tells_of, exporter, 0))
        results.migrating[0] = _calls(proxy, exporter)
        with migrating(source, target, nova_instance(1)):
            wait_until(lambda: exporter.scrape().domains("libvirt_domain_job_info_type"))
            results.migrating[1] = _calls(proxy, exporter)


def _calls(proxy: Proxy, exporter: Serving) -> float:
    exporter.scrape()
    with proxy.counting() as calls:
        _every_second(exporter, _EACH)
    return len(calls) / _EACH


# Beside Debian's exporter


@contextlib.contextmanager
def _both(uri: str, domains: int) -> Iterator[tuple[Serving, Serving]]:
    """Run guestlist's exporter, as the other one's drop-in, and Debian's."""
    as_theirs = "--compat=kumina", "--libvirt.export-nova-metadata"
    port = free_port()
    words = f"--libvirt.uri={uri}", f"--web.listen-address=127.0.0.1:{port}", as_theirs[1]
    with (
        _in_step(uri, domains, *as_theirs) as ours,
        serving([_PEER, *words], port) as theirs,
    ):
        yield ours, theirs


def measure_duel(results: Results, options: argparse.Namespace) -> None:
    """Let both exporters take turns on one host; compare what they tell of a QEMU guest."""
    if shutil.which(_PEER) is None:
        results.left_out.append(f"Debian's exporter: the package {_PEER} is missing")
        return
    duel = results.duel = Duel(options.duel)
    instances = _instances(options.duel)
    with Daemon() as daemon, populated(daemon.uri(), instances):
        report(f"beside Debian's exporter, {options.duel} domains: {options.rounds} turns")
        with _both(daemon.uri(), options.duel) as (ours, theirs):
            _turn(Rival(), theirs, ours, daemon)  # does not count
            for _ in range(options.rounds):
                _turn(duel.ours, ours, theirs, daemon)
                _turn(duel.theirs, theirs, ours, daemon)
        with Proxy(daemon) as proxy, _both(proxy.uri(), options.duel) as (ours, theirs):
            for rival, one, other in (duel.ours, ours, theirs), (duel.theirs, theirs, ours):
                with _stopped(other), proxy.counting() as calls:
                    _every_second(one, _EACH)
                rival.calls, rival.counted = len(calls), _EACH
    _compare(duel)


def _turn(rival: Rival, one: Serving, other: Serving, daemon: Daemon) -> None:
    """Let one exporter be scraped while the other one's process is stopped."""
    with _stopped(other):
        before = one.cpu_seconds(), cpu_seconds(daemon.pid)
        seconds, _body = _every_second(one, _EACH)
        rival.cpu_seconds += one.cpu_seconds() - before[0]
        rival.daemon_cpu_seconds += cpu_seconds(daemon.pid) - before[1]
    rival.scrapes += len(seconds)
    rival.seconds += seconds


@contextlib.contextmanager
def _stopped(other: Serving) -> Iterator[None]:
    os.kill(other.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(other.pid, signal.SIGCONT)


def _compare(duel: Duel) -> None:
    """Write down which of the other exporter's series guestlist lacks, of a QEMU guest."""
    with Daemon() as daemon:
        one = replace(nova_instance(1), devices=make_image(daemon).disk())
        with guests(daemon.qemu_uri, [one]), _both(daemon.qemu_uri, 1) as (ours, theirs):
            wait_until(lambda: ours.scrape().domains("libvirt_domain_vcpu_current"))
            mine, had = set(ours.scrape().values), _series(theirs.get())
    duel.series = len(had)
    duel.families = len({name for name, _ in had})
    duel.lacking = sorted(f"{name} {sorted(labels)}" for name, labels in had - mine)


def _series(body: bytes) -> set[Series]:
    """Return the series of Debian's exporter, without those of its client library."""
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if not sample.name.startswith(_THEIRS)
    }


# The writing


def measure_writing(results: Results, options: argparse.Namespace) -> None:
    """Measure the writing of bodies, in a process of its own."""
    count = 1_000 if not options.quick else 10
    report(f"writing bodies of {count:,} guests")
    command = [sys.executable, str(_WRITING), str(count), str(_EACH * options.rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    results.writing = Writing(**json.loads(done.stdout))


# What does not answer


def measure_faults(results: Results, options: argparse.Namespace) -> None:
    """Time scrapes while guests are stopped, while the daemon is, and after it was killed."""
    results.guests = options.guests
    report(f"{options.guests} guests: starting them")
    with (
        Daemon() as daemon,
        guests(daemon.qemu_uri, options.guests) as all_of_them,
        _in_step(daemon.qemu_uri, options.guests) as exporter,
    ):
        names = {each.name for each in all_of_them}

        def settle() -> None:
            wait_until(lambda: not _incomplete(exporter.scrape(), names))

        times = _EACH * min(options.rounds, 3)
        settle()
        results.faults["none"] = _fault(exporter, names, set(), times)
        for count in (min(count, options.guests - 1) for count in _STUCK):
            report(f"{count} of {options.guests} guests stopped")
            with contextlib.ExitStack() as stack:
                for guest in all_of_them[:count]:
                    stack.enter_context(stuck(daemon, guest, 300))
                gone = {each.name for each in all_of_them[:count]}
                results.faults[str(count)] = _fault(exporter, names, gone, times)
            settle()
        report("the daemon stopped")
        daemon.stop()
        results.faults["stopped"] = _fault(exporter, names, None, times)
        daemon.cont()
        settle()
        report("the daemon killed")
        daemon.kill()
        results.faults["killed"] = _fault(exporter, names, None, times)
        daemon.restart()
        settle()
        results.faults["again"] = _fault(exporter, names, set(), times)


def _incomplete(found: Scraped, names: set[str]) -> set[str]:
    """Return the guests that lack a state or statistics in a scrape."""
    told = found.domains("libvirt_domain_info_vstate") & found.domains(
        "libvirt_domain_vcpu_current"
    )
    return names - told


def _marked(found: Scraped) -> set[str]:
    return {
        labels["domain"] for labels, value in found.of_name("libvirt_domain_timed_out") if value
    }


def _fault(exporter: Serving, names: set[str], gone: set[str] | None, times: int) -> Fault:
    """Scrape that many times, once a second and timed; then look at what the last body says.

    `gone` are the guests that do not answer; the scrapes go on until they are marked, and the
    others complete. None: the daemon does not answer.
    """
    fault = Fault()
    fault.seconds, body = _every_second(exporter, times)
    if gone is None:
        gone = set()
    else:
        wait_until(lambda: _marked(exporter.scrape()) == gone, 60)
        wait_until(lambda: not _incomplete(exporter.scrape(), names - gone), 60)
        more, body = _every_second(exporter, _EACH)
        fault.seconds += more
    found = Scraped.of(body)
    fault.is_up = found.get("libvirt_up")
    fault.marked = len(_marked(found) & gone)
    fault.wrongly_marked = len(_marked(found) - gone)
    fault.incomplete = len(_incomplete(found, names - gone))
    fault.listed = len(found.domains("libvirt_domain_info_vstate") & names)
    return fault


# Clients that say nothing


def measure_silent(results: Results, options: argparse.Namespace) -> None:
    """Time scrapes over TLS beside clients that connect and say nothing."""
    with tempfile.TemporaryDirectory(prefix="gl-") as name, Daemon() as daemon:
        place = Path(name) / "pki"
        authority = Authority("laboratory")
        authority.put(place, server=authority.issue("localhost"))
        (place / "serverkey.pem").chmod(0o600)
        web = place / "web.yml"
        web.write_text("tls_server_config: {cert_file: servercert.pem, key_file: serverkey.pem}\n")
        tls = ssl.create_default_context(cafile=str(place / "cacert.pem"))
        with populated(daemon.uri(), _instances(100)):
            for kind, greets in (("before the handshake", False), ("after the handshake", True)):
                report(f"{options.clients} clients, silent {kind}")
                words = "-c", daemon.uri(), _EVERY, f"--web.config.file={web}"
                with guestlist_exporter(*words, tls=tls) as exporter:
                    wait_until(partial(_tells_of, exporter, 100))
                    results.silent[kind] = _silent(exporter, options.clients, tls, greets=greets)


def _silent(exporter: Serving, clients: int, tls: ssl.SSLContext, *, greets: bool) -> Silent:
    found = Silent(clients, exporter.threads())
    with contextlib.ExitStack() as stack:
        for _ in range(clients):
            client = socket.create_connection(("127.0.0.1", exporter.port))
            if greets:
                client = tls.wrap_socket(client, server_hostname="localhost")
            stack.enter_context(client)
        for _ in range(_EACH):  # within the patience of the server
            start = time.perf_counter()
            exporter.get()
            found.seconds.append(time.perf_counter() - start)
            found.threads_most = max(found.threads_most, exporter.threads())
    return found


def _instances(count: int) -> list[Domain]:
    return [nova_instance(n) for n in range(1, count + 1)]


def main(arguments: Sequence[str]) -> int:
    """Measure, write and print; return the exit code."""
    options = _options(arguments)
    libvirt.registerErrorHandler(lambda *_: None, None)
    if reason := daemon_available():
        report(f"nothing to measure: {reason}")
        return 1
    others = Others()
    results = Results(minutes=options.minutes)
    measure_sizes(results, options)
    measure_writing(results, options)
    measure_silent(results, options)
    if reason := qemu_available():
        results.left_out.append(f"guests that do not answer, and churn: {reason}")
    else:
        measure_duel(results, options)
        measure_migration(results)
        measure_faults(results, options)
        results.soaks = soak(options.minutes)
    results.setting["Others on the machine"] = others.share()
    publish(options.output, "exporter", markdown(results), None, results)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = Options(
        "exporter",
        "What a scrape of `guestlist exporter` costs, and what stops it.",
        full=_FULL,
        quick=_QUICK,
    )
    add = options.parser.add_argument
    add("--duel", type=int, metavar="N", help="domains beside Debian's exporter")
    add("--guests", type=int, metavar="N", help="QEMU guests, of which some are stopped")
    add("--clients", type=int, metavar="N", help="silent clients")
    add("--minutes", type=float, metavar="M", help="how long scrapes go on under churn")
    return options.parse(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
