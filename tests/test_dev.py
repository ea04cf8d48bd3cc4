"""What `./dev` does to a machine: which packages it installs, as whom, and what it says first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PYTHON = f"""\
case "$1 $2" in
"-m venv")
    for directory; do :; done
    mkdir -p "$directory/bin"
    printf '#!/bin/sh\\n' >"$directory/bin/python"
    chmod +x "$directory/bin/python" ;;
*) exec {sys.executable} "$@" ;;
esac
"""
"""A Python whose environments are empty: their python does nothing, so pip does nothing."""


@dataclass
class Machine:
    """A copy of `./dev` on a machine where libvirt's headers are missing."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("dev", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder)
        version = "src/guestlist/__init__.py"
        (self.folder / version).parent.mkdir(parents=True)
        shutil.copy(ROOT / version, self.folder / version)
        (self.folder / "bin").mkdir()
        self.program("python3", PYTHON)
        self.program("pkg-config", "exit 1")
        self.program("id", "echo 0")

    def program(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def manager(self, name: str) -> None:
        """Give it a package manager, which writes its arguments down and installs nothing."""
        self.program(name, f'echo "{name} $*" >>"{self.installed}"')

    @property
    def installed(self) -> Path:
        return self.folder / "installed"

    def dev(self, *words: str, **variables: str) -> str:
        """Run `./dev`; return what it says."""
        place = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            [self.folder / "dev", *words],
            env={**os.environ, "PATH": place, "PYTHON": "python3", **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.manager("apt-get")
    return machine


def test_packages_are_named_before_they_are_installed(machine: Machine):
    said = machine.dev("setup")
    assert said.index("installing system packages with apt-get: libvirt-dev") < said.index("making")
    assert "sudo" not in said
    assert machine.installed.read_text().splitlines() == [
        "apt-get -qq update",
        "apt-get -qq -y --no-install-recommends install libvirt-dev",
    ]


def test_a_user_is_told_before_sudo_runs_and_which_packages_it_installs(machine: Machine):
    machine.program("id", "echo 1000")
    machine.program("sudo", f'echo sudo >>"{machine.installed}"; exec "$@"')
    said = machine.dev("setup")
    assert "dev: installing system packages with sudo apt-get: libvirt-dev" in said
    assert machine.installed.read_text().splitlines()[:2] == ["sudo", "apt-get -qq update"]


@pytest.mark.parametrize(
    ("words", "variables"),
    [(["--no-install", "setup"], {}), (["setup"], {"GUESTLIST_NO_INSTALL": "1"})],
)
def test_without_installing_it_names_what_is_missing_and_goes_on(machine, words, variables):
    said = machine.dev(*words, **variables)
    assert "missing, and not installed" in said
    assert "apt-get install libvirt-dev" in said
    assert "making .venv" in said
    assert not machine.installed.exists()


def test_a_package_that_cannot_be_installed_is_named_and_it_goes_on(machine: Machine):
    machine.program("apt-get", "exit 1")
    said = machine.dev("setup")
    assert "could not install these; as root: apt-get install libvirt-dev" in said
    assert "making .venv" in said


def test_an_environment_is_made_once(machine: Machine):
    assert "making .venv" in machine.dev("setup")
    assert "making .venv" not in machine.dev("setup")
    layers = machine.folder / "pyproject.toml"
    layers.write_text(layers.read_text().replace("line-length = 100", "line-length = 99"))
    assert "making .venv" not in machine.dev("setup")
    layers.write_text(layers.read_text().replace('"ruff",', ""))
    assert "making .venv" in machine.dev("setup")
    version = machine.folder / "src" / "guestlist" / "__init__.py"
    version.write_text('__version__ = "99.0"\n')
    assert "making .venv" in machine.dev("setup")


def test_a_series_that_does_not_exist_is_refused_at_once(machine: Machine):
    shutil.copytree(ROOT / "constraints", machine.folder / "constraints")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        machine.dev("test", GUESTLIST_NOVA="1999.1")
    assert refused.value.returncode == 2
    assert "no series '1999.1'; there are:" in refused.value.stderr
    assert "2026.2" in refused.value.stderr


@pytest.mark.parametrize("git", ["a tree of another user", "no git", "no repository"])
def test_a_tree_that_git_does_not_list_is_copied_all_the_same(machine: Machine, git: str):
    functions = (ROOT / "packaging" / "building.sh").read_text()
    copy_tree = re.search(r"^copy_tree\(\) \{$.*?^\}$", functions, re.M | re.S)
    assert copy_tree is not None
    machine.program("git", f"exit {127 if git == 'no git' else 128}")
    tree, copy = machine.folder / "tree", machine.folder / "copy"
    kept = {"README.md", "src/a file"}
    for name in (*kept, ".venv/left", ".cache/left", "dist/left", ".git/left"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    if git == "no repository":
        shutil.rmtree(tree / ".git")
    copy.mkdir()
    subprocess.run(
        ["sh", "-euc", f'{copy_tree[0]}\ncopy_tree "$1"', "sh", copy],
        cwd=tree,
        env={**os.environ, "PATH": f"{machine.folder / 'bin'}:{os.environ['PATH']}"},
        check=True,
    )
    assert {str(each.relative_to(copy)) for each in copy.rglob("*") if each.is_file()} == kept
