"""A way to ask a driver's questions, as a process that stays: `questions.py WAY URI PATH SIZE`.

In: on standard input, the name of a method for each question wanted. Out, a line of JSON for each:
nanoseconds, how many programs were started for it, the answer in a form that can be compared, and
what was logged. The host has nova_instance(1) to nova_instance(SIZE), each with a volume at vda;
instances are at PATH. What an answer takes to be put into that form is off the clock.

ways:
    guestlist   one LibvirtDriver, kept
    new         a new Host and LibvirtDriver each time, its connection opened on the way
    per domain  the questions asked domain by domain, over one connection
    limited     the same, with `qemu-img` run as Nova runs it
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns as now
from types import SimpleNamespace
from typing import Any

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from lab.nodes import Domain, nova_instance
from lab.per_domain import PerDomain

from guestlist import Host, LibvirtDriver

VOLUME = "vda"
"""Where each instance has a volume."""

_STEADY = (
    "vcpus",
    "memory_mb",
    "vcpus_used",
    "memory_mb_used",
    "hypervisor_type",
    "hypervisor_version",
    "hypervisor_hostname",
)
"""What of `get_available_resource` does not move by itself, as the space on a disk does."""

Ask = Callable[[Any], Any]
"""A question to a driver: its raw answer."""

Way = Callable[[Ask], tuple[Any, int]]
"""Asks it: the raw answer, and nanoseconds."""


class Questions:
    """Every method of the driver, by its name, with arguments for a host of `domains`."""

    def __init__(self, domains: Sequence[Domain], *, steady_stats: bool) -> None:
        self._steady_stats = steady_stats
        one = str(domains[len(domains) // 2].uuid)
        volumes = [_attached(domain) for domain in domains]
        self.ask: dict[str, Ask] = {
            "list_instances": lambda driver: driver.list_instances(),
            "list_instance_uuids": lambda driver: driver.list_instance_uuids(),
            "get_num_instances": lambda driver: driver.get_num_instances(),
            "instance_exists": lambda driver: driver.instance_exists(one),
            "get_info": lambda driver: driver.get_info(one),
            "get_all_block_devices": lambda driver: driver.get_all_block_devices(),
            "get_vcpus_used": lambda driver: driver.get_vcpus_used(),
            "get_memory_mb_used": lambda driver: driver.get_memory_mb_used(),
            "get_disk_over_committed_size_total": lambda driver: (
                driver.get_disk_over_committed_size_total()
            ),
            "get_all_volume_usage": lambda driver: driver.get_all_volume_usage(None, volumes),
            "get_host_uptime": lambda driver: driver.get_host_uptime(),
            "get_available_resource": lambda driver: driver.get_available_resource(),
        }

    def comparable(self, method: str, answer: Any) -> Any:
        """The answer as two ways must give it alike, whatever the order and the moment."""
        match method:
            case "list_instances" | "list_instance_uuids" | "get_all_block_devices":
                return sorted(map(str, answer))
            case "get_info":
                return [int(answer.state), answer.internal_id]
            case "get_all_volume_usage":
                return sorted(map(self._usage, answer))
            case "get_host_uptime":
                return "load average" in answer
            case "get_available_resource":
                return {name: answer[name] for name in _STEADY}
            case _:
                return answer

    def _usage(self, usage: dict[str, Any]) -> list[Any]:
        """Which volume; and how much, where that is not made up from the time of day."""
        numbers = ("rd_req", "rd_bytes", "wr_req", "wr_bytes") if self._steady_stats else ()
        return [usage["volume"], str(usage["instance"].uuid), *(usage[name] for name in numbers)]


def kept(driver: Any) -> Way:
    """One driver for all questions."""

    def way(ask: Ask) -> tuple[Any, int]:
        start = now()
        answer = ask(driver)
        return answer, now() - start

    return way


def new(uri: str, path: str) -> Way:
    """A Host and a driver for each question; closing is off the clock."""

    def way(ask: Ask) -> tuple[Any, int]:
        start = now()
        with Host(uri) as host:
            answer = ask(LibvirtDriver(host, instances_path=path))
            return answer, now() - start

    return way


WAYS: dict[str, Callable[[str, str], Way]] = {
    "guestlist": lambda uri, path: kept(LibvirtDriver(Host(uri), instances_path=path)),
    "new": new,
    "per domain": lambda uri, path: kept(PerDomain(libvirt.open(uri), path)),
    "limited": lambda uri, path: kept(PerDomain(libvirt.open(uri), path, limited=True)),
}


def main(name: str, uri: str, path: str, size: str) -> None:
    """Answer a question for each line on standard input."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    programs, said = _count_programs(), _hear_log()
    domains = [nova_instance(n) for n in range(1, int(size) + 1)]
    questions = Questions(domains, steady_stats=not uri.startswith("test"))
    way = WAYS[name](uri, path)
    for line in sys.stdin:
        method = line.strip()
        programs.clear()
        said.clear()
        raw, nanoseconds = way(questions.ask[method])
        started, heard = len(programs), list(said)
        answer = questions.comparable(method, raw)
        told = {"ns": nanoseconds, "programs": started, "answer": answer, "said": heard}
        print(json.dumps(told), flush=True)


def _attached(domain: Domain) -> dict[str, Any]:
    """The block device mapping of an instance with one volume, as Nova's manager hands it over."""
    return {
        "instance": SimpleNamespace(uuid=str(domain.uuid), name=domain.name),
        "instance_bdms": [{"device_name": f"/dev/{VOLUME}", "volume_id": f"of {domain.name}"}],
    }


def _count_programs() -> list[str]:
    """The programs that this process starts, from now on, whoever starts them."""
    programs: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            programs.append(str(arguments[0]))

    sys.addaudithook(hook)
    return programs


def _hear_log() -> list[str]:
    """What guestlist logs, from now on."""
    said: list[str] = []

    class _Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logging.getLogger("guestlist").addHandler(_Ear(logging.INFO))
    logging.getLogger("guestlist").setLevel(logging.INFO)
    return said


if __name__ == "__main__":
    main(*sys.argv[1:])
