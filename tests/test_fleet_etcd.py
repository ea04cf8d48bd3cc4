"""The client of etcd, over each etcd that can be had: what it promises, and every fault."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from lab.certificates import EXPIRED, NOT_YET, Authority
from lab.etcd import ROOT_PASSWORD, Etcd, Member, etcd_version, free_port
from lab.programs import lines_of
from lab.relay import Relay
from lab.waiting import LONG, wait_until

from guestlist.errors import ForkedProcess
from guestlist.fleet.etcd import auth, errors, kv, lease, maintenance, watch_stream
from guestlist.fleet.etcd.channels import Channels
from guestlist.fleet.etcd.connection import Etcd as Client
from guestlist.fleet.etcd.endpoints import Login, Pem, Tls, endpoints
from guestlist.fleet.etcd.messages import MESSAGES, EventType
from guestlist.fleet.etcd.refusals import why_refused
from guestlist.fleet.etcd.span import EVERYTHING, Span, prefix
from guestlist.fleet.etcd.stream import Stream
from guestlist.fleet.etcd.watch import Watch
from guestlist.fleet.etcd.watch_stream import WatchStream
from guestlist.waiting import Outcome


@pytest.fixture
def client(shared_etcd: Etcd) -> Iterator[Client]:
    """A client of it, and a store that is empty."""
    with Client(shared_etcd.endpoints) as client:
        kv.delete(client, EVERYTHING)
        yield client


@pytest.fixture(scope="module")
def guarded(needs_etcd: str) -> Iterator[Etcd]:
    """An etcd with TLS and authentication."""
    with Etcd(needs_etcd, tls=True, auth=True) as etcd:
        yield etcd


def tls_of(etcd: Etcd, user: str) -> Tls:
    pki = etcd.certificate(user)
    return Tls(pki / "cacert.pem", pki / "clientcert.pem", pki / "clientkey.pem")


@pytest.fixture
def root(guarded: Etcd) -> Iterator[Client]:
    with Client(guarded.endpoints, tls=tls_of(guarded, "root")) as client:
        yield client


@pytest.fixture
def h1(guarded: Etcd, root: Client) -> Iterator[Client]:
    """The client of a user who may read and write under "h1/" alone."""
    if "h1" not in auth.users(root):
        auth.add_user(root, "h1")
        auth.add_role(root, "h1")
        auth.grant(root, "h1", auth.Right(auth.Access.READWRITE, prefix(b"h1/")))
        auth.grant_role(root, "h1", "h1")
    with Client(guarded.endpoints, tls=tls_of(guarded, "h1")) as client:
        yield client


def fill(client: Client, count: int, *, size: int = 10, of: bytes = b"k/") -> int:
    """Write so many keys, one revision each; return the last revision."""
    revision = 0
    for number in range(count):
        revision = kv.put(client, b"%s%06d" % (of, number), b"v" * size)
    return revision


# Keys and values


def test_a_read_has_all_keys_of_a_span_at_one_revision(client: Client):
    first = kv.put(client, b"a/1", b"one")
    kv.put(client, b"b/1", b"other")
    last = kv.put(client, b"a/2", b"two")
    page = kv.read(client, prefix(b"a/"))
    assert [(row.key, row.value, row.create_revision) for row in page.rows] == [
        (b"a/1", b"one", first),
        (b"a/2", b"two", last),
    ]
    assert (page.revision, page.more, page.total) == (last, False, 2)
    before = kv.read(client, prefix(b"a/"), revision=first)
    assert ([row.key for row in before.rows], before.revision) == ([b"a/1"], first)


def test_pages_of_several_spans_are_of_one_revision(client: Client):
    fill(client, 3, of=b"a/")
    pages = kv.pages(client, [prefix(b"a/"), prefix(b"b/")])
    first = next(pages)
    kv.put(client, b"b/1", b"later")
    assert [row.key for row in next(pages).rows] == []
    assert len(first.rows) == 3


def test_a_limit_cuts_the_page_and_says_so(client: Client):
    fill(client, 5)
    page = kv.read(client, prefix(b"k/"), limit=2, keys_only=True)
    assert [(row.key, row.value) for row in page.rows] == [(b"k/000000", b""), (b"k/000001", b"")]
    assert (page.more, page.total) == (True, 5)
    assert kv.read(client, prefix(b"k/"), count_only=True)[1:] == ([], False, 5)


def test_a_transaction_does_one_branch_at_one_revision(client: Client):
    made = kv.transact(
        client,
        [kv.created_at(b"a", 0)],
        [kv.Put(b"a", b"1"), kv.Put(b"b", b"2")],
        [kv.Get(Span(b"a"))],
    )
    assert (made.held, made.answers) == (True, (None, None))
    assert {row.mod_revision for row in kv.read(client, EVERYTHING).rows} == {made.revision}
    again = kv.transact(
        client,
        [kv.modified_at(b"a", made.revision), kv.has_value(b"b", b"3")],
        [kv.Delete(EVERYTHING)],
        [kv.Get(Span(b"a")), kv.Txn((), [kv.Delete(Span(b"b"))])],
    )
    assert not again.held
    page, nested = again.answers
    assert isinstance(page, kv.Page)
    assert [row.value for row in page.rows] == [b"1"]
    assert nested == kv.Done(True, again.revision, (1,))


def test_the_newest_key_of_a_span_tells_histories_apart(client: Client):
    span = prefix(b"k/")
    empty = kv.put(client, b"elsewhere", b"")
    assert kv.is_newest(client, span, None, revision=empty)
    kv.put(client, b"k/0", b"")
    both = kv.transact(client, [], [kv.Put(b"k/1", b"1"), kv.Put(b"k/2", b"2")]).revision
    rows = {row.key: row for row in kv.read(client, span).rows}
    assert kv.is_newest(client, span, rows[b"k/1"], revision=both)
    assert kv.is_newest(client, span, rows[b"k/2"], revision=both)
    assert not kv.is_newest(client, span, rows[b"k/0"], revision=both)
    assert not kv.is_newest(client, span, None, revision=both)
    assert not kv.is_newest(client, span, rows[b"k/1"], revision=empty)
    for other in (b"k/1", b"k/3"):
        later = kv.put(client, other, b"1")
        assert not kv.is_newest(client, span, rows[b"k/1"], revision=later)
    rows[b"k/2"].value = b"another history's"
    assert not kv.is_newest(client, span, rows[b"k/2"], revision=both)


def test_a_transaction_that_is_too_large_is_refused_and_does_nothing(client: Client):
    too_many = [kv.Put(b"%d" % number, b"") for number in range(kv.MOST_OPERATIONS + 1)]
    with pytest.raises(errors.Refused, match="too many operations"):
        kv.transact(client, [], too_many)
    with pytest.raises(errors.Refused, match="too large"):
        kv.put(client, b"k", bytes(1_600_000))
    assert kv.read(client, EVERYTHING).rows == []


def test_a_revision_that_is_compacted_or_still_to_come_is_an_error_of_its_own(client: Client):
    last = fill(client, 3)
    kv.compact(client, last)
    with pytest.raises(errors.Compacted):
        kv.read(client, EVERYTHING, revision=last - 1)
    with pytest.raises(errors.Compacted):
        kv.compact(client, last)
    with pytest.raises(errors.StoreReplaced):
        kv.read(client, EVERYTHING, revision=last + 100)


def test_text_of_any_bytes_is_carried(client: Client):
    key, value = bytes(range(1, 256)), b"\0\xff\n" * 9
    kv.put(client, key, value)
    found = kv.get(client, key)
    assert found is not None
    assert (found.key, found.value) == (key, value)


# Leases


def test_a_lease_deletes_its_keys_and_tells_that_it_is_gone(client: Client):
    made = lease.grant(client, 60)
    kv.put(client, b"live", b"", lease=made.id)
    assert lease.keep(client, made.id) == made.ttl == 60
    assert lease.state(client, made.id)[1:] == (60, (b"live",))
    lease.revoke(client, made.id)
    assert kv.get(client, b"live") is None
    with pytest.raises(errors.LeaseGone):
        lease.keep(client, made.id)
    with pytest.raises(errors.LeaseGone):
        lease.state(client, made.id)
    with pytest.raises(errors.LeaseGone):
        lease.revoke(client, made.id)
    with pytest.raises(errors.LeaseGone):
        kv.put(client, b"live", b"", lease=made.id)


def test_a_lease_that_is_not_kept_expires(client: Client):
    made = lease.grant(client, 1)
    kv.put(client, b"live", b"", lease=made.id)
    wait_until(lambda: kv.get(client, b"live") is None)
    with pytest.raises(errors.LeaseGone):
        lease.keep(client, made.id)


# Changes


def events_of(watch: Iterator, count: int) -> list[tuple[int, bytes, int]]:
    """Read so many events: type, key and revision of each."""
    found: list[tuple[int, bytes, int]] = []
    while len(found) < count:
        with contextlib.suppress(errors.Unreachable):
            found += [(each.type, each.kv.key, each.kv.mod_revision) for each in next(watch).events]
    return found


def test_a_watch_tells_what_comes_after_a_revision_each_revision_whole(client: Client):
    start = fill(client, 1)
    made = kv.transact(client, [], [kv.Put(b"k/b", b""), kv.Put(b"k/c", b"")])
    with Watch(client, prefix(b"k/"), start, previous=True) as watch:
        batch = next(watch)
        assert [each.kv.key for each in batch.events] == [b"k/b", b"k/c"]
        assert batch.revision == watch.revision == made.revision
        kv.put(client, b"other", b"")
        kv.delete(client, Span(b"k/b"))
        (gone,) = next(watch).events
    assert (gone.type, gone.kv.key) == (EventType.DELETE, b"k/b")
    assert (gone.prev_kv.value, gone.prev_kv.create_revision) == (b"", made.revision)


def test_progress_on_request_is_told_and_not_taken_for_proof(client: Client):
    start = fill(client, 1)
    with Watch(client, prefix(b"k/"), start) as watch:
        kv.put(client, b"k/1", b"")
        next(watch)
        last = kv.put(client, b"other", b"")
        watch.ask_progress()
        batch = next(watch)
        assert (batch.revision, batch.events, batch.is_complete) == (last, (), False)
        assert watch.revision == last - 1


def test_a_watch_from_a_compacted_revision_says_which(client: Client):
    last = fill(client, 5)
    kv.compact(client, last)
    watch = Watch(client, prefix(b"k/"), last - 3)
    for _ in range(2):  # it may be asked again
        with pytest.raises(errors.Compacted) as told:
            next(watch)
        assert told.value.revision == last


def test_events_that_come_in_fragments_are_joined(client: Client):
    """etcd cuts a message above 1.5 MiB; a transaction of 1.4 MiB and old values are more."""
    writes = [kv.Put(b"k/%02d" % number, bytes(90_000)) for number in range(15)]
    start = kv.transact(client, [], writes).revision
    kv.transact(client, [], writes)
    with WatchStream(client, prefix(b"k/"), start + 1, previous=True) as stream:
        batch = next(stream)
    assert [each.kv.key for each in batch.events] == [write.key for write in writes]


def test_closing_a_watch_ends_the_thread_that_waits_in_it(client: Client):
    ended: list[object] = []
    watch = Watch(client, prefix(b"k/"), fill(client, 1))
    reader = threading.Thread(target=lambda: ended.append(list(watch)))
    reader.start()
    wait_until(lambda: watch.streams)
    watch.close()
    reader.join()
    assert ended == [[]]


@pytest.mark.parametrize("cut_at", [0, 1, 150_000, 400_000])
def test_a_watch_cut_while_it_catches_up_loses_nothing_and_doubles_nothing(
    client: Client, shared_etcd: Etcd, cut_at: int
):
    """Another client lost 5,000 of 6,000 events here: it took its progress for the events'."""
    start = fill(client, 1)
    wanted = []
    for part in range(60):
        writes = [kv.Put(b"k/%06d" % (100 * part + each), bytes(100)) for each in range(100)]
        revision = kv.transact(client, [], writes).revision
        wanted += [(0, write.key, revision) for write in writes]
    with Relay(shared_etcd.members[0].port) as relay, Client([f"127.0.0.1:{relay.port}"]) as cut:
        kv.get(cut, b"k")
        watch = Watch(cut, prefix(b"k/"), start)
        if cut_at:
            relay.cut_after(cut_at)
        found = events_of(watch, 1)
        if not cut_at:
            relay.cut()
            fill(client, 10, of=b"k/late")
        found += events_of(watch, len(wanted) - len(found) + (0 if cut_at else 10))
        watch.close()
    assert found[: len(wanted)] == wanted
    assert len(set(found)) == len(found)
    assert relay.accepted >= 2
    assert watch.streams >= 2 or cut_at == 1  # that cuts the read before the first stream


