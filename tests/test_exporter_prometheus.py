"""Debian's Prometheus scrapes the real exporter of a real host.

Both are processes of their own; what Prometheus answers is compared with what libvirt says.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import libvirt
import pytest
from lab.certificates import Authority
from lab.daemon import Daemon
from lab.exporters import Serving, guestlist_exporter
from lab.images import MIB, make_image
from lab.nodes import node, nova_instance
from lab.prometheus import Prometheus, prometheus
from lab.qemu import guests, stuck
from lab.waiting import wait_until

from guestlist.exporter.exposition import Kind, body, sample
from guestlist.exporter.families import FAMILIES

pytestmark = pytest.mark.usefixtures("needs_prometheus")

COUNTERS = '{__name__=~"libvirt_.+_total"}[10m]'


def job(exporter: Serving, **options: Any) -> dict[str, Any]:
    """Return the configuration that scrapes an exporter."""
    return {"job_name": "libvirt", "static_configs": [{"targets": [exporter.address]}], **options}


def asked_often(*words: str) -> list[str]:
    return [*words, "--collector.interval=0.3"]


def has_statistics(server: Prometheus, names: set[str]) -> bool:
    """Return whether these guests, and no other, have statistics of their own in Prometheus."""
    found = server.query("libvirt_domain_vcpu_current")
    return {labels["domain"] for labels, _ in found} == names


def fallen(server: Prometheus) -> list[dict[str, str]]:
    """Return the counters of libvirt that have fallen; there are counters."""
    histories = server.history(COUNTERS)
    assert histories
    return [labels for labels, values in histories if values != sorted(values)]


# Values


def test_prometheus_has_what_libvirt_says(disk_daemon: Daemon) -> None:
    device = make_image(disk_daemon, size=8 * MIB).disk()
    one = replace(nova_instance(1), devices=device)
    other = nova_instance(2, active=False)
    at = f'{{domain="{one.name}"}}'
    uri = disk_daemon.qemu_uri
    with (
        guests(uri, [one, other]),
        guestlist_exporter(*asked_often("-c", uri)) as exporter,
        prometheus([job(exporter)]) as server,
    ):
        connection = libvirt.openReadOnly(uri)
        domain = connection.lookupByName(one.name)
        server.wait("up", 1)
        wait_until(lambda: has_statistics(server, {one.name}))
        _, max_kib, kib, vcpus, least_ns = domain.info()
        ((_, told), _) = sorted(connection.getAllDomainStats(0, 0), key=lambda each: each[0].name())
        # A sample whose question began after these answers.
        cpu = f"libvirt_domain_info_cpu_time_seconds_total{at}"
        wait_until(lambda: (server.value(cpu) or 0) >= least_ns / 1e9)
        expected = {
            "libvirt_up": 1,
            "libvirt_domains": 2,
            f"libvirt_domain_info_vstate{at}": told["state.state"],
            f"libvirt_domain_state_reason{at}": told["state.reason"],
            f"libvirt_domain_info_maximum_memory_bytes{at}": max_kib * 1_024,
            f"libvirt_domain_info_memory_usage_bytes{at}": kib * 1_024,
            f"libvirt_domain_info_virtual_cpus{at}": vcpus,
            f"libvirt_domain_block_stats_capacity_bytes{at}": told["block.0.capacity"],
            f"libvirt_domain_block_stats_physicalsize_bytes{at}": told["block.0.physical"],
            f"libvirt_domain_block_stats_read_requests_total{at}": told["block.0.rd.reqs"],
            f'libvirt_domain_info_vstate{{domain="{other.name}"}}': 5,
        }
        assert {each: server.value(each) for each in expected} == expected
        assert server.value(cpu) <= domain.info()[4] / 1e9
        connection.close()
        # The join that dashboards make.
        ((joined, _),) = server.query(
            f"libvirt_domain_info_vstate{at} * on(domain) group_left(instance_id, project_name) "
            "libvirt_domain_openstack_info"
        )
    assert (joined["instance_id"], joined["project_name"]) == (str(one.uuid), "billing")


KNOWN = [
    f'{name} non-counter metrics should not have "_total" suffix'
    for name in (
        "libvirt_domain_memory_stats_hugetlb_pgalloc_total",
        "libvirt_domain_memory_stats_hugetlb_pgfail_total",
    )
]
"""What promtool says of all metrics: names and types that inovex's exporter gave them."""


