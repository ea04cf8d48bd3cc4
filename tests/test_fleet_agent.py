"""The agent, over real etcds and libvirtds: after each fault the store has what the host has."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.churn import Churner, populated
from lab.command import COMMAND, refused, started
from lab.daemon import Daemon
from lab.etcd import RELEASES, etcd_available
from lab.etcd import Etcd as Lab
from lab.exporters import Serving
from lab.faketime import faketime_available, off_by
from lab.migration import Migration, migrating, two_hosts
from lab.names import ROOT
from lab.needs import require
from lab.nodes import appliance, domain_xml, handmade, nova_instance
from lab.proxy import Proxy
from lab.relay import Relay
from lab.views import truth
from lab.waiting import wait_until

from guestlist import Inventory
from guestlist.cli import arguments, etcd_options
from guestlist.fleet import Fleet, layout, values
from guestlist.fleet.agent import Agent, HostKeys, Owner, Stage
from guestlist.fleet.agent import chain as chains
from guestlist.fleet.agent import content as contents
from guestlist.fleet.agent import term as terms
from guestlist.fleet.agent.chain import Chain, ChainBroken
from guestlist.fleet.agent.pace import LONGEST_PAUSE, Patience
from guestlist.fleet.agent.publishing import MOST_BYTES, NOTHING, Entry, Publishing
from guestlist.fleet.agent.term import TermLost
from guestlist.fleet.etcd import auth, kv, lease
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.endpoints import Tls
from guestlist.fleet.etcd.errors import NoSpace
from guestlist.fleet.etcd.messages import MESSAGES
from guestlist.fleet.etcd.span import EVERYTHING, Span, prefix
from guestlist.fleet.rows import Fate, Phase, Publication, Standing, Tombstone
from guestlist.launcher import Launcher

CONTRIB = ROOT / "contrib" / "fleet"
KEYS = HostKeys("f", "h1")
SHORT, LONG_TTL = 2, 600


class Published(NamedTuple):
    """What the store has of a host."""

    term: int
    record: values.HostRecord | None
    record_revision: int
    domains: dict[UUID, Publication]
    tombstones: dict[UUID, Tombstone]


class Store:
    """A client of the test's own."""

    def __init__(self, endpoints: list[str], tls: Tls | None = None) -> None:
        self.etcd = Etcd(endpoints, tls=tls)

    def published(self, keys: HostKeys = KEYS, revision: int = 0) -> Published:
        page = kv.read(self.etcd, keys.layout.everything, revision=revision)
        rows = {row.key: row for row in page.rows}
        live, row = rows.get(keys.live), rows.get(keys.record)
        record = None if row is None else layout.host_record(row)
        assert not isinstance(record, layout.BadRow)
        spans = keys.domains, keys.tombstones
        found = keys.layout.read(
            row for key, row in rows.items() if any(span.start < key < span.end for span in spans)
        )
        assert not found.bad
        return Published(
            live.create_revision if live else 0,
            record,
            row.mod_revision if row else 0,
            {each.instance.uuid: each for each in found.publications},
            {each.instance.uuid: each for each in found.tombstones},
        )

    def is_live(self) -> bool:
        return kv.get(self.etcd, KEYS.live) is not None

    def has_what(self, uri: str, keys: HostKeys = KEYS) -> bool:
        """Return whether the host is live and synced, and has in the store what libvirt has."""
        found = self.published(keys)
        if found.record is None or not found.record.synced or found.record.term != found.term:
            return False
        real = [each for each in truth(uri).values() if each.launcher is not Launcher.DOM0]
        seen = {
            uuid: (each.instance.name, each.instance.id, each.instance.state, each.instance.reason)
            for uuid, each in found.domains.items()
        }
        count = found.record.count
        return count == len(seen) and seen == {
            each.uuid: (each.name, each.id, each.state, each.reason) for each in real
        }


@pytest.fixture(scope="session")
def needs_etcd() -> None:
    """Debian's etcd can be started here."""
    require(etcd_available("bookworm"))


@pytest.fixture
def lab(needs_etcd: None) -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def store(lab: Lab) -> Iterator[Store]:
    made = Store(lab.endpoints)
    yield made
    made.etcd.close()


@contextlib.contextmanager
def agent_of(
    uri: str, endpoints: list[str], ttl: int = SHORT, owner: Owner | None = None, hold: float = 60.0
) -> Iterator[Agent]:
    with contextlib.closing(Inventory(uri)) as live:
        etcd = Etcd(endpoints, timeout=1.0)
        with Agent(live, etcd, KEYS, ttl=ttl, owner=owner, hold=hold) as agent:
            yield agent


def synced(agent: Agent) -> None:
    agent.wait_for(lambda state: state.stage is Stage.SYNCED and not state.waiting, 30)


@contextlib.contextmanager
def instances(daemon: Daemon, count: int = 5) -> Iterator[libvirt.virConnect]:
    with populated(daemon.uri(), [nova_instance(n) for n in range(count)]) as connection:
        yield connection


def change(connection: libvirt.virConnect, n: int = 0) -> None:
    """Change the state of the n-th instance."""
    domain = connection.lookupByUUIDString(str(nova_instance(n).uuid))
    domain.destroy() if domain.isActive() else domain.create()


def converged(store: Store, daemon: Daemon) -> None:
    wait_until(lambda: store.has_what(daemon.uri()))


# What is published


@pytest.mark.parametrize("release", RELEASES)
def test_domains_of_every_launcher_and_state_are_published(daemon, needs_etcd, release):
    require(etcd_available(release))
    domains = [nova_instance(1), nova_instance(2, active=False), nova_instance(3, paused=True)]
    domains += [appliance(1), handmade(0), handmade(1, active=False)]
    with Lab(release) as lab, populated(daemon.uri(), domains):
        store = Store(lab.endpoints)
        with agent_of(daemon.uri(), lab.endpoints) as agent:
            synced(agent)
            assert store.has_what(daemon.uri())
            assert len(store.published().domains) == 6
        store.etcd.close()


