"""The rows of servers in the cells, written by Nova's own objects. Each function is a request.

In: the cells by name, and what a test says of a server. Out: rows, and what Nova made up itself:
ids and names. A function does one write of Nova's, or, as `launch`, several that belong together.
Times are Nova's own.
"""

import contextlib
import uuid as uuids

import sqlalchemy as sa
from ground import CONF
from nova import context, objects
from nova.db.api import api as api_db
from nova.db.api import models as api_models
from nova.db.main import api as main_db
from nova.db.main import models
from nova.network import model
from oslo_utils import timeutils

PROJECT, USER = "lab", "admin"
SIZE = {"memory_mb": 64, "vcpus": 1, "root_gb": 1, "ephemeral_gb": 0}
_REQUESTED = {"vm_state": "building", "task_state": "scheduling", "power_state": 0}
_COPIED = (models.Instance, models.InstanceExtra, models.InstanceInfoCache)


def add_host(cells, host, cell):
    """Add a compute host: its service, its node, and the mapping to its cell."""
    admin = context.get_admin_context()
    with context.target_cell(admin, cells[cell]) as there:
        service = objects.Service(
            there, host=host, binary="nova-compute", topic="compute", report_count=1
        )
        service.create()
        objects.ComputeNode(
            there,
            service_id=service.id,
            host=host,
            hypervisor_hostname=host,
            uuid=str(uuids.uuid4()),
            vcpus=8,
            memory_mb=65536,
            local_gb=1000,
            vcpus_used=0,
            memory_mb_used=0,
            local_gb_used=0,
            hypervisor_type="QEMU",
            hypervisor_version=9000000,
            cpu_info="{}",
        ).create()
    objects.HostMapping(admin, host=host, cell_mapping=cells[cell]).create()


def request(cells, uuid, name):
    """Write what the API writes at a request for a server, before a cell has it.

    `compute.api.API._provision_instances`: request spec, build request, instance mapping.
    """
    admin = _asking()
    instance = _instance(admin, uuid, name, **_REQUESTED)
    _request_spec(admin, uuid, instance.flavor).create()
    objects.BuildRequest(
        admin,
        instance=instance,
        instance_uuid=uuid,
        project_id=PROJECT,
        block_device_mappings=objects.BlockDeviceMappingList(objects=[]),
        tags=objects.TagList(objects=[]),
    ).create()
    mapping = objects.InstanceMapping(admin, instance_uuid=uuid, project_id=PROJECT, user_id=USER)
    mapping.cell_mapping = None
    mapping.queued_for_delete = False
    mapping.create()


def schedule(cells, uuid, cell):
    """Write what the conductor writes when it has chosen a host, in that host's cell.

    `conductor.manager.ComputeTaskManager.schedule_and_build_instances`: the instance, still without
    a host; the action "create"; the mapping; and no build request any more. Returns the instance's
    name.
    """
    admin = _asking()
    wanted = objects.BuildRequest.get_by_instance_uuid(admin, uuid)
    instance = wanted.get_new_instance(admin)
    with context.target_cell(admin, cells[cell]) as there:
        instance._context = there
        instance.create()
        objects.InstanceAction.action_start(there, uuid, "create", want_result=False)
    mapping = objects.InstanceMapping.get_by_instance_uuid(admin, uuid)
    mapping.cell_mapping = cells[cell]
    mapping.save()
    wanted.destroy()
    return instance.name


def launch(cells, *, uuid, name, host, cell, columns):
    """Write all rows of a server that is not new. Returns the instance's name."""
    admin = _asking()
    instance = _instance(admin, uuid, name, host=host, **_node(cells[cell], host), **columns)
    _request_spec(admin, uuid, instance.flavor).create()
    with context.target_cell(admin, cells[cell]) as there:
        instance._context = there
        instance.create()
        instance.launched_at = timeutils.utcnow()
        instance.save()  # until a first change the API shows the time of now as that of the change
        objects.InstanceAction.action_start(there, uuid, "create", want_result=False)
        objects.InstanceAction.action_finish(there, uuid, want_result=False)
    objects.InstanceMapping(
        admin,
        instance_uuid=uuid,
        project_id=PROJECT,
        user_id=USER,
        cell_mapping=cells[cell],
        queued_for_delete=False,
    ).create()
    return instance.name


def launch_many(cells, servers, cell):
    """Write rows of many servers, as copies of the rows of the first one, which `launch` writes.

    `servers` are UUID, name and host of each. Returns the names of the instances.
    """
    first, *others = servers
    uuid, name, host = first
    names = [launch(cells, uuid=uuid, name=name, host=host, cell=cell, columns={})]
    admin = context.get_admin_context()
    with context.target_cell(admin, cells[cell]) as there:
        nodes = {host: _node(cells[cell], host) for host in {host for *_, host in servers}}
        with main_db.get_context_manager(there).writer.using(there) as session:
            for kind in _COPIED:
                table = kind.__table__
                key = "uuid" if kind is models.Instance else "instance_uuid"
                row = session.execute(sa.select(table).where(table.c[key] == first[0]))
                row = row.mappings().one()
                kept = {column: value for column, value in row.items() if column != "id"}
                if kind is models.Instance:
                    rows = [
                        kept
                        | {"uuid": uuid, "display_name": name, "hostname": name, "host": host}
                        | nodes[host]
                        for uuid, name, host in others
                    ]
                else:
                    rows = [kept | {key: uuid} for uuid, *_ in others]
                session.execute(sa.insert(table), rows)
            table = models.Instance.__table__
            numbers = dict(session.execute(sa.select(table.c.uuid, table.c.id)).all())
    _map_as(admin, first[0], [uuid for uuid, *_ in others])
    return names + [CONF.instance_name_template % numbers[uuid] for uuid, *_ in others]


