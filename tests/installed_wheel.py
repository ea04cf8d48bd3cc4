"""The built wheel as pip installs it: alone, and with each extra. `./dev wheel` runs this.

In: the variable GUESTLIST_WHEEL, the path of the wheel. Out: nothing; each environment is made in a
folder of its own, with the pins of constraints.txt. The bare wheel has libvirt-python, lxml and
immutables beside it, and no other package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab.command import TEST_HOST, environment
from lab.names import ROOT

pytestmark = pytest.mark.timeout(600)

WHEEL = Path(os.environ["GUESTLIST_WHEEL"])
HOSTS = ROOT / "contrib" / "exporter" / "targets.yml"

NEEDS = {
    "cli": {
        "PyYAML": ["ls", "-a", "-f", "yaml", "-c", TEST_HOST],
        "argcomplete": ["completion", "bash"],
    },
    "exporter": {"aiohttp": ["exporter", "-c", TEST_HOST, "--web.listen-address=127.0.0.1:0"]},
    "fleet": {"grpcio": ["fleet", "ls", "--endpoints", "127.0.0.1:1"]},
    "openstack": {"openstacksdk": ["audit", "-c", TEST_HOST, "--os-cloud", "none"]},
}
"""For each extra: a package that it brings, and words that need this package."""


class Environment:
    """A virtual environment with the wheel, and what `pip` brought with it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        self.install(str(WHEEL))

    def install(self, what: str) -> None:
        pip = [self.place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
        pins = ["--constraint", ROOT / "constraints.txt"]
        subprocess.run([*pip, "install", *pins, what], cwd=self.place, check=True)

    def packages(self) -> set[str]:
        pip = [self.place / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        told = subprocess.run(
            [*pip, "list", "--format=json"], stdout=subprocess.PIPE, check=True, cwd=self.place
        )
        return {package["name"] for package in json.loads(told.stdout)}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        variables = environment()
        del variables["PYTHONPATH"]
        return subprocess.run(
            [self.place / "bin" / "guestlist", *words],
            env=variables,
            cwd=self.place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def python(self, script: str) -> str:
        variables = environment()
        del variables["PYTHONPATH"]
        return subprocess.run(
            [self.place / "bin" / "python", "-W", "error", "-c", script],
            env=variables,
            cwd=self.place,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        ).stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("bare") / "venv")


def test_the_bare_wheel_brings_three_packages(bare: Environment):
    assert bare.packages() - {"pip", "setuptools"} == {
        *("guestlist", "immutables", "libvirt-python", "lxml")
    }


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["--help"],
        *(["ls", "-a", "-f", form, "-c", TEST_HOST] for form in ("table", "json", "csv", "uuid")),
        ["ls", "-a", "-l", "-c", TEST_HOST],
        ["usage", "-a", "-c", TEST_HOST],
        ["check", "-c", TEST_HOST],
        ["watch", "--once", "-a", "-c", TEST_HOST],
        ["exporter", "--print", "-c", TEST_HOST],
    ],
    ids=" ".join,
)
def test_the_bare_wheel_does_all_that_needs_no_extra(bare: Environment, words: list[str]):
    ended = bare.run(*words)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


def test_the_bare_wheel_has_the_whole_library(bare: Environment):
    script = """
import importlib.metadata, guestlist
with guestlist.Inventory("test:///default", launched_by=guestlist.Anyone()) as live:
    live.wait_synced(timeout=30)
    print(*[instance.name for instance in live.snapshot().instances])
print(*[point.value for point in importlib.metadata.entry_points(group="os_vif")])
"""
    assert bare.python(script).split() == ["test", "guestlist.nova.finding:Finder"]


def test_the_bare_wheel_names_what_a_file_in_yaml_needs(bare: Environment):
    ended = bare.run("fleet", "ls", "--hosts", str(HOSTS))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith(" or run: pip install 'guestlist[cli]'\n")


@pytest.mark.parametrize("extra", NEEDS)
def test_an_extra_brings_what_its_commands_lacked(bare: Environment, tmp_path: Path, extra: str):
    with_extra = Environment(tmp_path / "venv")
    with_extra.install(f"{WHEEL}[{extra}]")
    for package, words in NEEDS[extra].items():
        assert package in with_extra.packages() - bare.packages()
        lacking = bare.run(*words)
        assert lacking.stderr.endswith(f" or run: pip install 'guestlist[{extra}]'\n")
        if extra == "exporter":  # it would serve until it is ended
            continue
        assert "cannot load" not in with_extra.run(*words).stderr