def test_only_what_changed_is_written(daemon, lab, store):
    with instances(daemon) as connection, agent_of(daemon.uri(), lab.endpoints, LONG_TTL) as agent:
        synced(agent)
        before = agent.state
        change(connection, 2)
        agent.wait_for(lambda state: state.writes > before.writes, 30)
        converged(store, daemon)
        written = {
            row.key
            for row in kv.read(store.etcd, EVERYTHING).rows
            if row.mod_revision > before.revision
        }
        changed = nova_instance(2).uuid
        assert written == {KEYS.record, KEYS.domain(changed), KEYS.tombstone(changed)}


def test_a_first_sync_of_many_transactions_says_that_it_is_not_synced(daemon, lab, store):
    with instances(daemon, 250), agent_of(daemon.uri(), lab.endpoints, LONG_TTL) as agent:
        synced(agent)
        last = agent.state
        assert last.writes == 3
        seen = [store.published(revision=last.revision - 2 + n) for n in range(3)]
    assert [each.record and each.record.synced for each in seen] == [False, False, True]
    assert [len(each.domains) for each in seen] == [100, 200, 250]
    assert [each.record and each.record.count for each in seen] == [100, 200, 250]


def test_changes_that_come_together_are_written_together(daemon, lab, store):
    uuids = [nova_instance(n).uuid for n in range(20)]
    with instances(daemon, 20), agent_of(daemon.uri(), lab.endpoints, LONG_TTL) as agent:
        synced(agent)
        before = agent.state.writes
        with Churner(daemon.uri(), uuids, "switch") as churner:
            churner.wait_changes(3_000)
            changes = churner.pause()
        converged(store, daemon)
        assert agent.state.writes - before < changes / 3


def test_a_new_agent_of_the_host_begins_with_what_the_old_one_published(daemon, lab, store):
    with instances(daemon) as connection:
        with agent_of(daemon.uri(), lab.endpoints) as agent:
            synced(agent)
        old = store.published()
        change(connection, 1)
        with agent_of(daemon.uri(), lab.endpoints) as agent:
            synced(agent)
            new = store.published()
            assert store.has_what(daemon.uri())
    assert new.term > old.term
    changed = nova_instance(1).uuid
    assert {uuid for uuid in new.domains if new.domains[uuid] != old.domains[uuid]} == {changed}


def test_a_domain_that_runs_again_is_as_old_as_its_run(daemon, lab, store):
    guest, key = nova_instance(0), KEYS.domain(nova_instance(0).uuid)

    def born() -> int:
        return store.published().domains[guest.uuid].born

    with instances(daemon) as connection:
        with agent_of(daemon.uri(), lab.endpoints) as agent:
            synced(agent)
            created = born()
            change(connection)
            converged(store, daemon)
            assert born() == created
            between = kv.put(store.etcd, b"elsewhere", b"")
            change(connection)
            converged(store, daemon)
            row = kv.get(store.etcd, key)
            assert row is not None
            assert row.create_revision == created
            assert created < between < born() <= row.mod_revision
            began = born()
            connection.lookupByUUIDString(str(guest.uuid)).suspend()
            converged(store, daemon)
            change(connection, 1)
            converged(store, daemon)
            assert born() == began
        with agent_of(daemon.uri(), lab.endpoints) as agent:
            synced(agent)
            assert born() == began
            domain = connection.lookupByUUIDString(str(guest.uuid))
            domain.destroy()
            converged(store, daemon)
            domain.undefine()
            converged(store, daemon)
            assert store.published().tombstones[guest.uuid].born == began


def test_a_run_that_began_without_an_agent_is_younger_than_what_was_published_before(
    daemon, lab, store
):
    guest = nova_instance(0).uuid
    with instances(daemon) as connection:
        with agent_of(daemon.uri(), lab.endpoints) as agent:
            synced(agent)
        for _ in range(2):  # it ends, and runs again
            change(connection)
        between = kv.put(store.etcd, b"elsewhere", b"")
        with agent_of(daemon.uri(), lab.endpoints) as agent:
            synced(agent)
            assert store.published().domains[guest].born > between


def test_a_guest_that_vanished_without_an_agent_is_told_for_a_while(daemon, lab, store):
    guest = nova_instance(0)
    with instances(daemon) as connection:
        with agent_of(daemon.uri(), lab.endpoints) as agent:
            synced(agent)
            born = store.published().domains[guest.uuid].born
        domain = connection.lookupByUUIDString(str(guest.uuid))
        domain.destroy()
        domain.undefine()
        with agent_of(daemon.uri(), lab.endpoints, hold=1.0) as agent:
            synced(agent)
            found = store.published()
            assert guest.uuid not in found.domains
            tombstone = found.tombstones[guest.uuid]
            assert (tombstone.fate, tombstone.born) == (Fate.UNKNOWN, born)
            assert tombstone.instance.name == guest.name
            wait_until(lambda: not store.published().tombstones)
            assert store.has_what(daemon.uri())


def test_keys_that_name_no_domain_are_deleted(daemon, lab, store):
    kv.put(store.etcd, KEYS.domains.start + b"no-uuid", b"x")
    kv.put(store.etcd, KEYS.record, b"no record")
    kv.put(store.etcd, KEYS.domain(nova_instance(9).uuid), b"no value")
    with instances(daemon), agent_of(daemon.uri(), lab.endpoints) as agent:
        synced(agent)
        assert store.has_what(daemon.uri())


