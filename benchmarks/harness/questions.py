"""A way to ask a driver's questions, as a process that stays: `questions.py WAY URI PATH SIZE`.

In: on standard input, the name of a method for each question. Out, a line of JSON for each:
nanoseconds, how many programs it started, the answer in a form that can be compared, and what was
logged. The host has nova_instance(1) to nova_instance(SIZE), each with a volume at vda; instances
are at PATH. Putting an answer into that form is off the clock.

ways:
    guestlist       one ComputeDriver, kept
    new             a new Host and ComputeDriver each time, which opens its connection on the way
    per domain      the questions asked domain by domain, over one connection
    new per domain  the same, over a new connection each time, its opening included
    limited         as per domain, with `qemu-img` run as Nova runs it
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from time import perf_counter_ns as now
from types import SimpleNamespace
from typing import Any

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from lab.nodes import Domain, nova_instance
from lab.per_domain import PerDomain

import guestlist
from guestlist import Host

VOLUME = "vda"
"""The target of each instance's volume."""

_STEADY = (
    "vcpus",
    "memory_mb",
    "local_gb",
    "vcpus_used",
    "memory_mb_used",
    "hypervisor_type",
    "hypervisor_version",
    "hypervisor_hostname",
)
"""The keys of `get_available_resource` whose values do not change by themselves."""

_COUNTERS = ("rd_req", "rd_bytes", "wr_req", "wr_bytes")

_COMPARABLE: dict[str, Callable[[Any], Any]] = {
    "list_instances": sorted,
    "list_instance_uuids": sorted,
    "get_all_block_devices": sorted,
    "get_info": lambda info: [info.state, info.internal_id],
    "get_all_volume_usage": lambda usages: sorted(
        [usage["volume"], usage["instance"].uuid, *(usage[name] for name in _COUNTERS)]
        for usage in usages
    ),
    "get_host_uptime": lambda said: "load average" in said,
    "get_available_resource": lambda resource: {name: resource[name] for name in _STEADY},
}

Ask = Callable[[Any], Any]
"""A question to a driver; returns its raw answer."""

Way = Callable[[Ask], tuple[Any, int]]
"""Asks a question; returns the raw answer, and nanoseconds."""


def arguments(domains: Sequence[Domain]) -> Mapping[str, Sequence[Any]]:
    """Return the arguments of the methods that take some, on a host with these domains."""
    one = str(domains[len(domains) // 2].uuid)
    volumes = [_attached(domain) for domain in domains]
    return {
        "instance_exists": (one,),
        "get_info": (one,),
        "get_all_volume_usage": (None, volumes),
    }


def comparable(uri: str) -> Mapping[str, Callable[[Any], Any]]:
    """Return, by method, what turns a raw answer into one that all ways must give alike.

    The test driver invents the usage of one volume from the time of day, and has no bulk statistics
    of volumes: there is nothing to compare.
    """
    if uri.startswith("test"):
        return {**_COMPARABLE, "get_all_volume_usage": lambda _: None}
    return _COMPARABLE


def driver_of(host: Host, path: str) -> Any:
    """Return the driver over this host."""
    make: Any = guestlist.ComputeDriver
    return make(host, instances_path=path)


def kept(driver: Any) -> Way:
    """Return a way that uses one driver for all questions."""

    def way(ask: Ask) -> tuple[Any, int]:
        start = now()
        answer = ask(driver)
        return answer, now() - start

    return way


def new(uri: str, path: str) -> Way:
    """Return a way with a Host and a driver for each question; closing is off the clock."""

    def way(ask: Ask) -> tuple[Any, int]:
        start = now()
        with Host(uri) as host:
            answer = ask(driver_of(host, path))
            return answer, now() - start

    return way


def new_per_domain(uri: str, path: str) -> Way:
    """Return a way that opens a connection for each question; closing is off the clock."""

    def way(ask: Ask) -> tuple[Any, int]:
        start = now()
        connection = libvirt.open(uri)
        try:
            answer = ask(PerDomain(connection, path))
            return answer, now() - start
        finally:
            connection.close()

    return way


WAYS: dict[str, Callable[[str, str], Way]] = {
    "guestlist": lambda uri, path: kept(driver_of(Host(uri), path)),
    "new": new,
    "per domain": lambda uri, path: kept(PerDomain(libvirt.open(uri), path)),
    "new per domain": new_per_domain,
    "limited": lambda uri, path: kept(PerDomain(libvirt.open(uri), path, limited=True)),
}


def main(name: str, uri: str, path: str, size: str) -> None:
    """Answer a question for each line on standard input."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    programs, said = _count_programs(), _hear_log()
    asked_for = arguments([nova_instance(n) for n in range(1, int(size) + 1)])
    compared = comparable(uri)
    way = WAYS[name](uri, path)
    for line in sys.stdin:
        method = line.strip()
        programs.clear()
        said.clear()
        raw, nanoseconds = way(methodcaller(method, *asked_for.get(method, ())))
        started, heard = len(programs), list(said)
        answer = compared[method](raw) if method in compared else raw
        told = {"ns": nanoseconds, "programs": started, "answer": answer, "said": heard}
        print(json.dumps(told), flush=True)


def _attached(domain: Domain) -> dict[str, Any]:
    """Return the block device mapping of an instance with one volume, as Nova's manager has it."""
    return {
        "instance": SimpleNamespace(uuid=str(domain.uuid), name=domain.name),
        "instance_bdms": [{"device_name": f"/dev/{VOLUME}", "volume_id": f"of {domain.name}"}],
    }


def _count_programs() -> list[str]:
    """Return a list that gets each program that this process starts from now on."""
    programs: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            programs.append(str(arguments[0]))

    sys.addaudithook(hook)
    return programs


def _hear_log() -> list[str]:
    """Return a list that gets each message that guestlist logs from now on."""
    said: list[str] = []

    class _Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logging.getLogger("guestlist").addHandler(_Ear(logging.INFO))
    logging.getLogger("guestlist").setLevel(logging.INFO)
    return said


if __name__ == "__main__":
    main(*sys.argv[1:])
