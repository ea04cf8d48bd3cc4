"""A Python with a released Nova and a wheel of guestlist, installed in one of many ways.

In: how each of the two is installed. Out: whether Nova can be imported, and what Nova's own loader
finds. The wheel is built from this checkout; pip and setuptools act as they do for an operator. The
packages beside Nova are links to those of a Nova environment (`./dev nova-env`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from lab.nova import nova_python

NovaAs = Literal["regular", "editable"]
"""In site-packages; or elsewhere, where setuptools' finder finds it, as in devstack."""

GuestlistIn = Literal["site-packages", "before", "after"]
"""Beside Nova; or with `--target`, in a directory that Python searches before Nova's or after it.
Debian's /usr/local/lib/python3/dist-packages and the directories of PYTHONPATH come before."""

SECONDS = 120

_PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "nova"
version = "0"
[tool.setuptools]
packages = ["nova"]
"""

_IS_WHOLE = "import nova.version, nova.virt; print(nova.virt.__file__)"

_FIND = """
import os_vif
from oslo_utils import importutils
os_vif.initialize()  # as nova-compute does before it loads its driver
print(importutils.import_module("nova.virt.guestlist").__name__)
"""


def build_wheel(directory: Path) -> Path:
    """Build the wheel of this checkout."""
    root = Path(__file__).parents[2]
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory, cwd=root)
    (wheel,) = directory.glob("*.whl")
    return wheel


class Layout:
    """One way of installing the two, in a directory of its own."""

    def __init__(self, directory: Path, nova_as: NovaAs, guestlist_in: GuestlistIn) -> None:
        self._nova_as = nova_as
        self._guestlist_in = guestlist_in
        self._source, self._target = directory / "source", directory / "target"
        environment = directory / "environment"
        _run(nova_python(), "-m", "venv", "--without-pip", environment)
        self._python = environment / "bin" / "python"
        (self._packages,) = environment.glob("lib/python3*/site-packages")
        (self._lender,) = nova_python().parents[1].glob("lib/python3*/site-packages")
        for path in self._lender.iterdir():
            if not path.name.startswith(("nova", "guestlist", "_guestlist", "__pycache__")):
                (self._packages / path.name).symlink_to(path)
        if guestlist_in == "after":
            self._target.mkdir()
            (self._packages / "zz-after.pth").write_text(f"{self._target}\n")

    def install_nova(self) -> Self:
        """Install Nova."""
        if self._nova_as == "regular":
            (self._packages / "nova").symlink_to(self._lender / "nova")
            return self
        self._source.mkdir(exist_ok=True)
        (self._source / "nova").symlink_to(self._lender / "nova")
        (self._source / "pyproject.toml").write_text(_PROJECT)
        self._pip("install", "--no-build-isolation", "--editable", self._source)
        return self

    def uninstall_nova(self) -> None:
        """Uninstall Nova."""
        if self._nova_as == "regular":
            (self._packages / "nova").unlink()
        else:
            self._pip("uninstall", "--yes", "nova")
            shutil.rmtree(self._source)

    def install_guestlist(self, wheel: Path) -> None:
        """Install guestlist."""
        where = () if self._guestlist_in == "site-packages" else ("--target", self._target)
        self._pip("install", *where, wheel)

    def uninstall_guestlist(self) -> None:
        """Uninstall guestlist. pip knows nothing of a target directory, which is removed whole."""
        if self._guestlist_in == "site-packages":
            self._pip("uninstall", "--yes", "guestlist")
        else:
            shutil.rmtree(self._target)

    def is_nova_whole(self) -> bool:
        """Whether Nova's own package is what `import nova` finds."""
        return self._say(_IS_WHOLE).endswith("nova/virt/__init__.py")

    def found(self) -> str:
        """Return the module that Nova's loader finds for `guestlist.LibvirtDriver`.

        Raises:
            subprocess.CalledProcessError: Nova's loader finds none.
        """
        return self._say(_FIND)

    def _say(self, script: str) -> str:
        before = {"PYTHONPATH": str(self._target)} if self._guestlist_in == "before" else {}
        said = _run(self._python, "-W", "ignore", "-c", script, environment=before)
        return said.splitlines()[-1]

    def _pip(self, command: str, *arguments: str | Path) -> None:
        offline = ("--no-deps", "--no-index") if command == "install" else ()
        _run(self._python, "-m", "pip", "--quiet", command, *offline, *arguments)


def _run(
    *command: str | Path, cwd: Path = Path("/"), environment: Mapping[str, str] | None = None
) -> str:
    return subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        timeout=SECONDS,
        env={**os.environ, **(environment or {})},
    ).stdout
