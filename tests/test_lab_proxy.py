"""The laboratory's proxy: what it counts, and each fault as a client meets it."""

import gc
import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import libvirt
import pytest
from lab import nodes
from lab.churn import populated
from lab.daemon import Daemon
from lab.proxy import Proxy
from lab.waiting import wait_until
from lab.wire import xdr_string

HOST = nodes.believable_host(4)
OURS = HOST[0]
RUNNING = HOST[1]


@pytest.fixture
def connection(proxy: Proxy) -> Iterator[libvirt.virConnect]:
    connection = libvirt.open(proxy.uri(nodes.node(HOST)))
    proxy.clear()
    yield connection
    proxy.reset()
    connection.close()


def failure(call: Callable[[], object]) -> libvirt.libvirtError:
    with pytest.raises(libvirt.libvirtError) as raised:
        call()
    return raised.value


# Counting


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda c: c.listAllDomains(), ["CONNECT_LIST_ALL_DOMAINS"]),
        (lambda c: c.getAllDomainStats(), ["CONNECT_GET_ALL_DOMAIN_STATS"]),
        (lambda c: c.listDomainsID(), ["CONNECT_NUM_OF_DOMAINS", "CONNECT_LIST_DOMAINS"]),
        (
            lambda c: c.listDefinedDomains(),
            ["CONNECT_NUM_OF_DEFINED_DOMAINS", "CONNECT_LIST_DEFINED_DOMAINS"],
        ),
        (lambda c: c.lookupByName(OURS.name), ["DOMAIN_LOOKUP_BY_NAME"]),
        (lambda c: c.lookupByUUID(OURS.uuid.bytes), ["DOMAIN_LOOKUP_BY_UUID"]),
        (lambda c: c.lookupByID(1).state(), ["DOMAIN_LOOKUP_BY_ID", "DOMAIN_GET_STATE"]),
        (lambda c: c.lookupByID(1).info(), ["DOMAIN_LOOKUP_BY_ID", "DOMAIN_GET_INFO"]),
        (lambda c: c.lookupByID(1).XMLDesc(), ["DOMAIN_LOOKUP_BY_ID", "DOMAIN_GET_XML_DESC"]),
        (lambda c: c.lookupByID(1).isActive(), ["DOMAIN_LOOKUP_BY_ID", "DOMAIN_IS_ACTIVE"]),
        (lambda c: c.lookupByID(1).isPersistent(), ["DOMAIN_LOOKUP_BY_ID", "DOMAIN_IS_PERSISTENT"]),
        (lambda c: c.getVersion(), ["CONNECT_GET_VERSION"]),
        (lambda c: c.getLibVersion(), ["CONNECT_GET_LIB_VERSION"]),
        (lambda c: c.isAlive(), []),
    ],
)
def test_names_what_is_called(proxy: Proxy, connection, call, expected):
    with proxy.counting() as calls:
        call(connection)
    assert calls == expected
    assert proxy.calls == expected


def test_metadata_is_one_call(proxy: Proxy, connection):
    handle = connection.lookupByName(RUNNING.name)
    with proxy.counting() as calls:
        handle.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, nodes.NOVA_NAMESPACE + "1.1")
    assert calls == ["DOMAIN_GET_METADATA"]


def test_a_misspelt_procedure_is_refused(proxy: Proxy):
    with pytest.raises(KeyError):
        proxy.deny("CONNECT_LIST_ALL_DOMAIN")


def test_large_replies_pass_unharmed(proxy: Proxy):
    many = [nodes.nova_instance(n, with_metadata=False) for n in range(3000)]
    connection = libvirt.open(proxy.uri(nodes.node(many)))
    assert {handle.name() for handle in connection.listAllDomains()} == {d.name for d in many}
    connection.close()


# An older or failing daemon


def test_a_denied_procedure_is_unsupported_and_the_connection_survives(proxy: Proxy, connection):
    proxy.deny("CONNECT_LIST_ALL_DOMAINS")
    error = failure(connection.listAllDomains)
    assert error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT
    assert error.get_error_domain() == libvirt.VIR_FROM_RPC
    assert error.get_error_message() == "unknown procedure: 273"
    assert len(connection.getAllDomainStats()) == len(HOST)
    proxy.reset()
    assert len(connection.listAllDomains()) == len(HOST)


