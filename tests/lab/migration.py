"""Two hosts on this machine, and guests that migrate from one to the other.

In: two private daemons (`two_hosts`), a guest that changes its memory (`lab.boot`). Out: a
migration that goes on until it is told to complete or to end: the guest changes its memory faster
than a MiB a second, which is the slowest migration that libvirt makes.

Both daemons are on one machine and share its files, so libvirt is told that this is safe.

Source: libvirt include/libvirt/libvirt-domain.h (virDomainMigrateFlags, VIR_MIGRATE_PARAM_*).
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator

import libvirt
from lab.boot import busy_guest
from lab.daemon import Daemon
from lab.nodes import Domain
from lab.waiting import LONG

_LIVE, _UNSAFE = 1, 1 << 9
POSTCOPY = 1 << 15
"""The flag of a migration that may go on as post-copy."""

_MIB_PER_SECOND = 1
_FAST = 1_000


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Daemon, Daemon]]:
    """Start two daemons that take themselves for two machines: libvirt migrates to another only."""
    with Daemon(extra=_identity()) as source, Daemon(extra=_identity()) as target:
        yield source, target


def _identity() -> str:
    return f'host_uuid = "{uuid.uuid4()}"'


class Migration:
    """A migration that is under way, in a thread. `error` is how it failed, None if it did not."""

    def __init__(self, source: Daemon, target: Daemon, guest: Domain, *, flags: int = 0) -> None:
        self._source, self._target, self._guest = source, target, guest
        self._flags = flags
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
                _LIVE | _UNSAFE | self._flags,
            )
        except libvirt.libvirtError as error:
            self.error = error
        finally:
            source.close()
            target.close()

    def complete(self) -> None:
        """Let it complete, and wait until it has."""
        self.speed_up()
        self.wait()

    def speed_up(self) -> None:
        """Let it move memory faster than the guest changes it."""
        self._domain.migrateSetMaxSpeed(_FAST)

    def let_last_phase_begin(self) -> None:
        """Let the source pause its guest and move the rest, however long that takes."""
        self._domain.migrateSetMaxDowntime(3_600_000)

    def switch_to_postcopy(self) -> None:
        """Let the guest go on at the target before its memory is there."""
        self._domain.migrateStartPostCopy()

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
def migrating(
    source: Daemon, target: Daemon, guest: Domain, *, flags: int = 0
) -> Iterator[Migration]:
    """Start a guest, transient, and its migration; the block ends the migration."""
    connection = libvirt.open(source.qemu_uri)
    try:
        connection.createXML(busy_guest(source, guest))
        migration = Migration(source, target, guest, flags=flags)
        try:
            yield migration
        finally:
            migration.close()
    finally:
        connection.close()
