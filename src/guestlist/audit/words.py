"""The words of a finding: why it is one, the facts of both sides, and what to look at next. Pure.

In: a difference. Out: sentences for people, and facts by name. Text of a tenant appears in facts
only, never in a sentence. docs/audit.md says more about each kind.
"""

from __future__ import annotations

from collections.abc import Callable

from guestlist.audit.differences import Difference
from guestlist.audit.expected import has_no_place
from guestlist.audit.findings import Facts, Kind
from guestlist.audit.rows import Server
from guestlist.errors import short


def reason(each: Difference) -> str:
    """Return what differs, in a sentence; and for a possible finding what could explain it."""
    said = _REASONS[each.kind](each)
    return f"{said}; but {each.doubts[0]}" if each.doubts else said


def next_step(each: Difference) -> str:
    """Return what an operator looks at next, in a sentence."""
    return _NEXT[each.kind].format(
        uuid=each.uuid, subject=short(each.subject or ""), domain=each.uuid or "DOMAIN"
    )


def libvirt_facts(each: Difference) -> dict[str, Facts]:
    """Return what libvirt says, by host."""
    facts: dict[str, Facts] = {look.host: {} for look in each.looks}
    for look in each.looks:
        if not any(copy.look is look for copy in each.copies):
            facts[look.host] = {"domain": None}
    for copy in each.copies:
        one = copy.domain
        facts[copy.look.host] = {
            "domain": one.name,
            "uuid": str(one.uuid),
            "id": one.id,
            "state": str(one.state),
            "reason": one.reason_text,
            "launcher": str(one.launcher),
        }
    return facts


def nova_facts(server: Server | None) -> Facts:
    """Return what Nova says, by Nova's names; nothing about a server that it does not know."""
    if server is None:
        return {}
    return {
        "status": server.status,
        "task_state": server.task_state,
        "vm_state": server.vm_state,
        "power_state": None if server.power_state is None else server.power_state.name.lower(),
        "host": server.host,
        "hypervisor_hostname": server.hypervisor_hostname,
        "instance_name": server.instance_name,
        "updated": server.updated,
    }


def _where(server: Server | None) -> str:
    name = server and (server.hypervisor_hostname or server.host)
    return f"on {short(name)}" if name else "on no host"


def _on(each: Difference) -> str:
    return " and ".join(short(look.host) for look in each.looks)


def _status(each: Difference) -> str:
    return each.server.status if each.server else "nothing"


def _state(each: Difference) -> str:
    return str(each.copies[0].domain.state) if each.copies else "absent"


def _running(each: Difference) -> str:
    if each.server is not None and has_no_place(each.server):
        return f"the domain is active on {_on(each)}, and Nova keeps no domain of a shelved server"
    return f"the domain is active on {_on(each)}, and Nova says {_status(each)}"


def _power(each: Difference) -> str:
    believed = each.server.power_state if each.server else None
    power = f" and power state {believed.name.lower()}" if believed is not None else ""
    return f"the domain is {_state(each)}, and Nova says {_status(each)}{power}"


_REASONS: dict[Kind, Callable[[Difference], str]] = {
    Kind.ACTIVE_ON_TWO_HOSTS: lambda each: f"the domain is active on {_on(each)} at one time",
    Kind.RUNNING_THOUGH_SHUTOFF: _running,
    Kind.WRONG_HOST: lambda each: (
        f"the domain is on {_on(each)}, and Nova has it " + _where(each.server)
    ),
    Kind.DELETED_IN_NOVA: lambda each: (
        f"Nova has deleted the server, and {_on(each)} has its domain, which is {_state(each)}"
    ),
    Kind.UNKNOWN_TO_NOVA: lambda each: (
        f"{_on(each)} has a domain of Nova's, which is "
        f"{_state(each)}, and Nova has no server of its UUID"
    ),
    Kind.MISSING: lambda each: (
        f"Nova says {_status(each)} {_where(each.server)}, and no host that "
        "was asked has a domain of its UUID"
    ),
    Kind.POWER_STATE: _power,
    Kind.DISK_GONE: lambda each: (
        f"the disk {short(each.subject or '')} is gone from {_on(each)}, and the domain that has "
        f"it is {_state(each)}"
    ),
    Kind.TAP_WITHOUT_DOMAIN: lambda each: (
        f"{_on(each)} has the tap device {short(each.subject or '')}, and no domain that uses it"
    ),
    Kind.SHARED_NAME: lambda each: (
        f"domains of two UUIDs have one name on {_on(each)}, and Nova "
        "gave it to one of them at most"
    ),
    Kind.SHARED_UUID: lambda each: (
        f"{_on(each)} each have a domain of one UUID, and Nova has it " + _where(each.server)
    ),
}

_NEXT = {
    Kind.ACTIVE_ON_TWO_HOSTS: "stop nothing and resume nothing yet: see which copy has the disk "
    "and the network, with 'openstack server migration list --server {uuid}' and 'virsh domblklist "
    "{uuid}' on both hosts",
    Kind.RUNNING_THOUGH_SHUTOFF: "before the server is started again: see who started the domain, "
    "with 'virsh domstate --reason {uuid}' and 'openstack server event list {uuid}'",
    Kind.WRONG_HOST: "before the server is rebooted or deleted through Nova: see how the domain "
    "came there, with 'openstack server migration list --server {uuid}', and whether its disk is "
    "the one that Nova knows, with 'virsh domblklist {uuid}'",
    Kind.DELETED_IN_NOVA: "see whether it was deleted on purpose, with 'openstack "
    "--os-compute-api-version 2.21 server event list {uuid}', and soon: Nova destroys the domain "
    "and its disks, unless running_deleted_instance_action in nova.conf says otherwise",
    Kind.UNKNOWN_TO_NOVA: "see who owned it, with 'virsh dumpxml {uuid}' (nova:owner); keep its "
    "disks until that is known",
    Kind.MISSING: "before a hard reboot makes the domain again: make sure that no host runs it; "
    "see whether its disk is still there, and what was asked of the server last, with 'openstack "
    "server event list {uuid}'",
    Kind.POWER_STATE: "see why the domain is in this state, with 'virsh domstate --reason {uuid}', "
    "whether nova-compute runs on the host, and after ten minutes whether Nova follows, with "
    "'openstack server show {uuid}'",
    Kind.DISK_GONE: "keep the guest running, if it runs: its data may be reachable only through "
    "it; see whether the file system of {subject} is mounted",
    Kind.TAP_WITHOUT_DOMAIN: "see which port it belonged to, with 'openstack port list | grep' and "
    "the characters after tap, and whether that port is bound elsewhere",
    Kind.SHARED_NAME: "see what Nova calls each, with 'openstack server show' and the two UUIDs, "
    "field OS-EXT-SRV-ATTR:instance_name",
    Kind.SHARED_UUID: "neither start nor undefine the copy that Nova does not have: see first "
    "which one is the newer, with 'openstack server migration list --server {uuid}'",
}
