"""The laboratory's plugin: which tests are heavy, and that a quick run starts nothing heavy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest
from lab.daemon import daemon_available
from lab.nova import SERIES
from lab.versions import NONE, versions

TESTS = """
import pytest
from lab.daemon import Daemon
from lab.nova import NovaDriver

def test_plain(): pass

def test_by_fixture(needs_libvirtd): raise AssertionError

@pytest.fixture
def image(needs_qemu_img): pass

def test_by_a_fixtures_fixture(image): raise AssertionError

@pytest.mark.parametrize(
    "place", ["here", pytest.param("daemon", marks=pytest.mark.needs("libvirtd"))]
)
def test_by_parameter(place): assert place == "here"

@pytest.mark.usefixtures("needs_nova")
def test_of_nova(): pass

@pytest.mark.heavy
def test_slow(): raise AssertionError
"""

UNMARKED = """
import subprocess
from lab.daemon import Daemon
from lab.nova import NovaDriver

def test_daemon():
    with Daemon(): pass

def test_nova():
    with NovaDriver("test:///default"): pass

def test_program():
    subprocess.run(["/usr/bin/env", "qemu-img", "info", "image"])
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs pytest with the plugin over the tests given, in a new process.

    `./dev` is a program there that writes down its arguments.
    """
    dev = tmp_path / "dev"
    dev.write_text(f'#!/bin/sh\necho "$*" >>"{tmp_path}/made"\n')
    dev.chmod(0o755)
    (tmp_path / "conftest.py").write_text(
        f"import pathlib\nfrom lab import needs\nneeds._DEV = pathlib.Path({str(dev)!r})\n"
        f"needs.nova_available = lambda: None\n"
    )

    def run(tests: str, *options: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_it.py").write_text(tests)
        command = [sys.executable, "-m", "pytest", "-p", "lab.needs", "-p", "no:cacheprovider"]
        variables = {name: value for name, value in os.environ.items() if name != "CI"}
        return subprocess.run(
            [*command, "-p", "no:randomly", "--rootdir", tmp_path, *options, tmp_path],
            env={**variables, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def counted(ended: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return how many tests passed, failed and were deselected."""
    line = ended.stdout.splitlines()[-1]
    return {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", line)}


def test_a_quick_run_leaves_out_what_needs_a_daemon_an_image_tool_or_nova(run: Run):
    ended = run(TESTS, "--quick")
    assert counted(ended) == {"passed": 2, "deselected": 5}
    assert ended.returncode == 0


def test_a_test_of_the_quick_run_that_starts_something_heavy_fails(run: Run):
    ended = run(UNMARKED, "--quick")
    assert counted(ended)["failed"] == 3
    assert "a test of the quick run starts a daemon" in ended.stdout
    assert "a test of the quick run starts Nova" in ended.stdout
    assert "a test of the quick run starts qemu-img" in ended.stdout


def test_the_heavy_tests_can_be_selected_by_that_mark(run: Run):
    ended = run(TESTS, "--collect-only", "-q", "-m", "heavy")
    assert {line.partition("::")[2] for line in ended.stdout.splitlines() if "::" in line} == {
        *("test_by_fixture", "test_by_a_fixtures_fixture", "test_by_parameter[daemon]"),
        *("test_of_nova", "test_slow"),
    }


@pytest.mark.parametrize(
    ("options", "is_made"),
    [
        (["--make-nova", "-k", "nova"], True),
        (["--make-nova", "-k", "plain"], False),
        (["--make-nova", "-k", "nova", "--collect-only"], False),
        (["-k", "nova"], False),
    ],
)
def test_novas_environment_is_made_for_a_selected_test_that_needs_it(
    run, tmp_path, options, is_made
):
    ended = run(TESTS, *options)
    assert ended.returncode == 0, ended.stdout
    made = tmp_path / "made"
    assert made.exists() == is_made
    assert not is_made or made.read_text() == f"nova-env {SERIES}\n"


@pytest.mark.needs("libvirtd")
def test_the_header_names_the_versions(run: Run):
    """A package that is missing has the version "none"."""
    assert versions(SERIES) in run(TESTS, "-k", "plain").stdout
    numbers = libvirt.getVersion()
    library = f"{numbers // 1_000_000}.{numbers // 1_000 % 1_000}.{numbers % 1_000}"
    found = re.fullmatch(
        r"libvirt: library (\S+), binding \S+, daemon (\S+); QEMU: \S+; Nova 1999.1: (\S+)",
        versions("1999.1"),
    )
    assert found
    assert (found[1], found[2] == NONE, found[3]) == (library, bool(daemon_available()), NONE)
