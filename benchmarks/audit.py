"""`./dev bench audit`: an audit of 10,000 servers against 10,000 domains on 20 hosts.

The hosts are private libvirtds with libvirt's test driver, the Nova is a released nova-api on
sqlite. Servers come from a file, and from Nova's answers played back, which is what the audit
itself costs; what Nova takes to answer is told beside it. With and without servers whose domains
are missing, so that a second look is due. A proxy counts calls on the wire in turns of their own.
Writes a page and every single time; prints the page.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.options import Options
from benchmarks.harness.pages import paragraphs, prose, publish, report, setting_list, yes
from benchmarks.harness.setting import Others, setting
from benchmarks.harness.tables import table
from lab.churn import populated
from lab.daemon import Daemon, daemon_available
from lab.nodes import Domain
from lab.nova import nova_available
from lab.nova_api import NovaApi as NovaServer
from lab.nova_life import domain_of
from lab.proxy import Proxy
from lab.replay import Replay

import guestlist
from guestlist.audit import servers_file
from guestlist.audit.host_looks import AuditedHost, HostLooks
from guestlist.audit.nova_api import NovaApi
from guestlist.audit.rounds import Nova, audit

_FULL = {"servers": 10_000, "hosts": 20, "rounds": 5}
_QUICK = {"servers": 200, "hosts": 4, "rounds": 2}
_PATIENCE = 600.0
"""Seconds that a host or Nova has to answer."""

_LISTS = frozenset(("CONNECT_LIST_ALL_DOMAINS", "CONNECT_GET_ALL_DOMAIN_STATS"))

_GOAL = 5.0

_NAMES = {
    "file": "a file, Nova's JSON",
    "replayed": "Nova's answers, played back",
}


@dataclass
class Measured:
    """Audits of one kind: what the last one found, seconds of each, calls on the wire by host."""

    source: str
    missing: int
    found: int = 0
    seconds: list[float] = field(default_factory=list)
    calls: list[dict[str, int]] = field(default_factory=list)


@dataclass
class Results:
    """All that was measured."""

    setting: dict[str, str]
    servers: int
    hosts: int
    list_seconds: float
    measured: list[Measured]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and return the exit code: 0 if each audit found what is missing and no more."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = Options("audit", __doc__ or "", _FULL, _QUICK)
    options.parser.add_argument("--servers", type=int, help="servers, and domains")
    options.parser.add_argument("--hosts", type=int, help="hosts; each has a libvirtd of its own")
    chosen = options.parse(arguments)
    if reason := daemon_available() or nova_available():
        print(reason, file=sys.stderr)
        return 1
    libvirt.registerErrorHandler(lambda *_: None, None)
    others = Others()
    with contextlib.ExitStack() as stack:
        nova = stack.enter_context(NovaServer(cells=1))
        report("writing the rows of Nova")
        placed = _rows(nova, chosen.servers, chosen.hosts)
        daemons = [stack.enter_context(Daemon()) for _ in range(chosen.hosts)]
        replay = stack.enter_context(Replay(nova.url))
        clouds = nova.clouds_yaml.read_text()
        nova.clouds_yaml.write_text(clouds.replace(nova.url, replay.url))
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(nova.clouds_yaml)
        with contextlib.closing(libvirt.open(daemons[0].uri())) as connection:
            found = setting(connection, chosen.command)
        report("asking Nova for its list")
        began = time.monotonic()
        content = _content(nova)
        took = time.monotonic() - began
        results = Results(found, chosen.servers, chosen.hosts, took, [])
        report("defining the domains")
        for daemon, domains in zip(daemons, placed, strict=True):
            stack.enter_context(populated(daemon.uri(), domains))
        for missing in (0, chosen.hosts):
            if missing:
                for daemon, domains in zip(daemons, placed, strict=True):
                    _remove(daemon, domains[0])
            for source in _NAMES:
                results.measured.append(_measure(source, missing, daemons, content, chosen.rounds))
    results.setting["Other processes"] = others.share()
    publish(chosen.output, "audit", _markdown(results), None, results)
    return 0 if all(one.found == one.missing for one in results.measured) else 1


def _rows(nova: NovaServer, servers: int, hosts: int) -> list[list[Domain]]:
    """Write servers, spread over the hosts; return the domains that each host must have."""
    names = [f"node{number}" for number in range(hosts)]
    for name in names:
        nova.add_host(name)
    wanted = [(uuid.uuid4(), names[number % hosts]) for number in range(servers)]
    placed: dict[str, list[Domain]] = {name: [] for name in names}
    for (identity, host), name in zip(wanted, nova.create_many(wanted), strict=True):
        placed[host].append(domain_of(identity, name))
    return list(placed.values())


def _content(nova: NovaServer) -> bytes:
    """Return all servers in the API's own JSON, as a file has them."""
    servers: list[dict[str, Any]] = []
    while True:
        marker = f"&marker={servers[-1]['id']}" if servers else ""
        headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "compute 2.69"}
        url = f"{nova.url}/servers/detail?all_tenants=1{marker}"
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            page = json.load(answer)["servers"]
        if not page:
            return json.dumps({"servers": servers}).encode()
        servers += page


