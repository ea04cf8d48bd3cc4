"""Reading a fleet from etcd: the whole of it at one revision, and the news from there on."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any
from uuid import UUID, uuid4

import pytest
from lab.churn import Churner, populated
from lab.daemon import Daemon
from lab.etcd import ROOT_PASSWORD, Etcd, Member
from lab.names import ROOT
from lab.nodes import nova_instance
from lab.published import PublishedHost, guest
from lab.relay import Relay
from lab.waiting import LONG, wait_until

from guestlist import DomainState, ForkedProcess, Host, Inventory, Snapshot
from guestlist.fleet import Fleet, HostStatus, claims, paging, store_list
from guestlist.fleet.agent import Agent, HostKeys
from guestlist.fleet.content import NAMES_NO_HOST
from guestlist.fleet.etcd import auth, errors, kv
from guestlist.fleet.etcd.connection import Etcd as Client
from guestlist.fleet.etcd.endpoints import Login, Tls
from guestlist.fleet.etcd.span import Span, prefix
from guestlist.fleet.etcd.stream import Stream
from guestlist.fleet.etcd.watch import Watch
from guestlist.fleet.layout import Layout
from guestlist.fleet.roster import NO_LEASE, SYNCING, StoredHost
from guestlist.fleet.rows import (
    Fate,
    FleetNews,
    FleetRow,
    FleetSnapshot,
    HostChange,
    Phase,
    Relisted,
    RowChange,
    Standing,
    Tombstone,
)
from guestlist.fleet.store_state import StoreState
from guestlist.fleet.store_watch import StoreWatch
from guestlist.fleet.stored import number_of
from guestlist.fleet.values import HostRecord, tombstone_value
from guestlist.inventory.changes import Gone, Started, Stopped

_numbers = itertools.count(1)


@pytest.fixture
def client(shared_etcd: Etcd) -> Iterator[Client]:
    with Client(shared_etcd.endpoints) as client:
        yield client


@pytest.fixture
def name() -> str:
    """The name of a fleet that no other test has."""
    return f"fleet{next(_numbers)}"


@pytest.fixture
def fleet(shared_etcd: Etcd, name: str) -> Iterator[Fleet]:
    with Fleet(shared_etcd.endpoints, fleet=name) as fleet:
        yield fleet


class View:
    """What a reader of news knows, by the news alone."""

    def __init__(self, news: Iterator[FleetNews]) -> None:
        self._news = news
        self.rows: dict[UUID, FleetRow] = {}
        self.told: list[FleetNews] = []
        self.take()

    def take(self) -> FleetNews:
        """Take the next news."""
        news = next(self._news)
        self.told.append(news)
        if isinstance(news, Relisted):
            self.rows = dict(news.snapshot)
        elif isinstance(news, RowChange):
            assert self.rows.get(news.row.uuid) == news.before
            if news.after is None:
                del self.rows[news.row.uuid]
            else:
                self.rows[news.row.uuid] = news.after
        return news

    def take_until(self, is_so: Callable[[], bool]) -> None:
        """Take news until something is so, over outages too."""
        while not is_so():
            with contextlib.suppress(errors.Unreachable):
                self.take()


def standing(snapshot: FleetSnapshot, uuid: UUID) -> tuple[str, Standing]:
    row = snapshot[uuid]
    return row.host, row.standing


# A snapshot


def test_a_snapshot_has_each_guest_of_each_host_once(
    client: Client, fleet: Fleet, name: str
) -> None:
    on = {}
    for number in range(120):  # three pages
        host = PublishedHost(client, f"node{number}", name)
        guests = [guest() for _ in range(number % 4)]
        host.go_live(guests)
        on |= {each.uuid: (host.host, each) for each in guests}
    snapshot = fleet.snapshot()
    assert snapshot.complete
    assert len(snapshot.hosts) == 120
    assert {row.uuid: (row.host, row.instance) for row in snapshot.rows} == on
    assert set(snapshot) == set(on)
    assert len(snapshot) == len(on)
    assert uuid4() not in snapshot


def test_hosts_sort_by_their_keys_and_none_is_missed(
    client: Client, fleet: Fleet, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "a-b/" sorts before "a/", and "a" before "a-b": pages cut by names would lose one."""
    monkeypatch.setattr(Layout.pages_of_domains, "__defaults__", (1,))
    names = ["a", "a-b", "a.b", "ab", "a0", "a:", "A", "b"]
    guests = {each: guest() for each in names}
    for each in names:
        PublishedHost(client, each, name).go_live([guests[each]])
    snapshot = fleet.snapshot()
    assert {row.host: row.instance for row in snapshot.rows} == guests