# Members that fail


def test_no_member_is_said_at_once_and_a_write_did_nothing():
    at = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]
    with Client(at) as client:
        with pytest.raises(errors.Unreachable, match="the last of"):
            kv.get(client, b"k")
        with pytest.raises(errors.Unreachable, match="the store did nothing"):
            kv.put(client, b"k", b"")
        with pytest.raises(errors.Unreachable):
            next(Watch(client, prefix(b"k"), 1))


def test_a_write_whose_answer_is_lost_has_an_unknown_outcome_and_is_sent_once(
    client: Client, shared_etcd: Etcd
):
    with Relay(shared_etcd.members[0].port) as relay, Client([f"127.0.0.1:{relay.port}"]) as lossy:
        kv.put(lossy, b"k", b"")
        relay.hold(answers_only=True)
        told: Outcome[int] = Outcome()
        writer = threading.Thread(target=lambda: told.of(lambda: kv.put(lossy, b"k", b"")))
        writer.start()
        wait_until(lambda: version_of(client, b"k") == 2)
        relay.cut()
        with pytest.raises(errors.UnknownOutcome, match="not known"):
            told.get()
        writer.join()
        relay.release()
        assert version_of(lossy, b"k") == 2


def version_of(client: Client, key: bytes) -> int:
    found = kv.get(client, key)
    return found.version if found else 0