@pytest.mark.parametrize(
    ("release", "bulk", "stats"), [("0.9.12", False, False), ("1.2.7", True, False)]
)
def test_an_older_daemon_lacks_what_came_later(proxy: Proxy, release, bulk, stats):
    proxy.older_daemon(release)
    connection = libvirt.open(proxy.uri(nodes.node(HOST)))
    major, minor, micro = map(int, release.split("."))
    assert connection.getLibVersion() == major * 1_000_000 + minor * 1_000 + micro
    for known, call in [(bulk, connection.listAllDomains), (stats, connection.getAllDomainStats)]:
        if known:
            assert len(call()) == len(HOST)
        else:
            assert failure(call).get_error_code() == libvirt.VIR_ERR_NO_SUPPORT
    assert connection.lookupByID(1).name() == HOST[0].name
    connection.close()


def test_an_old_daemon_knows_fewer_events_and_names(proxy: Proxy, event_loop_thread):
    proxy.older_daemon("0.9.12")
    many = [nodes.Domain(f"d{n}", uuid.UUID(int=n + 1), active=False) for n in range(1025)]
    connection = libvirt.open(proxy.uri(nodes.node(many)))
    balloon = libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE
    for call in [
        lambda: connection.domainEventRegisterAny(None, balloon, lambda *_: None, None),
        connection.listDefinedDomains,
    ]:
        assert failure(call).get_error_code() == libvirt.VIR_ERR_INTERNAL_ERROR
    assert connection.numOfDefinedDomains() == len(many)
    connection.close()


@pytest.mark.parametrize(
    ("release", "registration"),
    [
        ("0.9.12", "CONNECT_DOMAIN_EVENT_REGISTER_ANY"),
        ("1.2.7", "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY"),
        ("9.0.0", "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY"),
    ],
)
def test_an_older_daemon_still_delivers_lifecycle_events(
    proxy: Proxy, event_loop_thread, release, registration
):
    proxy.older_daemon(release)
    connection = libvirt.open(proxy.uri())
    arrived, events = threading.Event(), []

    def note(connection, domain, event, detail, opaque):
        events.append((domain.name(), event))
        arrived.set()

    lifecycle = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
    with proxy.counting() as calls:
        connection.domainEventRegisterAny(None, lifecycle, note, None)
    assert registration in calls
    domain = connection.defineXML(nodes.domain_xml(nodes.handmade(3)))
    assert arrived.wait(30)
    assert events == [(nodes.handmade(3).name, libvirt.VIR_DOMAIN_EVENT_DEFINED)]
    domain.undefine()
    connection.close()


def test_events_of_a_kind_can_be_swallowed(proxy: Proxy, event_loop_thread):
    connection = libvirt.open(proxy.uri())
    arrived: queue.Queue[int] = queue.Queue()
    registration = connection.domainEventRegisterAny(
        None,
        libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
        lambda _connection, _domain, event, _detail, _opaque: arrived.put(event),
        None,
    )
    proxy.swallow("DOMAIN_EVENT_CALLBACK_LIFECYCLE", times=1)
    connection.defineXML(nodes.domain_xml(nodes.handmade(3))).undefine()
    assert arrived.get(timeout=30) == libvirt.VIR_DOMAIN_EVENT_UNDEFINED
    assert arrived.empty()
    connection.domainEventDeregisterAny(registration)
    connection.close()


def test_fails_as_told(proxy: Proxy, connection):
    proxy.fail("DOMAIN_GET_STATE", libvirt.VIR_ERR_OPERATION_TIMEOUT, 10, "held by a job", times=1)
    domain = connection.lookupByID(1)
    error = failure(domain.state)
    assert error.err[:3] == (
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        libvirt.VIR_FROM_QEMU,
        "held by a job",
    )
    assert domain.state()


def test_delayed_replies_still_arrive(proxy: Proxy, connection):
    proxy.delay(0.002)
    proxy.delay(0.004, "CONNECT_LIST_ALL_DOMAINS")
    assert len(connection.listAllDomains()) == len(HOST)


def test_delayed_calls_wait_together(proxy: Proxy):
    """Both are on the wire before one is answered: neither waits for the other's delay."""
    connections = [libvirt.open(proxy.uri()) for _ in range(2)]
    proxy.clear()
    proxy.delay(3600)
    threads = [threading.Thread(target=failure, args=(c.getVersion,)) for c in connections]
    for thread in threads:
        thread.start()
    proxy.wait_called("CONNECT_GET_VERSION", times=2)
    proxy.drop()
    for thread in threads:
        thread.join()
    for connection in connections:
        connection.close()


# What replies say