@pytest.mark.parametrize("is_defined", [True, False])
def test_a_key_that_ends_as_that_of_a_domain_does_is_deleted(daemon, lab, store, is_defined):
    """It comes after the domain's own key, and its value is the one that the domain should have."""
    with instances(daemon), agent_of(daemon.uri(), lab.endpoints) as agent:
        synced(agent)
        own = KEYS.domain(nova_instance(0 if is_defined else 9).uuid)
        value = kv.get(store.etcd, KEYS.domain(nova_instance(0).uuid)).value
        kv.put(store.etcd, KEYS.domains.start + b"x/" + own[len(KEYS.domains.start) :], value)
        kv.delete(store.etcd, Span(own))
        kv.put(store.etcd, KEYS.record, b"another program's")
        wait_until(lambda: not kv.read(store.etcd, prefix(KEYS.domains.start + b"x")).rows)
        converged(store, daemon)


def test_very_many_keys_that_name_no_domain_are_deleted(daemon, lab, store, monkeypatch):
    """Also between and around domains, and more of them than one answer or transaction has."""
    monkeypatch.setattr(chains, "MOST_KEYS", 50)
    monkeypatch.setattr(contents, "MOST_STRAYS", 3)
    count = 300
    planted = [b"x%06d" % n for n in range(count)]
    planted += [str(nova_instance(n).uuid).encode() + b"+" for n in range(20)]
    with instances(daemon, 20), agent_of(daemon.uri(), lab.endpoints) as agent:
        synced(agent)
        for some in (planted[n : n + 100] for n in range(0, len(planted), 100)):
            for span in (KEYS.domains, KEYS.tombstones):
                kv.transact(store.etcd, [], [kv.Put(span.start + each, b"") for each in some])
        kv.put(store.etcd, KEYS.record, b"another program's")

        def left() -> list[int]:
            spans = KEYS.domains, KEYS.tombstones
            return [kv.read(store.etcd, each, count_only=True).total for each in spans]

        wait_until(lambda: left() == [20, 0])
        converged(store, daemon)
        assert len(store.published().domains) == 20


def test_a_read_of_many_keys_keeps_the_lease_and_is_of_one_revision(chain, store, monkeypatch):
    monkeypatch.setattr(chains, "MOST_KEYS", 2)
    keys = [KEYS.domain(nova_instance(n).uuid) for n in range(5)]
    chain.write([kv.Put(each, b"old") for each in keys], b"record")
    kept = []
    keep = terms.keep

    def keep_late(etcd: Etcd, term: terms.Term) -> None:
        kept.append(term)
        kv.put(store.etcd, keys[-1], b"new")
        keep(etcd, term)

    monkeypatch.setattr(terms, "keep", keep_late)
    assert [(each.key, each.value) for each in chain.read().domains] == [
        (key, b"old") for key in sorted(keys)
    ]
    assert kept == [chain.term] * 2


def test_an_agent_that_ends_leaves_its_guests_and_says_why(daemon, lab, store):
    with instances(daemon), agent_of(daemon.uri(), lab.endpoints, LONG_TTL) as agent:
        synced(agent)
        agent.close()
        assert agent.state.stage is Stage.ENDED
        found = store.published()
    assert found.term == 0
    assert len(found.domains) == 5
    assert found.record is not None
    assert not found.record.synced
    assert found.record.failure == "its agent was stopped"


# What the store may do


def test_the_lease_is_kept(daemon, lab, store):
    with instances(daemon) as connection, agent_of(daemon.uri(), lab.endpoints) as agent:
        synced(agent)
        term = store.published().term
        agent.wait_for(lambda state: state.kept > 10, 30)
        change(connection)
        converged(store, daemon)
        assert store.published().term == term


def test_a_lease_that_was_lost_is_replaced(daemon, lab, store):
    with instances(daemon) as connection, agent_of(daemon.uri(), lab.endpoints) as agent:
        synced(agent)
        row = kv.get(store.etcd, KEYS.live)
        assert row is not None
        lease.revoke(store.etcd, row.lease)
        change(connection)
        converged(store, daemon)
        assert store.published().term > row.create_revision


def test_a_record_that_something_else_wrote_makes_the_agent_read_again(daemon, lab, store):
    with instances(daemon), agent_of(daemon.uri(), lab.endpoints) as agent:
        synced(agent)
        reads = agent.state.reads
        gone = KEYS.domain(nova_instance(3).uuid)
        row = kv.get(store.etcd, KEYS.record)
        assert row is not None
        kv.transact(store.etcd, [], [kv.Delete(Span(gone)), kv.Put(KEYS.record, row.value)])
        agent.wait_for(lambda state: state.reads > reads, 30)
        converged(store, daemon)


@pytest.mark.parametrize("release", RELEASES)
def test_a_store_restored_from_an_older_state_is_written_again(daemon, needs_etcd, release):
    require(etcd_available(release))
    with Lab(release) as lab, instances(daemon) as connection:
        store = Store(lab.endpoints)
        with agent_of(daemon.uri(), lab.endpoints) as agent:
            synced(agent)
            saved = lab.save()
            change(connection, 0)
            connection.defineXML(domain_xml(nova_instance(7)))
            connection.lookupByUUIDString(str(nova_instance(1).uuid)).destroy()
            connection.lookupByUUIDString(str(nova_instance(1).uuid)).undefine()
            converged(store, daemon)
            lab.restore(saved)
            converged(store, daemon)
            fates = {each.fate for each in store.published().tombstones.values()}
            assert fates == {Fate.ENDED}
        store.etcd.close()


def test_a_store_that_lost_everything_is_written_again(daemon, lab, store):
    empty = lab.save()
    with instances(daemon), agent_of(daemon.uri(), lab.endpoints) as agent:
        synced(agent)
        lab.restore(empty)
        converged(store, daemon)