def test_the_program_of_the_page_on_size_adds_up_cells(client: Client, shared_etcd: Etcd) -> None:
    """The page says what it promises: a name may be in two cells, a UUID is not."""
    page = (ROOT / "docs" / "scale.md").read_text()
    (program,) = re.findall(r"```python\n(from concurrent.*?)```", page, re.S)
    with Etcd(shared_etcd.release) as other, Client(other.endpoints) as there:
        ours, theirs = guest("instance-0000002a"), guest("instance-0000002a")
        PublishedHost(client, "node1", "default").go_live([ours])
        second = PublishedHost(there, "node1", "default").go_live([theirs])
        found: dict[str, Any] = {
            "cells": {"one": shared_etcd.endpoints, "two": other.endpoints},
            "tls": None,
        }
        exec(program, found)  # noqa: S102  the page is ours
        assert found["complete"]
        assert {(cell, row.uuid) for cell, row in found["rows"]} == {
            ("one", ours.uuid),
            ("two", theirs.uuid),
        }
        for cell, etcd in {"one": client, "two": there}.items():
            assert found["revisions"][cell] == kv.read(etcd, Span(b"x")).revision
        second.drop_lease()
        exec(program, found)  # noqa: S102  the page is ours
        assert not found["complete"]
        for each in found["fleets"].values():
            each.close()


