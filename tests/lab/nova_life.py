"""What Nova does with servers, in Nova's order of writes and of steps at the hypervisors.

In: a Nova API without compute services (`lab.nova_api`), compute hosts, and a server. Out: each
operation as a generator, which does one write or one step at a hypervisor, and then lets its caller
wait as long as it likes. So whatever an audit can see between two steps of a real Nova it can see
here. An operation changes one server, and each server is in one operation at a time, as with Nova.

Source: Nova 34 (2026.2), compute/api.py, conductor/manager.py, compute/manager.py,
compute/resource_tracker.py, virt/libvirt/driver.py. Each operation names its methods. Of the states
of a task only those that the API shows are written.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID, uuid4

import libvirt
from lab.nodes import Domain, domain_xml, nova_instance
from lab.nova_api import NovaApi

NOSTATE, RUNNING, PAUSED, SHUTDOWN = 0, 1, 3, 4
"""Nova's power states."""

Steps = Iterator[None]

_LIKE = nova_instance(0)


def domain_of(uuid: UUID, name: str) -> Domain:
    """Return the domain that Nova makes for a server of the laboratory's project."""
    metadata = re.sub(r'(<nova:project uuid=)"\w+"', r'\1"lab"', _LIKE.metadata)
    sysinfo = _LIKE.sysinfo.replace(str(_LIKE.uuid), str(uuid))
    return replace(_LIKE, uuid=uuid, name=name, metadata=metadata, sysinfo=sysinfo)


@dataclass(eq=False, slots=True)
class Host:
    """A compute host: the name that Nova has for it, its cell, and a connection to its libvirt.

    `xml` makes the XML of a domain. `neighbour` is the other host of its cell, if there is one.
    """

    name: str
    uri: str
    connection: libvirt.virConnect
    cell: str = "cell1"
    xml: Callable[[Domain], str] = domain_xml
    neighbour: Host | None = None

    def define(self, domain: Domain) -> None:
        """Define a domain, or replace its definition."""
        self.connection.defineXML(self.xml(domain))

    def start(self, domain: Domain, *, paused: bool = False) -> None:
        """Start a defined domain. The test driver cannot start it paused, and pauses it at once."""
        handle = self._get(domain)
        flags = libvirt.VIR_DOMAIN_START_PAUSED if paused and not self._is_test else 0
        handle.createWithFlags(flags)
        if paused and self._is_test:
            handle.suspend()

    def receive(self, domain: Domain) -> None:
        """Create the transient, paused domain into which a guest is migrated."""
        self.connection.createXML(self.xml(domain), 0).suspend()

    @property
    def _is_test(self) -> bool:
        return self.uri.startswith("test")

    def suspend(self, domain: Domain) -> None:
        """Pause a domain."""
        self._get(domain).suspend()

    def resume(self, domain: Domain) -> None:
        """Let a paused domain go on."""
        self._get(domain).resume()

    def destroy(self, domain: Domain) -> None:
        """Stop a domain at once; no error if it does not run."""
        with contextlib.suppress(libvirt.libvirtError):
            self._get(domain).destroy()

    def undefine(self, domain: Domain) -> None:
        """Remove a domain's definition; no error if it has none."""
        with contextlib.suppress(libvirt.libvirtError):
            self._get(domain).undefine()

    def _get(self, domain: Domain) -> libvirt.virDomain:
        return self.connection.lookupByUUID(domain.uuid.bytes)


@dataclass(eq=False, slots=True)
class Server:
    """A server and where it is. `state` is Nova's `vm_state`; `domain` is what its host has."""

    uuid: UUID
    host: Host
    domain: Domain
    state: str = "active"
    was: str = "active"
    migration: int = 0


