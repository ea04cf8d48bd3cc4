"""Hosts for libvirt's test driver: node XML with one domain, or with twenty thousand.

In: `Domain` values, made by hand or by the functions here, which make the same domain for the same
number. Out: the text of a node file (for `Daemon.uri`), or a domain's XML for `defineXML` and
`createXML` (`domain_xml`). The node has these domains and no other facts about a host.

Metadata and SMBIOS fields follow what OpenStack Nova writes: the `instance` element of namespace
`…/nova/1.0` (since Juno) or `1.1` (since Wallaby), and "OpenStack Foundation" / "OpenStack Nova".
"""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from xml.sax.saxutils import escape

TEST_NAMESPACE = "http://libvirt.org/schemas/domain/test/1.0"
NOVA_NAMESPACE = "http://openstack.org/xmlns/libvirt/nova/"

_LAUNCHED = uuid.UUID("5f0c1bde-0000-4000-8000-000000000000")
_RUNNING, _PAUSED, _SHUT_OFF = 1, 3, 5


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain as the node has it when a connection opens.

    `metadata` is XML for inside `<metadata>`, `devices` for inside `<devices>`; `sysinfo` is XML
    beside these elements. A transient domain is active: in libvirt there is no other kind.
    """

    name: str
    uuid: uuid.UUID
    active: bool = True
    paused: bool = False
    transient: bool = False
    metadata: str = ""
    sysinfo: str = ""
    devices: str = ""
    memory_kib: int = 65536
    vcpus: int = 1

    @property
    def runstate(self) -> int:
        """libvirt's number for its state."""
        if not (self.active or self.transient):
            return _SHUT_OFF
        return _PAUSED if self.paused else _RUNNING


def domain_xml(domain: Domain, *, type: str = "test") -> str:
    """Return the domain's own XML: a node file's without the state."""
    return _domain_xml(domain, type, "", "")


def node(domains: Iterable[Domain]) -> str:
    """Return a node file with these domains, each in its state.

    Cost: some 25 us a domain; libvirt takes ten times as long to read it.
    """
    return "<node>\n" + "".join(map(_node_domain, domains)) + "</node>\n"


def nova_instance(
    n: int,
    *,
    template: str = "instance-%08x",
    ns: str = "1.1",
    active: bool = True,
    paused: bool = False,
    with_metadata: bool = True,
) -> Domain:
    """Return the n-th instance that Nova launched.

    `template` is Nova's `instance_name_template`, `ns` the version in its metadata's namespace;
    `with_metadata=False` is an instance from before Juno, known by its name and SMBIOS alone.
    """
    flavor = _FLAVORS[n % len(_FLAVORS)]
    identity = _uuid("instance", n)
    return Domain(
        name=template % n,
        uuid=identity,
        active=active,
        paused=paused,
        metadata=_nova_metadata(n, ns, flavor) if with_metadata else "",
        sysinfo=_SYSINFO.format(uuid=identity),
        memory_kib=flavor.memory_mib * 1024,
        vcpus=flavor.vcpus,
    )


def appliance(n: int) -> Domain:
    """Return the n-th libguestfs appliance: transient, `guestfs-` and 16 random characters."""
    letters = random.Random(n).choices(string.ascii_lowercase + string.digits, k=16)
    return Domain(
        name="guestfs-" + "".join(letters),
        uuid=_uuid("appliance", n),
        transient=True,
        memory_kib=1280 * 1024,
    )


def handmade(n: int, *, active: bool = True) -> Domain:
    """Return the n-th domain that an operator defined by hand."""
    name = _HANDMADE[n % len(_HANDMADE)] + (f"-{n}" if n >= len(_HANDMADE) else "")
    return Domain(name=name, uuid=_uuid("handmade", n), active=active, memory_kib=2 << 20, vcpus=2)


def believable_host(instances: int = 12) -> list[Domain]:
    """Return the domains of a compute node on an ordinary day.

    Nova's instances (one in four shut off, one in six of the others paused), one libguestfs
    appliance at work on a disk, and two domains defined by hand, one of them shut off.
    """
    ours = [nova_instance(n, active=n % 4 != 0, paused=n % 6 == 3) for n in range(1, instances + 1)]
    return [*ours, appliance(1), handmade(0), handmade(1, active=False)]


