"""Domain XML to records; the only parser.

In: what `virDomainGetXMLDesc` returned, of any driver, live or inactive. Out: plain values. The
metadata in it is text that tenants influence (server names), so it is read as hostile: no entity is
expanded, nothing is fetched, depth and size are bounded by the library, lengths by `LONGEST`; of a
document that declares a type, and so perhaps entities, nothing is read. What is missing, malformed
or too long is None and named in `Details.unknown`; nothing is made up, and a value that does not
fit is not cut to fit. Touches no libvirt and no file: a backing chain is what the XML says it is.

    values    elements and attributes to values, or to None and a name
    devices   disks, with their backing chains, and network interfaces
    nova      Nova's own metadata

Source: libvirt docs/formatdomain.rst; src/conf/domain_conf.c (virDomainDefParseXML: the defaults,
and which it reads of what stands twice).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lxml import etree

from guestlist.domainxml.devices import disks, nics
from guestlist.domainxml.nova import nova_metadata
from guestlist.domainxml.values import (
    LONGEST,
    UINT32_MAX,
    Unknown,
    bounded,
    children,
    firsts,
    kib,
    namespace_of,
    number,
    text_of,
    uuid_from,
)
from guestlist.records import Details

__all__ = ["LONGEST", "parse"]


def parse(xml: str) -> Details:
    """What a domain's XML says that does not move between its starts.

    XML that is broken in places is read as far as it goes; `unknown` then begins with "xml: …".

    Raises:
        ValueError: the text is not XML at all.

    Cost: no call. Time and memory grow with the length of the text and no faster; some 0.2 ms for
    an ordinary guest.
    """
    parser = _parser()
    try:
        root = etree.fromstring(_encoded(xml), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"not XML: {error}") from error
    if root is None:
        raise ValueError("not XML: there is no element in it")
    unknown = Unknown(_flaws(root, parser))
    if root.tag != "domain" or _doctype(root):
        unknown.add("domain")
        root = etree.Element("domain")
    parts = firsts(root)
    devices = _devices(root, parts, unknown)
    metadata = parts.get("metadata")
    vcpus = unknown.unless("vcpu", _vcpus(parts))
    memory_kib = unknown.unless("memory", kib(parts.get("memory")) or None)
    return Details(
        uuid=unknown.unless("uuid", uuid_from(text_of(parts.get("uuid")))),
        name=unknown.unless("name", text_of(parts.get("name"))),
        type=unknown.unless("type", bounded(root.get("type"))),
        vcpus=vcpus,
        current_vcpus=unknown.unless("current vcpu", _current_vcpus(parts, vcpus)),
        memory_kib=memory_kib,
        current_memory_kib=unknown.unless("current memory", _current_kib(parts, memory_kib)),
        max_memory_kib=_max_kib(parts, unknown),
        disks=tuple(disks(devices["disk"], unknown)),
        nics=tuple(nics(devices["interface"], unknown)),
        namespaces=_namespaces(metadata),
        nova=nova_metadata(metadata, unknown),
        unknown=unknown.names,
        id=number(root.get("id")),
    )


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


def _doctype(root: etree._Element) -> bool:
    """Whether the text declares a document type, and with it perhaps entities.

    libvirt never writes one. libxml2 expands those in attributes whatever it was told.
    """
    return root.getroottree().docinfo.internalDTD is not None


_METADATA_ALONE = {
    etree.ErrorDomains.NAMESPACE,
    etree.ErrorDomains.DTD,
    etree.ErrorDomains.VALID,
}
"""Kinds of complaints about a document that is well-formed, for which libvirt refuses none: an
undeclared prefix, a second colon in a name, an `xml:id` that is no NCName or stands twice. libvirt
writes all but the `<metadata>` itself, so nothing else causes them.
"""


def _flaws(root: etree._Element, parser: etree.XMLParser) -> Iterator[str]:
    """The first thing that is wrong with the text: the rest follows from it, often by the thousand.

    It is libxml2's name for it, not its message: that quotes the text. What makes a document not
    well-formed libxml2 logs as fatal, in whatever domain; a warning it may log as an error.
    """
    if _doctype(root):
        yield "xml: document type"
        return
    for flaw in parser.error_log:
        minor = flaw.domain in _METADATA_ALONE or flaw.type_name.startswith("WAR_")
        worst = etree.ErrorLevels.ERROR if minor else etree.ErrorLevels.WARNING
        if flaw.level > worst:
            kind = flaw.type_name.removeprefix("ERR_").replace("_", " ").lower()
            yield f"xml: {kind}, line {flaw.line}"
            return


def _namespaces(metadata: etree._Element | None) -> frozenset[str]:
    return frozenset(filter(None, map(namespace_of, children(metadata))))


Parts = Mapping[str, etree._Element]
"""The elements directly inside of `<domain>`; see `firsts`."""


def _devices(
    root: etree._Element, parts: Parts, unknown: Unknown
) -> dict[str, list[etree._Element]]:
    """The disks and the interfaces, in every `<devices>`: libvirt reads them all."""
    found: dict[str, list[etree._Element]] = {"disk": [], "interface": []}
    if "devices" not in parts:
        unknown.add("devices")
    for devices in root.iterchildren("devices"):
        for device in devices:
            if device.tag in found:
                found[device.tag].append(device)
    return found


def _max_kib(parts: Parts, unknown: Unknown) -> int | None:
    element = parts.get("maxMemory")
    return None if element is None else unknown.unless("max memory", kib(element))


def _current_kib(parts: Parts, memory_kib: int | None) -> int | None:
    """`<currentMemory>`; where it is not given, or 0, libvirt takes all of `<memory>`."""
    element = parts.get("currentMemory")
    if element is None:
        return memory_kib
    value = kib(element)
    return memory_kib if value == 0 else value


def _vcpus(parts: Parts) -> int | None:
    return number(text_of(parts.get("vcpu")), UINT32_MAX) or None


def _current_vcpus(parts: Parts, vcpus: int | None) -> int | None:
    """How many are plugged in: those enabled in `<vcpus>`, else `<vcpu current=…>`, else all."""
    vcpu = parts.get("vcpu")
    if vcpu is None or vcpus is None:
        return None
    vcpus_listed = parts.get("vcpus")
    if vcpus_listed is not None and (listed := vcpus_listed.findall("vcpu")):
        ids = {number(one.get("id"), vcpus - 1) for one in listed}
        if None in ids or len(ids) != len(listed):
            return None
        return sum(one.get("enabled") == "yes" for one in listed)
    current = vcpu.get("current")
    return vcpus if current is None else number(current, vcpus)
