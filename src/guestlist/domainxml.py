"""Domain XML to records; the only parser.

In: what `virDomainGetXMLDesc` returned. Out: plain values. The metadata in it is text that tenants
influence (server names), so it is read as hostile: no entity is expanded, nothing is fetched, depth
and size are bounded by the library. Touches no libvirt.
"""

from __future__ import annotations

from lxml import etree


def metadata_namespaces(xml: str) -> frozenset[str]:
    """The namespace URIs of the elements directly inside `<metadata>`; empty where there are none.

    Raises:
        ValueError: the text is not well-formed, or too large or too deep to be read safely.
    """
    metadata = _root(xml).find("metadata")
    if metadata is None:
        return frozenset()
    return frozenset(
        namespace
        for element in metadata.iterchildren(tag=etree.Element)
        if (namespace := etree.QName(element).namespace)
    )


def _root(xml: str) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return etree.fromstring(xml.encode("utf-8", "surrogatepass"), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"not XML that can be read: {error}") from error
