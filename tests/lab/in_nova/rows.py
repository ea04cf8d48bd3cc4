"""Rows of Nova's database, written by Nova's own objects.

In: what a test says of an instance. Out: the rows of it, of its volumes and of this host's service.
"""

from ground import CONF
from nova import context, exception, objects
from nova.db.main import api as main_db
from nova.db.main import models
from nova.virt import node as virt_node


def add_service():
    """Add this host's nova-compute, as one that has run before.

    Nova refuses to start a new nova-compute on a host that has guests already.
    """
    compute = {"host": CONF.host, "binary": "nova-compute", "topic": "compute"}
    objects.Service(context.get_admin_context(), report_count=0, **compute).create()
    virt_node.get_local_node_uuid()


def add_instance(uuid, name, volumes, vcpus, memory_mb, **columns):
    """Add an instance of this host, with its volumes by device."""
    admin = context.get_admin_context()
    flavor = {"memory_mb": memory_mb, "vcpus": vcpus, "root_gb": 1, "ephemeral_gb": 0}
    instance = objects.Instance(
        admin,
        uuid=uuid,
        host=CONF.host,
        project_id="lab",
        user_id="lab",
        display_name=name,
        flavor=objects.Flavor(id=1, name="lab", flavorid="lab", swap=0, extra_specs={}, **flavor),
        system_metadata={},
        **flavor,
        **node(admin),
        **columns,
    )
    instance.create()
    number_by_name(instance, name)
    for device, volume in volumes.items():
        objects.BlockDeviceMapping(
            admin,
            instance_uuid=uuid,
            source_type="volume",
            destination_type="volume",
            device_name=device,
            volume_id=volume,
            connection_info="{}",
        ).create()


def node(admin):
    """Return the fields of an instance that name its compute node.

    They name the node of this host that the database has; without one they name the host itself.
    """
    try:
        first = objects.ComputeNodeList.get_all_by_host(admin, CONF.host)[0]
        name, number = first.hypervisor_hostname, first.id
    except exception.ComputeHostNotFound:
        name, number = CONF.host, 1
    known_by_number = "compute_id" in objects.Instance.fields  # since OpenStack 2023.2
    return {"node": name} | ({"compute_id": number} if known_by_number else {})


def number_by_name(instance, name):
    """Give an instance the number from which Nova's template makes its name.

    If the template does not make the name, the instance gets a number that no name has.
    """
    number = number_in(name) or 2**24 + instance.id
    admin = context.get_admin_context()
    with main_db.get_context_manager(admin).writer.using(admin) as session:
        row = session.query(models.Instance).filter_by(uuid=instance.uuid)
        row.update({"id": number})


def number_in(name):
    """Return the number from which Nova's template makes a name; None if it does not make it."""
    try:
        number = int(name.rpartition("-")[2], 16)
        return number if CONF.instance_name_template % number == name else None
    except (TypeError, ValueError):
        return None
