"""What operators get beside the exporter: rules, dashboards, units, and the pages about them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab.metrics_page import described
from lab.names import ROOT
from lab.needs import require
from lab.promtool import promtool, promtool_available, refused

from guestlist.exporter.collectors import COLLECTORS
from guestlist.exporter.families import COMPAT, FAMILIES

CONTRIB = ROOT / "contrib" / "exporter"
RULES = sorted((CONTRIB / "rules").glob("*.yml"))
RULE_TESTS = sorted((CONTRIB / "rules" / "tests").glob("*.yml"))
DASHBOARDS = sorted((CONTRIB / "dashboards").glob("*.json"))
SEVERITIES = {"critical", "warning", "info"}

LABELS = {family.name: family.labels for family in described()}
OF_THE_TARGET = {"job", "instance"}
OF_OTHERS = {"openstack_nova_server_status": {"uuid", "status", "instance_libvirt"}}

RECORDED = {
    rule["record"]
    for group in yaml.safe_load((CONTRIB / "rules" / "recording.yml").read_text())["groups"]
    for rule in group["rules"]
}


@pytest.fixture
def needs_promtool() -> None:
    require(promtool_available())


# The rules


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


ALERTS = [rule for rule in rules() if "alert" in rule]


@pytest.mark.heavy
def test_prometheus_takes_the_rules_and_the_configuration(needs_promtool):
    assert promtool("check", "rules", *RULES) == ""
    assert promtool("check", "config", CONTRIB / "prometheus.yml") == ""


@pytest.mark.heavy
@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name)
def test_the_tests_of_the_rules_pass(needs_promtool, path: Path):
    assert promtool("test", "rules", path) == ""


def test_each_rule_has_a_test():
    tested = "".join(path.read_text() for path in RULE_TESTS)
    for rule in rules():
        name = rule.get("alert") or rule["record"]
        assert re.search(rf"{re.escape(name)}\b", tested), name


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_says_how_bad_it_is_and_leads_to_its_runbook(alert: dict[str, Any]):
    assert alert["labels"]["severity"] in SEVERITIES
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(), re.M)
    assert alert["alert"] in headings
    assert anchor == alert["alert"].lower()


def test_each_runbook_is_of_an_alert():
    text = (ROOT / "docs" / "exporter.md").read_text().partition("\n## Alerts\n")[2]
    assert re.findall(r"^### (\w+)$", text, re.M) == [alert["alert"] for alert in ALERTS]


# Queries: of rules, dashboards and documentation


def panels_of(path: Path) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return panels


def queries_of(path: Path) -> list[str]:
    """Return the queries of a dashboard's panels, with an interval in the place of Grafana's."""
    targets = [target for panel in panels_of(path) for target in panel.get("targets", ())]
    return [target["expr"].replace("$__rate_interval", "5m") for target in targets]


def variables_of(path: Path) -> list[str]:
    variables = json.loads(path.read_text())["templating"]["list"]
    return [each["query"]["query"] for each in variables if each["type"] == "query"]


def documented_queries() -> list[str]:
    text = (ROOT / "docs" / "exporter.md").read_text()
    return re.findall(r"```promql\n(.*?)```", text, re.S)


QUERIES = {
    **{f"rule {rule.get('alert') or rule['record']}": [rule["expr"]] for rule in rules()},
    **{path.name: queries_of(path) for path in DASHBOARDS},
    "exporter.md": documented_queries(),
}

_METRIC = re.compile(r"\b(?:libvirt|guestlist_exporter|process|openstack)_\w+|\w+:\w+:\w+")
_SELECTOR = re.compile(r"(\b[a-z]\w*(?:_\w+)+)\{([^}]*)\}")
_LISTS = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right) *\(([^)]*)\)")
_WITHOUT = re.compile(r"\b(?:without|ignoring) *\([^)]*\)")


def labels_of(metric: str) -> frozenset[str] | set[str]:
    """Return the labels of a metric: a family, a part of a histogram, or a recorded one.

    Raises:
        KeyError: there is no such metric.
    """
    if metric in RECORDED:
        return {"domain", *OF_THE_TARGET}
    if metric in OF_OTHERS:
        return OF_OTHERS[metric]
    base = re.sub(r"_(bucket|sum|count)$", "", metric)
    if base != metric and base in LABELS:
        return LABELS[base] | {"le"} | OF_THE_TARGET
    return LABELS[metric] | OF_THE_TARGET


def metrics_in(query: str) -> list[str]:
    """Return the metrics of a query; names of labels are in no list of metrics."""
    without_lists = re.sub(r"\{[^}]*\}", "", _LISTS.sub("", re.sub(r"#.*", "", query)))
    without_texts = re.sub(r'"[^"]*"', "", without_lists)
    return _METRIC.findall(without_texts)


@pytest.mark.parametrize("where", QUERIES)
def test_each_query_asks_for_metrics_and_labels_that_there_are(where: str):
    assert QUERIES[where]
    for query in QUERIES[where]:
        metrics = metrics_in(query)
        for metric, selector in _SELECTOR.findall(query):
            named = set(re.findall(r"(\w+) *(?:=~|!~|!=|=)", selector))
            assert named <= labels_of(metric), query
        there = {"domain", "uuid"}.union(*(labels_of(metric) for metric in metrics))
        grouped = {
            name
            for names in _LISTS.findall(_WITHOUT.sub("", query))
            for name in re.findall(r"\w+", names)
        }
        assert grouped <= there, query


@pytest.mark.heavy
@pytest.mark.parametrize("where", QUERIES)
def test_prometheus_parses_each_query(needs_promtool, tmp_path: Path, where: str):
    assert refused(QUERIES[where], tmp_path) == ""


@pytest.mark.heavy
def test_a_query_that_is_none_is_refused(needs_promtool, tmp_path: Path):
    assert "parse error" in refused(['rate(sum by (domain) ({__name__="a"} > 0)[5m])'], tmp_path)


# The dashboards


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_shows_only_labels_that_its_queries_have(path: Path):
    for panel in panels_of(path):
        for target in panel.get("targets", ()):
            there = set().union(*(labels_of(each) for each in metrics_in(target["expr"])))
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= there, panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_the_variables_of_a_dashboard_are_values_of_labels_that_there_are(path: Path):
    queries = variables_of(path)
    assert queries
    for query in queries:
        found = re.fullmatch(r"label_values\((\w+)(?:\{([^}]*)\})?, (\w+)\)", query)
        assert found is not None, query
        named = {found[3], *re.findall(r"(\w+) *(?:=~|=)", found[2] or "")}
        assert named <= labels_of(found[1]), query


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_can_be_imported_beside_others(path: Path):
    board = json.loads(path.read_text())
    assert board["uid"] == path.stem
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
    text = path.read_text()
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval"}
    assert used == {each["name"] for each in board["templating"]["list"]}


# The unit


@pytest.fixture
def needs_systemd() -> None:
    require(None if shutil.which("systemd-analyze") else "systemd-analyze is missing (systemd)")


def analyzed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["guestlist-exporter.service", "guestlist-textfile.service"])
def test_systemd_takes_the_unit(needs_systemd, tmp_path: Path, name: str):
    unit = tmp_path / name
    text = (CONTRIB / name).read_text()
    unit.write_text(text.replace("/opt/guestlist-exporter/bin/guestlist", sys.executable))
    done = analyzed("verify", unit)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.heavy
def test_the_unit_is_as_hardened_as_the_documentation_says(needs_systemd):
    done = analyzed("security", "--offline=true", CONTRIB / "guestlist-exporter.service")
    exposure = re.search(r"exposure level for \S+: (\S+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 1.2


# The pages


def test_metrics_md_describes_each_family():
    assert {(family.name, family.kind) for family in described()} == {
        (family.name, family.kind.value) for family in FAMILIES
    }
    assert len(described()) == len(FAMILIES)


def test_metrics_md_has_a_section_for_each_collector():
    text = (ROOT / "docs" / "metrics.md").read_text()
    sections = set(re.findall(r"^## (?:Collector `|With `--compat )(\w+)`$", text, re.M))
    assert sections == {*COLLECTORS, *COMPAT}
