"""Domain XML to records: the corpus, libvirt's own reading of it, and XML that is generated."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID
from xml.sax.saxutils import escape, quoteattr

import libvirt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lxml import etree

import corpus
from guestlist.domainxml import LONGEST, parse
from guestlist.domainxml.devices import DEEPEST_CHAIN
from guestlist.records import (
    Details,
    Disk,
    DiskDevice,
    Flavor,
    IoTune,
    Nic,
    NovaMetadata,
    Os,
    Owner,
    Port,
    Source,
    SourceKind,
)

NOVA = "http://openstack.org/xmlns/libvirt/nova/"

# The machine decides how long an example takes.
fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def domain(inside: str = "", *, memory: str = "<memory>1024</memory>", vcpu: str = "1") -> str:
    return (
        "<domain type='test'><name>a</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>"
        f"{memory}<vcpu>{vcpu}</vcpu>{inside}<devices/></domain>"
    )


def nova(inside: str, version: str = "1.1") -> str:
    return domain(
        f"<metadata><n:instance xmlns:n='{NOVA}{version}'>{inside}</n:instance></metadata>"
    )


# The corpus.


def test_the_corpus_is_large_and_complete():
    assert len(corpus.NAMES) >= 45
    assert sorted(path.stem for path in corpus.DOMAINS.glob("*.facts")) == corpus.NAMES
    assert set(corpus.NAMES) >= corpus.REFUSED


@pytest.mark.parametrize("name", corpus.NAMES)
def test_reads_what_the_domain_says(name: str):
    assert corpus.facts(parse(corpus.xml(name))) == corpus.expected(name)


@pytest.mark.parametrize("name", corpus.NAMES)
def test_says_that_broken_xml_is_broken_and_only_of_that(name: str):
    unknown = parse(corpus.xml(name)).unknown
    assert (name in corpus.BROKEN) == any(what.startswith("xml: ") for what in unknown)


@pytest.fixture
def test_host(tmp_path: Path) -> Iterator[libvirt.virConnect]:
    """libvirt's test driver in this process, on a host of its own that is empty."""
    node = tmp_path / "node.xml"
    node.write_text("<node/>")
    connection = libvirt.open(f"test://{node}")
    yield connection
    connection.close()


def comparable(details: Details) -> Details:
    """Return them without what libvirt chooses itself (tap devices, disk order, ids), or drops."""
    nics = tuple(
        replace(nic, target=None, bridge=nic.bridge if nic.kind == "bridge" else None)
        for nic in details.nics
    )
    disks = tuple(
        replace(disk, cache=None) if disk.cache == "default" else disk
        for disk in sorted(details.disks, key=lambda disk: disk.target or "")
    )
    os = details.os and replace(details.os, arch=None)  # libvirt adds that of the host
    return replace(
        details, nics=nics, disks=disks, unknown=(), id=None, os=os, agent_connected=None
    )


@pytest.mark.parametrize("name", sorted(set(corpus.NAMES) - corpus.REFUSED))
def test_what_libvirt_makes_of_it_says_the_same(name: str, test_host: libvirt.virConnect):
    written = comparable(parse(corpus.xml(name)))
    handle = test_host.defineXML(corpus.xml(name))
    assert comparable(parse(handle.XMLDesc(0))) == written
    handle.create()
    assert comparable(parse(handle.XMLDesc(0))) == written


@pytest.mark.parametrize("name", sorted(set(corpus.NAMES) - corpus.REFUSED))
def test_nothing_is_unknown_once_libvirt_has_read_it(name: str, test_host: libvirt.virConnect):
    unknown = parse(test_host.defineXML(corpus.xml(name)).XMLDesc(0)).unknown
    about_nova = name in ("nova-empty-instance", "nova-malformed")
    not_expressible = {"disk sdg: source"} if name == "disks-network" else set()
    assert {what for what in unknown if not (about_nova and what.startswith("nova: "))} == (
        not_expressible
    )


# What is not XML, and what is nearly XML.