def test_a_member_that_is_silent_costs_one_deadline_and_then_the_next_is_asked(
    client: Client, shared_etcd: Etcd
):
    with Relay(shared_etcd.members[0].port) as relay:
        relay.hold()
        at = [f"127.0.0.1:{relay.port}", *shared_etcd.endpoints]
        with Client(at, timeout=0.5) as some:
            assert some.member == at[0]
            kv.get(some, b"k")
            assert some.member == at[1]
            made = kv.put(some, b"k", b"")
            with Watch(some, prefix(b"k"), made - 1) as watch:
                assert [each.kv.key for each in next(watch).events] == [b"k"]


@pytest.mark.parametrize("fault", ["silent", "cut"])
def test_a_lease_is_kept_at_another_member(client: Client, shared_etcd: Etcd, fault: str):
    made = lease.grant(client, 60)
    with Relay(shared_etcd.members[0].port) as relay:
        with Client([f"127.0.0.1:{relay.port}", *shared_etcd.endpoints], timeout=0.5) as some:
            with lease.Keeper(some, made.id) as keeper:
                assert [keeper.keep() for _ in range(3)] == [60, 60, 60]
                assert relay.accepted == 1
                relay.hold()
                if fault == "cut":
                    relay.cut()
                assert keeper.keep() == 60
                assert some.member == shared_etcd.endpoints[0]
                lease.revoke(client, made.id)
                with pytest.raises(errors.LeaseGone):
                    keeper.keep()


