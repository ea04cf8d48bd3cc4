"""How a live migration looks to libvirt: the states and events of source and target. Pure.

In: nothing. Out: libvirt's numbers by name. What QEMU's driver does, measured on 9.0 and read in
its source:

- The target is paused (starting up) while its QEMU starts, as in any boot; then paused (migrating)
  until the guest runs. STARTED (migrated) comes between these two, so long before the guest runs;
  RESUMED (migrated) comes when it does. If the migration fails, STOPPED (failed) comes, and the
  domain is gone.
- The source runs until the last phase. Then it is paused (migrating) too, after SUSPENDED
  (migrated); then STOPPED (migrated) comes. If the migration fails in the last phase, the source
  runs again: running (migration canceled).
- With post-copy the guest runs on the target while its source is paused (post-copy).

Source: libvirt src/qemu/qemu_migration.c (qemuMigrationDstPrepareActive, qemuMigrationDstFinish,
qemuMigrationSrcConfirmPhase), include/libvirt/libvirt-domain.h.
"""

from __future__ import annotations

from typing import Final

from guestlist.event import Lifecycle

Told = tuple[int, int]
"""A lifecycle event and its detail, libvirt's numbers."""

PAUSED_MIGRATING: Final = 2
PAUSED_STARTING_UP: Final = 11
PAUSED_POSTCOPY: Final = 12
"""Reasons of PAUSED (VIR_DOMAIN_PAUSED_*)."""

RUNNING_MIGRATED: Final = 2
RUNNING_CANCELED: Final = 6
RUNNING_POSTCOPY: Final = 10
"""Reasons of RUNNING (VIR_DOMAIN_RUNNING_*)."""

SHUTOFF_MIGRATED: Final = 4
"""The reason of SHUTOFF of a source that stays defined (VIR_DOMAIN_SHUTOFF_MIGRATED)."""

STARTED_MIGRATED: Final[Told] = (Lifecycle.STARTED, 1)
SUSPENDED_MIGRATED: Final[Told] = (Lifecycle.SUSPENDED, 1)
RESUMED_MIGRATED: Final[Told] = (Lifecycle.RESUMED, 1)
RESUMED_POSTCOPY: Final[Told] = (Lifecycle.RESUMED, 3)
STOPPED_MIGRATED: Final[Told] = (Lifecycle.STOPPED, 3)
STOPPED_FAILED: Final[Told] = (Lifecycle.STOPPED, 5)
"""Events of a migration (virDomainEventType, and the details of each)."""
