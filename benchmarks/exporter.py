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
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.duel import duel, peer_available
from benchmarks.harness.exporter_report import markdown
from benchmarks.harness.exporter_results import (
    Fault,
    Results,
    Scrapes,
    Silent,
    Writing,
)
from benchmarks.harness.options import Options
from benchmarks.harness.pages import publish, report
from benchmarks.harness.scraping import EACH, EVERY, every_second, in_step, instances, tells_of
from benchmarks.harness.setting import Others, setting
from benchmarks.harness.soak import soak
from lab.certificates import Authority
from lab.churn import populated
from lab.daemon import Daemon, daemon_available
from lab.exporters import Serving, guestlist_exporter
from lab.migration import migrating, two_hosts
from lab.nodes import nova_instance
from lab.proxy import Proxy
from lab.qemu import guests, qemu_available, stuck
from lab.scraped import Scraped
from lab.waiting import wait_until

_WRITING = Path(__file__).resolve().parent / "harness" / "writing.py"

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

_STUCK = 1, 6
"""How many guests are stopped."""


def measure_sizes(results: Results, options: argparse.Namespace) -> None:
    """Count calls, domains, memory and time at each number of domains."""
    for size in options.sizes:
        report(f"{size:,} domains")
        times = EACH * options.rounds
        with Daemon() as daemon, populated(daemon.uri(), instances(size)) as connection:
            results.setting = setting(connection, options.command)
            with Proxy(daemon) as proxy, in_step(proxy.uri(), size) as exporter:
                before = exporter.cpu_seconds()
                with proxy.counting() as calls:
                    seconds, body = every_second(exporter, times)
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
        wait_until(partial(tells_of, exporter, 0))
        results.migrating[0] = _calls(proxy, exporter)
        with migrating(source, target, nova_instance(1)):
            wait_until(lambda: exporter.scrape().domains("libvirt_domain_job_info_type"))
            results.migrating[1] = _calls(proxy, exporter)


def _calls(proxy: Proxy, exporter: Serving) -> float:
    exporter.scrape()
    with proxy.counting() as calls:
        every_second(exporter, EACH)
    return len(calls) / EACH


# The writing


def measure_writing(results: Results, options: argparse.Namespace) -> None:
    """Measure the writing of bodies, in a process of its own."""
    count = 1_000 if not options.quick else 10
    report(f"writing bodies of {count:,} guests")
    command = [sys.executable, str(_WRITING), str(count), str(EACH * options.rounds)]
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
        in_step(daemon.qemu_uri, options.guests) as exporter,
    ):
        names = {each.name for each in all_of_them}

        def settle() -> None:
            wait_until(lambda: not _incomplete(exporter.scrape(), names))

        times = EACH * min(options.rounds, 3)
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
    fault.seconds, body = every_second(exporter, times)
    if gone is None:
        gone = set()
    else:
        wait_until(lambda: _marked(exporter.scrape()) == gone, 60)
        wait_until(lambda: not _incomplete(exporter.scrape(), names - gone), 60)
        more, body = every_second(exporter, EACH)
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
        with populated(daemon.uri(), instances(100)):
            for kind, greets in (("before the handshake", False), ("after the handshake", True)):
                report(f"{options.clients} clients, silent {kind}")
                words = "-c", daemon.uri(), EVERY, f"--web.config.file={web}"
                with guestlist_exporter(*words, tls=tls) as exporter:
                    wait_until(partial(tells_of, exporter, 100))
                    results.silent[kind] = _silent(exporter, options.clients, tls, greets=greets)


def _silent(exporter: Serving, clients: int, tls: ssl.SSLContext, *, greets: bool) -> Silent:
    found = Silent(clients)
    _, found.threads_before = _timed(exporter)
    with contextlib.ExitStack() as stack:
        for _ in range(clients):
            client = socket.create_connection(("127.0.0.1", exporter.port))
            if greets:
                client = tls.wrap_socket(client, server_hostname="localhost")
            stack.enter_context(client)
        found.seconds, found.threads_most = _timed(exporter)  # within the patience of the server
    return found


def _timed(exporter: Serving) -> tuple[list[float], int]:
    """Scrape several times; return the seconds of each, and the most threads that were seen."""
    seconds, threads = [], 0
    for _ in range(3 * EACH):
        start = time.perf_counter()
        exporter.get()
        seconds.append(time.perf_counter() - start)
        threads = max(threads, exporter.threads())
    return seconds, threads


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
        if reason := peer_available():
            results.left_out.append(reason)
        else:
            results.duel = duel(options.duel, options.rounds)
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
