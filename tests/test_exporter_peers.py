"""The other exporters' names, and the queries of their dashboards: guestlist serves them.

`corpus/exporters/NAME.json` has the names, types and labels of an exporter. Those of `dashboards/`
have the facts of each query, without the query: its metrics; the labels that it `selects` by,
`groups` by, drops (`without`), leaves out of a match (`ignoring`), `joins` on, `brings` from the
metric that is `joined`, and `shows` in a legend or a list; `is_promql`: whether Prometheus parses
it. `compat` and `nova_labels` are the options that the dashboard needs, `of_the_target` the labels
that come from Prometheus's configuration.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lab import served
from lab.metrics_page import described
from lab.scraped import Scraped

import corpus
from guestlist import Host
from guestlist.exporter.collectors import COLLECTORS
from guestlist.exporter.families import families
from guestlist.exporter.scrape import HostExporter

EXPORTERS = Path(corpus.__file__).parent / "exporters"
NOT_SERVED = {"libvirt_domain_vcpu_cpu"}
"""3 calls for each guest: see docs/metrics.md."""

DEFAULT = frozenset(name for name, collector in COLLECTORS.items() if collector.is_default)
LABELS = {family.name: family.labels for family in described()}


@cache
def labels_with(compat: str | None, nova_labels: bool) -> dict[str, frozenset[str]]:
    """Return the labels of each family, by its samples; of the rest, by the page."""
    return LABELS | served.labels(compat, nova_labels=nova_labels)


def test_the_page_says_which_labels_the_samples_have():
    found = served.labels()
    assert {name: LABELS[name] for name in found} == found


@pytest.mark.parametrize("compat", ["tinkoff", "kumina"])
def test_the_page_says_which_labels_the_further_names_have(compat: str):
    further = {family.name for family in families(frozenset(), compat) if family.collector}
    found = {name: its for name, its in served.labels(compat).items() if name in further}
    assert found
    assert {name: LABELS[name] for name in found} == found


@pytest.mark.parametrize("exporter", ["inovex", "tinkoff", "kumina"])
def test_each_name_of_another_exporter_is_served_with_its_type_and_labels(exporter: str):
    peers = json.loads((EXPORTERS / f"{exporter}.json").read_text())
    compat = None if exporter == "inovex" else exporter
    with_pools = DEFAULT | {"pool"}
    kinds = {family.name: family.kind.value for family in families(with_pools, compat)}
    labels = labels_with(compat, False)
    for name, peer in peers.items():
        if name not in NOT_SERVED:
            assert kinds.get(name) == peer["type"], name
            assert set(peer["labels"]) <= labels[name], name


@pytest.mark.parametrize("exporter", ["inovex", "tinkoff", "kumina"])
def test_what_another_exporter_tells_of_the_host_is_in_a_scrape(exporter: str):
    peers = json.loads((EXPORTERS / f"{exporter}.json").read_text())
    of_the_host = {name for name, peer in peers.items() if "domain" not in peer["labels"]}
    compat = None if exporter == "inovex" else exporter
    with Host("test:///default", readonly=True) as host:
        scraping = HostExporter(host, collectors=DEFAULT | {"pool"}, compat=compat)
        try:
            scraping.start()
            scraping.wait_ready(60)
            found = Scraped.of(scraping.scrape())
        finally:
            scraping.close()
    assert of_the_host <= found.types.keys()


def test_what_is_not_served_is_said():
    page = (EXPORTERS.parents[2] / "docs" / "exporter.md").read_text()
    for name in NOT_SERVED:
        assert f"`{name}`" in page


# Dashboards

DASHBOARDS = {
    path.stem: json.loads(path.read_text()) for path in sorted(EXPORTERS.glob("dashboards/*.json"))
}
QUERIES = [
    pytest.param(dashboard, query, id=f"{name}-{number}")
    for name, dashboard in DASHBOARDS.items()
    for number, query in enumerate(dashboard["expressions"])
]


def is_ours(metric: str) -> bool:
    return metric.startswith("libvirt_")


@pytest.mark.parametrize(("dashboard", "query"), QUERIES)
def test_a_dashboards_query_has_its_metrics_and_labels(
    dashboard: dict[str, Any], query: dict[str, Any]
):
    labels = labels_with(dashboard["compat"], dashboard["nova_labels"])
    metrics = [metric for metric in query["metrics"] if is_ours(metric)]
    there = {family.name for family in families(DEFAULT, dashboard["compat"])}
    assert set(metrics) <= there
    if not metrics:
        return  # of another exporter: docs/exporter.md names them
    in_each = frozenset.intersection(*(labels[metric] for metric in metrics))
    joined = query.get("joined")
    if joined is not None:
        assert set(query["joins"]) <= in_each & labels[joined]
        assert set(query["brings"]) <= labels[joined]
    asked = {label for use in ("selects", "groups", "shows") for label in query.get(use, ())}
    from_join = labels[joined] if joined else frozenset()
    of_any = frozenset().union(*(labels[metric] for metric in metrics))
    assert asked <= of_any | from_join | set(dashboard["of_the_target"])
    assert set(query.get("groups", ())) <= in_each | from_join


@pytest.mark.parametrize(("dashboard", "query"), QUERIES)
def test_the_metrics_that_a_query_puts_together_match(
    dashboard: dict[str, Any], query: dict[str, Any]
):
    labels = labels_with(dashboard["compat"], dashboard["nova_labels"])
    metrics = [metric for metric in query["metrics"] if is_ours(metric)]
    sets = {labels[metric] - set(query.get("ignoring", ())) for metric in metrics}
    assert len(sets) <= 1


def test_the_page_names_the_metrics_of_other_exporters_that_dashboards_ask_for():
    page = (EXPORTERS.parents[2] / "docs" / "exporter.md").read_text()
    others = {
        metric
        for dashboard in DASHBOARDS.values()
        for query in dashboard["expressions"]
        for metric in query["metrics"]
        if not is_ours(metric)
    }
    assert all(f"`{metric}`" in page for metric in others)
