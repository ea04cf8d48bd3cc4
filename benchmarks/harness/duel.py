"""guestlist's exporter and Debian's, side by side on one host.

In: numbers of domains and of turns. Out: a `Duel`. Debian's package prometheus-libvirt-exporter has
kumina's exporter; `./dev` unpacks it and installs nothing, since the package starts a server on all
interfaces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.harness.exporter_results import Duel, Rival
from benchmarks.harness.pages import report
from benchmarks.harness.scraping import EACH, every_second, in_step, instances
from lab.churn import populated
from lab.daemon import Daemon
from lab.exporters import Serving, cpu_seconds, free_port, serving
from lab.images import make_image
from lab.nodes import nova_instance
from lab.proxy import Proxy
from lab.qemu import guests
from lab.scraped import Series
from lab.waiting import wait_until
from prometheus_client.parser import text_string_to_metric_families

_PEER = "prometheus-libvirt-exporter"

_THEIRS = "go_", "process_", "promhttp_"
"""Families of Debian's exporter that its client library has by itself."""


@contextlib.contextmanager
def _both(uri: str, domains: int) -> Iterator[tuple[Serving, Serving]]:
    """Run guestlist's exporter, as the other one's drop-in, and Debian's."""
    as_theirs = "--compat=kumina", "--libvirt.export-nova-metadata"
    port = free_port()
    words = f"--libvirt.uri={uri}", f"--web.listen-address=127.0.0.1:{port}", as_theirs[1]
    with (
        in_step(uri, domains, *as_theirs) as ours,
        serving([_PEER, *words], port) as theirs,
    ):
        yield ours, theirs


def peer_available() -> str | None:
    """Return why Debian's exporter cannot be run here; None: it can."""
    missing = f"Debian's exporter: the package {_PEER} is missing"
    return None if shutil.which(_PEER) else missing


def duel(domains: int, rounds: int) -> Duel:
    """Let both exporters take turns on one host; compare what they tell of a QEMU guest."""
    found = Duel(domains)
    with Daemon() as daemon, populated(daemon.uri(), instances(domains)):
        report(f"beside Debian's exporter, {domains} domains: {rounds} turns")
        with _both(daemon.uri(), domains) as (ours, theirs):
            _turn(Rival(), theirs, ours, daemon)  # does not count
            for _ in range(rounds):
                _turn(found.ours, ours, theirs, daemon)
                _turn(found.theirs, theirs, ours, daemon)
        with Proxy(daemon) as proxy, _both(proxy.uri(), domains) as (ours, theirs):
            for rival, one, other in (found.ours, ours, theirs), (found.theirs, theirs, ours):
                with _stopped(other), proxy.counting() as calls:
                    every_second(one, EACH)
                rival.calls, rival.counted = len(calls), EACH
    _compare(found)
    return found


def _turn(rival: Rival, one: Serving, other: Serving, daemon: Daemon) -> None:
    """Let one exporter be scraped while the other one's process is stopped."""
    with _stopped(other):
        before = one.cpu_seconds(), cpu_seconds(daemon.pid)
        seconds, _body = every_second(one, EACH)
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


def _compare(found: Duel) -> None:
    """Write down which of the other exporter's series guestlist lacks, of a QEMU guest."""
    with Daemon() as daemon:
        one = replace(nova_instance(1), devices=make_image(daemon).disk())
        with guests(daemon.qemu_uri, [one]), _both(daemon.qemu_uri, 1) as (ours, theirs):
            wait_until(lambda: ours.scrape().domains("libvirt_domain_vcpu_current"))
            mine, had = set(ours.scrape().values), _series(theirs.get())
    found.series = len(had)
    found.families = len({name for name, _ in had})
    found.lacking = sorted(f"{name} {sorted(labels)}" for name, labels in had - mine)


def _series(body: bytes) -> set[Series]:
    """Return the series of Debian's exporter, without those of its client library."""
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if not sample.name.startswith(_THEIRS)
    }