def test_a_watch_behind_a_network_that_goes_silent_moves_to_another_member(
    client: Client, shared_etcd: Etcd
):
    with Relay(shared_etcd.members[0].port) as relay:
        with Client([f"127.0.0.1:{relay.port}", *shared_etcd.endpoints], timeout=0.5) as some:
            with Watch(some, prefix(b"k/"), fill(client, 1)) as watch:
                kv.put(client, b"k/1", b"")
                assert events_of(watch, 1)[0][1] == b"k/1"
                relay.hold()
                kv.put(client, b"k/2", b"")
                assert events_of(watch, 1)[0][1] == b"k/2"
                assert (watch.streams, some.member) == (2, shared_etcd.endpoints[0])


def test_a_quiet_watch_survives_a_compaction_by_the_progress_that_etcd_tells(needs_etcd: str):
    if etcd_version(needs_etcd) < (3, 5):
        pytest.skip("etcd 3.4 has no option for how often it tells progress: every 10 minutes")
    often = "--experimental-watch-progress-notify-interval=100ms"
    with Etcd(needs_etcd, options=[often]) as etcd, Client(etcd.endpoints) as direct:
        with Relay(etcd.members[0].port) as relay, Client([f"127.0.0.1:{relay.port}"]) as client:
            with Watch(client, prefix(b"k/"), fill(direct, 1)) as watch:
                last = fill(direct, 50, of=b"other/")
                while watch.revision < last:
                    assert next(watch).events == ()
                kv.compact(direct, last)
                relay.cut()
                kv.put(direct, b"k/1", b"")
                assert is_told(watch, b"k/1")


def test_a_quiet_watch_hears_that_its_member_lives(client: Client, monkeypatch: pytest.MonkeyPatch):
    """etcd 3.5.30 answers no sign of life to a watch that begins after its revision."""
    monkeypatch.setattr(watch_stream, "HEARTBEAT", 0.01)
    answers = []
    receive = Stream.receive

    def counted(stream: Stream, timeout: float) -> Any:
        if (answer := receive(stream, timeout)) is not None:
            answers.append(answer)
        return answer

    monkeypatch.setattr(Stream, "receive", counted)
    now = kv.put(client, b"k", b"1")
    with Watch(client, Span(b"k"), now) as watch, ThreadPoolExecutor(1) as pool:
        told = pool.submit(next, watch)
        wait_until(lambda: len(answers) > 3)
        kv.put(client, b"k", b"2")
        assert [event.kv.value for event in told.result().events] == [b"2"]
        assert watch.streams == 1