@pytest.mark.parametrize("changes", [False, True])
def test_an_etcd_that_was_away_has_the_host_again(daemon, lab, store, changes):
    with instances(daemon) as connection, agent_of(daemon.uri(), lab.endpoints) as agent:
        synced(agent)
        lab.kill()
        if changes:
            change(connection)
        agent.wait_for(lambda state: state.stage is Stage.CUT_OFF, 30)
        lab.start()
        converged(store, daemon)


def test_an_answer_that_was_lost_is_looked_up(daemon, lab, store):
    with Relay(lab.members[0].port) as relay, instances(daemon) as connection:
        with agent_of(daemon.uri(), [f"127.0.0.1:{relay.port}"], LONG_TTL) as agent:
            synced(agent)
            before = store.published()
            reads = agent.state.reads
            relay.hold(answers_only=True)
            change(connection)
            converged(store, daemon)
            relay.cut()
            relay.release()
            agent.wait_for(lambda state: state.reads > reads, 30)
            converged(store, daemon)
            assert store.published().term == before.term


def test_a_silent_store_is_logged_once(daemon, lab, store, caplog):
    with Relay(lab.members[0].port) as relay, instances(daemon) as connection:
        with agent_of(daemon.uri(), [f"127.0.0.1:{relay.port}"], LONG_TTL) as agent:
            synced(agent)
            relay.hold()
            change(connection)
            seen: set[str | None] = set()
            agent.wait_for(lambda state: len(seen.add(state.failure) or seen) > 2, 30)
            relay.release()
            converged(store, daemon)
    warned = [each for each in caplog.records if "agent" in each.name and each.levelname != "INFO"]
    assert len(warned) == 1


def test_an_agent_cut_off_for_longer_than_its_lease_comes_back(daemon, lab, store):
    with Relay(lab.members[0].port) as relay, instances(daemon) as connection:
        with agent_of(daemon.uri(), [f"127.0.0.1:{relay.port}"]) as agent:
            synced(agent)
            relay.hold()
            change(connection)
            wait_until(lambda: not store.is_live())
            assert len(store.published().domains) == 5
            relay.release()
            converged(store, daemon)


def fill(store: Store) -> None:
    """Write until the store has no room."""
    with contextlib.suppress(NoSpace):
        while True:
            kv.put(store.etcd, b"/filler", b"x" * 100_000)


def make_room(lab: Lab, store: Store) -> None:
    lab.compact(kv.read(store.etcd, Span(b"/filler"), count_only=True).revision)
    lab.defragment()
    lab.disarm()


def test_a_full_store_is_tried_until_there_is_room(daemon, needs_etcd):
    with Lab(quota=2 << 20) as lab, instances(daemon) as connection:
        store = Store(lab.endpoints)
        with agent_of(daemon.uri(), lab.endpoints, LONG_TTL) as agent:
            synced(agent)
            fill(store)
            change(connection)
            agent.wait_for(lambda state: "space" in (state.failure or ""), 30)
            assert agent.state.stage is Stage.CUT_OFF
            make_room(lab, store)
            converged(store, daemon)
        store.etcd.close()


def test_a_host_that_cannot_publish_is_not_live_for_long(daemon, needs_etcd):
    with Lab(quota=2 << 20) as lab, instances(daemon) as connection:
        store = Store(lab.endpoints)
        with agent_of(daemon.uri(), lab.endpoints, 4) as agent:
            synced(agent)
            fill(store)
            kept = agent.state.kept
            change(connection)
            agent.wait_for(lambda state: state.kept > kept + 2, 30)
            wait_until(lambda: not store.is_live())
            make_room(lab, store)
            converged(store, daemon)
        store.etcd.close()


def test_a_compaction_disturbs_no_agent(daemon, lab, store):
    with instances(daemon) as connection, agent_of(daemon.uri(), lab.endpoints, LONG_TTL) as agent:
        synced(agent)
        lab.compact(agent.state.revision)
        change(connection)
        converged(store, daemon)
        assert agent.state.reads == 1


@pytest.mark.parametrize("fault", ["kill", "freeze", "cut off"])
def test_the_loss_of_the_leader_is_survived(daemon, needs_etcd, fault):
    with Lab(members=3) as lab, instances(daemon) as connection:
        with agent_of(daemon.uri(), lab.endpoints, LONG_TTL) as agent:
            synced(agent)
            leader = lab.leader()
            assert leader is not None
            left = [each.endpoint for each in lab.members if each is not leader]
            store = Store(left)
            match fault:
                case "kill":
                    leader.kill()
                case "freeze":
                    leader.freeze()
                case "cut off":
                    lab.cut_off(leader)
            change(connection)
            converged(store, daemon)
            if fault == "freeze":
                leader.thaw()
            lab.heal()
            change(connection, 1)
            converged(store, daemon)
            store.etcd.close()


# Fence and chain


@pytest.fixture
def chain(lab: Lab, store: Store) -> Chain:
    """A chain under a term of its own, which has written the host's record once."""
    term = terms.take(store.etcd, KEYS.live, elsewhere(), LONG_TTL)
    assert term is not None
    chain = Chain(store.etcd, KEYS, term)
    chain.read()
    chain.write([], b"record")
    return chain


PUT = kv.Put(KEYS.domain(nova_instance(1).uuid), b"value")


def refused_writes(chain: Chain, store: Store, error: type[Exception]) -> bool:
    for attempt in (lambda: chain.write([PUT], b"record"), chain.check, lambda: chain.end(b"last")):
        with pytest.raises(error):
            attempt()
    return kv.get(store.etcd, PUT.key) is None


def test_a_write_needs_the_live_key(chain, store):
    kv.delete(store.etcd, Span(KEYS.live))
    assert refused_writes(chain, store, TermLost)