@pytest.mark.parametrize(
    "flawed",
    [
        "<f:foo xmlns:f='urn:x'><bar g:a='1'/></f:foo>",
        "<x:y xmlns:x='urn:y' xml:id='1 2'/>",
        "<a:b:c xmlns:a='urn:a'/>",
        "<q:element/>",
        "<a:b xmlns:a='urn:a' xmlns:xml='urn:b'/>",
        "<a:b xmlns:a='urn:a' xmlns:b=''/>",
        "<a:b xmlns:a='not a URI'/>",
    ],
)
def test_metadata_that_libvirt_accepts_hides_no_devices(flawed: str, test_host: libvirt.virConnect):
    """Only the metadata has namespaces and ids of its own; the document is well-formed."""
    devices = (
        "<devices><disk type='block'><source dev='/dev/null'/><target dev='vda'/></disk>"
        "<interface type='bridge'><mac address='fa:16:3e:00:00:01'/><source bridge='b'/>"
        "</interface></devices>"
    )
    ours = f"<n:instance xmlns:n='{NOVA}1.1'><n:name>shop</n:name></n:instance>"
    xml = domain(f"<metadata>{flawed}{ours}</metadata><os><type>hvm</type></os>")
    xml = xml.replace("<devices/>", devices)
    details = parse(test_host.defineXML(xml).XMLDesc(0))
    assert details.devices_known
    assert (len(details.disks), len(details.nics)) == (1, 1)
    assert details.nova is not None
    assert details.nova.name == "shop"
    assert not [name for name in details.unknown if not name.startswith("nova: ")]


@pytest.mark.parametrize(
    "text", ["", " ", "\0", "libvirt", "<", "<!-- -->", "<?xml version='1.0'?>"]
)
def test_what_is_not_xml_at_all_is_an_error(text: str):
    with pytest.raises(ValueError, match="not XML"):
        parse(text)


def test_a_declared_encoding_means_nothing_in_a_str():
    for encoding in ("utf-16", "latin-1", "no-such"):
        xml = f"<?xml version='1.0' encoding='{encoding}'?>{nova('<n:name>é</n:name>')}"
        read = parse(xml).nova
        assert read is not None
        assert read.name == "é"


@pytest.mark.parametrize(
    "declared",
    [
        "<!ENTITY a 'haha'>",
        "<!ENTITY a SYSTEM 'file:///etc/passwd'>",
        "<!ENTITY b 'ha'><!ENTITY a '&b;&b;'>",
        "<!ATTLIST domain type CDATA 'haha'>",
        "",
    ],
)
@pytest.mark.parametrize("where", ["attribute", "text"])
def test_nothing_is_read_of_a_document_that_declares_a_type(declared: str, where: str):
    old, new = ("type='test'", "type='&a;'") if where == "attribute" else (">a<", ">&a;<")
    try:
        details = parse(f"<!DOCTYPE domain [{declared}]>{domain().replace(old, new)}")
    except ValueError:
        return  # libxml2's own bounds differ from version to version
    assert (details.type, details.name, details.vcpus) == (None, None, None)
    assert details.unknown[:2] == ("xml: document type", "domain")


def test_the_text_of_the_document_is_never_quoted_in_what_is_unknown():
    xml = domain("<evil&thing;><disk/>").replace(
        "<devices/>", "<devices><disk><target dev='\x1b'/>"
    )
    for what in parse(xml).unknown:
        assert re.fullmatch(r"[A-Za-z0-9 #:,-]{1,100}", what)