def test_a_server_that_is_no_etcd_is_an_error(needs_etcd: str):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with Client([f"127.0.0.1:{listening.getsockname()[1]}"], timeout=0.5) as client:
            with pytest.raises(errors.Unreachable):
                kv.get(client, b"k")


@pytest.fixture
def own(needs_etcd: str) -> Iterator[Etcd]:
    with Etcd(needs_etcd) as etcd:
        yield etcd


@pytest.fixture
def three(needs_etcd: str) -> Iterator[Etcd]:
    with Etcd(needs_etcd, members=3) as etcd:
        yield etcd


def writes_again(client: Client, key: bytes) -> None:
    """Write until it is done: each refusal or silence is an error that names itself."""

    def is_written() -> bool:
        try:
            kv.put(client, key, b"")
        except (errors.Unreachable, errors.UnknownOutcome):
            return False
        return True

    wait_until(is_written)


def is_told(watch: Watch, key: bytes) -> bool:
    """Read a watch until it tells of a key."""
    while True:
        try:
            if any(each.kv.key == key for each in next(watch).events):
                return True
        except errors.Unreachable:
            continue


def leader_of(etcd: Etcd) -> Member:
    wait_until(lambda: etcd.leader() is not None)
    leader = etcd.leader()
    assert leader is not None
    return leader


def first(etcd: Etcd, member: Member) -> list[str]:
    """Return the endpoints, this member's first."""
    return sorted(etcd.endpoints, key=lambda each: each != member.endpoint)


@pytest.mark.parametrize("fault", ["killed", "frozen", "cut off"])
def test_a_leader_that_fails_is_left_for_another_member(three: Etcd, fault: str):
    leader = leader_of(three)
    with Client(first(three, leader), timeout=1) as client, Client(three.endpoints) as other:
        start = kv.put(client, b"k/0", b"")
        watch = Watch(client, prefix(b"k/"), start)
        kv.put(client, b"k/1", b"")
        assert is_told(watch, b"k/1")
        {"killed": leader.kill, "frozen": leader.freeze, "cut off": lambda: three.cut_off(leader)}[
            fault
        ]()
        writes_again(other, b"k/2")
        writes_again(client, b"k/3")
        assert is_told(watch, b"k/2")
        watch.close()
        if fault == "frozen":
            leader.thaw()


def test_a_restarted_etcd_is_found_again_and_nothing_is_lost(own: Etcd):
    with Client(own.endpoints) as client:
        start = kv.put(client, b"k/0", b"")
        watch = Watch(client, prefix(b"k/"), start)
        kv.put(client, b"k/1", b"")
        assert is_told(watch, b"k/1")
        own.kill()
        with pytest.raises(errors.Unreachable):
            next(watch)
        own.start()
        writes_again(client, b"k/2")
        assert is_told(watch, b"k/2")
        watch.close()


def test_a_store_restored_from_an_older_snapshot_is_told(own: Etcd):
    with Client(own.endpoints) as client:
        kv.put(client, b"k/0", b"")
        snapshot = own.save()
        last = fill(client, 5)
        watch = Watch(client, prefix(b"k/"), last)
        kv.put(client, b"k/1", b"")
        assert is_told(watch, b"k/1")
        own.restore(snapshot)
        writes_again(client, b"k/2")
        with pytest.raises(errors.StoreReplaced) as told:
            is_told(watch, b"never")
        assert told.value.revision == kv.read(client, Span(b"k")).revision
        with pytest.raises(errors.StoreReplaced):
            kv.read(client, prefix(b"k/"), revision=last)


def test_a_full_store_says_so_and_still_keeps_leases(needs_etcd: str):
    with Etcd(needs_etcd, quota=2 << 20) as etcd, Client(etcd.endpoints) as client:
        made = lease.grant(client, 60)
        with pytest.raises(errors.NoSpace):
            fill(client, 100, size=500_000)
        assert lease.keep(client, made.id) == 60
        assert [each.alarm for each in maintenance.alarms(client)] == [maintenance.Alarm.NOSPACE]
        with pytest.raises(errors.NoSpace):
            kv.transact(client, [], [kv.Put(b"small", b"")])
        kv.delete(client, prefix(b"k/"))
        kv.compact(client, kv.read(client, Span(b"k")).revision, physical=True)
        maintenance.defragment(client, client.member)
        for alarm in maintenance.alarms(client):
            maintenance.disarm(client, alarm)
        kv.put(client, b"small", b"")


