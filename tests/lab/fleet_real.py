"""Real guests that migrate between two private QEMU daemons: what readers of the fleet saw.

In: a release of etcd (None: without one), a number of migrations; every third is cancelled. Out: a
`Moved` for each reader: over the live views of both hosts, over hosts opened for each list, and
over what two agents publish to the etcd.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from uuid import uuid4

from lab.daemon import Daemon
from lab.etcd import Etcd as Lab
from lab.fleet_looks import Adding, Looks
from lab.fleet_moved import Moved
from lab.migration import migrating, two_hosts
from lab.nodes import Domain
from lab.waiting import LONG, wait_until

from guestlist import Host, Inventory
from guestlist.fleet.agent import Agent, HostKeys, Stage
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.over import HostsFleet, look
from guestlist.fleet.reading import Fleet
from guestlist.fleet.rows import FleetRow, FleetSnapshot, Standing

FLEET = "f"

_Take = Callable[[], FleetSnapshot]


def migrated(release: str | None, migrations: int) -> list[Moved]:
    """Let real guests migrate to and fro; return what each reader saw."""
    with contextlib.ExitStack() as stack:
        daemons = dict(zip(("h0", "h1"), stack.enter_context(two_hosts()), strict=True))

        def opened() -> dict[str, Host]:
            uris = {name: each.qemu_uri for name, each in daemons.items()}
            return {name: Host(uri, open_timeout=LONG) for name, uri in uris.items()}

        live = stack.enter_context(HostsFleet(opened(), timeout=LONG))
        live.wait_told(LONG)
        fleets: dict[str, HostsFleet | Fleet] = {"live views": live}
        if release is not None:
            fleets["etcd"] = _published(stack, release, daemons)
        takes: dict[str, _Take] = {name: each.snapshot for name, each in fleets.items()}
        takes["each opened"] = lambda: look(opened(), timeout=LONG, deadline=LONG)
        lines = {name: Moved(name, migrations) for name in takes}
        for number in range(migrations):
            _migrate(daemons, number, fleets, takes, lines)
    return list(lines.values())


def _published(stack: contextlib.ExitStack, release: str, daemons: dict[str, Daemon]) -> Fleet:
    lab = stack.enter_context(Lab(release))
    for name, daemon in daemons.items():
        view = stack.enter_context(contextlib.closing(Inventory(daemon.qemu_uri)))
        agent = Agent(view, Etcd(lab.endpoints), HostKeys(FLEET, name))
        stack.enter_context(agent)
        agent.wait_for(lambda state: state.stage is Stage.SYNCED, LONG)
    return stack.enter_context(Fleet(lab.endpoints, fleet=FLEET))


def _migrate(
    daemons: dict[str, Daemon],
    number: int,
    fleets: dict[str, HostsFleet | Fleet],
    takes: dict[str, _Take],
    lines: dict[str, Moved],
) -> None:
    guest = Domain(f"torture-{number}", uuid4())
    source, target = ("h0", "h1") if number % 2 else ("h1", "h0")
    is_cancelled = number % 3 == 2
    home = source if is_cancelled else target

    def stands(take: _Take, *as_what: Standing) -> FleetRow | None:
        row = take().get(guest.uuid)
        return row if row is not None and row.standing in as_what else None

    def has_settled(take: _Take) -> bool:
        row = stands(take, Standing.RESIDENT)
        return row is not None and row.host == home

    with contextlib.ExitStack() as stack:
        migration = stack.enter_context(migrating(daemons[source], daemons[target], guest))
        for take in takes.values():
            wait_until(lambda take=take: stands(take, Standing.MIGRATING))  # type: ignore[misc]
        sums = {name: stack.enter_context(Adding(each.watch())) for name, each in fleets.items()}
        looks = {
            name: stack.enter_context(Looks(take, [guest.uuid], _judge))
            for name, take in takes.items()
        }
        if is_cancelled:
            migration.cancel()
        else:
            migration.complete()
        for name, take in takes.items():
            wait_until(lambda take=take: has_settled(take))  # type: ignore[misc]
            looks[name].wait_lists(1)
        for name, adding in sums.items():
            take = takes[name]
            wait_until(lambda take=take, adding=adding: adding.rows == dict(take()))  # type: ignore[misc]
    for name, line in lines.items():
        line.counts += looks[name].counts
        line.wrong += looks[name].wrong
        if name in sums:
            line.counts["news"] += sums[name].changes
            line.wrong += sums[name].wrong


def _judge(row: FleetRow) -> str | None:
    return "a guest that a host tells of" if row.standing is Standing.UNKNOWN else None
