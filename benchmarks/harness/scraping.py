"""An exporter that is in step with its host, and scrapes of it, one a second."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial

from lab.exporters import Serving, guestlist_exporter
from lab.nodes import Domain, nova_instance
from lab.waiting import wait_until

EACH = 5
"""Scrapes in each turn."""

EVERY = "--collector.interval=1"
"""As often as it is scraped, the exporter asks the guests."""

_LISTED = "libvirt_domain_info_maximum_memory_bytes"
"""A family that a domain has as soon as its XML is read."""


def instances(count: int) -> list[Domain]:
    """Return that many running instances of Nova."""
    return [nova_instance(n) for n in range(1, count + 1)]


def every_second(serving: Serving, times: int) -> tuple[list[float], bytes]:
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
def in_step(uri: str, domains: int, *words: str) -> Iterator[Serving]:
    """Run guestlist's exporter; yield it when it tells of all domains and of a round."""
    with guestlist_exporter("-c", uri, EVERY, *words) as exporter:
        wait_until(partial(tells_of, exporter, domains), 120)
        yield exporter


def tells_of(exporter: Serving, domains: int) -> bool:
    """Return whether libvirt answers it, and it tells of these domains and of statistics."""
    found = exporter.scrape()
    return (
        found.get("libvirt_up") == 1
        and found.get("libvirt_domains") == len(found.domains(_LISTED)) == domains
        and found.get("guestlist_exporter_statistics_age_seconds") is not None
    )