@pytest.mark.parametrize("known_by", [RUNNING.name, RUNNING.uuid], ids=["name", "uuid"])
def test_a_domain_can_have_another_id_everywhere(proxy: Proxy, connection, known_by):
    real = connection.lookupByName(RUNNING.name).ID()
    proxy.set_id(known_by, 0)
    assert {h.name(): h.ID() for h in connection.listAllDomains()}[RUNNING.name] == 0
    stats = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
    assert {h.name(): h.ID() for h, _ in stats}[RUNNING.name] == 0
    assert connection.lookupByName(RUNNING.name).ID() == 0
    assert connection.lookupByUUID(RUNNING.uuid.bytes).ID() == 0
    assert connection.lookupByID(0).name() == RUNNING.name
    assert connection.lookupByID(0).ID() == 0
    ids = connection.listDomainsID()
    assert 0 in ids
    assert real not in ids
    assert connection.lookupByID(0).state()[0] == libvirt.VIR_DOMAIN_RUNNING


def test_an_inactive_domain_keeps_having_no_id(proxy: Proxy, connection):
    inactive = next(domain for domain in HOST if not domain.active)
    proxy.set_id(inactive.uuid, 0)
    assert {h.name(): h.ID() for h in connection.listAllDomains()}[inactive.name] == -1
    assert failure(lambda: connection.lookupByID(0)).get_error_code() == libvirt.VIR_ERR_NO_DOMAIN


def test_a_domain_can_have_a_hostile_name(proxy: Proxy, connection):
    hostile = "\x1b[2Jinstance\n\t\u202e"
    proxy.rename(RUNNING.name, hostile.encode())
    assert hostile in {handle.name() for handle in connection.listAllDomains()}
    assert uuid.UUID(bytes=connection.lookupByName(hostile).UUID()) == RUNNING.uuid


def test_a_reply_can_be_forged(proxy: Proxy, connection):
    proxy.rewrite("DOMAIN_GET_XML_DESC", lambda payload: xdr_string(b"<!DOCTYPE x>"))
    assert connection.lookupByID(1).XMLDesc() == "<!DOCTYPE x>"


def test_an_error_in_a_rewrite_ends_the_connection_and_comes_out(daemon):
    def change(payload: bytes) -> bytes:
        raise ZeroDivisionError

    def misuse() -> None:
        with Proxy(daemon) as proxy:
            connection = libvirt.open(proxy.uri())
            proxy.rewrite("CONNECT_LIST_ALL_DOMAINS", change)
            failure(connection.listAllDomains)
            connection.close()

    with pytest.raises(ZeroDivisionError):
        misuse()


# Silence and broken connections


def test_dropped_connections_are_lost_and_new_ones_welcome(proxy: Proxy, connection):
    proxy.drop()
    assert proxy.connections == 0
    error = failure(connection.listAllDomains)
    assert error.get_error_code() in {libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR}
    libvirt.open(proxy.uri()).close()


def test_who_is_dropped_within_a_call_leaves_the_daemon_once_it_has_answered(own_daemon: Daemon):
    with Proxy(own_daemon) as proxy, ThreadPoolExecutor() as pool:
        connection = libvirt.open(proxy.uri())
        own_daemon.stop()
        call = pool.submit(connection.listAllDomains)
        proxy.wait_called("CONNECT_LIST_ALL_DOMAINS")
        proxy.drop()
        assert failure(call.result).get_error_domain() == libvirt.VIR_FROM_RPC
        assert (proxy.connections, proxy.leaving) == (0, 1)
        own_daemon.cont()
        wait_until(lambda: proxy.leaving == 0)
        connection.close()


def test_a_daemon_that_never_answers_holds_no_proxy_up(own_daemon: Daemon):
    with ThreadPoolExecutor() as pool, Proxy(own_daemon) as proxy:
        connection = libvirt.open(proxy.uri())
        own_daemon.stop()
        call = pool.submit(connection.listAllDomains)
        proxy.wait_called("CONNECT_LIST_ALL_DOMAINS")
    failure(call.result)
    assert (proxy.connections, proxy.leaving) == (0, 1)
    connection.close()


def test_drops_the_connection_on_a_call_once(proxy: Proxy, connection):
    proxy.drop_on("CONNECT_LIST_ALL_DOMAINS")
    assert failure(connection.listAllDomains).get_error_domain() == libvirt.VIR_FROM_RPC
    again = libvirt.open(proxy.uri(nodes.node(HOST)))
    assert len(again.listAllDomains()) == len(HOST)
    again.close()


@pytest.mark.parametrize("after_bytes", [0, 3, 4, 28, 40])
def test_cuts_a_reply_short(proxy: Proxy, connection, after_bytes):
    proxy.cut("CONNECT_LIST_ALL_DOMAINS", after_bytes)
    error = failure(connection.listAllDomains)
    assert error.get_error_domain() == libvirt.VIR_FROM_RPC
    assert error.get_error_code() in {libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR}