# Sizes and numbers.


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("b", 1),
        ("byte", 1),
        ("bytes", 1),
        *((letter, 1024**power) for power, letter in enumerate("kmgtpe", 1)),
        *((f"{letter}iB", 1024**power) for power, letter in enumerate("kmgtpe", 1)),
        *((f"{letter}B", 1000**power) for power, letter in enumerate("kmgtpe", 1)),
    ],
)
def test_every_unit_in_any_case(unit: str, size: int, test_host: libvirt.virConnect):
    for spelt in (unit, unit.upper(), unit.lower(), unit.title()):
        xml = domain(memory=f"<memory unit='{spelt}'>7</memory>")
        assert parse(xml).memory_kib == -(-7 * size // 1024)
        handle = test_host.defineXML(xml.replace("<devices/>", "<os><type>hvm</type></os>"))
        assert parse(handle.XMLDesc(0)).memory_kib == -(-7 * size // 1024)


@pytest.mark.parametrize(
    "unit", ["ki", "iB", "z", "kbs", " KiB", "KiB ", "\N{KELVIN SIGN}", "\uff2b\uff49\uff22"]
)
def test_a_unit_that_libvirt_does_not_know_is_no_unit(unit: str):
    details = parse(domain(memory=f"<memory unit='{unit}'>7</memory>"))
    assert details.memory_kib is None
    assert "memory" in details.unknown


@pytest.mark.parametrize(
    "number",
    ["", "-1", "1.5", "1e3", "0x400", "1_000", "١٠٢٤", "1024x", "9" * 30, "0", str(2**63 // 1024)],
)
def test_a_memory_size_that_is_none(number: str):
    details = parse(domain(memory=f"<memory unit='KiB'>{number}</memory>"))
    assert (details.memory_kib, details.current_memory_kib) == (None, None)
    assert {"memory", "current memory"} <= set(details.unknown)


@pytest.mark.parametrize("number", ["0", "-1", "", "two", "4294967296", "<b>1</b>"])
def test_a_number_of_vcpus_that_is_none(number: str):
    details = parse(domain(vcpu=number))
    assert (details.vcpus, details.current_vcpus) == (None, None)
    assert {"vcpu", "current vcpu"} <= set(details.unknown)


@pytest.mark.parametrize(
    "listed",
    ["<vcpu enabled='yes'/>", "<vcpu id='-1' enabled='yes'/>", "<vcpu id='0'/><vcpu id='00'/>"],
)
def test_vcpus_that_are_listed_wrongly_are_not_counted(listed: str):
    details = parse(domain(f"<vcpus>{listed}</vcpus>", vcpu="2"))
    assert (details.vcpus, details.current_vcpus) == (2, None)


@pytest.mark.parametrize(
    "text", ["{6695eb01-f6a4-8304-79aa-97f2502e193f}", "6695eb01f6a4830479aa97f2502e193", "_" * 32]
)
def test_a_uuid_that_is_none(text: str):
    xml = domain().replace("6695eb01-f6a4-8304-79aa-97f2502e193f", text)
    assert parse(xml).uuid is None
    assert "uuid" in parse(xml).unknown


# Many, long and deep.


def test_a_thousand_disks():
    disks = "".join(
        f"<disk type='file'><source file='/d/{n}'/><target dev='vd{n}' bus='virtio'/></disk>"
        for n in range(1000)
    )
    details = parse(domain().replace("<devices/>", f"<devices>{disks}</devices>"))
    assert [disk.source.location for disk in details.disks] == [f"/d/{n}" for n in range(1000)]
    assert details.unknown == ()


def test_a_megabyte_of_metadata_hides_nothing_else():
    megabyte = "x" * (1 << 20)
    details = parse(nova(f"<n:package version='1'/><n:name>{megabyte}</n:name>"))
    assert details.nova is not None
    assert (details.nova.name, details.nova.package) == (None, "1")
    assert "nova: name" in details.unknown
    assert details.memory_kib == 1024
    foreign = domain(f"<metadata><x xmlns='urn:x' y='{megabyte}'>{megabyte}</x></metadata>")
    assert parse(foreign).unknown == ()


@pytest.mark.parametrize(("length", "known"), [(LONGEST, True), (LONGEST + 1, False)])
def test_text_that_is_too_long_is_not_cut(length: int, known: bool):
    details = parse(nova(f"<n:name>{'x' * length}</n:name>"))
    assert details.nova is not None
    assert (details.nova.name == "x" * length) is known
    assert ("nova: name" in details.unknown) is not known


def _chain(images: Iterable[int]) -> str:
    below = "<backingStore/>"
    for image in reversed(list(images)):
        below = f"<backingStore type='file'><source file='/{image}'/>{below}</backingStore>"
    disk = f"<disk type='file'><source file='/top'/>{below}<target dev='vda' bus='virtio'/></disk>"
    return domain().replace("<devices/>", f"<devices>{disk}</devices>")


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 50, DEEPEST_CHAIN])
def test_a_backing_chain_is_read_to_its_end(depth: int):
    details = parse(_chain(range(depth)))
    [disk] = details.disks
    assert [source.location for source in disk.backing] == [f"/{n}" for n in range(depth)]
    assert disk.backing_known
    assert details.unknown == ()


@pytest.mark.parametrize("depth", [DEEPEST_CHAIN + 1, 10_000])
def test_a_backing_chain_beyond_libvirts_bound_is_not_known(depth: int):
    details = parse(_chain(range(depth)))
    [disk] = details.disks
    assert len(disk.backing) <= DEEPEST_CHAIN
    assert not disk.backing_known
    assert details.unknown


def test_a_backing_chain_that_loops_is_not_known():
    details = parse(_chain([1, 2, 3, 1, 2, 3, 1]))
    [disk] = details.disks
    assert [source.location for source in disk.backing] == ["/1", "/2", "/3"]
    assert not disk.backing_known
    assert details.unknown == ("disk vda: backing chain",)


def test_a_disk_of_type_none_has_no_source_whatever_it_says():
    disk = "<disk type='none'><source file='/a'/><target dev='vda' bus='virtio'/></disk>"
    details = parse(domain().replace("<devices/>", f"<devices>{disk}</devices>"))
    assert details.disks[0].source == Source(SourceKind.NONE, None)
    assert details.unknown == ("disk vda: source",)


def test_encryption_without_a_format_is_still_encryption():
    disk = "<disk type='file'><source file='/a'><encryption/></source><target dev='a' bus='b'/>"
    details = parse(domain().replace("<devices/>", f"<devices>{disk}</disk></devices>"))
    assert details.disks[0].source == Source(SourceKind.FILE, "/a", encryption="")


@pytest.mark.parametrize(
    "address",
    [
        "domain='0x0 0x0' bus='0x3b' slot=''",
        "bus='0x3b 0x10' slot='' function='0x1'",
        "bus='' slot='0x10'",
        "bus='0x123456789'",
        "bus='59'",
        "slot='0x10'",
    ],
)
def test_a_pci_address_that_is_none(address: str):
    nic = (
        "<interface type='hostdev'><mac address='fa:16:3e:00:00:01'/>"
        f"<source><address type='pci' {address}/></source></interface>"
    )
    details = parse(domain().replace("<devices/>", f"<devices>{nic}</devices>"))
    assert details.nics[0].source is None
    assert details.unknown == ("interface #1: source",)


def test_what_is_unknown_is_named_at_its_place_however_often_the_same_thing_is_read():
    """Records are remembered by what they were read from, the names of their gaps are not."""
    nic = "<interface type='bridge'><mac address='none'/></interface>"
    port = "<n:port uuid='none'><n:ip address='none'/></n:port>"
    xml = nova(f"<n:ports>{port * 2}</n:ports>").replace(
        "<devices/>", f"<devices>{nic * 2}</devices>"
    )
    first, again = parse(xml), parse(xml)
    assert first == again
    assert {
        *("interface #1: mac", "interface #2: mac"),
        *("nova: port #1 uuid", "nova: port #2 uuid", "nova: port #1 ip", "nova: port #2 ip"),
    } <= set(again.unknown)


@pytest.mark.parametrize(("id", "connected"), [("id='1'", True), ("", None), ("id='-1'", None)])
def test_the_agent_of_an_inactive_domain_is_not_connected(id: str, connected: bool | None):
    channel = "<channel><target name='org.qemu.guest_agent.0' state='connected'/></channel>"
    xml = domain().replace("<devices/>", f"<devices>{channel}</devices>")
    assert parse(xml.replace("<domain", f"<domain {id}")).agent_connected is connected


def test_a_flaw_of_one_document_is_not_that_of_the_next():
    """Parsers are used again."""
    for _ in range(3):
        assert parse(domain("<a>&b;</a>")).unknown[0].startswith("xml: ")
        assert parse(domain()).unknown == ()


# Nova's metadata.


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-30 00:00:00",
        "2024-01-01 24:00:00",
        "2024-01-01 00:00:60",
        "0000-01-01 00:00:00",
        "2024-01-01T00:00:00",
        "2024-1-1 0:0:0",
        " 2024-01-01 00:00:00",
        "٢٠٢٤-01-01 00:00:00",
        "yesterday",
    ],
)
def test_a_creation_time_that_is_none(text: str):
    details = parse(nova(f"<n:creationTime>{text}</n:creationTime>"))
    assert details.nova is not None
    assert details.nova.created_at is None
    assert "nova: creationTime" in details.unknown


