"""Two hosts on this machine, and guests that migrate from one to the other.

In: two private daemons (`two_hosts`), a guest that changes its memory (`lab.boot`). Out: a
migration that goes on for 40 s at least, unless it is told to complete or to end before: the guest
has 40 MiB that are not zero, and libvirt's slowest migration moves one of them in a second.

Both daemons are on one machine and share its files, so libvirt is told that this is safe.

Source: libvirt include/libvirt/libvirt-domain.h (virDomainMigrateFlags, VIR_MIGRATE_PARAM_*).
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator

import libvirt
from lab.boot import busy_guest, is_busy
from lab.daemon import Daemon
from lab.nodes import Domain
from lab.waiting import LONG, wait_until

_LIVE, _UNSAFE = 1, 1 << 9

_MIB_PER_SECOND = 1
_FAST = 1_000
_LONGEST = 2_000_000
"""The longest downtime that QEMU accepts, in ms."""


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Daemon, Daemon]]:
    """Start two daemons that take themselves for two machines: libvirt migrates to another only."""
    with Daemon(extra=_identity()) as source, Daemon(extra=_identity()) as target:
        yield source, target


def _identity() -> str:
    return f'host_uuid = "{uuid.uuid4()}"'


class Migration:
    """A migration that is under way, in a thread. `error` is how it failed, None if it did not."""

    def __init__(self, source: Daemon, target: Daemon, guest: Domain) -> None:
        self._source, self._target, self._guest = source, target, guest
        self.error: libvirt.libvirtError | None = None
        self._connection = libvirt.open(source.qemu_uri)
        self._domain = self._connection.lookupByUUIDString(str(guest.uuid))
        self._thread = threading.Thread(target=self._run, name="migration")
        self._thread.start()

    def _run(self) -> None:
        """Migrate, over connections of its own: the call lasts as long as the migration."""
        source = libvirt.open(self._source.qemu_uri)
        target = libvirt.open(self._target.qemu_uri)
        try:
            source.lookupByUUIDString(str(self._guest.uuid)).migrate3(
                target,
                {
                    "migrate_uri": f"unix://{self._target.directory}/m-{self._guest.name}",
                    "bandwidth": _MIB_PER_SECOND,
                },
                _LIVE | _UNSAFE,
            )
        except libvirt.libvirtError as error:
            self.error = error
        finally:
            source.close()
            target.close()

    def complete(self) -> None:
        """Let it complete, and wait until it has."""
        self._domain.migrateSetMaxSpeed(_FAST)
        self.let_last_phase_begin()
        self.wait()

    def let_last_phase_begin(self) -> None:
        """Let the source pause its guest and move the rest, however long that takes."""
        self._domain.migrateSetMaxDowntime(_LONGEST)

    def cancel(self) -> None:
        """Cancel it, and wait until it has ended."""
        self._domain.abortJob()
        self.wait()

    def wait(self) -> None:
        """Wait until it has ended.

        Raises:
            TimeoutError: it goes on.
        """
        self._thread.join(LONG)
        if self._thread.is_alive():
            raise TimeoutError("the migration goes on")

    def close(self) -> None:
        """End it, if it goes on."""
        with contextlib.suppress(libvirt.libvirtError):
            self._domain.abortJob()
        self._thread.join(LONG)
        self._connection.close()


@contextlib.contextmanager
def migrating(source: Daemon, target: Daemon, guest: Domain) -> Iterator[Migration]:
    """Start a guest, transient, and its migration; both end with the block."""
    connection = libvirt.open(source.qemu_uri)
    try:
        domain = connection.createXML(busy_guest(source, guest))
        wait_until(lambda: is_busy(domain))
        migration = Migration(source, target, guest)
        try:
            yield migration
        finally:
            migration.close()
    finally:
        connection.close()
        for daemon in (source, target):
            _end(daemon, guest)


def _end(daemon: Daemon, guest: Domain) -> None:
    connection = libvirt.open(daemon.qemu_uri)
    try:
        with contextlib.suppress(libvirt.libvirtError):
            connection.lookupByUUIDString(str(guest.uuid)).destroy()
    finally:
        connection.close()