def test_a_write_needs_the_live_key_of_its_own_term(chain, store):
    kv.delete(store.etcd, Span(KEYS.live))
    assert terms.take(store.etcd, KEYS.live, elsewhere(), LONG_TTL) is not None
    assert refused_writes(chain, store, TermLost)
    with pytest.raises(TermLost):
        chain.read()


def test_a_write_needs_the_record_of_the_write_before(chain, store):
    kv.put(store.etcd, KEYS.record, b"record")
    assert refused_writes(chain, store, ChainBroken)
    chain.read()
    chain.write([PUT], b"record")
    assert kv.get(store.etcd, PUT.key) is not None


def test_a_term_is_taken_once(chain, store):
    assert terms.take(store.etcd, KEYS.live, elsewhere(), LONG_TTL) is None
    holder = terms.holder(store.etcd, KEYS.live)
    assert holder is not None
    assert holder.owner == elsewhere()
    kv.put(store.etcd, KEYS.live, b"changed since")
    terms.remove(store.etcd, KEYS.live, holder)
    assert store.is_live()
    terms.end(store.etcd, chain.term)


# Clocks


@pytest.mark.parametrize("clock", ["+1h", "-1h"])
def test_a_clock_that_is_off_by_an_hour_changes_nothing_but_what_people_read(
    own_daemon, lab, store, clock
):
    require(faketime_available())
    with instances(own_daemon) as connection, Fleet(lab.endpoints, fleet="f") as fleet:
        with process(own_daemon.uri(), lab, ttl=SHORT, **off_by(clock)) as agent:
            agent.says("domains published")
            term = store.published().term
            change(connection)
            converged(store, own_daemon)
            snapshot = fleet.snapshot()
            assert snapshot.complete
            assert {each.standing for each in snapshot.values()} == {Standing.RESIDENT}
            domain = connection.lookupByUUIDString(str(nova_instance(1).uuid))
            domain.destroy()
            domain.undefine()
            converged(store, own_daemon)
            assert nova_instance(1).uuid in store.published().tombstones
            own_daemon.stop()
            wait_until(lambda: not store.is_live())
            own_daemon.cont()
            converged(store, own_daemon)
            assert store.published().term > term
            wait_until(lambda: fleet.snapshot().complete)
        wait_until(lambda: not store.is_live())
        (host,) = fleet.hosts()
        assert host.since is not None
        off = host.since - datetime.now(UTC)
        assert (off > timedelta(0)) is clock.startswith("+")
        assert abs(off) > timedelta(minutes=50)


# Two agents


def elsewhere() -> Owner:
    """Return an owner on another machine."""
    return Owner("another machine", "1", 1, "1", "x")


def test_of_two_agents_one_publishes_and_the_other_says_so_and_waits(daemon, lab, store, caplog):
    with instances(daemon) as connection:
        with agent_of(daemon.uri(), lab.endpoints, LONG_TTL) as first:
            synced(first)
            with agent_of(daemon.uri(), lab.endpoints, LONG_TTL, elsewhere()) as second:
                waits = second.wait_for(lambda state: state.stage is Stage.STANDING_BY, 30)
                assert waits.failure is not None
                assert "another agent publishes this host" in waits.failure
                change(connection)
                converged(store, daemon)
                assert second.state.writes == 0
                first.close()
                synced(second)
                converged(store, daemon)
    assert sum("another agent" in each.message for each in caplog.records) == 1


@contextlib.contextmanager
def process(
    uri: str, lab: Lab, *words: str, ttl: int = LONG_TTL, **changes: str
) -> Iterator[Running]:
    """Run `guestlist agent` until the block ends, with these changes to the environment."""
    command = [*COMMAND, "agent", "--endpoints", ",".join(lab.endpoints), "--fleet=f", "--host=h1"]
    with started([*command, f"--ttl={ttl}", "-c", uri, *words], **changes) as (running, log):
        yield Running(running, log)


