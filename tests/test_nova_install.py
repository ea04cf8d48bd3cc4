"""Nova finds the driver, whichever way both are installed, and Nova is whole before and after.

A wheel with a directory `nova/` hides a Nova that is installed editable: `nova` is then a package
without a file, and all of Nova's commands end with ImportError. After an uninstall the files that
were compiled there still hide it.
"""

from __future__ import annotations

import itertools
import zipfile
from typing import get_args

import pytest
from lab.nova_layouts import GuestlistIn, Layout, NovaAs, build_wheel

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("nova-install")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.mark.parametrize(
    ("nova_as", "guestlist_in"), [*itertools.product(get_args(NovaAs), get_args(GuestlistIn))]
)
def test_nova_is_whole_before_with_and_after_and_finds_the_driver(
    needs_nova, tmp_path, wheel, nova_as, guestlist_in
):
    layout = Layout(tmp_path, nova_as, guestlist_in).install_nova()
    assert layout.is_nova_whole()
    layout.install_guestlist(wheel)
    assert layout.is_nova_whole()
    assert layout.found() == "guestlist.nova"
    layout.uninstall_guestlist()
    assert layout.is_nova_whole()
    layout.install_guestlist(wheel)
    layout.uninstall_nova()
    layout.install_nova()
    assert layout.found() == "guestlist.nova"


def test_the_wheel_has_no_file_of_any_other_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"guestlist"}


def test_no_extra_and_no_requirement_names_nova(wheel):
    """`pip install 'guestlist[nova]'` on a host with Nova 26 would install the newest Nova."""
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    required = [
        line.removeprefix("Requires-Dist: ")
        for line in archive.read(metadata).decode().splitlines()
        if line.startswith("Requires-Dist: ")
    ]
    assert required
    assert not [each for each in required if each.startswith(("nova", "guestlist"))]
