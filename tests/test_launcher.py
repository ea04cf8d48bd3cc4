"""Who launched a domain, from its name and its metadata's namespaces."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestlist import Anyone, InvalidNameTemplate, Launcher, NovaLaunched
from guestlist.domainxml import parse
from guestlist.launcher import NameTemplate, by_namespaces, recognise

ids = st.integers(1, 2**40)
UUID = str(uuid.UUID(int=0xABC))


@given(ids)
def test_every_name_of_the_default_template_is_novas(n):
    assert NovaLaunched().by_name("instance-%08x" % n) is True


@pytest.mark.parametrize(
    "template",
    ["instance-%08x", "%d", "vm-%05d", "vm-%x-a", "n%X", "%s", "%o.%%", "i%(id)08x", "%(id)s"],
)
@given(ids)
def test_a_template_over_the_id_decides(template, n):
    name = template % ({"id": n} if "(" in template else n)
    assert NovaLaunched(template).by_name(name) is True
    assert NovaLaunched(template).by_name(name + "!") is None


@given(st.uuids(), ids)
def test_templates_over_the_uuid_decide(identity, n):
    fields = {"uuid": str(identity), "id": n}
    for template in ("%(uuid)s", "vm-%(uuid)s", "%(id)08x-%(uuid)s"):
        assert NovaLaunched(template).by_name(template % fields) is True
    assert NovaLaunched("vm-%(uuid)s").by_name("vm-" + str(identity).upper() + "x") is None


@pytest.mark.parametrize("template", ["%(hostname)s", "%(display_name)s-%(id)d", "a%5d", "%-8x|"])
def test_a_template_with_free_text_in_it_leaves_it_to_the_metadata(template):
    fields = {"hostname": "web", "display_name": "web", "id": 7}
    name = template % (fields if "(" in template else 7)
    assert NovaLaunched(template).by_name(name) is None
    assert NameTemplate(template).fits(name)


@given(
    st.sampled_from(["instance-%08x", "vm-%(uuid)s", "%d", "%(project_id)s_%(id)d", "%5d", "%+x"]),
    ids,
    st.uuids(),
    st.text(max_size=20),
)
def test_no_name_that_nova_makes_is_ever_called_foreign(template, n, identity, text):
    fields = {"id": n, "uuid": str(identity), "project_id": text}
    name = template % (fields if "(" in template else n)
    assert NovaLaunched(template).by_name(name) is not False


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("instance-0000000a", True),
        ("instance-123456789", True),
        ("instance-0000000A", None),
        ("instance-0000000", None),
        ("instance-000000001", None),
        ("instance-0000000a\n", None),
        ("Instance-0000000a", None),
        ("xinstance-0000000a", None),
        ("guestfs-8yvmy2xgbhxjcwpz", False),
        ("guestfs-", None),
        ("guestfs-Made-By-Hand", None),
        ("Domain-0", None),
        ("", None),
    ],
)
def test_names_by_the_default_template(name, verdict):
    assert NovaLaunched().by_name(name) is verdict


def test_verify_leaves_every_name_to_the_metadata():
    assert NovaLaunched(verify=True).by_name("instance-0000000a") is None
    assert NovaLaunched(verify=True).by_name("guestfs-8yvmy2xgbhxjcwpz") is None


@pytest.mark.parametrize(
    "template",
    [
        "",
        "instance",
        "100%%",
        "%",
        "a%",
        "%(uuid",
        "%(uuid)",
        "%y",
        "%d%d",
        "%(id)d-%d",
        "%(uuid)d",
        "%(uuid)x",
        "%*d",
        "%\N{ARABIC-INDIC DIGIT EIGHT}x",
        "%09999999999999x",
        "vm-%256d",
        None,
        8,
        b"instance-%08x",
    ],
)
def test_an_unusable_template_is_refused(template):
    with pytest.raises(InvalidNameTemplate, match="cannot be used") as raised:
        NovaLaunched(template)
    assert isinstance(raised.value, ValueError)
    assert repr(template) in str(raised.value)


def test_a_template_without_end_is_cut_in_the_message():
    for template in ("vm" * 5000, "%0" + "9" * 5000 + "x", "%" + "y" * 5000):
        with pytest.raises(InvalidNameTemplate, match="cannot be used") as raised:
            NovaLaunched(template)
        assert len(str(raised.value)) < 1000


@given(st.text(alphabet="%()duxsXo0158-+# .*hlLruaz{}", max_size=12))
def test_a_template_is_refused_or_never_loses_a_name_that_it_makes(template):
    try:
        launched_by = NovaLaunched(template)
    except InvalidNameTemplate:
        return
    fields = {"uuid": UUID, "id": 77}
    try:
        name = template % 77
    except (TypeError, OverflowError):
        try:
            name = template % fields
        except (KeyError, TypeError, ValueError):
            return  # one that Nova itself cannot fill
    except ValueError:
        return
    assert launched_by.by_name(name) is not False


NOVA = "http://openstack.org/xmlns/libvirt/nova/"


@pytest.mark.parametrize(
    ("namespaces", "launcher"),
    [
        ([f"{NOVA}1.0"], Launcher.NOVA),
        ([f"{NOVA}1.1", "urn:other"], Launcher.NOVA),
        ([f"{NOVA}1.2"], Launcher.NOVA),
        (["http://openstack.org/xmlns/libvirt/novanta/1.0"], Launcher.OTHER),
        (["http://ovirt.org/vm/1.0"], Launcher.OVIRT),
        (["http://opennebula.org/xmlns/libvirt/1.0"], Launcher.OPENNEBULA),
        (["http://kubevirt.io"], Launcher.KUBEVIRT),
        (["http://libosinfo.org/xmlns/libvirt/domain/1.0"], Launcher.OTHER),
        ([], Launcher.OTHER),
    ],
)
def test_launchers_by_namespace(namespaces, launcher):
    assert by_namespaces(namespaces) is launcher
    assert NovaLaunched().by_metadata(frozenset(namespaces)) is (launcher is Launcher.NOVA)


def test_an_appliance_goes_by_its_name():
    assert recognise("guestfs-8yvmy2xgbhxjcwpz", NovaLaunched()) is Launcher.LIBGUESTFS
    assert by_namespaces([], "guestfs-8yvmy2xgbhxjcwpz") is Launcher.LIBGUESTFS


def test_anyone_is_anyone():
    assert Anyone().by_name("") is True
    assert Anyone().by_metadata(frozenset()) is True


def test_namespaces_are_those_directly_inside_metadata():
    xml = """<domain><name>x</name><metadata>
      <a:one xmlns:a='urn:a'><b:inner xmlns:b='urn:b'/></a:one><two xmlns='urn:c'/><three/>
      <!-- <d:four xmlns:d='urn:d'/> --></metadata><e:five xmlns:e='urn:e'/></domain>"""
    assert parse(xml).namespaces == {"urn:a", "urn:c"}