def complaints(text: bytes) -> list[str]:
    """Return what promtool says of an exposition."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    return done.stderr.decode().splitlines()


def test_promtool_complains_of_two_names_that_are_inovexs() -> None:
    plain = [family for family in FAMILIES if family.kind is not Kind.HISTOGRAM]
    assert (
        complaints(body(plain, [{each.name: sample(each.name, "", 1)} for each in plain])) == KNOWN
    )


def test_promtool_has_no_complaint_of_a_scrape(daemon: Daemon) -> None:
    path = daemon.write_node(node([nova_instance(1)]))
    with guestlist_exporter("-c", daemon.uri(path), "--collector.pool") as exporter:
        wait_until(lambda: exporter.scrape().get("libvirt_up") == 1)
        assert complaints(exporter.get()) == []


# What fails


def test_no_scrape_fails_and_no_counter_falls_while_the_daemon_is_away(
    qemu_daemon: Daemon,
) -> None:
    uri = qemu_daemon.qemu_uri
    with (
        guests(uri, 3) as all_of_them,
        guestlist_exporter(*asked_often("-c", uri)) as exporter,
        prometheus([job(exporter)], interval="2s") as server,
    ):
        names = {each.name for each in all_of_them}
        server.wait("libvirt_up", 1)
        wait_until(lambda: has_statistics(server, names))
        qemu_daemon.stop()
        server.wait("libvirt_up", 0)
        qemu_daemon.cont()
        server.wait("libvirt_up", 1)
        qemu_daemon.kill()
        server.wait("libvirt_up", 0)
        assert server.value("count(libvirt_domain_info)") == len(names)
        qemu_daemon.restart()
        server.wait("libvirt_up", 1)
        wait_until(lambda: has_statistics(server, names))
        assert server.value("min_over_time(up[10m])") == 1
        assert fallen(server) == []


def test_a_stuck_guest_has_a_mark_and_the_others_go_on(qemu_daemon: Daemon) -> None:
    uri = qemu_daemon.qemu_uri
    with (
        guests(uri, 3) as [one, *others],
        guestlist_exporter(*asked_often("-c", uri)) as exporter,
        prometheus([job(exporter)]) as server,
    ):
        wait_until(lambda: has_statistics(server, {one.name, *(each.name for each in others)}))
        with stuck(qemu_daemon, one):
            server.wait(f'libvirt_domain_timed_out{{domain="{one.name}"}}', 1)
            wait_until(lambda: has_statistics(server, {each.name for each in others}))
            server.wait("sum(libvirt_domain_timed_out)", 1)
            server.wait("count(libvirt_domain_info_vstate)", 3)
        server.wait("sum(libvirt_domain_timed_out)", 0)
        assert fallen(server) == []


# How it is asked


def test_probes_of_two_hosts_by_relabelling(daemon: Daemon, tmp_path: Path) -> None:
    sizes = {"node1": 2, "node2": 3}
    paths = {
        name: daemon.write_node(node(map(nova_instance, range(1, size + 1))))
        for name, size in sizes.items()
    }
    targets = tmp_path / "targets.yml"
    targets.write_text(json.dumps({name: daemon.uri(path) for name, path in paths.items()}))
    with guestlist_exporter("-c", daemon.uri(), f"--probe.targets={targets}") as exporter:
        relabelling = [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"source_labels": ["__param_target"], "target_label": "instance"},
            {"target_label": "__address__", "replacement": exporter.address},
        ]
        probing = {
            "job_name": "libvirt",
            "metrics_path": "/probe",
            "static_configs": [{"targets": [*sizes, "node3"]}],
            "relabel_configs": relabelling,
        }
        with prometheus([probing]) as server:
            for name, size in sizes.items():
                server.wait(f'libvirt_domains{{instance="{name}"}}', size)
                server.wait(f'count(libvirt_domain_info{{instance="{name}"}})', size)
            server.wait('up{instance="node3"}', 0)
            assert server.query('libvirt_up{instance="node3"}') == []


def test_basic_auth_and_tls_by_prometheuss_own_configuration(
    daemon: Daemon, tmp_path: Path
) -> None:
    authority = Authority("laboratory")
    place = authority.put(tmp_path / "server", server=authority.issue("localhost"))
    authority.put(tmp_path / "client", client=authority.issue("prometheus"))
    (place / "serverkey.pem").chmod(0o600)
    word = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    web = place / "web.yml"
    tls = {
        "cert_file": "servercert.pem",
        "key_file": "serverkey.pem",
        "client_ca_file": "cacert.pem",
        "client_auth_type": "RequireAndVerifyClientCert",
    }
    web.write_text(json.dumps({"tls_server_config": tls, "basic_auth_users": {"anna": word}}))
    path = daemon.write_node(node([nova_instance(1)]))
    trusted = {"ca_file": str(place / "cacert.pem"), "server_name": "localhost"}
    with_certificate = {
        **trusted,
        "cert_file": str(tmp_path / "client" / "clientcert.pem"),
        "key_file": str(tmp_path / "client" / "clientkey.pem"),
    }
    with guestlist_exporter("-c", daemon.uri(path), f"--web.config.file={web}") as exporter:

        def asking(name: str, password: str, tls_config: dict[str, str]) -> dict[str, Any]:
            user = {"username": "anna", "password": password}
            return job(
                exporter, job_name=name, scheme="https", basic_auth=user, tls_config=tls_config
            )

        jobs = [
            asking("right", "right", with_certificate),
            asking("wrong", "wrong", with_certificate),
            asking("stranger", "right", trusted),
        ]
        with prometheus(jobs) as server:
            server.wait('libvirt_up{job="right"}', 1)
            assert server.value('count(libvirt_domain_info{job="right"})') == 1
            server.wait('up{job="wrong"}', 0)
            assert "401" in server.last_error("wrong")
            server.wait('up{job="stranger"}', 0)
            assert server.query('libvirt_up{job!="right"}') == []
