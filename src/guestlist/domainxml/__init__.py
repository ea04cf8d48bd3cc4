"""Domain XML to records; the only parser.

In: what `virDomainGetXMLDesc` returned, of any driver, live or inactive. Out: plain values. The
metadata in it is text that tenants influence (server names), so it is read as hostile: no entity is
expanded, nothing is fetched, the library bounds depth and size, `LONGEST` bounds lengths. Nothing
is read of a document that declares a type, because that may declare entities. What is missing,
malformed or too long is None and named in `Details.unknown`; no value is invented, and a value that
is too long is not cut. Touches no libvirt and no file: a backing chain is what the XML says it is.

    values    elements and attributes to values, or to None
    devices   disks, with their backing chains, and network interfaces
    iotune    the limits of a disk
    agent     whether the guest agent is connected
    nova      the `<metadata>`: its namespaces, and what Nova wrote

A guest's XML is parsed whenever it may have changed, so this is written for speed: each element is
looked at once, and a name for what is unknown is made only where something is unknown.

Source: libvirt docs/formatdomain.rst; src/conf/domain_conf.c (virDomainDefParseXML: the defaults,
and which element it reads where several stand for one).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from lxml import etree

from guestlist.domainxml.agent import agent_connected
from guestlist.domainxml.devices import disk, nic
from guestlist.domainxml.nova import metadata_of
from guestlist.domainxml.values import (
    LONGEST,
    UINT32_MAX,
    Unknown,
    bounded,
    first,
    inside,
    kib,
    number,
    optional,
    text_of,
    uuid_from,
)
from guestlist.records import Details, Os

__all__ = ["LONGEST", "parse"]


def parse(xml: str) -> Details:
    """Return what a domain's XML says.

    XML that is broken in places is read as far as possible; `unknown` then begins with "xml: …".

    Raises:
        ValueError: the text is not XML at all.

    Cost: no call. Time and memory grow in proportion to the text: some 0.1 ms for an ordinary
    guest, two to three times what lxml alone takes for it (`./dev bench callers`).
    """
    try:
        parser = _idle.pop()
    except IndexError:
        parser = _parser()
    try:
        root = etree.fromstring(_encoded(xml), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"not XML: {error}") from error
    if root is None:
        raise ValueError("not XML: there is no element in it")
    unknown, declares_type = Unknown(), "<!DOCTYPE" in xml and _declares_type(root)
    if declares_type:
        unknown.add("xml: document type")
    elif not (errors := parser.error_log):
        _idle.append(parser)
    elif flaw := _flaw(errors):
        unknown.add(flaw)
    if root.tag != "domain" or declares_type:
        unknown.add("domain")
        root = etree.Element("domain")
    return _details(root, unknown)


_idle: list[etree.XMLParser] = []
"""Parsers that no thread uses and whose last document had no flaw: a new one costs 2 µs more."""


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        encoding="utf-8",  # whatever the text declares: it came as str
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        recover=True,
    )


def _encoded(xml: str) -> bytes:
    return xml.encode("utf-8", "surrogatepass")


def _declares_type(root: etree._Element) -> bool:
    """Return whether the text declares a document type, and with it perhaps entities.

    libvirt never writes one. libxml2 expands entities in attributes, whatever it was told.
    """
    return root.getroottree().docinfo.internalDTD is not None


_METADATA_ALONE = {
    etree.ErrorDomains.NAMESPACE,
    etree.ErrorDomains.DTD,
    etree.ErrorDomains.VALID,
}
"""Kinds of complaints about a document that is well-formed. libvirt refuses no document for them:
an undeclared prefix, a second colon in a name, an `xml:id` that is no NCName or stands twice.
libvirt writes all but the `<metadata>` itself, so nothing else causes them.
"""


def _flaw(errors: etree._ListErrorLog) -> str | None:
    """Name the first thing that is wrong with the text: the others follow from it.

    The name is libxml2's; its message would quote the text. libxml2 logs as fatal, in any domain,
    what makes a document not well-formed; it may log a warning as an error.
    """
    for error in errors:
        minor = error.domain in _METADATA_ALONE or error.type_name.startswith("WAR_")
        worst = etree.ErrorLevels.ERROR if minor else etree.ErrorLevels.WARNING
        if error.level > worst:
            kind = error.type_name.removeprefix("ERR_").replace("_", " ").lower()
            return f"xml: {kind}, line {error.line}"
    return None


def _details(root: etree._Element, unknown: Unknown) -> Details:
    """Read the parts of `<domain>`, in the order in which `unknown` names them."""
    parts: dict[str, etree._Element] = {}
    disks: list[etree._Element] = []
    nics: list[etree._Element] = []
    channels: list[etree._Element] = []
    kept = {"disk": disks, "interface": nics, "channel": channels}
    for child in inside(root):
        tag = child.tag
        if tag == "devices":  # libvirt reads them all
            _sort_out(child, kept)
        if tag not in parts:  # the first of several
            parts[tag] = child
    if "devices" not in parts:
        unknown.add("devices")
    vcpu = parts.get("vcpu")
    vcpus = number(text_of(vcpu), UINT32_MAX) or None
    current_vcpus = None
    if vcpu is not None and vcpus is not None:
        current_vcpus = _current_vcpus(vcpu, parts.get("vcpus"), vcpus)
    memory_kib = kib(parts.get("memory")) or None
    current_kib = _current_kib(parts.get("currentMemory"), memory_kib)
    max_kib = kib(parts.get("maxMemory"))
    uuid, name = uuid_from(text_of(parts.get("uuid"))), text_of(parts.get("name"))
    type = bounded(root.get("type"))
    needed = vcpus, memory_kib, uuid, name, type, current_vcpus, current_kib
    if None in needed:
        _name_gaps(unknown, needed)
    if max_kib is None and "maxMemory" in parts:
        unknown.add("max memory")
    os = None if "os" not in parts else _os(parts["os"], unknown)
    read_disks = tuple([disk(place, each, unknown) for place, each in enumerate(disks, 1)])
    read_nics = tuple([nic(place, each, unknown) for place, each in enumerate(nics, 1)])
    id = number(root.get("id"))
    agent = None if id is None else agent_connected(channels, unknown)
    namespaces, nova, gaps = metadata_of(parts.get("metadata"))
    for gap in gaps:
        unknown.add(gap)
    return Details(
        uuid,
        name,
        type,
        vcpus,
        current_vcpus,
        memory_kib,
        current_kib,
        max_kib,
        read_disks,
        read_nics,
        namespaces,
        nova,
        unknown.names,
        id,
        os,
        agent,
    )


_NEEDED = "vcpu", "memory", "uuid", "name", "type", "current vcpu", "current memory"
"""What each domain says of itself, in the order in which `unknown` names it."""


def _name_gaps(unknown: Unknown, needed: tuple[object, ...]) -> None:
    for name, value in zip(_NEEDED, needed, strict=True):
        if value is None:
            unknown.add(name)


def _sort_out(devices: etree._Element, kept: Mapping[str, list[etree._Element]]) -> None:
    """Put each device into the list of its tag; those without a list are not read."""
    for device in inside(devices):
        tag = device.tag
        if tag in kept:
            kept[tag].append(device)


def _os(element: etree._Element, unknown: Unknown) -> Os | None:
    """Read an `<os>`; None where it has no `<type>`."""
    type = first(element, "type")
    if type is None:
        return None
    gaps: list[str] = []
    name = text_of(type)
    if name is None:
        gaps.append("type")
    arch, machine = optional(type, "arch", gaps, "arch"), optional(type, "machine", gaps, "machine")
    if gaps:
        unknown.add_all("os", gaps)
    return _known_os(name, arch, machine)


_known_os = lru_cache(maxsize=128)(Os)
"""Remembers: the guests of a host are of few kinds."""


def _current_kib(element: etree._Element | None, memory_kib: int | None) -> int | None:
    """Read `<currentMemory>`; without one, or with 0, libvirt takes all of `<memory>`."""
    if element is None:
        return memory_kib
    value = kib(element)
    return memory_kib if value == 0 else value


def _current_vcpus(vcpu: etree._Element, listed: etree._Element | None, vcpus: int) -> int | None:
    """Count the vCPUs plugged in: those enabled in `<vcpus>`, else `<vcpu current=…>`, else all."""
    if listed is not None and (each := listed.findall("vcpu")):
        ids = {number(one.get("id"), vcpus - 1) for one in each}
        if None in ids or len(ids) != len(each):
            return None
        return sum(one.get("enabled") == "yes" for one in each)
    current = vcpu.get("current")
    return vcpus if current is None else number(current, vcpus)