def _source(source: str, content: bytes) -> Callable[[], Nova]:
    """Return what makes the audit's Nova; making it belongs to the time."""
    if source == "file":
        return lambda: servers_file.FileNova(
            servers_file.read(content, "servers.json", at=time.monotonic())
        )
    return lambda: NovaApi("lab", _PATIENCE)


@contextlib.contextmanager
def _looks(uris: Sequence[str]) -> Iterator[HostLooks]:
    looks = HostLooks(
        [
            AuditedHost(guestlist.Host(uri, readonly=True), f"node{number}")
            for number, uri in enumerate(uris)
        ],
        timeout=_PATIENCE,
    )
    try:
        yield looks
    finally:
        looks.close()


def _measure(
    source: str, missing: int, daemons: Sequence[Daemon], content: bytes, rounds: int
) -> Measured:
    """Take the time of audits, each over connections of its own; then count calls."""
    one, make = Measured(source, missing), _source(source, content)
    uris = [daemon.uri() for daemon in daemons]
    if source == "replayed":  # its memory is filled first
        with _looks(uris) as looks:
            audit(looks, make())
    for _ in range(rounds):
        with _looks(uris) as looks:
            began = time.monotonic()
            result = audit(looks, make())
            one.seconds.append(time.monotonic() - began)
        one.found = len(result.findings)
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(daemon)) for daemon in daemons]
        looks = stack.enter_context(_looks([proxy.uri() for proxy in proxies]))
        audit(looks, make())
        one.calls = [dict(Counter(proxy.calls)) for proxy in proxies]
    report(f"{source}, {missing} missing: {median(one.seconds):.2f} s, {one.found} found")
    return one


def _remove(daemon: Daemon, domain: Domain) -> None:
    """Take a domain from its host, behind Nova's back."""
    with contextlib.closing(libvirt.open(daemon.uri())) as connection:
        handle = connection.lookupByUUID(domain.uuid.bytes)
        handle.destroy()
        handle.undefine()


def _markdown(results: Results) -> str:
    """Return the page."""
    rows = [
        (
            _NAMES[one.source],
            f"{one.missing}",
            f"{median(one.seconds):.2f}",
            f"{max(one.seconds):.2f}",
            f"{max(map(_lists, one.calls))}",
            f"{max(map(_others, one.calls))}",
            f"{one.found}",
        )
        for one in results.measured
    ]
    quick = all(median(one.seconds) < _GOAL for one in results.measured)
    once = all(max(map(_lists, one.calls)) == 1 for one in results.measured if not one.missing)
    return paragraphs(
        f"# An audit of {results.servers:,} servers on {results.hosts} hosts",
        "This page is for operators who want to know what an audit costs.",
        setting_list(results.setting),
        prose(
            _INTRODUCTION,
            servers=f"{results.servers:,}",
            hosts=results.hosts,
            took=f"{results.list_seconds:.0f}",
        ),
        table(
            ["servers from", "missing", "median s", "worst s", "lists", "other calls", "found"],
            rows,
        ),
        "## Goals",
        f"- Under {_GOAL:g} s, without the time that Nova takes to answer: {yes(quick)}.\n"
        f"- One listing call for each host where nothing differs: {yes(once)}.",
    )


def _lists(calls: Mapping[str, int]) -> int:
    return sum(number for name, number in calls.items() if name in _LISTS)


def _others(calls: Mapping[str, int]) -> int:
    """Count the calls that list nothing: they open and close the connection."""
    return sum(calls.values()) - _lists(calls)


_INTRODUCTION = """\
Each host is a private libvirtd with libvirt's test driver, all on one machine. Nova is a released
nova-api on sqlite, with its own schema; a page has 1,000 servers. In the first two rows {servers}
servers and as many domains agree. In the others each of the {hosts} hosts has lost one domain.

The seconds include what opening the connections costs, and for a file its parsing. "Nova's answers,
played back" are the bytes that Nova answered, from memory over HTTP: this row is what an audit
itself costs. Nova's own time comes on top: this Nova, one process beside all others, took {took} s
for a list of all servers, and an audit asks for the list twice. With a file there is no second
look, so what is found is possible only. "Lists" and "other calls" are the most calls to one host;
the other calls open and close the connection.
"""


if __name__ == "__main__":
    sys.exit(main())
