"""A pytest plugin: what each test needs of this machine, and the run without all of that.

In: tests. A test that uses a fixture `needs_libvirtd`, `needs_qemu`, `needs_qemu_img`,
`needs_prometheus`, `needs_etcd` or `needs_nova`, directly or through another fixture, needs that.
A parameter that makes its test need something has the mark `needs`:
`pytest.param("daemon", marks=pytest.mark.needs("libvirtd"))`.

Out: every such test is marked `heavy`. `--quick` leaves the heavy tests out and tries fewer
examples; the laboratory then refuses to start a daemon, an image tool or Nova. `--make-nova` makes
the environment of the Nova under test, if a selected test needs it. pytest's header names the
versions that are found here.

What cannot run here is skipped with its reason. Where the environment says CI it fails instead, so
that no pipeline passes without testing anything.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab import quick
from lab.daemon import daemon_available
from lab.etcd import RELEASES, etcd_available
from lab.images import qemu_img_available
from lab.nova import SERIES, nova_available
from lab.prometheus import prometheus_available
from lab.qemu import qemu_available
from lab.versions import versions

_PREFIX = "needs_"
_DEV = Path(__file__).parents[2] / "dev"
_HEADER = pytest.StashKey[str]()


def require(missing: str | None) -> None:
    """Skip the test if something is missing; where the environment says CI, fail it.

    `missing` is the reason, or None.
    """
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def needs_libvirtd() -> None:
    """A libvirtd can be started here."""
    require(daemon_available())


@pytest.fixture(scope="session")
def needs_qemu() -> None:
    """A QEMU guest can be started here."""
    require(qemu_available())


@pytest.fixture(scope="session")
def needs_qemu_img() -> None:
    """Disk images can be made here."""
    require(qemu_img_available())


@pytest.fixture(scope="session")
def needs_prometheus() -> None:
    """Prometheus can be run here, and promtool."""
    require(prometheus_available())


@pytest.fixture(scope="session", params=RELEASES)
def needs_etcd(request: pytest.FixtureRequest) -> str:
    """An etcd can be run here: each release of Debian's in turn; its name."""
    release: str = request.param
    missing = etcd_available(release)
    if missing and release != RELEASES[0]:  # not every mirror has the newer ones
        pytest.skip(missing)
    require(missing)
    return release


@pytest.fixture(scope="session")
def needs_nova() -> None:
    """The Nova under test can be run here."""
    require(nova_available())


def needs_of(item: pytest.Item) -> set[str]:
    """Return what a test needs: "libvirtd", "qemu", "qemu_img", "prometheus", "etcd", "nova"."""
    fixtures: list[str] = getattr(item, "fixturenames", [])
    by_fixture = {name.removeprefix(_PREFIX) for name in fixtures if name.startswith(_PREFIX)}
    return by_fixture.union(*(mark.args for mark in item.iter_markers("needs")))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("guestlist")
    group.addoption("--quick", action="store_true", help="only tests without daemon, QEMU and Nova")
    group.addoption(
        "--make-nova",
        action="store_true",
        help="make the environment of the Nova under test, if a selected test needs it",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*what): the value of a parameter makes the test need")
    config.addinivalue_line(
        "markers", "heavy: not in the quick run (set for all that need a thing)"
    )
    if not hasattr(config, "workerinput"):  # before the quick run refuses to start what it asks
        config.stash[_HEADER] = versions(SERIES)
    if config.option.quick:
        quick.begin()


def pytest_report_header(config: pytest.Config) -> str:
    return config.stash.get(_HEADER, "")  # a worker's header is not shown


@pytest.hookimpl(tryfirst=True)  # `-m heavy` then selects by the mark that is set here
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if needs_of(item):
            item.add_marker("heavy")
    if config.option.quick:
        heavy = [item for item in items if item.get_closest_marker("heavy")]
        config.hook.pytest_deselected(items=heavy)
        items[:] = [item for item in items if not item.get_closest_marker("heavy")]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make Nova's environment before the first test, which has no time for it."""
    option = session.config.option
    is_needed = any("nova" in needs_of(item) for item in session.items)
    if is_needed and option.make_nova and not option.collectonly:
        # If another process is making it, ./dev waits for that one. If it fails, ./dev says why,
        # and the tests are skipped.
        subprocess.run([_DEV, "nova-env", SERIES], stdout=sys.stderr, check=False)
