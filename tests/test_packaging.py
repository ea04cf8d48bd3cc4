"""What stands in packaging/: it agrees with pyproject.toml, with Nova's option, and with itself.

`./dev rpm` and `./dev container` build what is described there, and run the command from it.
"""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import try_container

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging"
SPEC = (PACKAGING / "rpm" / "guestlist.spec.in").read_text()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

DRIVER = "guestlist.LibvirtDriver"
SOURCES = {
    "packaging/kolla/kolla-build.conf",
    "packaging/kolla/template-overrides.j2",
    "packaging/kolla/nova-compute.conf",
    "packaging/openstack-ansible/nova_compute.yml",
}


def requirements(package: str) -> set[str]:
    """Return what a package of the spec requires of Python's packages."""
    part = re.split(rf"(?m)^%package {package}\n", SPEC)[1].partition("%description")[0]
    return set(re.findall(r"(?m)^Requires: +python3-([\w-]+)", part))


@pytest.mark.parametrize(("package", "extra"), [("exporter", "exporter"), ("agent", "fleet")])
def test_a_package_of_the_spec_requires_what_its_extra_does(package: str, extra: str) -> None:
    named = {re.split("[<>=]", each)[0].lower() for each in EXTRAS[extra]}
    # The package guestlist, on which each depends, requires PyYAML.
    assert requirements(package) == named - {"pyyaml"}
    assert re.search(r"(?m)^Requires: +python3-pyyaml$", SPEC)


def test_the_spec_has_each_unit_of_contrib() -> None:
    units = {path.stem for path in (ROOT / "contrib").rglob("guestlist-*.service")}
    units -= {"guestlist-textfile"}  # an example: it names the folder of another program
    assert units == set(re.findall(r"(?m)^unit contrib/\S+ (\S+)$", SPEC))
    assert units == set(re.findall(r"\{_unitdir\}/(\S+)\.service", SPEC.partition("%files")[2]))


def test_the_files_for_kolla_and_openstack_ansible_name_the_driver() -> None:
    kolla = configparser.ConfigParser()
    kolla.read(PACKAGING / "kolla" / "nova-compute.conf")
    assert kolla["DEFAULT"]["compute_driver"] == DRIVER
    ansible = yaml.safe_load((PACKAGING / "openstack-ansible" / "nova_compute.yml").read_text())
    assert ansible["nova_nova_conf_overrides"]["DEFAULT"]["compute_driver"] == DRIVER
    assert ansible["nova_user_pip_packages"] == ["guestlist"]


def test_the_image_of_kolla_installs_what_kolla_build_hands_over() -> None:
    build = configparser.ConfigParser()
    build.read(PACKAGING / "kolla" / "kolla-build.conf")
    (section,) = build.sections()
    image, _, name = section.partition("-additions-")
    template = (PACKAGING / "kolla" / "template-overrides.j2").read_text()
    assert f"{{% block {image.replace('-', '_')}_footer %}}" in template
    assert f"/additions/{name}'" in template


def test_the_page_names_each_file() -> None:
    page = (ROOT / "docs" / "packages.md").read_text()
    assert [name for name in SOURCES if name not in page or not (ROOT / name).is_file()] == []


# The Containerfile


def test_steps_are_joined_and_comments_left_out() -> None:
    text = "# a\nFROM x AS y\nRUN a && \\\n    # within\n    b\n\nUSER 1:1\n"
    assert try_container.steps(text) == [("FROM", "x AS y"), ("RUN", "a &&  b"), ("USER", "1:1")]


@pytest.mark.parametrize("text", ["RUN true", "FROM alpine", "ADD a b", ""])
def test_what_is_not_played_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(try_container.NotKnown):
        try_container.play(try_container.steps(text), tmp_path)


def test_the_image_runs_the_command_as_a_user_without_rights() -> None:
    steps = try_container.steps((PACKAGING / "container" / "Containerfile").read_text())
    last = steps[max(n for n, step in enumerate(steps) if step.instruction == "FROM") :]
    said = {step.instruction: step.text for step in last}
    user, _, group = said["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"--uid {user} " in said["RUN"]
    assert said["ENTRYPOINT"] == '["/opt/guestlist/bin/guestlist"]'
    order = [step.instruction for step in last]
    assert "RUN" not in order[order.index("USER") :]
