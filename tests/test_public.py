"""The public face: what an import costs, and that each public name exists."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tarfile
from importlib.metadata import metadata, version
from pathlib import Path

import pytest

import guestlist
from guestlist import _EXPORTS, _MODULE_OF

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there():
    for name in guestlist.__all__:
        assert getattr(guestlist, name) is not None
    assert set(guestlist.__all__) <= set(dir(guestlist))


def test_type_checkers_users_and_import_star_see_the_same_names():
    """The three lists of `guestlist/__init__.py`, which no tool can make of one another."""
    [typed] = [
        node for node in ast.parse(inspect.getsource(guestlist)).body if isinstance(node, ast.If)
    ]
    imported = {
        (name.name, statement.module)
        for statement in typed.body
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
    }
    assert imported == {(name, f"guestlist.{module}") for name, module in _MODULE_OF.items()}
    assert sorted(guestlist.__all__) == sorted(_MODULE_OF)
    assert len(guestlist.__all__) == sum(len(names.split()) for names in _EXPORTS.values())


@pytest.mark.parametrize("name", ["SourceKind", "DiskDevice", "Hypervisor", "Lifecycle"])
def test_what_annotates_a_public_field_is_public(name):
    assert name in guestlist.__all__


def test_any_other_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="guesthouse"):
        _ = guestlist.guesthouse


def test_importing_the_package_imports_neither_libvirt_nor_lxml():
    script = "import guestlist, sys; print(sorted({'libvirt', 'lxml', 'rich'} & set(sys.modules)))"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def test_all_errors_are_of_one_tree():
    errors = [getattr(guestlist, name) for name in guestlist.__all__]
    errors = [error for error in errors if isinstance(error, type) and issubclass(error, Exception)]
    tree = [error for error in vars(guestlist.errors).values() if isinstance(error, type)]
    tree = [error for error in tree if issubclass(error, guestlist.GuestlistError)]
    assert set(errors) == set(tree)


def test_the_version_is_the_distributions():
    assert guestlist.__version__ == version("guestlist")


def test_nothing_of_development_is_an_extra():
    """The dependency groups in pyproject.toml are for `./dev`; pip offers a user an extra."""
    told = metadata("guestlist")
    assert told.get_all("Provides-Extra") == ["cli", "exporter", "fleet", "openstack"]
    required = {line.partition(" ")[0] for line in told.get_all("Requires-Dist")}
    assert not [line for line in required if line.startswith(("pytest", "mypy", "ruff", "ddt"))]


def test_the_sdist_is_the_whole_repository(tmp_path):
    """Its tests need all of it: conftest.py, the demo, the benchmarks. `./dev sdist` runs them."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone; there is nothing to compare with")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    kept = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    assert kept - names == set()