def test_a_creation_time_is_in_utc():
    details = parse(nova("<n:creationTime>2024-02-29 23:59:59</n:creationTime>"))
    assert details.nova is not None
    assert details.nova.created_at == datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)


def test_a_version_of_nova_that_is_still_to_come_is_read():
    details = parse(nova("<n:name>a</n:name>", version="2.10"))
    assert details.nova is not None
    assert (details.nova.version, details.nova.name) == ("2.10", "a")


def test_what_nova_may_leave_out_is_not_unknown():
    details = parse(
        nova(
            "<n:package version='1'/><n:name>a</n:name>"
            "<n:creationTime>2024-01-01 00:00:00</n:creationTime>"
            "<n:flavor name='f'><n:memory>1</n:memory><n:disk>0</n:disk><n:swap>0</n:swap>"
            "<n:ephemeral>0</n:ephemeral><n:vcpus>1</n:vcpus></n:flavor>"
        )
    )
    assert details.unknown == ()
    assert details.nova is not None
    assert (details.nova.owner, details.nova.root_type, details.nova.ports) == (None, None, ())


# Any other document.


def check(details: Details) -> None:
    """Check what is true of the details of any document."""
    for value in _leaves(asdict(details)):
        if isinstance(value, str):
            assert 0 < len(value) <= LONGEST
        if isinstance(value, int):
            assert 0 <= value < 2**63
    for what in details.unknown:
        assert re.fullmatch(r"[A-Za-z0-9 #:,._-]{1,100}", what)
    for name, value in (("name", details.name), ("uuid", details.uuid), ("vcpu", details.vcpus)):
        assert (value is None) == (name in details.unknown)
    corpus.facts(details)