def test_a_large_page_is_read_in_parts(
    client: Client, fleet: Fleet, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MOST_KEYS", 7)
    for number in range(60):
        PublishedHost(client, f"node{number}", name).go_live([guest(), guest()])
    snapshot = fleet.snapshot()
    assert (len(snapshot), snapshot.complete) == (120, True)


def test_a_fleet_without_hosts_is_not_complete(fleet: Fleet) -> None:
    snapshot = fleet.snapshot()
    assert (len(snapshot), snapshot.complete, snapshot.hosts) == (0, False, ())


def test_a_host_whose_first_sync_is_under_way_is_named(
    client: Client, fleet: Fleet, name: str
) -> None:
    PublishedHost(client, "node1", name).go_live([guest()])
    syncing = PublishedHost(client, "node2", name)
    syncing.take_lease()
    syncing.publish(guest())
    snapshot = fleet.snapshot()
    assert not snapshot.complete
    assert [(each.host, each.failure) for each in snapshot.incomplete] == [("node2", SYNCING)]
    assert len(snapshot) == 2
    syncing.finish()
    assert fleet.snapshot().complete


def test_an_agent_that_starts_again_is_not_synced_by_the_record_of_the_one_before(
    client: Client, fleet: Fleet, name: str
) -> None:
    host = PublishedHost(client, "node1", name).go_live([guest()])
    host.drop_lease()
    host.take_lease()
    assert [each.failure for each in fleet.snapshot().incomplete] == [SYNCING]
    assert [each.status for each in fleet.hosts()] == [HostStatus.SYNCING]


def test_a_host_without_a_lease_keeps_its_guests_as_unknown(
    client: Client, fleet: Fleet, name: str
) -> None:
    lost = guest()
    host = PublishedHost(client, "node1", name).go_live([lost])
    host.drop_lease()
    snapshot = fleet.snapshot()
    assert standing(snapshot, lost.uuid) == ("node1", Standing.UNKNOWN)
    assert snapshot[lost.uuid].since is not None
    assert [each.failure for each in snapshot.incomplete] == [NO_LEASE]


def test_a_migration_is_one_row_at_each_of_its_steps(
    client: Client, fleet: Fleet, name: str
) -> None:
    moved = guest()
    source = PublishedHost(client, "node1", name).go_live([moved])
    target = PublishedHost(client, "node2", name).go_live()

    def seen() -> tuple[str, Standing]:
        snapshot = fleet.snapshot()
        assert (len(snapshot), snapshot.complete) == (1, True)
        return standing(snapshot, moved.uuid)

    target.publish(moved, phase=Phase.INCOMING)
    assert seen() == ("node1", Standing.MIGRATING)
    target.publish(moved, arrived=True)
    assert seen() == ("node2", Standing.HANDOVER)
    source.withdraw(moved.uuid, Fate.LEFT)
    assert seen() == ("node2", Standing.RESIDENT)


def test_a_guest_between_hosts_is_in_transit(client: Client, fleet: Fleet, name: str) -> None:
    moved = guest()
    source = PublishedHost(client, "node1", name).go_live([moved])
    PublishedHost(client, "node2", name).go_live()
    source.withdraw(moved.uuid, Fate.LEFT)
    assert standing(fleet.snapshot(), moved.uuid) == ("node1", Standing.IN_TRANSIT)
    source.bury(moved.uuid)
    assert len(fleet.snapshot()) == 0


def test_a_guest_that_came_back_and_was_shut_down_is_no_more_on_its_way(
    client: Client, fleet: Fleet, name: str
) -> None:
    """Its definition stayed, so the key is older than what the other host tells of it."""
    one, two = (PublishedHost(client, host, name).go_live() for host in ("h1", "h2"))
    here, off = guest(), DomainState.SHUTOFF
    left = replace(here, id=None, state=off)
    one.publish(here)
    two.publish(here, arrived=True)
    one.publish(left)
    began = kv.read(client, Span(b"now")).revision + 1
    one.publish(here, arrived=True, began=began)
    two.withdraw(here.uuid, Fate.LEFT)
    assert standing(fleet.snapshot(), here.uuid) == ("h1", Standing.RESIDENT)
    one.publish(left, began=began)
    tombstone = Tombstone("h1", here, Fate.ENDED, began)
    kv.put(client, one.layout.gone("h1", here.uuid), tombstone_value(tombstone))
    assert standing(fleet.snapshot(), here.uuid) == ("h1", Standing.RESIDENT)


def test_a_list_begins_again_after_a_compaction_inside_it(
    client: Client, fleet: Fleet, shared_etcd: Etcd, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = PublishedHost(client, "node1", name).go_live([guest()])
    spans: list[Span] = []
    read = kv.read

    def read_and_compact(etcd: Client, span: Span, **options: int) -> kv.Page:
        page = read(etcd, span, **options)
        spans.append(span)
        if len(spans) == 1:
            host.publish(guest())
            newest = read(etcd, Span(b"x")).revision
            kv.compact(etcd, newest)
        return page

    monkeypatch.setattr(kv, "read", read_and_compact)
    snapshot = fleet.snapshot()
    assert (len(snapshot), snapshot.complete) == (2, True)
    assert spans.count(spans[0]) == 2


def catch_up(client: Client, count: int = 5) -> None:
    """Let the store count on, without a word of the fleet."""
    for _ in range(count):
        kv.put(client, b"elsewhere", b"")


def test_a_list_never_mixes_the_histories_of_a_store_that_is_restored_inside_it(
    needs_etcd: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hosts have as many domains in both, and a guest has moved to a host already read."""
    monkeypatch.setattr(Layout.pages_of_domains, "__defaults__", (1,))
    moved, later = guest(), guest()
    with Etcd(needs_etcd) as etcd, Client(etcd.endpoints) as client:
        one = PublishedHost(client, "node1", name).go_live([])
        two = PublishedHost(client, "node2", name).go_live([moved])
        saved = etcd.save()
        catch_up(client)
        read, first = kv.read, one.layout.domains("node1").start
        is_restored = threading.Event()

        def read_and_restore(of: Client, span: Span, **options: int) -> kv.Page:
            if of is client or b"/dom/" not in span.start:
                return read(of, span, **options)
            if not span.has(first):
                assert is_restored.wait(LONG)
                return read(of, span, **options)
            page = read(of, span, **options)
            if not is_restored.is_set():
                etcd.restore(saved)
                two.publish(later)
                one.publish(moved)
                two.withdraw(moved.uuid)
                catch_up(client)
                is_restored.set()
            return page

        monkeypatch.setattr(kv, "read", read_and_restore)
        with Fleet(etcd.endpoints, fleet=name) as fleet:
            snapshot = fleet.snapshot()
        assert snapshot.complete
        assert set(snapshot) == {moved.uuid, later.uuid}


def test_a_watch_of_a_store_that_was_restored_right_after_the_list_begins_again(
    needs_etcd: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hosts have written nothing between the state that was saved and the list."""
    with Etcd(needs_etcd) as etcd, Client(etcd.endpoints) as client:
        host = PublishedHost(client, "node1", name).go_live([guest()])
        saved = etcd.save()
        catch_up(client)
        found, follow = guest(), StoreWatch._follow

        def restore_and_follow(*words: Any) -> str:
            if found.uuid not in host.domains:
                etcd.restore(saved)
                host.publish(found)
                catch_up(client)
            return follow(*words)

        monkeypatch.setattr(StoreWatch, "_follow", restore_and_follow)
        with Fleet(etcd.endpoints, fleet=name) as fleet, fleet.watch() as news:
            view = View(news)
            assert len(view.rows) == 1
            view.take_until(lambda: set(view.rows) == {found.uuid, *host.domains})


def test_compactions_that_never_end_are_told(
    client: Client, fleet: Fleet, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = PublishedHost(client, "node1", name).go_live([guest()])
    read = kv.read

    def read_and_compact(etcd: Client, span: Span, **options: int) -> kv.Page:
        page = read(etcd, span, **options)
        host.publish(guest())
        kv.compact(etcd, read(etcd, Span(b"x")).revision)
        return page

    monkeypatch.setattr(kv, "read", read_and_compact)
    with pytest.raises(errors.Compacted):
        fleet.snapshot()


# Values that cannot be read


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ((None, b"not JSON"), "none of guestlist's"),
        ((None, b""), "none of guestlist's"),
        ((None, b'{"v": 2, "name": "later"}'), "version 2"),
        ((None, b'{"v": 1, "name": 3, "state": 1, "reason": 1}'), "cannot be read"),
        ((None, b'{"v": 1, "later": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"), "nested too deeply"),
        (("not-a-uuid", b"{}"), "none of guestlist's"),
        (("0123456789abcdef0123456789ABCDEF", b"{}"), "none of guestlist's"),
    ],
)
def test_a_value_that_cannot_be_read_is_told_of_and_costs_no_other_guest(
    client: Client, fleet: Fleet, name: str, written: tuple[str | None, bytes], why: str
) -> None:
    key, value = written
    kept = guest()
    host = PublishedHost(client, "node1", name).go_live([kept])
    PublishedHost(client, "node2", name).go_live([guest()])
    host.put_raw(key or uuid4(), value)
    snapshot = fleet.snapshot()
    assert len(snapshot) == 2
    assert standing(snapshot, kept.uuid) == ("node1", Standing.RESIDENT)
    (missing,) = snapshot.incomplete
    assert missing.host == "node1"
    assert missing.failure is not None
    assert why in missing.failure


def test_a_uuid_in_another_spelling_is_no_second_guest(
    client: Client, fleet: Fleet, name: str
) -> None:
    kept = guest()
    host = PublishedHost(client, "node1", name).go_live([kept])
    value = kv.get(client, host.layout.domain("node1", kept.uuid))
    assert value is not None
    host.put_raw(str(kept.uuid).upper(), value.value)
    snapshot = fleet.snapshot()
    assert len(snapshot) == 1
    assert not snapshot.complete


def test_a_domain_that_another_program_deleted_is_missed(
    client: Client, fleet: Fleet, name: str
) -> None:
    lost = guest()
    host = PublishedHost(client, "node1", name).go_live([lost, guest()])
    kv.delete(client, Span(host.layout.domain("node1", lost.uuid)))
    (missing,) = fleet.snapshot().incomplete
    assert missing.failure is not None
    assert "1 of the 2 domains" in missing.failure


def test_a_host_that_is_on_no_roster_is_read_and_named(
    client: Client, fleet: Fleet, name: str
) -> None:
    PublishedHost(client, "node1", name).go_live([guest()])
    stranger = PublishedHost(client, "node0", name)
    stranger.publish(guest())
    kv.delete(client, Span(stranger.layout.host("node0")))
    snapshot = fleet.snapshot()
    assert len(snapshot) == 2
    assert [each.host for each in snapshot.incomplete] == ["node0"]


def test_an_unreadable_record_of_a_host_is_told(client: Client, fleet: Fleet, name: str) -> None:
    host = PublishedHost(client, "node1", name).go_live([guest()])
    kv.put(client, host.layout.host("node1"), b'{"v": 9}')
    snapshot = fleet.snapshot()
    (missing,) = snapshot.incomplete
    assert missing.failure is not None
    assert "version 9" in missing.failure
    host.finish()
    assert fleet.snapshot().complete


@pytest.mark.parametrize("tail", [b"node1/x", b"node1/", b"", b"\xff", b"a b"])
@pytest.mark.parametrize("kind", [b"host/", b"live/"])
def test_a_key_that_names_no_host_is_told_and_changes_no_other(
    client: Client, fleet: Fleet, name: str, kind: bytes, tail: bytes
) -> None:
    host = PublishedHost(client, "node1", name).go_live([guest()])
    known = kv.get(client, host.layout.host("node1"))
    assert known is not None
    key = host.layout.root + kind + tail
    with fleet.watch() as watch:
        assert isinstance(next(watch), Relisted)
        kv.put(client, key, known.value)
        came = next(watch)
        (missing,) = fleet.snapshot().incomplete
        assert came == HostChange(None, missing)
        assert missing.failure is not None
        assert NAMES_NO_HOST in missing.failure
        kv.delete(client, Span(key))
        assert next(watch) == HostChange(missing, None)
    assert fleet.snapshot().complete


@pytest.mark.parametrize(
    ("written", "since"),
    [
        ("2026-11-27T02:00:00+02:00", datetime(2026, 11, 27, tzinfo=UTC)),
        ("2026-11-27T00:00:00", None),
        ("yesterday", None),
        ("9999-12-31T23:00:00-02:00", None),
        ("0001-01-01T00:00:00+02:00", None),
    ],
)
def test_a_time_that_is_none_is_not_known(written: str, since: datetime | None) -> None:
    host = StoredHost("node1")
    host.record = HostRecord(1, True, 1, 0, written=written)
    assert host.state().since == since


# News


def test_news_begin_with_the_whole_fleet_and_go_on_from_there(
    client: Client, fleet: Fleet, name: str
) -> None:
    first, second = guest(), guest()
    host = PublishedHost(client, "node1", name).go_live([first])
    with fleet.watch() as news:
        view = View(news)
        assert set(view.rows) == {first.uuid}
        host.publish(second)
        change = view.take()
        assert isinstance(change, RowChange)
        assert isinstance(change.change, Started)
        assert view.rows[second.uuid].instance == second
        off = guest(uuid=second.uuid, name=second.name, state=DomainState.SHUTOFF)
        host.publish(off)
        change = view.take()
        assert isinstance(change, RowChange)
        assert isinstance(change.change, Stopped)
        host.withdraw(first.uuid)
        change = view.take()
        assert isinstance(change, RowChange)
        assert isinstance(change.change, Gone)


def test_a_host_that_ceases_to_tell_changes_its_own_guests_alone(
    client: Client, fleet: Fleet, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [guest() for _ in range(300)]
    for number in range(0, 300, 3):
        PublishedHost(client, f"other{number}", name).go_live(many[number : number + 3])
    guests = [guest(), guest()]
    host = PublishedHost(client, "node1", name).go_live(guests)
    with fleet.watch() as news:
        view = View(news)
        judged: list[int] = []
        judge = claims.judge
        monkeypatch.setattr(claims, "judge", lambda *its: judged.append(1) or judge(*its))
        host.drop_lease()
        told = [view.take() for _ in range(3)]
        assert len(judged) == 2 * len(guests)
        (gone,) = (each for each in told if isinstance(each, HostChange))
        assert gone.after is not None
        assert gone.after.failure == NO_LEASE
        assert {each.row.uuid for each in told if isinstance(each, RowChange)} == {
            each.uuid for each in guests
        }
        host.take_lease()
        host.finish()
        view.take_until(lambda: view.rows[guests[0].uuid].standing is Standing.RESIDENT)
    assert len(judged) < 40


def test_a_value_that_becomes_unreadable_is_told_and_so_is_its_repair(
    client: Client, fleet: Fleet, name: str
) -> None:
    kept = guest()
    host = PublishedHost(client, "node1", name).go_live([kept])
    with fleet.watch() as news:
        view = View(news)
        host.put_raw(kept.uuid, b"{}")
        change = view.take()
        assert isinstance(change, HostChange)
        assert change.after is not None
        assert not change.after.is_current
        view.take_until(lambda: not view.rows)
        host.publish(kept)
        view.take_until(lambda: kept.uuid in view.rows)
        assert fleet.snapshot().complete


def test_the_changes_of_a_cut_watch_follow_each_once(
    client: Client, shared_etcd: Etcd, name: str
) -> None:
    host = PublishedHost(client, "node1", name).go_live([guest()])
    with Relay(shared_etcd.members[0].port) as relay:
        with Fleet([f"127.0.0.1:{relay.port}"], fleet=name) as fleet, fleet.watch() as news:
            view = View(news)
            for _ in range(20):
                for _ in range(10):
                    host.publish(guest())
                relay.cut()
            view.take_until(lambda: len(view.rows) == 201)
            assert view.rows == dict(fleet.snapshot())
            assert not any(isinstance(each, Relisted) for each in view.told[1:])


def test_a_compaction_behind_which_a_watch_has_fallen_is_told(
    client: Client, shared_etcd: Etcd, name: str
) -> None:
    host = PublishedHost(client, "node1", name).go_live([guest()])
    with Relay(shared_etcd.members[0].port) as relay:
        with Fleet([f"127.0.0.1:{relay.port}"], fleet=name) as fleet, fleet.watch() as news:
            view = View(news)
            relay.hold()
            relay.cut()
            host.publish(guest())
            host.withdraw(next(iter(view.rows)))
            kv.compact(client, kv.read(client, Span(b"x")).revision)
            relay.release()
            view.take_until(lambda: isinstance(view.told[-1], Relisted) and len(view.told) > 1)
            last = view.told[-1]
            assert isinstance(last, Relisted)
            assert "compacted" in last.why
            assert view.rows == dict(fleet.snapshot())


def test_a_store_that_was_restored_is_listed_again(needs_etcd: str, name: str) -> None:
    with Etcd(needs_etcd) as etcd, Client(etcd.endpoints) as client:
        kept = guest()
        host = PublishedHost(client, "node1", name).go_live([kept])
        saved = etcd.save()
        host.publish(guest(), guest())
        with Fleet(etcd.endpoints, fleet=name) as fleet, fleet.watch() as news:
            view = View(news)
            assert len(view.rows) == 3
            etcd.restore(saved)
            view.take_until(lambda: isinstance(view.told[-1], Relisted) and len(view.told) > 1)
            last = view.told[-1]
            assert isinstance(last, Relisted)
            assert last.why
            assert set(view.rows) == {kept.uuid}


@pytest.mark.parametrize("last", ["a guest", "the end of a lease"])
def test_a_restored_store_that_has_caught_up_is_listed_again(
    needs_etcd: str, name: str, last: str
) -> None:
    """Its revision is as high as the reader's, and what it has done since is something else."""
    with Etcd(needs_etcd) as etcd, Client(etcd.endpoints) as client:
        kept, lost, later = guest(), guest(), guest()
        host = PublishedHost(client, "node1", name).go_live([kept])
        ended = PublishedHost(client, "node3", name).go_live()
        saved = etcd.save()
        with Relay(etcd.members[0].port) as relay:
            with Fleet([f"127.0.0.1:{relay.port}"], fleet=name) as fleet, fleet.watch() as news:
                view = View(news)
                host.publish(lost)
                view.take_until(lambda: lost.uuid in view.rows)
                if last == "the end of a lease":
                    ended.drop_lease()
                    view.take_until(lambda: isinstance(view.told[-1], HostChange))
                relay.hold()
                etcd.restore(saved)
                other = PublishedHost(client, "node2", name).go_live()
                for _ in range(10):
                    other.finish()
                relay.release()
                relay.cut()
                other.publish(later)
                view.take_until(lambda: later.uuid in view.rows)
                assert set(view.rows) == {kept.uuid, later.uuid}


def test_a_watch_outlives_an_outage_which_it_tells_once(needs_etcd: str, name: str) -> None:
    with Etcd(needs_etcd) as etcd, Client(etcd.endpoints) as client:
        host = PublishedHost(client, "node1", name).go_live([guest()])
        with Fleet(etcd.endpoints, fleet=name) as fleet, fleet.watch() as news:
            view = View(news)
            etcd.stop()
            with pytest.raises(errors.Unreachable):
                view.take()
            etcd.start()
            late = guest()
            host.publish(late)
            view.take_until(lambda: late.uuid in view.rows)
            assert len(view.rows) == 2


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_leader_that_fails_costs_no_change(name: str, needs_etcd: str, fault: str) -> None:
    with Etcd(needs_etcd, members=3) as etcd, Client(etcd.endpoints, timeout=2) as client:
        host = PublishedHost(client, "node1", name).go_live([guest()])
        leader = etcd.leader()
        assert leader is not None
        first = [leader.endpoint, *(each for each in etcd.endpoints if each != leader.endpoint)]
        with Fleet(first, fleet=name, timeout=2) as fleet, fleet.watch() as news:
            view = View(news)
            leader.kill() if fault == "kill" else leader.freeze()
            others = [each.endpoint for each in etcd.members if each is not leader]
            wait_until(lambda: etcd.leader(_other(etcd, leader)) not in (None, leader))
            with Client(others, timeout=2) as survivor:
                host.move_to(survivor)
                late = [guest() for _ in range(5)]
                for each in late:
                    host.publish(each)
            view.take_until(lambda: len(view.rows) == 6)
            assert view.rows == dict(fleet.snapshot())


def _other(etcd: Etcd, leader: Member) -> Member:
    return next(each for each in etcd.members if each is not leader)


def test_what_a_watch_keeps_is_what_a_list_has(client: Client, fleet: Fleet, name: str) -> None:
    """Whatever hosts do, in any order: the rows of the news are those of a list."""
    chance = random.Random(name)
    hosts = [PublishedHost(client, f"node{number}", name).go_live() for number in range(4)]
    known = [guest() for _ in range(6)]
    with fleet.watch() as news:
        view = View(news)
        for _ in range(150):
            host, each = chance.choice(hosts), chance.choice(known)
            match chance.randrange(8):
                case 0:
                    host.drop_lease()
                case 1:
                    host.take_lease()
                case 2:
                    host.finish()
                case 3 if each.uuid in host.domains:
                    host.withdraw(each.uuid, chance.choice([None, *Fate]))
                case 4:
                    host.put_raw(each.uuid, chance.choice([b"{}", b"?", b'{"v": 7}']))
                case 5:
                    host.bury(each.uuid)
                case _:
                    host.publish(each, phase=chance.choice([*Phase]), arrived=chance.random() < 0.3)
        last, behind = guest("last"), guest("behind")
        hosts[0].take_lease()
        hosts[0].publish(last)
        hosts[0].publish(behind)  # when it is told, all that `last` has changed is told, too
        view.take_until(lambda: behind.uuid in view.rows)
        snapshot = fleet.snapshot()
        assert view.rows == dict(snapshot)


# Guests that migrate while others read


class Mover(threading.Thread):
    """Migrates guests between hosts, as agents publish that, until it has done so many."""

    def __init__(self, etcd: Etcd, hosts: list[PublishedHost], migrations: int, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)
        self._hosts = hosts
        self._left = migrations
        self.done = 0

    def run(self) -> None:
        while self._left:
            self._left -= 1
            source = self._chance.choice([each for each in self._hosts if each.domains])
            target = self._chance.choice([each for each in self._hosts if each is not source])
            self._move(self._chance.choice(list(source.domains)), source, target)
            self.done += 1

    def _move(self, uuid: UUID, source: PublishedHost, target: PublishedHost) -> None:
        """Publish the steps of one migration; source and target tell in either order."""
        moved = source.domains[uuid].instance
        has_prepared = self._chance.random() < 0.7
        if has_prepared:
            target.publish(moved, phase=Phase.INCOMING)
        if self._chance.random() < 0.5:
            source.publish(moved, phase=Phase.OUTGOING)
        leaves_first = self._chance.random() < 0.5
        if leaves_first:
            source.withdraw(uuid, Fate.LEFT)
        target.publish(moved, arrived=True)
        if not leaves_first:
            source.withdraw(uuid, Fate.LEFT)
        target.publish(moved)
        source.bury(uuid)


def test_no_guest_is_missed_or_doubled_while_1000_migrate(
    client: Client, shared_etcd: Etcd, fleet: Fleet, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Layout.pages_of_domains, "__defaults__", (2,))
    hosts = [PublishedHost(client, f"node{number}", name) for number in range(16)]
    for each in hosts:
        each.go_live([guest() for _ in range(10)])
    everyone = {uuid for each in hosts for uuid in each.domains}
    movers = [Mover(shared_etcd, hosts[part::4], 250, part) for part in range(4)]
    lists = 0
    with fleet.watch() as news:
        view = View(news)
        for mover in movers:
            mover.start()
        while any(mover.is_alive() for mover in movers):
            snapshot = fleet.snapshot()
            assert snapshot.complete
            assert set(snapshot) == everyone
            assert len(snapshot.rows) == len(everyone)
            assert not [row for row in snapshot.rows if row.standing is Standing.CONFLICT]
            lists += 1
        for mover in movers:
            mover.join()
        assert sum(mover.done for mover in movers) == 1_000
        assert lists > 10
        last = guest("last")
        hosts[0].publish(last)
        seen = {len(view.rows)}
        while last.uuid not in view.rows:
            view.take()
            seen.add(len(view.rows))
        assert seen == {len(everyone), len(everyone) + 1}
        assert view.rows == dict(fleet.snapshot())


# Real agents


@pytest.fixture
def agent(daemon: Daemon, client: Client, name: str) -> Iterator[Agent]:
    """An agent that publishes the daemon's test host as node1."""
    with (
        closing(Inventory(daemon.uri())) as live,
        Agent(live, client, HostKeys(name, "node1")) as agent,
    ):
        yield agent


def test_no_guest_of_a_real_agent_is_missed_under_churn(
    daemon: Daemon, fleet: Fleet, request: pytest.FixtureRequest
) -> None:
    uuids = [nova_instance(number).uuid for number in range(20)]
    with populated(daemon.uri(), [nova_instance(number) for number in range(20)]):
        request.getfixturevalue("agent")
        wait_until(lambda: fleet.snapshot().complete)
        with fleet.watch() as news, Churner(daemon.uri(), uuids, "switch", rate=300) as churner:
            view = View(news)
            while churner.changes < 1_000:
                snapshot = fleet.snapshot()
                assert snapshot.complete
                assert sorted(snapshot) == sorted(UUID(str(each)) for each in uuids)
        with Host(daemon.uri()) as host:
            there = host.snapshot(include_inactive=True, include_foreign=True)
        wait_until(lambda: known(fleet.snapshot()) == known(there))
        assert set(view.rows) == set(there)


def known(snapshot: FleetSnapshot | Snapshot) -> dict[UUID, tuple[str, int | None, DomainState]]:
    """Return what a list tells of each domain, without its details."""
    instances = [
        each.instance if isinstance(each, FleetRow) else each for each in snapshot.values()
    ]
    return {each.uuid: (each.name, each.id, each.state) for each in instances}


# Who may read, and what is not there


def test_a_user_without_the_right_to_read_is_denied(needs_etcd: str, name: str) -> None:
    with Etcd(needs_etcd, tls=True, auth=True) as etcd:

        def tls_of(user: str) -> Tls:
            pki = etcd.certificate(user)
            return Tls(pki / "cacert.pem", pki / "clientcert.pem", pki / "clientkey.pem")

        with Client(etcd.endpoints, tls=tls_of("root")) as root:
            PublishedHost(root, "node1", name).go_live([guest()])
            for user in ("reader", "nobody"):
                auth.add_user(root, user)
            auth.add_role(root, "reader")
            right = auth.Right(auth.Access.READ, prefix(Layout(name).root))
            auth.grant(root, "reader", right)
            auth.grant_role(root, "reader", "reader")
        with Fleet(etcd.endpoints, fleet=name, tls=tls_of("reader")) as fleet:
            assert fleet.snapshot().complete
            with fleet.watch() as news:
                assert isinstance(next(news), Relisted)
            with pytest.raises(errors.Denied):
                fleet.forget("node1")
        with Fleet(etcd.endpoints, fleet=name, tls=tls_of("nobody")) as fleet:
            with pytest.raises(errors.Denied):
                fleet.snapshot()
            with fleet.watch() as news, pytest.raises(errors.Denied):
                next(news)


def test_a_watch_that_is_refused_lists_the_fleet_less_and_less_often(
    needs_etcd: str, name: str
) -> None:
    """A role with each of the spans of a list, and not with the whole of them."""
    layout = Layout(name)
    spans = layout.summary, prefix(layout.root + b"dom/"), prefix(layout.root + b"gone/")
    with Etcd(needs_etcd, auth=True) as etcd:
        with Client(etcd.endpoints, login=Login("root", ROOT_PASSWORD)) as root:
            PublishedHost(root, "node1", name).go_live([guest()])
            auth.add_user(root, "reader", "secret")
            auth.add_role(root, "reader")
            for span in spans:
                auth.grant(root, "reader", auth.Right(auth.Access.READ, span))
            auth.grant_role(root, "reader", "reader")
        with Fleet(etcd.endpoints, fleet=name, login=Login("reader", "secret")) as fleet:
            began = time.monotonic()
            with fleet.watch() as news:
                for n in range(4):
                    listed = next(news)
                    assert isinstance(listed, Relisted)
                    assert ("permission denied" in listed.why) is (n > 0)
                    with pytest.raises(errors.Denied):
                        next(news)
            assert time.monotonic() - began > sum(0.1 * 2**n for n in range(3))


def test_a_member_that_is_down_costs_nothing_where_another_answers(
    client: Client, shared_etcd: Etcd, name: str
) -> None:
    PublishedHost(client, "node1", name).go_live([guest()])
    with Fleet(["127.0.0.1:1", *shared_etcd.endpoints], fleet=name) as fleet:
        assert fleet.snapshot().complete
        with fleet.watch() as news:
            assert isinstance(next(news), Relisted)


def test_without_any_member_it_is_said_so(name: str) -> None:
    with Fleet(["127.0.0.1:1"], fleet=name) as fleet:
        with pytest.raises(errors.Unreachable):
            fleet.snapshot()
        with fleet.watch() as news, pytest.raises(errors.Unreachable):
            next(news)


# Its life


def test_close_ends_an_iteration_in_another_thread(
    client: Client, shared_etcd: Etcd, name: str
) -> None:
    PublishedHost(client, "node1", name).go_live([guest()])
    fleet = Fleet(shared_etcd.endpoints, fleet=name)
    told: list[FleetNews] = []

    def read() -> None:
        for news in fleet.watch():
            told.append(news)

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(lambda: told)
    fleet.close()
    thread.join(10)
    assert not thread.is_alive()


def test_close_ends_a_list_in_another_thread(shared_etcd: Etcd, name: str) -> None:
    with Relay(shared_etcd.members[0].port) as relay:
        relay.hold()
        fleet = Fleet([f"127.0.0.1:{relay.port}"], fleet=name, timeout=60)
        raised: list[Exception] = []

        def read() -> None:
            try:
                fleet.snapshot()
            except errors.EtcdError as error:
                raised.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        wait_until(lambda: relay.accepted)
        fleet.close()
        thread.join(10)
        assert [type(each) for each in raised] == [errors.Unreachable]


@pytest.mark.filterwarnings("ignore:Using fork:DeprecationWarning")  # eventlet's, in this process
def test_a_child_that_was_forked_is_refused(client: Client, fleet: Fleet, name: str) -> None:
    PublishedHost(client, "node1", name).go_live()
    assert fleet.snapshot().complete
    child = os.fork()
    if not child:
        try:
            fleet.snapshot()
        except ForkedProcess:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:Using fork:DeprecationWarning")  # eventlet's, in this process
def test_a_child_that_was_forked_is_refused_the_news(
    client: Client, fleet: Fleet, name: str
) -> None:
    host = PublishedHost(client, "node1", name).go_live()
    with fleet.watch() as news:
        assert isinstance(next(news), Relisted)
        host.publish(guest())
        assert isinstance(next(news), RowChange)  # from now on there is a stream
        child = os.fork()
        if not child:
            try:
                Stream.close = None  # type: ignore[assignment]  # gRPC would hang now and then
                news.get(60)
            except ForkedProcess:
                news.close()
                fleet.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_share_a_fleet(client: Client, fleet: Fleet, name: str) -> None:
    for number in range(120):
        PublishedHost(client, f"node{number}", name).go_live([guest()])
    lengths: list[int] = []
    threads = [
        threading.Thread(target=lambda: lengths.append(len(fleet.snapshot()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == [120] * 8


# Hosts


def test_hosts_are_listed_without_their_domains(client: Client, fleet: Fleet, name: str) -> None:
    PublishedHost(client, "node1", name).go_live([guest(), guest()])
    gone = PublishedHost(client, "node2", name).go_live([guest()])
    gone.drop_lease()
    told = [(each.host, str(each.status), each.domains, each.agent) for each in fleet.hosts()]
    assert told == [
        ("node1", "current", 2, "guestlist test"),
        ("node2", "unknown", 1, "guestlist test"),
    ]
    assert fleet.hosts()[1].since is not None


def test_forget_is_the_way_off_the_roster(client: Client, fleet: Fleet, name: str) -> None:
    kept, moved = guest(), guest()
    PublishedHost(client, "node10", name).go_live([kept])
    host = PublishedHost(client, "node1", name).go_live([guest(), moved])
    host.withdraw(moved.uuid, Fate.LEFT)
    with pytest.raises(errors.Refused, match="its agent is running"):
        fleet.forget("node1")
    host.drop_lease()
    with fleet.watch() as news:
        view = View(news)
        assert fleet.forget("node1") == (True, 1, 1)
        view.take_until(lambda: len(view.rows) == 1)
        assert any(isinstance(each, HostChange) and each.after is None for each in view.told)
    snapshot = fleet.snapshot()
    assert snapshot.complete
    assert [row.instance for row in snapshot.rows] == [kept]
    assert fleet.forget("node1") == (False, 0, 0)


def test_a_watch_keeps_nothing_of_guests_that_came_and_went(client: Client, name: str) -> None:
    host = PublishedHost(client, "node1", name).go_live([guest()])
    layout = Layout(name)
    revision, content = store_list.list_fleet(client, layout)
    state = StoreState(content, revision)
    for _ in range(3):
        passing = guest()
        host.publish(passing)
        host.withdraw(passing.uuid, Fate.LEFT)
        host.bury(passing.uuid)
    last = kv.put(client, layout.root + b"end", b"")
    with Watch(client, layout.everything, revision) as watch:
        while state.revision < last:
            for _, events in groupby(next(watch).events, key=lambda each: each.kv.mod_revision):
                state.take(list(events), datetime.now(UTC))
    fresh = StoreState(*reversed(store_list.list_fleet(client, layout)))
    assert state.size == fresh.size


# Keys


def test_a_uuid_is_read_in_its_one_spelling() -> None:
    uuid = UUID("0361524c-2cc0-4859-aa65-24ab713b7e05")
    text = str(uuid).encode()
    assert number_of(text) == uuid.int
    wrong = [
        b"",
        text.upper(),
        text.replace(b"-", b""),
        b"0x" + text[2:],
        b"{" + text[1:],
        b" " + text[1:],
        b"1_" + text[2:],
        b"-" + text[1:],
        text + b" ",
        text[:-1] + b"\xff",
    ]
    for each in wrong:
        with pytest.raises(ValueError, match="UUID"):
            number_of(each)
