"""The errors as values: libvirt's numbers, the versions, and copies that hold no connection."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import libvirt
import pytest
from lab.proxy import Proxy
from lxml import etree

import guestlist
from guestlist import (
    ConnectionFailed,
    ConnectionLost,
    DomainGone,
    GuestlistError,
    LibvirtFailure,
    NotSupported,
)
from guestlist.capabilities import ABILITIES, BULK_STATS, EVENTS_SINCE, Versions, lacking
from guestlist.connection import Connection
from guestlist.errors import without_frames
from guestlist.event import EventKind

TREE = [value for name in guestlist.__all__ if isinstance(value := getattr(guestlist, name), type)]
TREE = [kind for kind in TREE if issubclass(kind, GuestlistError)]
GONE = bytes(15) + b"\xff"


@pytest.fixture
def connection(daemon):
    connection = Connection(daemon.uri())
    yield connection
    connection.close()


def look_up(connection: Connection) -> None:
    connection.ask("look up a domain", lambda peer: peer.connection.lookupByUUID(GONE))


# libvirt's numbers


def test_a_failed_call_tells_libvirts_code_and_domain(connection):
    with pytest.raises(DomainGone) as raised:
        look_up(connection)
    assert raised.value.code == libvirt.VIR_ERR_NO_DOMAIN
    assert raised.value.domain == libvirt.VIR_FROM_TEST
    assert isinstance(raised.value.__cause__, libvirt.libvirtError)


def test_a_loss_tells_libvirts_code(proxy: Proxy):
    connection = Connection(proxy.uri())
    connection.peer()
    proxy.drop_on("DOMAIN_LOOKUP_BY_UUID")
    with pytest.raises(ConnectionLost) as raised:
        look_up(connection)
    connection.close()
    assert raised.value.code == raised.value.__cause__.get_error_code() is not None


def test_a_connection_that_does_not_open_tells_libvirts_code_and_domain():
    with pytest.raises(ConnectionFailed) as raised:
        Connection("test+unix:///default?socket=/nonexistent/socket").peer()
    assert raised.value.code == libvirt.VIR_ERR_SYSTEM_ERROR
    assert raised.value.domain == libvirt.VIR_FROM_RPC


def test_what_libvirt_did_not_say_has_no_number(connection):
    def garble(_):
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    with pytest.raises(LibvirtFailure, match="not UTF-8") as raised:
        connection.ask("garble", garble)
    assert (raised.value.code, raised.value.domain) == (None, None)


# The version needed, and the one found


def test_what_the_driver_lacks_no_version_brings(connection):
    with pytest.raises(NotSupported, match="driver test lacks it, and no other version") as raised:
        connection.ask("read KSM", lambda peer: peer.connection.getMemoryParameters())
    assert raised.value.code == libvirt.VIR_ERR_NO_SUPPORT
    assert (raised.value.needed, raised.value.found) == (None, libvirt.getVersion())


def test_what_an_old_daemon_lacks_takes_a_newer_one(proxy: Proxy):
    proxy.older_daemon("1.2.7")
    connection = Connection(proxy.uri())
    proxy.deny("CONNECT_GET_HOSTNAME")
    with pytest.raises(NotSupported, match=r"newer daemon than that of .*, daemon 1\.2\.7,") as old:
        connection.ask("read the name", lambda peer: peer.connection.getHostname())
    connection.close()
    assert old.value.found == 1_002_007


@pytest.mark.parametrize("client", [1_002_007, 9_000_000])
@pytest.mark.parametrize("server", [1_002_007, 9_000_000, None])
def test_an_ability_names_the_version_needed_and_the_one_found(client, server):
    versions = Versions(client, server, "PHYP", None)
    error = lacking(BULK_STATS, "read statistics", "phyp:///", versions, AttributeError())
    assert str(error).startswith("cannot read statistics of phyp:///: ")
    assert error.needed == 1_002_008
    assert error.found == min(client, server or client)
    assert ("driver PHYP or libvirt-python lacks it" in str(error)) is (error.found > error.needed)
    assert ("the daemon (1.2.7)" in str(error)) is (server == 1_002_007)


def test_each_ability_and_each_kind_of_event_has_its_release():
    assert {ability.name for ability in ABILITIES} <= set(guestlist.Capabilities._fields)
    assert set(EVENTS_SINCE) == {kind.name for kind in EventKind}


# Copies


@pytest.mark.parametrize("kind", TREE)
@pytest.mark.parametrize(
    "duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error)), without_frames]
)
def test_a_copy_keeps_class_message_and_fields(kind, duplicate):
    fields = {"code": 42, "domain": 10}
    if kind is NotSupported:
        fields |= {"needed": 1_002_008, "found": 9_012}
    copied = duplicate(kind("what was asked, and what to do", **fields))
    assert type(copied) is kind
    assert str(copied) == "what was asked, and what to do"
    assert vars(copied) == fields


def test_a_copy_without_frames_keeps_the_cause_and_no_connection(connection):
    """A copied libvirtError has the text of its original, not of the thread's last error."""
    with pytest.raises(DomainGone) as raised:
        look_up(connection)
    error, copied = raised.value, without_frames(raised.value)
    with pytest.raises(libvirt.libvirtError):
        libvirt.open("nosuchdriver:///system")
    again = without_frames(error)
    for each in copied, again:
        assert str(each.__cause__) == str(error.__cause__)
        assert each.__cause__.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
        for one in each, each.__cause__:
            assert one.__traceback__ is one.__context__ is None
    held = weakref.ref(connection.peer().connection)
    connection.close()
    del raised, error
    gc.collect()
    assert held() is None


def test_a_cause_that_cannot_be_copied_is_left_out():
    with pytest.raises(etree.XMLSyntaxError) as broken:
        etree.fromstring("<unended")
    error = LibvirtFailure("no XML")
    error.__cause__ = broken.value
    assert without_frames(error).__cause__ is None