def _uuid(kind: str, n: int) -> uuid.UUID:
    return uuid.uuid5(_LAUNCHED, f"{kind}-{n}")


def _node_domain(domain: Domain) -> str:
    state = f"  <test:runstate>{domain.runstate}</test:runstate>\n"
    if domain.transient:
        state += "  <test:transient/>\n"
    return _domain_xml(domain, "test", f" xmlns:test='{TEST_NAMESPACE}'", state)


def _domain_xml(domain: Domain, kind: str, namespace: str, state: str) -> str:
    metadata = f"  <metadata>{domain.metadata}</metadata>\n" if domain.metadata else ""
    devices = f"  <devices>{domain.devices}</devices>\n" if domain.devices else ""
    return (
        f"<domain type='{kind}'{namespace}>\n"
        f"  <name>{escape(domain.name)}</name>\n"
        f"  <uuid>{domain.uuid}</uuid>\n"
        f"{metadata}"
        f"  <memory unit='KiB'>{domain.memory_kib}</memory>\n"
        f"  <vcpu>{domain.vcpus}</vcpu>\n"
        f"{domain.sysinfo}"
        "  <os><type>hvm</type></os>\n"
        f"{devices}"
        f"{state}"
        "</domain>\n"
    )


class _Flavor(NamedTuple):
    name: str
    vcpus: int
    memory_mib: int
    disk_gib: int


_FLAVORS = [
    _Flavor("m1.tiny", 1, 512, 1),
    _Flavor("m1.small", 1, 2048, 20),
    _Flavor("m1.medium", 2, 4096, 40),
    _Flavor("m1.large", 4, 8192, 80),
]
_SERVERS = ["web", "db", "cache", "queue", "worker", "bastion", "metrics"]
_PROJECTS = ["shop", "billing", "research"]
_HANDMADE = ["build-box", "jenkins", "old-mailserver", "scratch"]

_SYSINFO = """\
  <sysinfo type='smbios'>
    <system>
      <entry name='manufacturer'>OpenStack Foundation</entry>
      <entry name='product'>OpenStack Nova</entry>
      <entry name='uuid'>{uuid}</entry>
      <entry name='family'>Virtual Machine</entry>
    </system>
  </sysinfo>
"""

_NOVA_METADATA = """
    <nova:instance xmlns:nova="{namespace}{ns}">
      <nova:package version="{version}"/>
      <nova:name>{server}</nova:name>
      <nova:creationTime>2024-03-{day:02d} 09:{minute:02d}:00</nova:creationTime>
      <nova:flavor name="{flavor.name}">
        <nova:memory>{flavor.memory_mib}</nova:memory>
        <nova:disk>{flavor.disk_gib}</nova:disk>
        <nova:swap>0</nova:swap>
        <nova:ephemeral>0</nova:ephemeral>
        <nova:vcpus>{flavor.vcpus}</nova:vcpus>
      </nova:flavor>
      <nova:owner>
        <nova:user uuid="{user}">{project}-admin</nova:user>
        <nova:project uuid="{project_id}">{project}</nova:project>
      </nova:owner>
      <nova:root type="image" uuid="{image}"/>
    </nova:instance>
  """


def _nova_metadata(n: int, ns: str, flavor: _Flavor) -> str:
    project = _PROJECTS[n % len(_PROJECTS)]
    return _NOVA_METADATA.format(
        namespace=NOVA_NAMESPACE,
        ns=ns,
        version="29.0.1" if ns == "1.1" else "22.2.2",
        server=f"{_SERVERS[n % len(_SERVERS)]}-{n}",
        day=n % 28 + 1,
        minute=n % 60,
        flavor=flavor,
        user=_uuid("user", n % len(_PROJECTS)).hex,
        project=project,
        project_id=_uuid("project", n % len(_PROJECTS)).hex,
        image=_uuid("image", n % 5),
    )
