"""A thousand migrations between hosts in memory, with readers running: what the readers saw.

In: a release of etcd, numbers. Out: a `Moved` for each reader. `published`: real agents publish to
a real etcd, each call late. `unpublished`: no engine; hosts go down meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from lab.etcd import Etcd as Lab
from lab.fleet_looks import Adding, Judge, Looks, Without
from lab.fleet_moves import (
    LONGEST_LAG,
    LateEtcd,
    Movers,
    MovingHost,
    fake_libvirt,
    hosts_with_guests,
    lags,
)
from lab.waiting import LONG, wait_until

from guestlist import Host, Inventory
from guestlist.fleet.agent import TTL, Agent, HostKeys, Stage
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.over import HostsFleet, look
from guestlist.fleet.phases import HOLD
from guestlist.fleet.reading import Fleet
from guestlist.fleet.rows import FleetRow, Standing

FLEET = "f"
GUESTS = 40
"""Guests of each host at the start."""

_TIMEOUT = 10.0
_RECENTLY = 5 * LONGEST_LAG
"""Seconds for which a host may still publish a guest that has left it: a few calls, each late.
One that is in transit has no later host yet, which may be later still: for `HOLD` at most."""


@dataclass
class Moved:
    """What one reader saw while guests migrated."""

    what: str
    migrations: int
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def published(release: str, migrations: int, hosts: int, seed: int) -> list[Moved]:
    """Let guests migrate that agents publish late; return what readers of the etcd saw."""
    made, domains = hosts_with_guests(hosts, GUESTS)
    names = [each.name for each in made]
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(release))
        stack.enter_context(fake_libvirt(made))
        agents = [
            stack.enter_context(_agent(stack, lab, host, seed + number))
            for number, host in enumerate(made)
        ]
        for each in agents:
            each.wait_for(lambda state: state.stage is Stage.SYNCED, 3 * LONG)
        fleet = stack.enter_context(Fleet(lab.endpoints, fleet=FLEET))
        etcd = stack.enter_context(Etcd(lab.endpoints))
        movers = Movers(made, domains, seed)
        without = Without(etcd, FLEET, names, movers.guests)
        looks = Looks(fleet.snapshot, movers.guests, _judge(movers))
        looks.on_list = without.look
        with Adding(fleet.watch()) as adding:
            wait_until(lambda: adding.relists)
            with looks:
                _move(movers, migrations)
                wait_until(lambda: _is_in_step(fleet, movers, adding), 3 * LONG)
    watch = Moved("watch", movers.migrations, Counter(news=adding.changes), adding.wrong)
    ruleless = [
        Moved(
            f"no rule, {how}",
            movers.migrations,
            Counter(
                lists=without.counts[f"lists {how}"],
                missed=without.counts[f"missed {how}"],
                doubled=without.counts[f"doubled {how}"],
            ),
        )
        for how in ("one revision", "host by host")
    ]
    return [Moved("lists", movers.migrations, looks.counts, looks.wrong), watch, *ruleless]


def unpublished(migrations: int, hosts: int, seed: int) -> list[Moved]:
    """Let guests migrate without an engine, while hosts go down; return what readers saw."""
    made, domains = hosts_with_guests(hosts, GUESTS)

    def opened() -> dict[str, Host]:
        return {each.name: Host(each.uri, open_timeout=LONG) for each in made}

    movers = Movers(made, domains, seed)
    with fake_libvirt(made), HostsFleet(opened(), timeout=LONG) as fleet:
        fleet.wait_told(LONG)
        live = Looks(fleet.snapshot, movers.guests)
        once = Looks(lambda: look(opened(), timeout=LONG, deadline=LONG), movers.guests)
        with Adding(fleet.watch()) as adding:
            wait_until(lambda: adding.relists)
            with live, once, _going_down(made, seed):
                _move(movers, migrations)
            wait_until(lambda: _is_in_step(fleet, movers, adding), 3 * LONG)
    live.counts["news"] = adding.changes
    return [
        Moved("no etcd, live views", movers.migrations, live.counts, live.wrong + adding.wrong),
        Moved("no etcd, each opened", movers.migrations, once.counts, once.wrong),
    ]


def _agent(stack: contextlib.ExitStack, lab: Lab, host: MovingHost, seed: int) -> Agent:
    live = stack.enter_context(contextlib.closing(Inventory(host.uri)))
    etcd = LateEtcd(lab.endpoints, lags(seed), _TIMEOUT)
    return Agent(live, etcd, HostKeys(FLEET, host.name), ttl=TTL)


def _move(movers: Movers, migrations: int) -> None:
    with movers:
        wait_until(lambda: movers.migrations >= migrations or movers.error is not None, 20 * LONG)
    if movers.error is not None:
        raise movers.error


def _judge(movers: Movers) -> Judge:
    def judge(row: FleetRow) -> str | None:
        ago = movers.absent_for(row.uuid, row.host)
        longest = HOLD if row.standing is Standing.IN_TRANSIT else _RECENTLY
        return f"left {ago:.0f} s ago" if ago > longest else None

    return judge


def _is_in_step(fleet: Fleet | HostsFleet, movers: Movers, adding: Adding) -> bool:
    found = fleet.snapshot()
    homes = {row.uuid: row.host for row in found.values()}
    return found.complete and homes == movers.homes and adding.rows == dict(found)


@contextlib.contextmanager
def _going_down(hosts: Sequence[MovingHost], seed: int) -> Iterator[None]:
    """Let one host after the other go down for a moment, until the block ends."""
    chance = Random(seed)
    over = threading.Event()

    def run() -> None:
        while not over.wait(chance.uniform(0.2, 1.0)):
            host = chance.choice(hosts)
            host.down = True
            host.break_off()
            over.wait(chance.uniform(0.05, 0.5))
            host.down = False

    thread = threading.Thread(target=run, name="going down")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for each in hosts:
            each.down = False
