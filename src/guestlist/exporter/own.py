"""The exporter itself: its version, and what the kernel tells of its process.

In: nothing. Out: lines by family, under the names that Prometheus's client libraries have for them.
What the kernel does not tell has no sample.

Source: proc_pid_stat(5); Prometheus, docs/instrumenting/writing_clientlibs.md (process metrics).
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import guestlist
from guestlist.exporter.exposition import Lines, labels, sample

_RSS_PAGES = 1
"""The place of the resident pages in /proc/self/statm."""


def lines() -> Lines:
    """Return the lines of this process. Cost: no call."""
    found = {family: sample(family, "", value) for family, value in _values()}
    family = "guestlist_exporter_build_info"
    version = labels(version=guestlist.__version__, python_version=platform.python_version())
    return {**found, family: sample(family, version, 1)}


def _values() -> Iterator[tuple[str, float]]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield "process_cpu_seconds_total", round(used.ru_utime + used.ru_stime, 6)
    yield "process_threads", threading.active_count()
    with contextlib.suppress(OSError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[_RSS_PAGES]
        yield "process_resident_memory_bytes", int(pages) * resource.getpagesize()
    with contextlib.suppress(OSError):
        yield "process_open_fds", len(os.listdir("/proc/self/fd"))  # noqa: PTH208  only their number
    if (start := _start()) is not None:
        yield "process_start_time_seconds", start


@cache
def _start() -> float | None:
    """Return when this process started, in seconds since the epoch; None: the kernel is silent."""
    try:
        text = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
        ticks = int(text.rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return round(time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK"), 2)