def check_any(text: str) -> None:
    """Check that a text is read, or refused for the only possible reason."""
    try:
        details = parse(text)
    except ValueError as error:
        if not str(error).startswith("not XML: "):
            raise
        return
    check(details)


def _leaves(value: object) -> Iterator[object]:
    match value:
        case dict():
            for name, inner in value.items():
                if (name, inner) != ("encryption", ""):  # encrypted, and the XML says no format
                    yield from _leaves(inner)
        case list() | tuple() | frozenset():
            for inner in value:
                yield from _leaves(inner)
        case _:
            yield value


@fuzz
@given(st.text() | st.text(alphabet="<>/&;='\"!?[]-: \n\0ad\ud800é"))
@example("<a:b/>")
@example("<domain><metadata><a:b/></metadata></domain>")
@example("<domain type='\ud800'><name>\ud800</name></domain>")
@example("<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///dev/zero'>]><a>&b;</a>")
def test_any_text_is_read_or_is_not_xml(text: str):
    check_any(text)


HOSTILE = st.one_of(
    st.sampled_from(
        ["", "-1", "0", "9" * 40, "1" * 5000, "NaN", "yes", "none", "network", "../../x", "\u202e"]
    ),
    st.integers().map(str),
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20),
)


def mutate(root: etree._Element, data: st.DataObject) -> None:
    """Change one thing, at any place."""
    elements = list(root.iter(etree.Element))
    victim = data.draw(st.sampled_from(elements))
    parent = victim.getparent()
    change = data.draw(st.sampled_from(["drop", "double", "text", "attribute", "strip", "nest"]))
    if change == "drop" and parent is not None:
        parent.remove(victim)
    elif change == "double" and parent is not None:
        parent.insert(0, copy.deepcopy(victim))
    elif change == "text":
        victim.text = data.draw(HOSTILE)
    elif change == "attribute":
        names = st.sampled_from([*victim.keys(), "type", "dev", "current", "unit", "address"])
        victim.set(data.draw(names), data.draw(HOSTILE))
    elif change == "strip" and victim.keys():
        del victim.attrib[data.draw(st.sampled_from(victim.keys()))]
    elif change == "nest":
        victim.append(copy.deepcopy(data.draw(st.sampled_from(elements))))


WELL_FORMED = sorted(
    set(corpus.NAMES) - corpus.BROKEN - {"nova-lookalikes", "metadata-namespace-flaws"}
)
"""Also in namespaces, which `etree.fromstring` demands."""


@fuzz
@given(st.sampled_from(WELL_FORMED), st.integers(1, 8), st.data())
def test_a_domain_with_anything_changed_is_read(name: str, changes: int, data: st.DataObject):
    root = etree.fromstring(corpus.xml(name))
    for _ in range(changes):
        mutate(root, data)
    details = parse(etree.tostring(root, encoding="unicode"))
    check(details)
    flaws = [what for what in details.unknown if what.startswith("xml: ")]
    assert all(flaw.startswith("xml: resource limit") for flaw in flaws)  # nested too deep


@fuzz
@given(st.sampled_from(corpus.NAMES), st.data())
def test_a_domain_whose_text_is_damaged_is_read_or_is_not_xml(name: str, data: st.DataObject):
    xml = corpus.xml(name)
    start = data.draw(st.integers(0, len(xml)))
    end = data.draw(st.integers(start, min(len(xml), start + 200)))
    check_any(xml[:start] + data.draw(st.text(max_size=5)) + xml[end:])


# There and back: XML made from any details says those details.

# XML can carry every character but these.
TEXT = st.text(
    alphabet=st.characters(
        codec="utf-8",
        exclude_characters=[*map(chr, {*range(32)} - {9, 10, 13}), "\ufffe", "\uffff"],
    ),
    min_size=1,
    max_size=12,
)
PLAIN = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,8}", fullmatch=True)
PATH = PLAIN.map(lambda name: f"/{name}")
NUMBER = st.integers(0, 2**63 - 1)
KIB = st.integers(1, 2**53 - 1)
FORMAT = st.none() | st.sampled_from(["raw", "qcow2", "vmdk"])