def test_status_and_members_tell_what_runs(client: Client, shared_etcd: Etcd):
    told = maintenance.status(client)
    version = ".".join(map(str, etcd_version(shared_etcd.release)))
    assert (told.version, told.leader, told.errors) == (version, told.member, ())
    (member,) = maintenance.members(client)
    assert (member.id, member.client_urls) == (told.member, (f"http://{client.member}",))


# TLS, users and rights


def test_a_certificate_says_who_the_user_is(h1: Client):
    kv.delete(h1, prefix(b"h1/"))
    kv.put(h1, b"h1/a", b"mine")
    assert [row.value for row in kv.read(h1, prefix(b"h1/")).rows] == [b"mine"]
    with pytest.raises(errors.Denied):
        kv.read(h1, prefix(b"h2/"))
    with pytest.raises(errors.Denied):
        kv.put(h1, b"h2/a", b"")
    with pytest.raises(errors.Denied):
        auth.users(h1)


def test_a_watch_without_the_right_is_denied(h1: Client):
    with pytest.raises(errors.Denied):
        next(Watch(h1, prefix(b"h2/"), 1))
    with pytest.raises(errors.Denied, match="cancelled"):
        next(WatchStream(h1, prefix(b"h2/"), 1))
    made = kv.put(h1, b"h1/b", b"")
    with Watch(h1, prefix(b"h1/"), made - 1) as watch:
        assert [each.kv.key for each in next(watch).events] == [b"h1/b"]


def test_users_and_roles_are_made_read_and_taken_back(root: Client):
    auth.add_user(root, "u", "password")
    auth.add_role(root, "r")
    right = auth.Right(auth.Access.READ, prefix(b"r/"))
    auth.grant(root, "r", right)
    auth.grant(root, "r", auth.Right(auth.Access.WRITE, Span(b"one")))
    auth.grant_role(root, "u", "r")
    assert auth.roles_of(root, "u") == ("r",)
    assert set(auth.rights_of(root, "r")) == {right, auth.Right(auth.Access.WRITE, Span(b"one"))}
    auth.revoke(root, "r", Span(b"one"))
    assert auth.rights_of(root, "r") == (right,)
    auth.revoke_role(root, "u", "r")
    assert auth.roles_of(root, "u") == ()
    with pytest.raises(errors.Refused, match="already exists"):
        auth.add_user(root, "u")
    auth.delete_role(root, "r")
    auth.delete_user(root, "u")
    assert "u" not in auth.users(root)
    assert "r" not in auth.roles(root)
    with pytest.raises(errors.Refused, match="not found"):
        auth.roles_of(root, "u")


def test_a_login_is_renewed_when_its_token_is_not_valid_any_more(needs_etcd: str):
    with Etcd(needs_etcd, auth=True) as etcd:
        login = Login("root", ROOT_PASSWORD)
        with Client(etcd.endpoints, login=login) as client:
            start = kv.put(client, b"k/0", b"")
            watch = Watch(client, prefix(b"k/"), start)
            kv.put(client, b"k/1", b"")
            assert is_told(watch, b"k/1")
            etcd.stop()
            etcd.start()  # it has forgotten all tokens
            kv.put(client, b"k/2", b"")
            assert is_told(watch, b"k/2")
            made = lease.grant(client, 60)
            etcd.stop()
            etcd.start()
            assert lease.keep(client, made.id) == 60
            auth.add_user(client, "u", "old")  # the revision of the users changes
            assert kv.get(client, b"k/2") is not None
            watch.close()
        with Client(etcd.endpoints, login=Login("u", "wrong")) as client:
            with pytest.raises(errors.Denied, match="log in as 'u'"):
                kv.get(client, b"k/2")
        with Client(etcd.endpoints) as client:
            with pytest.raises(errors.Denied):
                kv.get(client, b"k/2")