class Running(NamedTuple):
    """A `guestlist agent` that runs, and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def says(self, text: str) -> None:
        wait_until(lambda: text in self.log.read_text() or self.process.poll() is not None)
        assert text in self.log.read_text(), self.log.read_text()


def test_an_agent_that_was_killed_is_replaced_at_once_on_its_machine(daemon, lab, store):
    with instances(daemon) as connection:
        with process(daemon.uri(), lab) as first:
            first.says("domains published")
            first.process.kill()
        assert store.is_live()
        change(connection)
        with agent_of(daemon.uri(), lab.endpoints, LONG_TTL) as second:
            synced(second)
            assert store.has_what(daemon.uri())


def test_another_machine_waits_until_the_lease_of_a_killed_agent_has_expired(daemon, lab, store):
    with instances(daemon):
        with process(daemon.uri(), lab, ttl=4) as first:
            first.says("domains published")
            old = store.published().term
            with agent_of(daemon.uri(), lab.endpoints, SHORT, elsewhere()) as second:
                second.wait_for(lambda state: state.stage is Stage.STANDING_BY, 30)
                first.process.kill()
                first.process.wait()
                assert store.published().term == old
                synced(second)
                assert store.has_what(daemon.uri())


def test_an_agent_frozen_past_its_lease_writes_nothing_over_its_successor(daemon, lab, store):
    with instances(daemon) as connection, process(daemon.uri(), lab, ttl=SHORT) as first:
        first.says("domains published")
        first.process.send_signal(signal.SIGSTOP)
        with agent_of(daemon.uri(), lab.endpoints, LONG_TTL) as second:
            synced(second)
            term = store.published().term
            change(connection)
            converged(store, daemon)
            revision = second.state.revision
            first.process.send_signal(signal.SIGCONT)
            first.says("another agent publishes this host")
            assert store.published().term == term
            assert store.published().record_revision == revision
            assert store.has_what(daemon.uri())


# Rights


@pytest.mark.parametrize("release", RELEASES)
def test_an_agent_needs_no_right_beyond_its_own_keys(daemon, needs_etcd, release):
    require(etcd_available(release))
    with Lab(release, tls=True, auth=True) as lab, instances(daemon) as connection:
        store = Store(lab.endpoints, tls_of(lab, "root"))
        auth.add_role(store.etcd, "h1")
        for span in (Span(KEYS.live), Span(KEYS.record), KEYS.domains, KEYS.tombstones):
            auth.grant(store.etcd, "h1", auth.Right(auth.Access.READWRITE, span))
        auth.add_user(store.etcd, "h1")
        auth.grant_role(store.etcd, "h1", "h1")
        pki = lab.certificate("h1")
        words = [f"--{name}={pki / file}" for name, file in _FILES.items()]
        with process(daemon.uri(), lab, *words) as agent:
            agent.says("domains published")
            change(connection)
            converged(store, daemon)
            agent.process.send_signal(signal.SIGTERM)
            agent.process.wait()
            assert not store.is_live()
        store.etcd.close()


def test_an_agent_without_rights_says_so_and_goes_on_when_it_has_them(daemon, needs_etcd):
    with Lab(tls=True, auth=True) as lab, instances(daemon):
        store = Store(lab.endpoints, tls_of(lab, "root"))
        auth.add_role(store.etcd, "h1")
        auth.add_user(store.etcd, "h1")
        auth.grant_role(store.etcd, "h1", "h1")
        etcd = Etcd(lab.endpoints, tls=tls_of(lab, "h1"))
        with (
            contextlib.closing(Inventory(daemon.uri())) as live,
            Agent(live, etcd, KEYS, ttl=SHORT) as agent,
        ):
            agent.wait_for(lambda state: "permission denied" in (state.failure or ""), 30)
            for span in (Span(KEYS.live), Span(KEYS.record), KEYS.domains, KEYS.tombstones):
                auth.grant(store.etcd, "h1", auth.Right(auth.Access.READWRITE, span))
            converged(store, daemon)
        store.etcd.close()


_FILES = {"cacert": "cacert.pem", "cert": "clientcert.pem", "key": "clientkey.pem"}


def tls_of(lab: Lab, user: str) -> Tls:
    pki = lab.certificate(user)
    return Tls(*(pki / file for file in _FILES.values()))


# Migrations


def test_a_guest_that_migrates_leaves_a_tombstone_for_a_while(needs_qemu, lab, store):
    guest = nova_instance(1)
    there = HostKeys("f", "h2")
    with contextlib.ExitStack() as stack:
        source, target = stack.enter_context(two_hosts())
        agents = []
        for daemon, keys in ((source, KEYS), (target, there)):
            live = stack.enter_context(contextlib.closing(Inventory(daemon.qemu_uri)))
            etcd = Etcd(lab.endpoints)
            agents.append(stack.enter_context(Agent(live, etcd, keys, ttl=SHORT, hold=2.0 * SHORT)))
        for agent in agents:
            synced(agent)
        migration = stack.enter_context(migrating(source, target, guest))
        wait_until(lambda: guest.uuid in store.published(there).domains)
        incoming = store.published(there).domains[guest.uuid]
        assert incoming.phase is Phase.INCOMING
        born = store.published().domains[guest.uuid].born
        migration.complete()
        wait_until(lambda: guest.uuid in store.published().tombstones)
        left = store.published()
        assert guest.uuid not in left.domains
        assert left.tombstones[guest.uuid].fate is Fate.LEFT
        assert left.tombstones[guest.uuid].born == born
        wait_until(lambda: store.has_what(target.qemu_uri, there))
        wait_until(lambda: not store.published().tombstones)
        assert store.has_what(source.qemu_uri)


def test_a_guest_that_stays_defined_is_where_it_was_last(needs_qemu, lab, store):
    """It migrates away and back, and is shut off then; its key is as old as its first run."""
    guest = nova_instance(1)
    with contextlib.ExitStack() as stack:
        home, away = stack.enter_context(two_hosts())
        for daemon, name in ((home, "h1"), (away, "h2")):
            live = stack.enter_context(contextlib.closing(Inventory(daemon.qemu_uri)))
            agent = Agent(live, Etcd(lab.endpoints), HostKeys("f", name), ttl=LONG_TTL)
            synced(stack.enter_context(agent))
        fleet = stack.enter_context(Fleet(lab.endpoints, fleet="f"))

        def stands(host: str, standing: Standing = Standing.RESIDENT) -> bool:
            row = fleet.snapshot().get(guest.uuid)
            return row is not None and (row.host, row.standing) == (host, standing)

        there = stack.enter_context(migrating(home, away, guest))
        connection = stack.enter_context(contextlib.closing(libvirt.open(home.qemu_uri)))
        domain = connection.lookupByUUIDString(str(guest.uuid))
        connection.defineXML(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))
        there.complete()
        wait_until(lambda: stands("h2"))
        back = Migration(away, home, guest)
        stack.callback(back.close)
        back.complete()
        wait_until(lambda: stands("h1"))
        domain.destroy()
        wait_until(lambda: stands("h1") and not fleet.snapshot()[guest.uuid].instance.active)
        found = store.published()
        away_end = store.published(HostKeys("f", "h2")).tombstones[guest.uuid]
        assert found.tombstones[guest.uuid].fate is Fate.ENDED
        assert away_end.fate is Fate.LEFT
        row = kv.get(store.etcd, KEYS.domain(guest.uuid))
        assert row is not None
        assert row.create_revision < away_end.born < found.domains[guest.uuid].born
        domain.undefine()


# What libvirt may do


def test_a_libvirt_that_is_down_is_told_and_its_domains_stay(own_daemon, lab, store):
    with instances(own_daemon), agent_of(own_daemon.uri(), lab.endpoints, LONG_TTL) as agent:
        synced(agent)
        own_daemon.kill()
        agent.wait_for(lambda state: state.stage is Stage.STALE, 30)
        wait_until(lambda: (record := store.published().record) and record.failure)
        found = store.published()
        assert found.record is not None
        assert not found.record.synced
        assert len(found.domains) == 5
        own_daemon.restart()
        converged(store, own_daemon)


def test_the_lease_of_a_host_without_libvirt_expires(own_daemon, lab, store):
    with instances(own_daemon), agent_of(own_daemon.uri(), lab.endpoints) as agent:
        synced(agent)
        own_daemon.stop()
        wait_until(lambda: not store.is_live())
        assert len(store.published().domains) == 5
        own_daemon.cont()
        converged(store, own_daemon)


def test_a_libvirt_that_is_down_from_the_start_is_told_once(own_daemon, lab, store):
    with instances(own_daemon) as connection:
        with agent_of(own_daemon.uri(), lab.endpoints) as agent:
            synced(agent)
    del connection
    own_daemon.kill()
    with agent_of(own_daemon.uri(), lab.endpoints) as agent:
        wait_until(lambda: "stopped" not in told(store))
        found = store.published()
        assert found.record is not None
        assert not found.record.synced
        assert len(found.domains) == 5
        wait_until(lambda: not store.is_live())
        own_daemon.restart()
        converged(store, own_daemon)


def told(store: Store) -> str:
    record = store.published().record
    assert record is not None
    return record.failure or ""


@pytest.mark.parametrize("mode", ["switch", "come-and-go", "kind"])
def test_after_churn_the_store_has_what_the_host_has(daemon, lab, store, mode):
    uuids = [nova_instance(n).uuid for n in range(20)]
    with instances(daemon, 20), agent_of(daemon.uri(), lab.endpoints) as agent:
        synced(agent)
        with Churner(daemon.uri(), uuids, mode) as churner:
            churner.wait_changes(2_000)
        converged(store, daemon)


def test_churn_and_faults_together_converge(daemon, needs_etcd):
    uuids = [nova_instance(n).uuid for n in range(20)]
    with Lab(members=3) as lab, instances(daemon, 20):
        store = Store(lab.endpoints)
        with agent_of(daemon.uri(), lab.endpoints) as agent:
            synced(agent)
            with Churner(daemon.uri(), uuids, "switch", rate=300) as churner:
                for each in lab.members:
                    each.kill()
                    churner.wait_changes(200)
                    lab.start()
                    churner.wait_changes(200)
            converged(store, daemon)
        store.etcd.close()


# The command


def test_sigterm_ends_the_command_in_order(daemon, lab, store):
    with instances(daemon), process(daemon.uri(), lab) as agent:
        agent.says("domains published")
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait() == -signal.SIGTERM
        assert not store.is_live()
        assert len(store.published().domains) == 5


def test_with_exporter_one_process_publishes_and_serves_over_one_live_view(daemon, lab, store):
    words = "--web.listen-address=127.0.0.1:0"
    read = []
    with instances(daemon):
        for exporter in ((), ("--exporter", words)):
            with Proxy(daemon) as proxy, process(proxy.uri(), lab, *exporter) as agent:
                agent.says("domains published")
                assert store.has_what(daemon.uri())
                read.append(proxy.calls.count("DOMAIN_GET_XML_DESC"))
                if exporter:
                    assert b"\nlibvirt_domains 5\n" in scraped(agent)
                agent.process.send_signal(signal.SIGTERM)
                assert agent.process.wait() == -signal.SIGTERM
                assert not store.is_live()
    assert read == [5, 5]  # a second view would read them again


def scraped(agent: Running) -> bytes:
    agent.says("listening on")
    port = re.search(r"listening on http://127\.0\.0\.1:(\d+)/", agent.log.read_text())
    assert port is not None
    return Serving(agent.process.pid, int(port[1]), agent.log).get()


def test_neither_threads_nor_descriptors_grow_with_faults(daemon, lab, store):
    with instances(daemon) as connection, process(daemon.uri(), lab, ttl=SHORT) as agent:
        agent.says("domains published")
        serving = Serving(agent.process.pid, 0, agent.log)
        counts = []
        for n in range(6):
            lab.kill()
            change(connection)
            lab.start()
            converged(store, daemon)
            if n:
                counts.append((serving.threads(), serving.descriptors()))
    assert max(threads for threads, _ in counts[1:]) <= counts[0][0] + 2
    assert max(descriptors for _, descriptors in counts[1:]) <= counts[0][1] + 2


def test_options_that_make_no_sense_are_refused():
    given = "agent", "--endpoints=127.0.0.1:1"
    assert "goes with --exporter" in refused(*given, "--web.listen-address=:1")
    assert "whole number" in refused(*given, "--ttl=1")
    assert "whole number" in refused(*given, "--ttl=2.5")
    assert "--key" in refused(*given, "--cert=x") or "key" in refused(*given, "--cert=x")
    assert "no endpoint" in refused("agent")


# The unit


@pytest.mark.heavy
def test_systemd_takes_the_unit(tmp_path):
    require(None if shutil.which("systemd-analyze") else "systemd-analyze is missing (systemd)")
    unit = tmp_path / "guestlist-agent.service"
    text = (CONTRIB / unit.name).read_text()
    unit.write_text(text.replace("/opt/guestlist-agent/bin/guestlist", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_variables_of_the_unit_are_those_that_the_command_reads(monkeypatch):
    for line in (CONTRIB / "guestlist-agent.default").read_text().splitlines():
        if re.match("[A-Z]", line):
            monkeypatch.setenv(*line.split("=", 1))
    options = arguments.parse(["agent", *os.environ["GUESTLIST_AGENT_OPTIONS"].strip('"').split()])
    assert etcd_options.members(options) == [f"https://etcd{n}:2379" for n in (1, 2, 3)]
    assert etcd_options.tls(options) == Tls(
        Path("/etc/guestlist/etcd-ca.pem"),
        Path("/etc/guestlist/node.pem"),
        Path("/etc/guestlist/node.key"),
    )
    shown = re.findall(r"^#\s+(--.*)$", (CONTRIB / "guestlist-agent.default").read_text(), re.M)
    assert len(shown) == 2
    for words in shown:
        arguments.parse(["agent", *words.split()])


# Pure


UUIDS = [nova_instance(n).uuid for n in range(6)]
VALUES = st.one_of(st.none(), st.sampled_from([b"a", b"b"]))
STATES = st.dictionaries(st.sampled_from(UUIDS), st.builds(Entry, VALUES, VALUES))


@given(before=STATES, after=STATES, most=st.integers(2, 5))
def test_batches_are_bounded_and_lead_from_what_is_stored_to_what_is_wanted(before, after, most):
    stored = {uuid: entry for uuid, entry in before.items() if entry != NOTHING}
    publishing = Publishing(lambda uuid: after.get(uuid, NOTHING))
    publishing.found(stored, {uuid: 1 for uuid, entry in stored.items() if entry.domain}, 0.0)
    publishing.touch(after, 1.0)
    model = dict(stored)
    for revision in range(2, 100):
        batch = publishing.batch(most)
        assert batch.operations <= most
        assert batch.is_last == (len(batch.changes) == publishing.waiting)
        if not batch.changes:
            break
        assert publishing.batch(most) == batch
        for uuid, (old, new) in batch.changes.items():
            assert model.get(uuid, NOTHING) == old
            model[uuid] = new
        count = publishing.domains + batch.more_domains
        publishing.written(batch, revision)
        assert publishing.domains == count
    assert not publishing.waiting
    wanted = {uuid: entry for uuid, entry in after.items() if entry != NOTHING}
    assert {uuid: entry for uuid, entry in model.items() if entry != NOTHING} == wanted
    assert publishing.domains == sum(entry.domain is not None for entry in wanted.values())


def test_a_batch_is_no_longer_than_a_request_may_be():
    long, short = b"x" * (MOST_BYTES // 3), b"y"
    wanted = {uuid: Entry(long) for uuid in UUIDS} | {UUIDS[1]: Entry(short, long)}
    publishing = Publishing(lambda uuid: wanted[uuid])
    publishing.touch(UUIDS, 0.0)
    batches = []
    while publishing.waiting:
        batch = publishing.batch(100)
        batches.append([*batch.changes])
        publishing.written(batch, len(batches))
    assert batches == [UUIDS[:3], UUIDS[3:]]


def test_a_domain_that_is_longer_than_a_batch_is_written_alone():
    publishing = Publishing(lambda _: Entry(b"x" * (MOST_BYTES + 1)))
    publishing.touch(UUIDS, 0.0)
    assert [*publishing.batch(100).changes] == UUIDS[:1]


def test_pauses_double_up_to_a_bound_and_begin_again_after_a_success():
    patience = Patience(lambda: 1.0)
    pauses = [patience.failed() for _ in range(20)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == LONGEST_PAUSE
    patience.succeeded()
    assert patience.failed() == 0.1
    assert Patience(lambda: 0.0).failed() == 0.05


def test_an_owner_is_told_from_others():
    mine = Owner.of_this_process()
    row = MESSAGES["KeyValue"](key=KEYS.live, value=mine.encode())
    assert Owner.of_row(row) == mine
    assert mine.may_replace(mine)
    assert not mine.may_replace(Owner.of_this_process())
    assert not mine.may_replace(elsewhere())
    assert not mine.may_replace(None)
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert mine.may_replace(mine._replace(pid=process.pid))
    assert mine.may_replace(mine._replace(pid=os.getpid(), started="0"))


HIDDEN = """
import os, sys
from guestlist.fleet.agent import Owner
from guestlist.fleet.etcd.messages import MESSAGES
other = Owner.of_row(MESSAGES["KeyValue"](value=sys.stdin.buffer.read()))
os.setgroups([]), os.setgid(65534), os.setuid(65534)
assert not os.path.exists(f"/proc/{other.pid}/stat")
mine = Owner.of_this_process()
assert mine.can_see(other)
print(mine.may_replace(other), mine.may_replace(other._replace(pid=2**22 - 1)))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount /proc")
def test_an_agent_of_another_user_lives_also_where_proc_hides_it(tmp_path):
    """As for a unit with ProtectProc=invisible."""
    mount = 'mount -t proc -o hidepid=2 proc /proc 2>&1 && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", HIDDEN]
    if subprocess.run([*words[:5], "sh", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no /proc can be mounted here")
    done = subprocess.run(
        words, input=Owner.of_this_process().encode(), capture_output=True, check=True
    )
    assert done.stdout == b"False True\n"


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b"1", b"\xff", b'{"v":1,"machine":1}'])
def test_a_value_that_names_no_owner_is_none(value):
    assert Owner.of_row(MESSAGES["KeyValue"](key=KEYS.live, value=value)) is None


@pytest.mark.parametrize("incarnation", ["", "1", "a:b:c:d", "1:1:1", "1:1:1:1:1"])
def test_an_incarnation_that_is_no_process_is_none(incarnation):
    value = values.record_value(values.LiveRecord("machine", incarnation))
    assert Owner.of_row(MESSAGES["KeyValue"](key=KEYS.live, value=value)) is None