LOCATIONS = {
    SourceKind.FILE: TEXT,
    SourceKind.BLOCK: TEXT,
    SourceKind.DIR: TEXT,
    SourceKind.VHOSTUSER: TEXT,
    SourceKind.VHOSTVDPA: TEXT,
    SourceKind.NETWORK: st.builds("{}://{}:{}{}".format, PLAIN, PLAIN, st.integers(1, 65535), PATH),
    SourceKind.VOLUME: st.builds("{}/{}".format, PLAIN, PLAIN),
    SourceKind.NVME: st.builds("nvme://0000:{:02x}:1f.7/{}".format, st.integers(0, 255), KIB),
}
SOURCE = (
    st.sampled_from(sorted(LOCATIONS))
    .flatmap(lambda kind: st.builds(Source, st.just(kind), LOCATIONS[kind], FORMAT))
    .map(
        lambda source: (
            replace(source, protocol=(source.location or "").partition(":")[0])
            if source.kind is SourceKind.NETWORK
            else source
        )
    )
)
MEDIUM = SOURCE | st.builds(Source, st.just(SourceKind.NONE), st.none(), FORMAT)


LIMITS = [name.name for name in fields(IoTune) if name.name != "group_name"]
LIMIT = st.integers(1, 2**63 - 1)
IOTUNE = (
    st.sets(st.sampled_from(LIMITS), min_size=1)
    .flatmap(lambda names: st.fixed_dictionaries(dict.fromkeys(sorted(names), LIMIT)))
    .flatmap(
        lambda limits: st.builds(lambda group: IoTune(**limits, group_name=group), st.none() | TEXT)
    )
)


@st.composite
def disks(draw: st.DrawFn) -> Disk:
    device = draw(st.sampled_from(DiskDevice))
    removable = device in (DiskDevice.CDROM, DiskDevice.FLOPPY)
    chain = draw(
        st.lists(SOURCE, min_size=1, max_size=5, unique_by=lambda one: (one.kind, one.location))
    )
    return Disk(
        target=draw(TEXT),
        bus=draw(TEXT),
        device=device,
        source=draw(MEDIUM) if removable else chain[0],
        backing=() if removable else tuple(chain[1:]),
        backing_known=draw(st.booleans()),
        readonly=draw(st.booleans()),
        shareable=draw(st.booleans()),
        transient=draw(st.booleans()),
        serial=draw(st.none() | TEXT),
        driver=draw(st.none() | TEXT),
        cache=draw(st.none() | TEXT),
        discard=draw(st.none() | TEXT),
        iotune=draw(st.none() | IOTUNE),
    )