def test_speaks_nonsense_on_new_connections_only(proxy: Proxy, connection):
    proxy.garbage()
    assert failure(lambda: libvirt.open(proxy.uri())).get_error_domain() == libvirt.VIR_FROM_RPC
    assert len(connection.listAllDomains()) == len(HOST)


def test_a_stall_holds_a_call_until_it_ends(proxy: Proxy, connection):
    proxy.stall_on("CONNECT_LIST_ALL_DOMAINS")
    names: list[str] = []
    thread = threading.Thread(
        target=lambda: names.extend(handle.name() for handle in connection.listAllDomains())
    )
    thread.start()
    proxy.wait_called("CONNECT_LIST_ALL_DOMAINS")
    assert names == []
    proxy.resume()
    thread.join(30)
    assert len(names) == len(HOST)


def test_a_connection_opened_in_a_stall_opens_when_it_ends(proxy: Proxy):
    proxy.stall()
    opened: list[libvirt.virConnect] = []
    thread = threading.Thread(target=lambda: opened.append(libvirt.open(proxy.uri())))
    thread.start()
    assert proxy.calls == []
    proxy.resume()
    thread.join(30)
    opened.pop().close()


def test_keepalive_notices_a_stall(proxy: Proxy, event_loop_thread):
    connection = libvirt.open(proxy.uri())
    closed = threading.Event()
    connection.registerCloseCallback(lambda *_: closed.set(), None)
    connection.setKeepAlive(1, 1)
    proxy.stall()
    assert closed.wait(30)
    assert not connection.isAlive()
    proxy.resume()
    connection.close()


# Order


def test_something_can_happen_between_two_calls(proxy: Proxy, connection, daemon):
    seen: list[list[str]] = []
    proxy.on_call("CONNECT_LIST_DOMAINS", lambda: seen.append(proxy.calls), times=1)
    connection.listDomainsID()
    connection.listDomainsID()
    assert seen == [["CONNECT_NUM_OF_DOMAINS", "CONNECT_LIST_DOMAINS"]]


def test_a_callback_may_use_the_proxy_itself(proxy: Proxy, connection):
    other = libvirt.open(proxy.uri())
    versions: list[int] = []
    proxy.on_call("CONNECT_LIST_ALL_DOMAINS", lambda: versions.append(other.getVersion()))
    assert len(connection.listAllDomains()) == len(HOST)
    assert len(versions) == 1
    other.close()


def test_a_callback_that_raises_comes_out(daemon):
    def misuse() -> None:
        with Proxy(daemon) as proxy:
            proxy.on_call("CONNECT_LIST_ALL_DOMAINS", lambda: 1 / 0)
            connection = libvirt.open(proxy.uri())
            connection.listAllDomains()
            connection.close()

    with pytest.raises(ZeroDivisionError):
        misuse()


def test_a_domain_that_is_gone_can_have_another_code_but_not_to_a_look_up(daemon, proxy: Proxy):
    with populated(daemon.uri(), [OURS]) as hand:
        connection = libvirt.open(proxy.uri())
        handle = connection.lookupByUUIDString(str(OURS.uuid))
        proxy.older_daemon("1.2.7")
        assert handle.state()
        hand.lookupByUUIDString(str(OURS.uuid)).destroy()
        hand.lookupByUUIDString(str(OURS.uuid)).undefine()
        for call in (handle.state, handle.info, handle.XMLDesc):
            assert failure(call).get_error_code() == libvirt.VIR_ERR_INVALID_ARG
        lookup = failure(lambda: connection.lookupByUUIDString(str(OURS.uuid)))
        assert lookup.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
        connection.close()


def test_calls_about_one_domain_can_be_held_while_all_others_are_answered(proxy, connection):
    held = connection.lookupByName(OURS.name)
    other = connection.lookupByName(RUNNING.name)
    proxy.hold("DOMAIN_GET_XML_DESC", OURS.name)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(held.XMLDesc)
        wait_until(lambda: proxy.held)
        assert other.XMLDesc()
        assert held.info()
        assert not answer.done()
        proxy.reset()
        assert OURS.name in answer.result(30)


def test_the_loop_closes_no_connection_itself(proxy: Proxy) -> None:
    """Garbage is collected on any thread; the loop would wait for a reply that only it brings."""
    gc.disable()
    try:
        connection = libvirt.open(proxy.uri(nodes.node(HOST)))
        cycle: list[object] = [connection.lookupByName(OURS.name), connection]
        cycle.append(cycle)
        del connection, cycle
        proxy._loop.do(_collect)
    finally:
        gc.enable()
    wait_until(lambda: proxy.calls[-1:] == ["CONNECT_CLOSE"])


def _collect() -> None:
    gc.collect()