WRONG = {
    "authority": "its certificate was not issued by .*alien",
    "no certificate": "it wants a certificate of this client: give --cert and --key",
    "plain text": r"it speaks TLS only: say which authority to trust \(--cacert\)",
    "name": "its certificate is for another name",
    "expired": "clientcert.pem has expired",
    "not yet valid": "clientcert.pem is not valid yet: compare the clocks",
    "of another authority": "clientcert.pem is not one that it trusts",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_connection_that_is_not_proved_is_refused(
    guarded: Etcd, h1: Client, tmp_path: Path, wrong: str
):
    right = tls_of(guarded, "h1")
    alien = Authority("alien")
    client = {
        "expired": guarded.authority.issue("h1", EXPIRED),
        "not yet valid": guarded.authority.issue("h1", NOT_YET),
    }.get(wrong, alien.issue("h1"))
    pki = (alien if wrong == "authority" else guarded.authority).put(
        tmp_path / "alien", client=client
    )
    own = pki / "clientcert.pem", pki / "clientkey.pem"
    tls = {
        "authority": Tls(pki / "cacert.pem", right.certificate, right.key),
        "no certificate": Tls(right.ca),
        "plain text": None,
        "name": Tls(right.ca, right.certificate, right.key, server_name="elsewhere"),
    }.get(wrong, Tls(right.ca, *own))
    with Client(guarded.endpoints, tls=tls, timeout=2) as asked:
        for ask in (lambda: kv.get(asked, b"h1/a"), lambda: kv.put(asked, b"h1/a", b"")):
            with pytest.raises((errors.Unreachable, errors.UnknownOutcome), match=WRONG[wrong]):
                ask()


def test_the_alert_of_a_member_that_refuses_is_never_lost(guarded: Etcd, tmp_path: Path):
    """A member that agrees speaks first: its look ends as well."""
    pki = guarded.authority.put(tmp_path / "alien", client=Authority("alien").issue("h1"))
    refused = Tls(pki / "cacert.pem", pki / "clientcert.pem", pki / "clientkey.pem")
    (member,) = endpoints(guarded.endpoints, tls=True)
    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(why_refused, member, refused, LONG) for _ in range(60)]
        assert all(WRONG["of another authority"] in str(each.result()) for each in looks)
    assert why_refused(member, tls_of(guarded, "h1"), LONG) is None


def test_a_look_asks_for_no_more_of_a_certificate_than_grpc(
    guarded: Etcd, monkeypatch: pytest.MonkeyPatch
):
    """Python's default context does, from 3.13 on: here it does on each Python."""
    make, wrap = ssl.create_default_context, ssl.SSLContext.wrap_socket
    flags: list[ssl.VerifyFlags] = []

    def make_strict(**words: Any) -> ssl.SSLContext:
        context = make(**words)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    def wrap_and_tell(context: ssl.SSLContext, *words: Any, **options: Any) -> ssl.SSLSocket:
        flags.append(context.verify_flags)
        return wrap(context, *words, **options)

    monkeypatch.setattr(ssl, "create_default_context", make_strict)
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap_and_tell)
    (member,) = endpoints(guarded.endpoints, tls=True)
    assert why_refused(member, tls_of(guarded, "h1"), LONG) is None
    assert [each & ssl.VERIFY_X509_STRICT for each in flags] == [0]


def test_tls_to_a_port_without_it_is_told(shared_etcd: Etcd, guarded: Etcd):
    with Client(shared_etcd.endpoints, tls=tls_of(guarded, "root")) as client:
        with pytest.raises(errors.Unreachable, match="it speaks plain text: leave out"):
            kv.get(client, b"k")


def test_a_member_whose_certificate_has_expired_is_told(tmp_path: Path):
    authority = Authority("lab")
    pki = authority.put(tmp_path / "pki", server=authority.issue("localhost", EXPIRED))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "servercert.pem", pki / "serverkey.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    plain, _ = listening.accept()
                    with contextlib.suppress(ssl.SSLError), plain:
                        context.wrap_socket(plain, server_side=True).close()

        threading.Thread(target=serve, daemon=True).start()
        endpoint = f"localhost:{listening.getsockname()[1]}"
        with Client([endpoint], tls=Tls(pki / "cacert.pem")) as client:
            with pytest.raises(errors.Unreachable, match="its certificate has expired"):
                kv.get(client, b"k")


def test_a_certificate_that_was_renewed_is_used_without_a_restart(needs_etcd: str, tmp_path: Path):
    """Of another authority: the one before is refused from then on."""
    with Etcd(needs_etcd, tls=True) as etcd:
        files = [tmp_path / name for name in ("cacert.pem", "clientcert.pem", "clientkey.pem")]

        def install() -> None:
            for each in files:
                each.write_bytes((etcd.certificate("root") / each.name).read_bytes())

        install()
        with Client(etcd.endpoints, tls=Tls(*files), timeout=2) as client:
            watch = Watch(client, prefix(b"k/"), kv.put(client, b"k/0", b""))
            kv.put(client, b"k/1", b"")
            assert is_told(watch, b"k/1")
            etcd.renew_certificates()
            with pytest.raises((errors.Unreachable, errors.UnknownOutcome), match="not issued by"):
                kv.put(client, b"k/2", b"")
            files[2].write_text("half written")
            with pytest.raises((errors.Unreachable, errors.UnknownOutcome)):
                kv.put(client, b"k/2", b"")
            install()
            writes_again(client, b"k/2")
            assert is_told(watch, b"k/2")
            watch.close()


