"""Scrapes that go on under churn: what the exporter holds then, and whether a counter falls.

In: minutes. Two hosts are scraped once a second, each by an exporter of its own: one of the test
driver whose domains come, go, change their names and their states, and one with QEMU guests of
which half are started and destroyed. Out: a `Soak` for each.

A counter of a domain may be smaller in a later scrape only if the domain has another id. The id is
read from libvirt before the first of the two scrapes and after the second. libvirt gives no id
twice, so an id that is the same was the same all the time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import libvirt
from benchmarks.harness.exporter_results import Soak, Used
from benchmarks.harness.pages import report
from lab.churn import Churner, Mode, populated
from lab.daemon import Daemon
from lab.exporters import Serving, guestlist_exporter
from lab.images import make_image
from lab.nodes import nova_instance
from lab.qemu import guests
from lab.scraped import Scraped, Series
from lab.waiting import wait_until

_DOMAINS, _RENAMED, _GUESTS = 200, 20, 8
_CHANGES, _BOOTS = 20, 1
"""Changes a second of each kind, and starts or ends of guests."""

_WARM = 0.1
"""The share of the time that passes before the start is written down."""

_PAUSE = 5.0
"""Seconds without churn before that, and at the end: a guest that starts makes the lane wait."""

Ids = Mapping[str, int]


class _Host:
    """One exporter that is scraped, and the host's ids by the names of domains."""

    def __init__(self, exporter: Serving, uri: str, churners: list[Churner]) -> None:
        self.exporter, self.churners = exporter, churners
        self.soak = Soak()
        self._connection = libvirt.openReadOnly(uri)
        self._before: tuple[Ids, Scraped] | None = None

    def scrape(self) -> None:
        """Scrape once, and compare with the scrape before."""
        soak, ids = self.soak, self._ids()
        start = time.perf_counter()
        body = self.exporter.get()
        soak.slowest = max(soak.slowest, time.perf_counter() - start)
        soak.scrapes += 1
        soak.most = _most(soak.most, used(self.exporter))
        try:
            found = Scraped.of(body)
        except AssertionError:
            soak.duplicates += 1
            return
        soak.down += found.get("libvirt_up") == 0
        if self._before is not None:
            self._compare(*self._before, found, self._ids())
        self._before = ids, found

    def _compare(self, old_ids: Ids, old: Scraped, new: Scraped, new_ids: Ids) -> None:
        for series, value in new.values.items():
            before = old.values.get(series)
            if before is None or not _is_counter(series, new.types):
                continue
            domain = dict(series[1]).get("domain")
            if domain is None or old_ids.get(domain) == new_ids.get(domain):
                self.soak.compared += 1
                if value < before:
                    self.soak.fell += 1
                    report(f"{series} fell from {before} to {value}")

    def _ids(self) -> Ids:
        found = {}
        for domain in self._connection.listAllDomains():
            with contextlib.suppress(libvirt.libvirtError):
                found[domain.name()] = domain.ID()
        return found


def _is_counter(series: Series, types: Mapping[str, str]) -> bool:
    name = series[0]
    family = next(
        (name.removesuffix(end) for end in ("_bucket", "_count", "_sum") if name.endswith(end)),
        name,
    )
    return types.get(name) == "counter" or types.get(family) == "histogram"


def used(exporter: Serving) -> Used:
    """Return what the exporter holds now."""
    return Used(exporter.descriptors(), exporter.threads(), exporter.resident_bytes())


def _most(one: Used | None, other: Used) -> Used:
    if one is None:
        return other
    return Used(
        max(one.descriptors, other.descriptors),
        max(one.threads, other.threads),
        max(one.resident_bytes, other.resident_bytes),
    )


def _least(seen: Sequence[Used]) -> Used:
    """Return the fewest descriptors and threads that were seen, and the memory in the end."""
    return Used(
        min(each.descriptors for each in seen),
        min(each.threads for each in seen),
        seen[-1].resident_bytes,
    )


def soak(minutes: float) -> dict[str, Soak]:
    """Scrape both hosts for that long; return what was seen, by the host."""
    with _test_host() as domains, _qemu_host() as qemu:
        hosts = {"test driver": domains, "QEMU": qemu}
        report(f"scraping under churn for {minutes:g} minutes")
        start = due = time.monotonic()
        while (now := time.monotonic()) < start + 60 * minutes:
            for host in hosts.values():
                host.scrape()
            if domains.soak.start is None and now > start + _WARM * 60 * minutes:
                for host, found in zip(hosts.values(), _at_rest(hosts.values()), strict=True):
                    host.soak.start = found
            due = max(due + 1, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
        for host, found in zip(hosts.values(), _at_rest(hosts.values()), strict=True):
            host.soak.end = found
            host.soak.changes = sum(churner.changes for churner in host.churners)
        return {name: host.soak for name, host in hosts.items()}


def _at_rest(hosts: Iterable[_Host]) -> list[Used]:
    """Return what each exporter holds in a pause of the churn, between rounds of statistics."""
    churners = [churner for host in hosts for churner in host.churners]
    for churner in churners:
        churner.pause()
    end = time.monotonic() + _PAUSE
    seen: list[list[Used]] = []
    while time.monotonic() < end:
        for host in hosts:
            host.scrape()
        time.sleep(1)
        seen.append([used(host.exporter) for host in hosts])
    found = [_least(of_one) for of_one in zip(*seen, strict=True)]
    for churner in churners:
        churner.resume()
    return found


@contextlib.contextmanager
def _test_host() -> Iterator[_Host]:
    all_of_them = [nova_instance(n) for n in range(1, _DOMAINS + 1)]
    renamed, switched = all_of_them[:_RENAMED], all_of_them[_RENAMED:]
    off = [replace(each, active=False) for each in renamed]
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon())
        stack.enter_context(populated(daemon.uri(), [*off, *switched]))
        words = "-c", daemon.uri(), "--collector.interval=1"
        exporter = stack.enter_context(guestlist_exporter(*words))
        wait_until(lambda: exporter.scrape().get("libvirt_domains") == _DOMAINS)
        kinds: tuple[tuple[Mode, list[UUID]], ...] = (
            ("switch", [each.uuid for each in switched]),
            ("rename", [each.uuid for each in renamed]),
            ("come-and-go", []),
        )
        churners = [
            stack.enter_context(Churner(daemon.uri(), uuids, mode, rate=_CHANGES))
            for mode, uuids in kinds
        ]
        yield _Host(exporter, daemon.uri(), churners)


@contextlib.contextmanager
def _qemu_host() -> Iterator[_Host]:
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon())
        with_disks = [
            replace(nova_instance(n), devices=make_image(daemon).disk())
            for n in range(1, _GUESTS + 1)
        ]
        stack.enter_context(guests(daemon.qemu_uri, with_disks))
        words = "-c", daemon.qemu_uri, "--collector.interval=1"
        exporter = stack.enter_context(guestlist_exporter(*words))
        wait_until(lambda: len(exporter.scrape().domains("libvirt_domain_vcpu_current")) == _GUESTS)
        half = [each.uuid for each in with_disks[: _GUESTS // 2]]
        churner = stack.enter_context(Churner(daemon.qemu_uri, half, "boot", rate=_BOOTS))
        yield _Host(exporter, daemon.qemu_uri, [churner])
