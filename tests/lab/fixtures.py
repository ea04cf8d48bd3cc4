"""The laboratory as pytest fixtures; load it with `pytest_plugins = ["lab.fixtures"]`.

What a fixture needs of this machine is in `lab.needs`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import libvirt
import pytest
from lab.churn import populated
from lab.command import deaf_socket
from lab.daemon import Daemon
from lab.etcd import Etcd
from lab.events import turn_events
from lab.nodes import nova_instance
from lab.proxy import Proxy


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    """Let libvirt print no error: every error is raised as well."""
    libvirt.registerErrorHandler(lambda context, error: None, None)


@pytest.fixture(scope="session")
def daemon(needs_libvirtd: None) -> Iterator[Daemon]:
    """A daemon for all tests of this process.

    A test leaves it running and removes its domains from `test:///default`; to kill or stop a
    daemon, use `own_daemon`. Expect no domain there: the node lives until the daemon has closed the
    last connection of the test before.
    """
    with Daemon() as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def _it_lives(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test in which the daemon of all tests ends, and only this one.

    libvirtd may crash without a cause in the test (`./dev torture cuts`).
    """
    if "daemon" not in request.fixturenames:
        yield
        return
    daemon: Daemon = request.getfixturevalue("daemon")
    yield
    if (end := daemon.end) is not None:
        log = daemon.log()
        daemon.restart()
        pytest.fail(f"libvirtd ended within this test ({end}). Its log:\n{log}")


@pytest.fixture
def own_daemon(needs_libvirtd: None) -> Iterator[Daemon]:
    """A daemon for this test alone, which may kill, stop and restart it."""
    with Daemon() as daemon:
        yield daemon


@pytest.fixture
def three(daemon: Daemon) -> Iterator[str]:
    """The URI of the test driver of `daemon`, with three running instances of Nova's."""
    with populated(daemon.uri(), [nova_instance(n) for n in range(3)]):
        yield daemon.uri()


@pytest.fixture
def proxy(daemon: Daemon) -> Iterator[Proxy]:
    """A proxy in front of `daemon`, without faults and without calls so far."""
    with Proxy(daemon) as proxy:
        yield proxy


@pytest.fixture
def rpc(proxy: Proxy) -> Proxy:
    """`proxy`, for a test that only counts."""
    return proxy


@pytest.fixture
def qemu_daemon(needs_qemu: None, own_daemon: Daemon) -> Daemon:
    """A daemon of the test's own that can run QEMU guests."""
    return own_daemon


@pytest.fixture
def disk_daemon(needs_qemu_img: None, qemu_daemon: Daemon) -> Daemon:
    """A daemon of the test's own whose QEMU guests can have disks."""
    return qemu_daemon


@pytest.fixture(scope="module")
def shared_etcd(needs_etcd: str) -> Iterator[Etcd]:
    """An etcd for all tests of a module that leave it running."""
    with Etcd(needs_etcd) as etcd:
        yield etcd


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """A socket that lets clients in and never answers; `lab.command.uri_of` has its URI."""
    with deaf_socket() as listening:
        yield listening


@pytest.fixture(scope="session")
def event_loop_thread() -> None:
    """Start a thread that runs libvirt's default event loop until this process ends.

    If the code under test has a loop of its own, override this fixture in conftest.py with one that
    starts that loop.
    """
    turn_events()