MAC = st.from_regex(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", fullmatch=True)
NIC_SOURCES = {
    "network": TEXT,
    "bridge": TEXT,
    "direct": TEXT,
    "vdpa": TEXT,
    "vhostuser": TEXT,
    "internal": TEXT,
    "vds": TEXT,
    "hostdev": st.builds("0000:{:02x}:00.{:x}".format, st.integers(0, 255), st.integers(0, 7)),
    "udp": st.builds("{}:{}".format, st.ip_addresses(v=4), st.integers(1, 65535)),
    "user": st.none() | TEXT,
    "ethernet": st.none(),
    "null": st.none(),
}
NICS = (
    st.sampled_from(sorted(NIC_SOURCES))
    .flatmap(
        lambda kind: st.builds(
            Nic,
            MAC,
            st.just(kind),
            NIC_SOURCES[kind],
            st.none() | TEXT,
            st.none() | TEXT,
            st.none(),
            st.none() | st.integers(1, 2**32 - 1),
            st.none() | st.uuids(),
        )
    )
    .flatmap(
        lambda nic: {
            "bridge": st.just(replace(nic, bridge=nic.source)),
            "network": st.builds(replace, st.just(nic), bridge=st.none() | TEXT),
        }.get(nic.kind or "", st.just(nic))
    )
)

NOVA_METADATA = (
    st.builds(
        NovaMetadata,
        version=st.sampled_from(["1.0", "1.1"]),
        package=TEXT,
        name=TEXT,
        created_at=st.datetimes(timezones=st.just(UTC)).map(
            lambda when: when.replace(microsecond=0)
        ),
        flavor=st.builds(Flavor, TEXT, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, st.none() | TEXT),
        owner=st.none() | st.builds(Owner, TEXT, TEXT, TEXT, TEXT),
        root_type=st.none(),
        root_uuid=st.none(),
        ports=st.lists(
            st.builds(Port, st.uuids(), st.lists(st.ip_addresses(), max_size=3).map(tuple)),
            max_size=3,
        ).map(tuple),
        image_id=st.none() | st.uuids(),
    )
    | st.none()
)


@st.composite
def known(draw: st.DrawFn) -> Details:
    vcpus = draw(st.integers(1, 2**32 - 1))
    id = draw(st.none() | NUMBER)
    metadata = draw(NOVA_METADATA)
    if metadata is not None and draw(st.booleans()):
        metadata = replace(metadata, root_type="image", root_uuid=draw(st.uuids()))
    return Details(
        uuid=draw(st.uuids()),
        name=draw(TEXT),
        type=draw(TEXT),
        vcpus=vcpus,
        current_vcpus=draw(st.integers(0, vcpus)),
        memory_kib=draw(KIB),
        current_memory_kib=draw(KIB),
        max_memory_kib=draw(st.none() | KIB),
        disks=tuple(draw(st.lists(disks(), max_size=3))),
        nics=tuple(draw(st.lists(NICS, max_size=3))),
        namespaces=frozenset({f"{NOVA}{metadata.version}"} if metadata else ()),
        nova=metadata,
        id=id,
        os=draw(st.none() | st.builds(Os, TEXT, st.none() | TEXT, st.none() | TEXT)),
        agent_connected=None if id is None else draw(st.none() | st.booleans()),
    )


def attributes(**values: object) -> str:
    entities = {character: f"&#{ord(character)};" for character in "\t\n\r\x85\u2028"}
    return "".join(
        f" {name}={quoteattr(str(value), entities)}"
        for name, value in values.items()
        if value is not None
    )


def element(tag: str, text: str | None = None, **values: object) -> str:
    content = "" if text is None else escape(text, {"\r": "&#13;"})
    return f"<{tag}{attributes(**values)}>{content}</{tag}>"


def xml_of(details: Details) -> str:
    limit = details.max_memory_kib
    return (
        f"<domain{attributes(type=details.type, id=details.id)}>"
        + element("name", details.name)
        + element("uuid", str(details.uuid))
        + (nova_xml(details.nova) if details.nova else "")
        + ("" if limit is None else element("maxMemory", str(limit), slots=16, unit="KiB"))
        + element("memory", str(details.memory_kib), unit="KiB")
        + element("currentMemory", str(details.current_memory_kib), unit="KiB")
        + element("vcpu", str(details.vcpus), current=details.current_vcpus)
        + ("" if details.os is None else os_xml(details.os))
        + "<devices>"
        + "".join(map(disk_xml, details.disks))
        + "".join(map(nic_xml, details.nics))
        + ("" if details.agent_connected is None else agent_xml(details.agent_connected))
        + "</devices></domain>"
    )


def os_xml(os: Os) -> str:
    return f"<os>{element('type', os.type, arch=os.arch, machine=os.machine)}</os>"


def agent_xml(connected: bool) -> str:
    state = "connected" if connected else "disconnected"
    target = element("target", type="virtio", name="org.qemu.guest_agent.0", state=state)
    return f"<channel type='unix'>{target}</channel>"


def iotune_xml(iotune: IoTune) -> str:
    limits = asdict(iotune).items()
    parts = [element(name, str(value)) for name, value in limits if value is not None]
    return f"<iotune>{''.join(parts)}</iotune>"


def disk_xml(disk: Disk) -> str:
    below = "<backingStore/>" if disk.backing_known else ""
    for source in reversed(disk.backing):
        format = "" if source.format is None else element("format", type=source.format)
        below = (
            f"<backingStore{attributes(type=source.kind)}>"
            f"{format}{source_xml(source)}{below}</backingStore>"
        )
    kind = disk.source.kind
    type = SourceKind.FILE if kind is SourceKind.NONE else kind
    flags = [flag for flag in ("readonly", "shareable", "transient") if getattr(disk, flag)]
    return (
        f"<disk{attributes(type=type, device=disk.device)}>"
        + element(
            "driver",
            name=disk.driver,
            type=disk.source.format,
            cache=disk.cache,
            discard=disk.discard,
        )
        + source_xml(disk.source)
        + below
        + element("target", dev=disk.target, bus=disk.bus)
        + "".join(f"<{flag}/>" for flag in flags)
        + ("" if disk.serial is None else element("serial", disk.serial))
        + ("" if disk.iotune is None else iotune_xml(disk.iotune))
        + "</disk>"
    )


def source_xml(source: Source) -> str:
    location = source.location or ""
    match source.kind:
        case SourceKind.NONE:
            return ""
        case SourceKind.VOLUME:
            pool, volume = location.split("/")
            return element("source", pool=pool, volume=volume)
        case SourceKind.NETWORK:
            protocol, _, host, name = location.split("/")
            host, port = host.split(":")
            opening = f"<source{attributes(protocol=protocol.removesuffix(':'), name=name)}>"
            return f"{opening}{element('host', name=host, port=port)}</source>"
        case SourceKind.NVME:
            _, _, address, namespace = location.split("/")
            opening = f"<source{attributes(type='pci', namespace=namespace)}>"
            return f"{opening}{pci_xml(address)}</source>"
    name = {"file": "file", "dir": "dir", "vhostuser": "path"}.get(source.kind or "", "dev")
    return element("source", **{name: location})


def pci_xml(address: str) -> str:
    domain, bus, slot, function = re.split("[:.]", address)
    return element(
        "address",
        domain=f"0x{domain}",
        bus=f"0x{bus}",
        slot=f"0x{slot}",
        function=f"0x{function}",
    )


def nic_xml(nic: Nic) -> str:
    match nic.kind:
        case "bridge":
            source = element("source", bridge=nic.source)
        case "network":
            source = element("source", network=nic.source, bridge=nic.bridge)
        case "vhostuser":
            source = element("source", type="unix", path=nic.source, mode="client")
        case "internal":
            source = element("source", name=nic.source)
        case "vds":
            source = element("source", switchid="1", portgroupid=nic.source)
        case "hostdev":
            source = f"<source>{pci_xml(nic.source or '')}</source>"
        case "udp":
            address, port = (nic.source or "").split(":")
            source = element("source", address=address, port=port)
        case _:
            source = element("source", dev=nic.source)
    return (
        f"<interface{attributes(type=nic.kind)}>"
        + element("mac", address=nic.mac)
        + source
        + element("target", dev=nic.target)
        + element("model", type=nic.model)
        + ("" if nic.mtu is None else element("mtu", size=nic.mtu))
        + ("" if nic.interface_id is None else virtualport_xml(nic.interface_id))
        + "</interface>"
    )


def virtualport_xml(interface_id: UUID) -> str:
    parameters = element("parameters", interfaceid=interface_id)
    return f"<virtualport type='openvswitch'>{parameters}</virtualport>"


def nova_xml(metadata: NovaMetadata) -> str:
    flavor, owner, created = metadata.flavor, metadata.owner, metadata.created_at
    assert flavor is not None
    assert created is not None
    parts = [
        element("n:package", version=metadata.package),
        element("n:name", metadata.name),
        element("n:creationTime", created.replace(tzinfo=None).isoformat(" ")),
        f"<n:flavor{attributes(name=flavor.name, id=flavor.id)}>",
        element("n:memory", str(flavor.memory_mib)),
        element("n:disk", str(flavor.disk_gb)),
        element("n:swap", str(flavor.swap_mb)),
        element("n:ephemeral", str(flavor.ephemeral_gb)),
        element("n:vcpus", str(flavor.vcpus)),
        "</n:flavor>",
    ]
    if owner:
        user = element("n:user", owner.user_name, uuid=owner.user_id)
        project = element("n:project", owner.project_name, uuid=owner.project_id)
        parts.append(f"<n:owner>{user}{project}</n:owner>")
    if metadata.image_id:
        parts.append(element("n:image", uuid=metadata.image_id))
    if metadata.root_type:
        parts.append(element("n:root", type=metadata.root_type, uuid=metadata.root_uuid))
    ports = ""
    for port in metadata.ports:
        ips = "".join(element("n:ip", address=ip, ipVersion=ip.version) for ip in port.ips)
        ports += f"<n:port{attributes(uuid=port.uuid)}>{ips}</n:port>"
    return (
        f"<metadata><n:instance xmlns:n='{NOVA}{metadata.version}'>"
        f"{''.join(parts)}<n:ports>{ports}</n:ports></n:instance></metadata>"
    )


@fuzz
@given(known())
def test_there_and_back(details: Details):
    assert parse(xml_of(details)) == details


def test_records_can_be_kept_compared_and_hashed():
    one, other = parse(corpus.xml("nova-wallaby-ports")), parse(corpus.xml("nova-wallaby-ports"))
    assert one == other
    assert len({one, other}) == 1
    assert isinstance(one.uuid, UUID)