def update(cells, uuid, columns):
    """Change an instance by one `Instance.save`.

    A host of None empties host and node; another one sets both.
    """
    with _instance_of(uuid) as instance:
        if "host" in columns:
            host = columns["host"]
            mapping = objects.InstanceMapping.get_by_instance_uuid(instance._context, uuid)
            columns = columns | (
                _node(mapping.cell_mapping, host) if host else {"node": None, "compute_id": None}
            )
        for column, value in columns.items():
            setattr(instance, column, value)
        instance.save()


def delete(cells, uuid):
    """Delete an instance: the row stays, and is marked as deleted (`Instance.destroy`)."""
    with _instance_of(uuid) as instance:
        instance.destroy()


def queue_for_delete(cells, uuid, queued=True):
    """Mark a server's mapping as one that is about to be deleted, as the API does."""
    mapping = objects.InstanceMapping.get_by_instance_uuid(context.get_admin_context(), uuid)
    mapping.queued_for_delete = queued
    mapping.save()


def act(cells, uuid, name):
    """Begin an action of a server. Returns its request id."""
    with _instance_of(uuid) as instance:
        objects.InstanceAction.action_start(instance._context, uuid, name, want_result=False)
        return instance._context.request_id


def migrate(cells, *, uuid, kind, status, source, dest):
    """Create a migration of a server. Returns its id in the server's cell."""
    with _instance_of(uuid) as instance:
        migration = objects.Migration(
            instance._context,
            instance_uuid=uuid,
            migration_type=kind,
            status=status,
            source_compute=source,
            source_node=source,
            **_sizes(kind),
        )
        if dest:
            migration.dest_compute = migration.dest_node = migration.dest_host = dest
            migration.dest_compute_id = 1
        migration.create()
        return migration.id


def update_migration(cells, uuid, number, columns):
    """Change a migration by one `Migration.save`."""
    with _instance_of(uuid, read_deleted="yes") as instance:
        migration = objects.Migration.get_by_id(instance._context, number)
        for column, value in columns.items():
            setattr(migration, column, value)
        migration.save()


def _sizes(kind):
    return {"old_instance_type_id": 1, "new_instance_type_id": 2 if kind == "resize" else 1}


@api_db.context_manager.writer
def _map_as(admin, like, uuids_of_many):
    """Copy the mapping and the request spec of one server for many."""
    for kind in (api_models.InstanceMapping, api_models.RequestSpec):
        table = kind.__table__
        row = admin.session.execute(sa.select(table).where(table.c.instance_uuid == like))
        row = {column: value for column, value in row.mappings().one().items() if column != "id"}
        rows = [row | {"instance_uuid": uuid} for uuid in uuids_of_many]
        admin.session.execute(sa.insert(table), rows)


def _asking():
    """Return the context of a request of the admin's."""
    return context.RequestContext(USER, PROJECT, is_admin=True, overwrite=False)


@contextlib.contextmanager
def _instance_of(uuid, read_deleted="no"):
    """Give the instance, with a context of its cell."""
    admin = _asking()
    mapping = objects.InstanceMapping.get_by_instance_uuid(admin, uuid)
    with context.target_cell(admin, mapping.cell_mapping) as there:
        there.read_deleted = read_deleted
        yield objects.Instance.get_by_uuid(there, uuid, expected_attrs=["flavor"])


def _node(cell, host):
    with context.target_cell(context.get_admin_context(), cell) as there:
        node = objects.ComputeNode.get_by_host_and_nodename(there, host, host)
        return {"node": host, "compute_id": node.id}


def _flavor():
    return objects.Flavor(
        id=1,
        name="lab",
        flavorid="lab",
        swap=0,
        extra_specs={},
        disabled=False,
        is_public=True,
        rxtx_factor=1.0,
        vcpu_weight=0,
        description=None,
        projects=[],
        **SIZE,
    )


def _instance(asking, uuid, name, **columns):
    """Return an instance that is not in a database, with all that the API sets at a request."""
    settled = {"vm_state": "active", "task_state": None, "power_state": 1}
    return objects.Instance(
        asking,
        uuid=uuid,
        project_id=PROJECT,
        user_id=USER,
        display_name=name,
        display_description=name,
        hostname=name,
        reservation_id="r-lab",
        launch_index=0,
        image_ref="",
        kernel_id="",
        ramdisk_id="",
        config_drive="",
        user_data=None,
        key_name=None,
        key_data=None,
        locked=False,
        access_ip_v4=None,
        access_ip_v6=None,
        availability_zone=None,
        root_device_name="/dev/vda",
        progress=0,
        auto_disk_config=False,
        shutdown_terminate=False,
        pci_requests=objects.InstancePCIRequests(requests=[]),
        numa_topology=None,
        flavor=_flavor(),
        old_flavor=None,
        new_flavor=None,
        instance_type_id=1,
        system_metadata={},
        metadata={},
        security_groups=objects.SecurityGroupList(objects=[]),
        keypairs=objects.KeyPairList(objects=[]),
        trusted_certs=None,
        ephemeral_key_uuid=None,
        info_cache=objects.InstanceInfoCache(
            instance_uuid=uuid, network_info=model.NetworkInfo([])
        ),
        **SIZE,
        **(settled | columns),
    )


def _request_spec(asking, uuid, flavor):
    return objects.RequestSpec(
        asking,
        instance_uuid=uuid,
        flavor=flavor,
        num_instances=1,
        project_id=PROJECT,
        user_id=USER,
        image=objects.ImageMeta(properties=objects.ImageMetaProps()),
        availability_zone=None,
        is_bfv=False,
        scheduler_hints={},
        security_groups=objects.SecurityGroupList(objects=[]),
    )
