"""`./dev bench dashboards`: what the dashboards in contrib show of a real host.

Prometheus scrapes the real exporter of a private libvirtd with QEMU guests, and is then asked each
query of each panel, as Grafana would ask it. Writes a page, a picture of each dashboard and every
single value; prints the page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.board import picture
from benchmarks.harness.dashboards_report import markdown
from benchmarks.harness.dashboards_results import Dashboard, Panel, Results, Series
from benchmarks.harness.options import Options
from benchmarks.harness.pages import publish, report
from benchmarks.harness.setting import Others, setting
from lab.boot import disk_in_use
from lab.daemon import Daemon, daemon_available
from lab.exporters import guestlist_exporter
from lab.images import qemu_img_available
from lab.names import ROOT
from lab.nodes import Domain, nova_instance
from lab.prometheus import Prometheus, prometheus, prometheus_available
from lab.qemu import guests, qemu_available, stuck
from lab.waiting import wait_until

_CONTRIB = ROOT / "contrib" / "exporter"
_RULES = _CONTRIB / "rules" / "recording.yml"
_HOST = "compute1"
_INTERFACE = "<interface type='user'><model type='virtio'/><rom enabled='no'/></interface>"
_LIMIT = "<iotune><total_iops_sec>100</total_iops_sec></iotune></disk>"

_RATE_INTERVAL = "4s"
"""What Grafana puts in for $__rate_interval: four times the interval of the scrapes."""
_ALL = ".*"
"""What Grafana puts in for a variable whose choice is All."""


def _guest(daemon: Daemon, number: int, *, active: bool = True) -> Domain:
    disk = disk_in_use(daemon).disk().replace("</disk>", _LIMIT)
    return replace(nova_instance(number, active=active), devices=disk + _INTERFACE)


@dataclass(frozen=True, slots=True)
class _Clock:
    """The time since the start, and what happened when."""

    start: int
    happenings: list[tuple[int, str]]

    def wait_for(self, seconds: float) -> None:
        """Wait until so much time has passed since the start."""
        time.sleep(max(0.0, self.start + seconds - time.time()))

    def happens(self, what: str) -> None:
        """Write down what happens now."""
        report(what)
        self.happenings.append((round(time.time() - self.start), what))


def measure(results: Results, options: argparse.Namespace) -> None:
    """Let guests run, stop and end under Prometheus; then ask the queries."""
    with Daemon() as daemon:
        one, other = _guest(daemon, 1), _guest(daemon, 2)
        brief = _guest(daemon, 3, active=False)
        with guests(daemon.qemu_uri, [one, other, brief]), _scraped(daemon.qemu_uri) as server:
            with contextlib.closing(libvirt.open(daemon.qemu_uri)) as connection:
                results.setting = setting(connection, options.command)
                for guest in (one, other):
                    connection.lookupByName(guest.name).resume()
                wait_until(lambda: server.value("count(libvirt_domain_vcpu_current)") == 2)
                clock = _Clock(int(time.time()) + 2, results.happenings)
                clock.wait_for(0)
                clock.happens(f"{one.name} and {other.name} run, {brief.name} is shut off")
                clock.wait_for(results.seconds * 0.3)
                handle = connection.lookupByName(brief.name)
                handle.create()
                clock.happens(f"{brief.name} is started")
                clock.wait_for(results.seconds * 0.55)
                handle.destroy()
                clock.happens(f"{brief.name} is destroyed")
            clock.wait_for(results.seconds * 0.75)
            with stuck(daemon, other, 300):
                clock.happens(f"the QEMU of {other.name} is stopped (SIGSTOP)")
                clock.wait_for(results.seconds + 1)
                _ask(server, results, clock.start)


@contextlib.contextmanager
def _scraped(uri: str) -> Iterator[Prometheus]:
    """Run the exporter of a host, and a Prometheus that scrapes it once a second."""
    with guestlist_exporter("-c", uri, "--collector.interval=1") as exporter:
        job = {
            "job_name": "libvirt",
            "static_configs": [{"targets": [exporter.address]}],
            "relabel_configs": [{"target_label": "instance", "replacement": _HOST}],
        }
        with prometheus([job], rules=[_RULES]) as server:
            yield server


# The queries


def _ask(server: Prometheus, results: Results, start: int) -> None:
    end = start + results.seconds
    for path in sorted((_CONTRIB / "dashboards").glob("*.json")):
        report(f"asking the queries of {path.name}")
        board = json.loads(path.read_text())
        variables = [each for each in board["templating"]["list"] if each["type"] == "query"]
        values = {each["name"]: each["allValue"] for each in variables}
        results.dashboards[path.stem] = Dashboard(
            board["title"],
            {each["name"]: _offered(server, each, values) for each in variables},
            [_panel(server, each, values, start, end) for each in board["panels"]],
        )
    ((_, results.scrapes),) = server.range("up", start, end)
    for name in re.findall(r"- record: (\S+)", _RULES.read_text()):
        results.recorded[name] = [
            Series(labels.get("domain", ""), known)
            for labels, known in server.range(name, start, end)
        ]


def _filled(query: str, values: dict[str, str]) -> str:
    """Return a query with the values of the variables in it."""
    known = {**values, "__rate_interval": _RATE_INTERVAL}
    return re.sub(r"\$(\w+)", lambda found: known[found[1]], query)


def _offered(server: Prometheus, variable: dict[str, Any], values: dict[str, str]) -> list[str]:
    """Return the values that Grafana offers for a variable."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found is not None, variable
    return server.label_values(found[2], _filled(found[1], values))


def _panel(
    server: Prometheus, panel: dict[str, Any], values: dict[str, str], start: int, end: int
) -> Panel:
    place = panel["gridPos"]
    shown = Panel(
        panel["title"],
        panel["type"],
        panel.get("fieldConfig", {}).get("defaults", {}).get("unit", ""),
        panel.get("description", ""),
        (place["x"], place["y"], place["w"], place["h"]),
    )
    for target in panel.get("targets", ()):
        query = _filled(target["expr"], values)
        shown.queries.append(query)
        for labels, known in server.range(query, start, end):
            shown.series.append(Series(_legend(target["legendFormat"], labels), known))
    return shown


def _legend(template: str, labels: dict[str, str]) -> str:
    """Return the name of a line; without a template, the labels that tell guests apart."""
    if template:
        return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template).strip()
    names = "domain", "instance_name", "project_name", "flavor"
    return ", ".join(f"{name}={labels[name]}" for name in names if name in labels)


def main(arguments: Sequence[str]) -> int:
    """Measure, write and print; return the exit code."""
    options = _options(arguments)
    libvirt.registerErrorHandler(lambda *_: None, None)
    missing = daemon_available() or qemu_available() or qemu_img_available()
    if reason := missing or prometheus_available():
        report(f"nothing to show: {reason}")
        return 1
    others = Others()
    results = Results(options.seconds)
    measure(results, options)
    results.setting["Others on the machine"] = others.share()
    publish(options.output, "dashboards", markdown(results), None, results)
    for name, dashboard in results.dashboards.items():
        if options.output:
            drawn = picture(dashboard, results.seconds)
            suffix = name.removeprefix("guestlist-")
            (options.output / f"dashboards-{suffix}.svg").write_text(drawn)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = Options(
        "dashboards",
        "What the dashboards in contrib/exporter show of a real host.",
        full={"seconds": 80},
        quick={"seconds": 10},
    )
    options.parser.add_argument("--seconds", type=int, metavar="N", help="how long it is scraped")
    return options.parse(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