def test_a_connection_that_is_left_while_a_call_begins_is_not_used_again(
    shared_etcd: Etcd, monkeypatch: pytest.MonkeyPatch
):
    opened: list[Any] = []
    really_open = Channels.open

    def open_one(self: Channels, address: str, pem: Pem | None) -> Any:
        channel = really_open(self, address, pem)
        make = channel.unary_unary

        def make_late(*words: Any, **options: Any) -> Any:
            if channel is opened[0]:
                client.next_member(client.member, is_silent=True)
            return make(*words, **options)

        monkeypatch.setattr(channel, "unary_unary", make_late)
        opened.append(channel)
        return channel

    monkeypatch.setattr(Channels, "open", open_one)
    with Client(shared_etcd.endpoints) as client:
        for _ in range(3):
            assert kv.get(client, b"absent") is None
    assert len(opened) == 2


def test_text_that_is_no_endpoint_is_refused():
    assert [str(each) for each in endpoints(["a", "https://[::1]:1/"], tls=True)] == [
        "a:2379",
        "[::1]:1",
    ]
    for wrong in ("", "a:b", "a:99999", "ftp://a", "a b", "http://a/path"):
        with pytest.raises(ValueError, match="endpoint"):
            endpoints([wrong], tls=False)
    for wrong, tls in (("http://a", True), ("https://a", False)):
        with pytest.raises(ValueError, match="TLS"):
            endpoints([wrong], tls=tls)
    with pytest.raises(ValueError, match="no endpoint"):
        endpoints([], tls=False)
    with pytest.raises(ValueError, match="endpoint 'a:2379' comes with a user") as told:
        endpoints(["http://me:secret@a:2379"], tls=False)
    assert "secret" not in str(told.value)


def test_files_that_are_no_certificates_are_refused_before_a_call(tmp_path: Path):
    authority, other = Authority("lab"), Authority("lab")
    for name, each in (("one", authority), ("two", other)):
        each.put(tmp_path / name, client=each.issue(name))
    one, two = tmp_path / "one", tmp_path / "two"
    ca, certificate, key = one / "cacert.pem", one / "clientcert.pem", one / "clientkey.pem"
    assert Tls(ca, certificate, key).read().ca == ca.read_bytes()
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nothing")
    for wrong, why in (
        (Tls(garbage), "garbage.pem has no certificate of an authority"),
        (Tls(ca, key, certificate), "are no certificate and its key"),
        (Tls(ca, certificate, garbage), "are no certificate and its key"),
        (Tls(ca, certificate, two / "clientkey.pem"), "are no certificate and its key"),
    ):
        with pytest.raises(ValueError, match=why):
            Client(["https://a"], tls=wrong)


# In one process with others


@pytest.mark.filterwarnings("ignore:Using fork:DeprecationWarning")  # eventlet's, in this process
def test_a_forked_child_is_refused(client: Client):
    kv.get(client, b"k")
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            kv.get(client, b"k")
        except ForkedProcess:
            os.write(sending, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(receiving, 100) == b"refused"


def test_green_threads_are_refused():
    source = """
from gevent import monkey
monkey.patch_all()
from guestlist.errors import ThreadsReplaced
from guestlist.fleet.etcd.connection import Etcd
try:
    Etcd(["127.0.0.1"])
except ThreadsReplaced as error:
    print("gevent" in str(error))
"""
    assert lines_of(source) == ["True"]


def test_a_closed_connection_asks_nothing(client: Client):
    client.close()
    with pytest.raises(errors.Refused, match="closed"):
        kv.get(client, b"k")


def test_the_messages_are_in_a_pool_of_their_own():
    assert MESSAGES["RangeRequest"].DESCRIPTOR.file.pool is not descriptor_pool.Default()
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName("guestlist/etcd.proto")


def test_errors_keep_what_they_carry():
    copied = pickle.loads(pickle.dumps(errors.Compacted("text", revision=7)))
    assert (str(copied), copied.revision) == ("text", 7)


@pytest.mark.parametrize(
    ("start", "end"),
    [(b"a/", b"a0"), (b"a\xff", b"b"), (b"\xff", b"\0"), (b"", b"\0")],
)
def test_a_prefix_is_the_span_of_all_keys_that_begin_so(start: bytes, end: bytes):
    assert prefix(start).end == end
