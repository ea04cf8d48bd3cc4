"""A fleet of a given size in an etcd, written as agents write it.

In: an etcd, a number of domains. Out: hosts of 100 domains, each live and synced. One guest of 200
migrates: two hosts publish it; and one of 400 has left a tombstone behind, so that a reader has
something to resolve. Values and keys are `guestlist.fleet`'s own.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from uuid import UUID

from guestlist.fleet.etcd import kv, lease
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.layout import Layout
from guestlist.fleet.rows import Fate, Phase, Publication, Tombstone
from guestlist.fleet.values import (
    HostRecord,
    LiveRecord,
    publication_value,
    record_value,
    tombstone_value,
)
from guestlist.launcher import Launcher
from guestlist.migration import PAUSED_MIGRATING
from guestlist.records import Details, Instance, NovaMetadata, Owner
from guestlist.states import DomainState

ON_A_HOST = 100
MIGRATING_EVERY, LEFT_EVERY = 200, 400
FLEET = "fleet"
_WRITERS = 4
_TTL = 24 * 3600


def write_fleet(etcd: Etcd, domains: int) -> None:
    """Write a fleet of so many domains, a transaction for each host."""
    hosts = [f"compute{number:05}.example.org" for number in range(domains // ON_A_HOST)]
    held = lease.grant(etcd, _TTL).id
    layout = Layout(FLEET)
    writers = [
        threading.Thread(target=_write, args=(etcd, layout, hosts, number, held))
        for number in range(_WRITERS)
    ]
    for each in writers:
        each.start()
    for each in writers:
        each.join()


def _write(etcd: Etcd, layout: Layout, hosts: Sequence[str], first: int, held: int) -> None:
    share = -(-len(hosts) // _WRITERS)
    for number in range(first * share, min((first + 1) * share, len(hosts))):
        host = hosts[number]
        live = record_value(LiveRecord("0" * 32, "4026531836:1:1:0", "guestlist 1.0"))
        term = kv.put(etcd, layout.live(host), live, lease=held)
        guests = _guests(number)
        before = [each for n, each in _guests_of(number - 1, len(hosts)) if not n % MIGRATING_EVERY]
        left = [each for n, each in _guests_of(number + 1, len(hosts)) if not n % LEFT_EVERY]
        written = "2026-11-27T00:00:00+00:00"
        count = len(guests) + len(before)
        record = HostRecord(term, True, 1, count, "guestlist 1.0", written)
        puts = [(layout.host(host), record_value(record))]
        puts += [
            (layout.domain(host, each.uuid), publication_value(Publication(host, each)))
            for each in guests
        ]
        for each in before:
            arriving = Publication(host, _paused(each), Phase.INCOMING)
            puts.append((layout.domain(host, each.uuid), publication_value(arriving)))
        for each in left:
            tombstone = Tombstone(host, each, Fate.LEFT, 1)
            puts.append((layout.gone(host, each.uuid), tombstone_value(tombstone)))
        for start in range(0, len(puts), ON_A_HOST):
            some = puts[start : start + ON_A_HOST]
            kv.transact(etcd, [], [kv.Put(key, value) for key, value in some])


def _guests_of(host: int, hosts: int) -> Iterator[tuple[int, Instance]]:
    """Yield the guests of a host, if there is such a host, each with its number in the fleet."""
    if 0 <= host < hosts:
        yield from enumerate(_guests(host), host * ON_A_HOST)


@lru_cache(maxsize=4 * _WRITERS)
def _guests(host: int) -> tuple[Instance, ...]:
    return tuple(_made(host))


def _made(host: int) -> Iterator[Instance]:
    chance = random.Random(host)
    for number in range(host * ON_A_HOST, (host + 1) * ON_A_HOST):
        project = UUID(int=chance.getrandbits(10)).hex
        vcpus = chance.choice((1, 2, 4, 8))
        memory = vcpus << 21
        nova = NovaMetadata("", None, None, None, None, Owner("0" * 32, None, project, None))
        yield Instance(
            UUID(int=chance.getrandbits(128), version=4),
            f"instance-{number:08x}",
            number % ON_A_HOST + 1,
            DomainState.RUNNING,
            1,
            Launcher.NOVA,
            Details(None, None, None, vcpus, vcpus, memory, memory, nova=nova),
        )


def _paused(guest: Instance) -> Instance:
    return Instance(
        guest.uuid,
        guest.name,
        guest.id,
        DomainState.PAUSED,
        PAUSED_MIGRATING,
        guest.launcher,
        guest.details,
    )