class Life:
    """Nova's operations. `operations` gives those that a server can begin in its state."""

    def __init__(self, nova: NovaApi) -> None:
        self._nova = nova

    def settled(self, host: Host, state: str = "active", devices: str = "") -> Server:
        """Make a server that is not new, "active", "stopped" or "paused"."""
        uuid = uuid4()
        power = {"active": RUNNING, "stopped": SHUTDOWN, "paused": PAUSED}[state]
        name = self._nova.create(uuid, host.name, cell=host.cell, vm_state=state, power_state=power)
        server = Server(uuid, host, replace(domain_of(uuid, name), devices=devices), state)
        host.define(server.domain)
        if state != "stopped":
            host.start(server.domain, paused=state == "paused")
        return server

    def operations(self, server: Server) -> list[tuple[str, Callable[[], Steps]]]:
        """Return the operations that the server can begin, with their names."""
        here = {
            "active": [
                *(self.stop, self.reboot, self.pause, self.suspend, self.rescue, self.soft_delete),
                *(self.delete, self.shelve, self.stop_from_within),
            ],
            "stopped": [self.start, self.delete, self.shelve],
            "paused": [self.unpause, self.delete],
            "suspended": [self.resume],
            "rescued": [self.unrescue],
            "soft-delete": [self.restore, self.reclaim],
            "shelved_offloaded": [self.unshelve, self.delete_shelved],
            "resized": [self.confirm, self.revert],
            "deleted": [],
        }[server.state]
        if server.host.neighbour and server.state in ("active", "stopped"):
            here += [self.resize, self.migrate, self.evacuate]
            if server.state == "active":
                here += [self.live_migrate]
        return [(each.__name__.replace("_", " "), partial(each, server)) for each in here]

    # Launch and deletion

    def launch(self, host: Host, made: list[Server]) -> Steps:
        """Launch a server on the host, and add it to `made` when it is there.

        `API._provision_instances`; `ComputeTaskManager.schedule_and_build_instances`;
        `ComputeManager._do_build_and_run_instance`, `_build_and_run_instance`, `_build_resources`;
        `ResourceTracker.instance_claim`; `LibvirtDriver.spawn`, which starts the guest paused until
        Neutron has plugged it.
        """
        uuid = uuid4()
        self._nova.request(uuid)
        yield
        name = self._nova.schedule(uuid, host.cell)
        yield
        server = Server(uuid, host, domain_of(uuid, name))
        self._nova.update(uuid, vm_state="building", task_state=None)
        yield
        self._nova.update(uuid, host=host.name)
        yield
        self._nova.update(uuid, task_state="networking")
        self._nova.update(uuid, task_state="block_device_mapping")
        yield
        self._nova.update(uuid, task_state="spawning")
        yield
        yield from self._spawn(server, paused=True)
        yield
        self._settle(server, "active", RUNNING)
        made.append(server)

    def delete(self, server: Server) -> Steps:
        """Delete a server.

        `API._delete`, `_do_delete`; `ComputeManager._delete_instance`, which writes the state
        "deleted" some time before it marks the row as deleted.
        """
        self._begin(server, "deleting", "delete")
        yield
        self._nova.queue_for_delete(server.uuid)
        yield
        yield from self._vanish(server)
        yield
        self._settle(server, "deleted", NOSTATE)
        yield
        self._nova.delete(server.uuid)

    def soft_delete(self, server: Server) -> Steps:
        """Delete a server so that it can be restored.

        `API.soft_delete`; `ComputeManager.soft_delete_instance`: libvirt's driver has no
        `soft_delete`, so the guest is stopped.
        """
        self._begin(server, "soft-deleting", "delete")
        yield
        self._nova.queue_for_delete(server.uuid)
        yield
        server.host.destroy(server.domain)
        yield
        self._settle(server, "soft-delete", SHUTDOWN)

    def restore(self, server: Server) -> Steps:
        """Restore a server that was deleted softly.

        `API.restore`, `ComputeManager.restore_instance`: the driver has no `restore`, so the guest
        is started (`power_on`).
        """
        self._nova.action(server.uuid, "restore")
        yield
        self._nova.update(server.uuid, task_state="restoring")
        self._nova.queue_for_delete(server.uuid, queued=False)
        yield
        yield from self._power_on(server)
        yield
        self._settle(server, "active", RUNNING)

    def reclaim(self, server: Server) -> Steps:
        """Delete a server that was deleted softly, when its time is over.

        `ComputeManager._reclaim_queued_deletes`: no action and no task tells of it.
        """
        yield from self._vanish(server)
        yield
        self._settle(server, "deleted", NOSTATE)
        yield
        self._nova.delete(server.uuid)

    # Power

    def stop(self, server: Server) -> Steps:
        """Stop a server. `API.force_stop`, `ComputeManager.stop_instance`."""
        self._begin(server, "powering-off", "stop")
        yield
        yield from self._stop(server)

    def stop_from_within(self, server: Server) -> Steps:
        """Let a guest shut itself down; Nova hears of it later, and then stops the server.

        `ComputeManager.handle_lifecycle_event`, `_sync_instance_power_state`: the power state
        first, then `API.force_stop`.
        """
        server.host.destroy(server.domain)
        yield
        self._nova.update(server.uuid, power_state=SHUTDOWN)
        yield
        yield from self.stop(server)

    def start(self, server: Server) -> Steps:
        """Start a server. `API.start`, `ComputeManager.start_instance`."""
        self._begin(server, "powering-on", "start")
        yield
        yield from self._power_on(server)
        yield
        self._settle(server, "active", RUNNING)

    def reboot(self, server: Server) -> Steps:
        """Reboot a server hard. `API._hard_reboot`, `ComputeManager._do_reboot_instance`."""
        self._begin(server, "rebooting_hard", "reboot")
        yield
        self._nova.update(server.uuid, task_state="reboot_pending_hard")
        self._nova.update(server.uuid, task_state="reboot_started_hard")
        yield
        yield from self._power_on(server)
        yield
        self._settle(server, "active", RUNNING)

    def pause(self, server: Server) -> Steps:
        """Pause a server. `API.pause`, `ComputeManager.pause_instance`."""
        self._begin(server, "pausing", "pause")
        yield
        server.host.suspend(server.domain)
        yield
        self._settle(server, "paused", PAUSED)

    def unpause(self, server: Server) -> Steps:
        """Let a paused server go on. `API.unpause`, `ComputeManager.unpause_instance`."""
        self._begin(server, "unpausing", "unpause")
        yield
        server.host.resume(server.domain)
        yield
        self._settle(server, "active", RUNNING)

    def suspend(self, server: Server) -> Steps:
        """Save a server's memory and stop it. `API.suspend`, `ComputeManager.suspend_instance`.

        The driver saves the memory (`managedSave`); here the domain is only stopped.
        """
        self._begin(server, "suspending", "suspend")
        yield
        server.host.destroy(server.domain)
        yield
        self._settle(server, "suspended", SHUTDOWN)

    def resume(self, server: Server) -> Steps:
        """Start a server from its memory. `API.resume`, `ComputeManager.resume_instance`."""
        self._begin(server, "resuming", "resume")
        yield
        server.host.start(server.domain)
        yield
        self._settle(server, "active", RUNNING)

    def rescue(self, server: Server) -> Steps:
        """Start a server from another image.

        `API.rescue`; `ComputeManager.rescue_instance`, which stops the guest first;
        `LibvirtDriver.rescue`.
        """
        self._begin(server, "rescuing", "rescue")
        yield
        yield from self._replace(server)
        yield
        self._settle(server, "rescued", RUNNING)

    def unrescue(self, server: Server) -> Steps:
        """End a rescue. `API.unrescue`, `ComputeManager.unrescue_instance`."""
        self._begin(server, "unrescuing", "unrescue")
        yield
        yield from self._replace(server)
        yield
        self._settle(server, "active", RUNNING)

    # Shelving

    def shelve(self, server: Server) -> Steps:
        """Shelve a server and take it from its host.

        `API.shelve`; `ComputeManager._shelve_instance` stops the guest and makes an image of it;
        `_shelve_offload_instance` deletes the domain, and leaves the host in the record until a
        second write.
        """
        self._begin(server, "shelving", "shelve")
        yield
        server.host.destroy(server.domain)
        yield
        self._nova.update(server.uuid, task_state="shelving_image_pending_upload")
        self._nova.update(server.uuid, task_state="shelving_image_uploading")
        yield
        self._nova.update(
            server.uuid, vm_state="shelved", task_state="shelving_offloading", power_state=SHUTDOWN
        )
        yield
        yield from self._vanish(server)
        yield
        self._settle(server, "shelved_offloaded", NOSTATE)
        yield
        self._nova.update(server.uuid, host=None)

    def unshelve(self, server: Server) -> Steps:
        """Launch a shelved server again, on any host of its cell.

        `API.unshelve`; `ComputeManager._unshelve_instance`; `ResourceTracker.instance_claim`.
        """
        server.host = server.host.neighbour or server.host
        self._begin(server, "unshelving", "unshelve")
        yield
        self._nova.update(server.uuid, task_state="spawning")
        yield
        self._nova.update(server.uuid, host=server.host.name)
        yield
        yield from self._spawn(server, paused=True)
        yield
        self._settle(server, "active", RUNNING)

    def delete_shelved(self, server: Server) -> Steps:
        """Delete a server that is on no host. `API._delete`, `_local_delete`."""
        self._nova.update(server.uuid, task_state="deleting")
        yield
        self._settle(server, "deleted", NOSTATE)
        yield
        self._nova.queue_for_delete(server.uuid)
        self._nova.delete(server.uuid)

    # Moves

    def resize(self, server: Server) -> Steps:
        """Resize a server, to the other host; it then waits for the user."""
        yield from self._move(server, "resize", "resize")

    def migrate(self, server: Server) -> Steps:
        """Migrate a server cold, to the other host; it then waits for the user."""
        yield from self._move(server, "migration", "migrate")

    def _move(self, server: Server, kind: str, action: str) -> Steps:
        """Move a server cold.

        `API.resize`; `MigrationTask._preallocate_migration`; `ResourceTracker.resize_claim`;
        `ComputeManager._prep_resize`, `_resize_instance`, `_finish_resize`;
        `LibvirtDriver.migrate_disk_and_power_off` keeps the old domain, shut off, and
        `finish_migration` starts the new one, unless the server was stopped.
        """
        source, dest = server.host, server.host.neighbour
        assert dest is not None
        server.was = server.state
        self._begin(server, "resize_prep", action)
        yield
        move = self._nova.migration(server.uuid, kind, "pre-migrating", source.name)
        yield
        self._tell(server, move, dest_compute=dest.name, dest_node=dest.name)
        yield
        self._tell(server, move, status="migrating")
        self._nova.update(server.uuid, task_state="resize_migrating")
        yield
        source.destroy(server.domain)
        yield
        self._tell(server, move, status="post-migrating")
        self._nova.update(server.uuid, host=dest.name, task_state="resize_migrated")
        yield
        self._nova.update(server.uuid, task_state="resize_finish")
        yield
        dest.define(server.domain)
        yield
        if server.was == "active":
            dest.start(server.domain)
            yield
        self._tell(server, move, status="finished")
        yield
        server.host, server.migration = dest, move
        self._settle(server, "resized")

    def confirm(self, server: Server) -> Steps:
        """Confirm a resize.

        `API.confirm_resize`; `ComputeManager._confirm_resize`: `LibvirtDriver.confirm_migration`
        removes the old domain, then `ResourceTracker.drop_move_claim_at_source` confirms.
        """
        source = server.host.neighbour
        assert source is not None
        self._tell(server, server.migration, status="confirming")
        yield
        self._nova.action(server.uuid, "confirmResize")
        yield
        source.undefine(server.domain)
        yield
        self._tell(server, server.migration, status="confirmed")
        yield
        self._settle(server, server.was)

    def revert(self, server: Server) -> Steps:
        """Revert a resize.

        `API.revert_resize`; `ComputeManager.revert_resize` removes the new domain, then
        `ResourceTracker.drop_move_claim_at_dest` writes "reverted" before the old guest runs;
        `_finish_revert_resize`, `LibvirtDriver.finish_revert_migration`.
        """
        dest, source = server.host, server.host.neighbour
        assert source is not None
        self._nova.update(server.uuid, task_state="resize_reverting")
        self._tell(server, server.migration, status="reverting")
        self._nova.action(server.uuid, "revertResize")
        yield
        yield from self._vanish(server)
        yield
        self._tell(server, server.migration, status="reverted")
        yield
        self._nova.update(server.uuid, host=source.name)
        server.host = source
        yield
        source.define(server.domain)
        if server.was == "active":
            source.start(server.domain)
        yield
        if server.was == "active":
            self._settle(server, "active", RUNNING)
            return
        self._nova.update(server.uuid, task_state="powering-off")
        yield
        yield from self._stop(server)
        assert dest is not source

    def live_migrate(self, server: Server) -> Steps:
        """Migrate a running server.

        `API.live_migrate`; `ComputeTaskManager._live_migrate`, `LiveMigrationTask._execute`;
        `ComputeManager.live_migration`, `_do_live_migration`, `_post_live_migration`,
        `_do_post_live_migration_at_destination`. libvirt creates a paused domain at the
        destination, ends the one at the source, and keeps the definition only at the destination.
        """
        source, dest = server.host, server.host.neighbour
        assert dest is not None
        self._begin(server, "migrating", "live-migration")
        yield
        move = self._nova.migration(server.uuid, "live-migration", "accepted", source.name)
        yield
        self._tell(server, move, dest_compute=dest.name, dest_node=dest.name)
        self._tell(server, move, status="queued")
        yield
        self._tell(server, move, status="preparing")
        yield
        self._tell(server, move, status="running")
        yield
        dest.receive(server.domain)
        yield
        source.suspend(server.domain)
        yield
        dest.resume(server.domain)
        yield
        dest.define(server.domain)
        source.destroy(server.domain)
        source.undefine(server.domain)
        yield
        server.host = dest
        self._nova.update(server.uuid, host=dest.name, task_state=None, power_state=RUNNING)
        yield
        self._tell(server, move, status="completed")

    def evacuate(self, server: Server) -> Steps:
        """Launch the server of a failed host on another one; then the failed host comes back.

        `API.evacuate`; `ComputeManager.rebuild_instance`, `_do_rebuild_instance`,
        `_rebuild_default_impl`; `ResourceTracker.rebuild_claim`. The server is active again before
        `finish_evacuation` writes its new host, and only then the migration is "done". The old
        domain stays, shut off, until `_destroy_evacuated_instances` at the start of the failed
        host's compute service. The failure itself is not played: the old domain stops when Nova is
        already at work.
        """
        source, dest = server.host, server.host.neighbour
        assert dest is not None
        was = server.state
        self._begin(server, "rebuilding", "evacuate")
        move = self._nova.migration(server.uuid, "evacuation", "accepted", source.name, dest.name)
        yield
        source.destroy(server.domain)
        yield
        self._tell(server, move, status="pre-migrating", dest_node=dest.name)
        yield
        self._nova.update(server.uuid, power_state=NOSTATE, task_state="rebuilding")
        self._nova.update(server.uuid, task_state="rebuild_block_device_mapping")
        self._nova.update(server.uuid, task_state="rebuild_spawning")
        yield
        server.host = dest
        yield from self._spawn(server, paused=True)
        yield
        self._settle(server, "active", RUNNING)
        yield
        if was == "stopped":
            self._nova.update(server.uuid, task_state="powering-off")
            yield
            yield from self._stop(server)
            yield
        self._nova.update(server.uuid, host=dest.name)
        yield
        self._tell(server, move, status="done")
        yield
        source.undefine(server.domain)
        yield
        self._tell(server, move, status="completed")

    # Steps of several operations

    def _begin(self, server: Server, task: str, action: str) -> None:
        """Write the task and record the action, as `API` does before it asks the compute host."""
        self._nova.update(server.uuid, task_state=task)
        self._nova.action(server.uuid, action)

    def _settle(self, server: Server, state: str, power: int | None = None) -> None:
        """Write the state that the server has now, and end its task."""
        server.state = state
        columns: dict[str, object] = {"vm_state": state, "task_state": None}
        if power is not None:
            columns["power_state"] = power
        self._nova.update(server.uuid, **columns)

    def _tell(self, server: Server, move: int, **columns: object) -> None:
        self._nova.update_migration(server.uuid, move, **columns)

    def _stop(self, server: Server) -> Steps:
        """`ComputeManager.stop_instance`; `LibvirtDriver.power_off` keeps the domain."""
        server.host.destroy(server.domain)
        yield
        self._settle(server, "stopped", SHUTDOWN)

    def _power_on(self, server: Server) -> Steps:
        """`LibvirtDriver.power_on`, `_hard_reboot`: delete the domain, and make it again."""
        yield from self._vanish(server)
        yield
        yield from self._spawn(server, paused=False)

    def _replace(self, server: Server) -> Steps:
        """`LibvirtDriver.rescue`, `unrescue`: stop the guest, change its definition, start it."""
        server.host.destroy(server.domain)
        yield
        server.host.define(server.domain)
        server.host.start(server.domain)

    def _spawn(self, server: Server, *, paused: bool) -> Steps:
        """`LibvirtDriver._create_guest_with_network`."""
        server.host.define(server.domain)
        yield
        server.host.start(server.domain, paused=paused)
        if paused:
            yield
            server.host.resume(server.domain)

    def _vanish(self, server: Server) -> Steps:
        """`LibvirtDriver.destroy`: stop the domain, then remove its definition."""
        server.host.destroy(server.domain)
        yield
        server.host.undefine(server.domain)
