"""What a new user runs first: the demo, and the benchmark in its short form."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from lab.etcd import RELEASES, etcd_available
from lab.needs import require

ROOT = Path(__file__).resolve().parents[1]


def run(script: str, *arguments: object, timeout: float = 100) -> str:
    """Return what the script prints."""
    command = [sys.executable, ROOT / script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def calls(shown: str, way: str) -> int:
    """Return the number of calls in the demo's last table."""
    found = re.search(rf"^  {way} +([\d,]+)", shown, re.MULTILINE)
    assert found
    return int(found[1].replace(",", ""))


def check_shown(shown: str) -> None:
    assert calls(shown, "guestlist") == 1
    assert calls(shown, "the legacy walk") > 1_000
    assert "Both found all 1,000." in shown
    assert re.search(r"^\$ guestlist ls -c .*\nID +NAME +STATE +UUID$", shown, re.MULTILINE)
    assert re.search(r"instance-00000003 +paused", shown)
    assert re.search(r"guestfs-\w+ +running .* libguestfs$", shown, re.MULTILINE)
    assert re.search(r"bulk listing +yes", shown)
    assert max(map(len, shown.splitlines())) <= 100
    assert "\x1b" not in shown


@pytest.mark.usefixtures("daemon")
def test_the_demo_counts_one_call_on_the_wire_against_more_than_a_thousand():
    shown = run("demo/host.py")
    check_shown(shown)
    assert "calls on the wire" in shown
    assert re.search(r"instance-00000002  started \(booted\)$", shown, re.MULTILINE)
    assert re.search(
        r"connection lost: .*\n(.*\n)+.* back in step: 0 domains$", shown, re.MULTILINE
    )


@pytest.mark.heavy
def test_without_a_daemon_the_demo_says_so_and_counts_calls_into_libvirt():
    shown = run("demo/host.py", "--no-daemon")
    check_shown(shown)
    assert "No private libvirtd (--no-daemon was given)" in shown
    assert "on the wire" not in shown


@pytest.fixture(scope="session")
def needs_etcd() -> None:
    """The etcd of any release can be run here: the demo takes the newest."""
    missing = [etcd_available(each) for each in RELEASES]
    require(None if None in missing else missing[0])


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("needs_etcd", "needs_libvirtd", "needs_qemu")
def test_the_demo_of_the_fleet_loses_no_guest_that_migrates():
    shown = run("demo/fleet.py", timeout=380)
    guest = "instance-00000003"
    row = rf"^(node\d) +{guest} +\w+ +[0-9a-f-]{{36}}(?: +(\w+))?$"
    assert re.findall(row, shown, re.MULTILINE) == [("node1", "migrating"), ("node2", "")]
    assert re.search(r"(\d+) lists were complete,\s+and\s+the\s+guest\s+was\s+in\s+each", shown)
    assert "\ngive user viewer role guestlist/default/reader\n" in shown
    assert f"node1  {guest}  changed: resident -> migrating" in shown
    assert re.search(rf"node2  {guest}  changed: handover -> resident\n", shown)
    assert re.search(r"^guestlist: not complete: 1 of 4 hosts missing", shown, re.MULTILINE)
    assert re.search(r"^node3 +unknown +\d.*holds no lease", shown, re.MULTILINE)
    assert re.search(r"node3  back in step$", shown, re.MULTILINE)
    assert re.search(rf"^possible +on the wrong host +node2 +{guest} ", shown, re.MULTILINE)
    assert shown.count("\npossible ") == 2


@pytest.mark.usefixtures("daemon")
def test_the_benchmark_writes_what_it_prints_and_counts_one_call_at_every_size(tmp_path: Path):
    shown = run("benchmarks/listing.py", "--quick", "--output", tmp_path)
    assert (tmp_path / "listing.md").read_text() == shown
    ElementTree.parse(tmp_path / "listing.svg")
    results = json.loads((tmp_path / "listing.json").read_text())
    assert results["calls"]["guestlist"] == {"5": 1, "20": 1}
    assert results["calls"]["first"] == {"5": 1, "20": 1}
    assert results["calls"]["legacy"] == {"5": 9, "20": 24}
    assert results["far_seconds"]["legacy"].keys() == {"5"}
    for by_size in results["socket_seconds"].values():
        assert [len(seconds) for seconds in by_size.values()] == [2, 2]
