"""debian/ and the extras of the wheel name the same packages; `./dev deb` builds debian/."""

from __future__ import annotations

import re
import tomllib

import pytest
from lab.names import ROOT

from guestlist.cli import _BROUGHT_BY, _IN_DEBIAN

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

DEBIAN_NAMES = {"libvirt-python": "python3-libvirt", "PyYAML": "python3-yaml"}
"""Where Debian's name is another one than python3- and the name on PyPI."""


def in_debian(requirements: list[str]) -> set[str]:
    """Return the Debian packages of these requirements."""
    names = [re.split("[<>=]", each)[0] for each in requirements]
    return {DEBIAN_NAMES.get(name, f"python3-{name}") for name in names}


def extras_of(extra: str) -> list[str]:
    """Return the requirements of an extra."""
    found: list[str] = PROJECT["optional-dependencies"][extra]
    return found


def related(package: str, field: str) -> set[str]:
    """Return the packages that a field of a package in debian/control names."""
    control = (ROOT / "debian" / "control").read_text()
    [paragraph] = re.findall(rf"(?ms)^Package: {package}\n(.*?)(?:\n\n|\Z)", control)
    [value] = re.findall(rf"(?m)^{field}:\n((?: .*\n)+)", f"{paragraph}\n")
    return {line.strip(" ,").partition(" ")[0] for line in value.splitlines()}


@pytest.mark.parametrize(
    ("package", "field", "extras"),
    [
        ("guestlist", "Depends", ["cli"]),
        ("guestlist", "Recommends", ["exporter"]),
        ("guestlist", "Suggests", ["fleet", "openstack"]),
    ],
)
def test_the_command_has_each_extra(package: str, field: str, extras: list[str]):
    depends = related(package, "Depends")
    wanted = {each for extra in extras for each in in_debian(extras_of(extra))}
    assert wanted - depends - related(package, field) == set()


def test_the_library_depends_on_what_the_wheel_requires_and_on_no_more():
    found = {each for each in related("python3-guestlist", "Depends") if each[0] != "$"}
    assert found == in_debian(PROJECT["dependencies"])


def test_a_message_names_all_packages_that_stand_for_an_extra():
    """One at a time would take a run of the command for each."""
    assert set(_BROUGHT_BY.values()) == set(_IN_DEBIAN)
    for extra, packages in _IN_DEBIAN.items():
        brought_by_the_command = related("guestlist", "Depends") if extra != "cli" else set()
        assert set(packages.split()) == in_debian(extras_of(extra)) - brought_by_the_command


def test_a_unit_in_contrib_is_one_that_the_package_can_start():
    """debian/rules replaces the path of an installation in /opt by the package's."""
    rules = (ROOT / "debian" / "rules").read_text()
    [units] = re.findall(r"(?m)^UNITS = (.*)$", rules)
    for unit in units.split():
        text = (ROOT / "contrib" / f"{unit}.service").read_text()
        [command] = re.findall(r"(?m)^ExecStart=(\S+)", text)
        assert re.fullmatch(r"/opt/guestlist-[a-z]*/bin/guestlist", command)
