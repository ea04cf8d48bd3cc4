"""What may happen to a fleet in etcd: each fault as a function of a site, which returns at its end.

In: a `Site` under churn. Out: the same site after the fault, whose domains have changed meanwhile;
and `suffer`, which counts what readers saw, and how long the site took to be in step again.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lab.certificates import Authority
from lab.churn import ThreadChurner
from lab.faketime import faketime_available
from lab.fleet_looks import Adding, Looks
from lab.fleet_site import Site
from lab.waiting import LONG, wait_until

from guestlist import Inventory
from guestlist.fleet.agent import Agent, Owner, Stage
from guestlist.fleet.etcd import auth, kv, lease
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import Denied, NoSpace
from guestlist.fleet.reading import Fleet

WITHIN = 10.0
"""Seconds after a fault's end within which the site is in step."""

_FILLER = b"/filler"

Fault = Callable[[Site], object]


@dataclass
class Suffered:
    """What came of one fault. `took` is how long it took to be in step; None: it did not."""

    took: float | None
    changes: int
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def suffer(site: Site, fault: Fault) -> Suffered:
    """Let a fault happen under churn and readers; wait until the site is in step."""
    before = sum(host.churner.changes for host in site.hosts)
    looks = Looks(site.fleet.snapshot, site.always, site.judge, pause=0.1)
    with Adding(site.fleet.watch()) as adding, looks:
        wait_until(lambda: adding.relists)
        site.resume()
        try:
            fault(site)
            end = time.monotonic()
        finally:
            changes = site.pause() - before
        took = _in_step(site, adding, end)
        looks.wait_lists(1)
    wrong = looks.wrong + adding.wrong
    counts = looks.counts + Counter({"relists": adding.relists - 1, "news": adding.changes})
    if took is None:
        wrong.append("not in step")
    return Suffered(took, changes, counts, wrong)


def _in_step(site: Site, adding: Adding, end: float) -> float | None:
    try:
        wait_until(lambda: site.is_in_step(adding), LONG)
    except TimeoutError:
        return None
    return time.monotonic() - end


# The etcd


def leader_killed(site: Site) -> None:
    leader = site.lab.leader()
    assert leader is not None
    leader.kill()
    site.churn_for(4.0)
    site.lab.start()


def leader_frozen(site: Site) -> None:
    leader = site.lab.leader()
    assert leader is not None
    leader.freeze()
    site.churn_for(6.0)
    leader.thaw()


def member_cut_off(site: Site) -> None:
    leader = site.lab.leader()
    assert leader is not None
    site.lab.cut_off(leader)
    site.churn_for(6.0)
    site.lab.heal()


def restarted(site: Site) -> None:
    site.lab.stop()
    site.churn_for(3.0)
    site.lab.start()


def killed(site: Site) -> None:
    site.lab.kill()
    site.churn_for(3.0)
    site.lab.start()


def compacted(site: Site) -> None:
    """Compact behind a reader that is cut off meanwhile."""
    for each in site.relays:
        each.hold()
    site.churn_for(1.0)
    site.lab.compact(site.revision())
    for each in site.relays:
        each.release()


def restored(site: Site) -> None:
    """Put an older state in place of the store's."""
    snapshot = site.lab.save()
    site.churn_for(3.0)
    site.lab.restore(snapshot)


def out_of_space(site: Site) -> None:
    with contextlib.suppress(NoSpace):
        while True:
            kv.put(site.etcd, _FILLER, b"x" * 1_000_000)
    site.churn_for(4.0)
    site.lab.compact(site.revision())
    site.lab.defragment()
    site.lab.disarm()


# Agents


def agent_cut_off(site: Site) -> None:
    """Cut an agent off for less than its lease."""
    host = site.hosts[0]
    host.hold()
    site.churn_for(3.0)
    host.release()


def agent_cut_off_for_long(site: Site) -> None:
    """Cut an agent off until its lease has expired."""
    host = site.hosts[0]
    host.hold()
    wait_until(lambda: not site.is_live(host), 3 * LONG)
    site.churn_for(1.0)
    host.release()


def agent_frozen(site: Site) -> None:
    """Freeze an agent past its lease."""
    host = site.hosts[1]
    host.freeze()
    wait_until(lambda: not site.is_live(host), 3 * LONG)
    site.churn_for(1.0)
    host.thaw()


def lease_ended(site: Site) -> None:
    """Revoke the lease of an agent that is well."""
    site.churn_for(0.5)
    held = kv.get(site.etcd, site.hosts[1].keys.live)
    assert held is not None
    lease.revoke(site.etcd, held.lease)


def agent_killed(site: Site) -> None:
    """Kill an agent, and start it again on its machine."""
    host = site.hosts[1]
    host.kill()
    site.churn_for(2.0)
    host.start_agent(site.pem(host.name))


def agent_elsewhere(site: Site) -> None:
    """Kill an agent; its successor runs on another machine, and waits for the lease's end."""
    host = site.hosts[2]
    term = site.term(host)
    host.kill()
    owner = Owner("another machine", "1", 1, "1", "x")
    etcd = Etcd(site.lab.endpoints, tls=site.tls(host.name))
    with (
        contextlib.closing(Inventory(host.uri)) as live,
        Agent(live, etcd, host.keys, owner=owner) as agent,
    ):
        wait_until(lambda: site.term(host) not in (0, term), 3 * LONG)
        agent.wait_for(lambda state: state.stage is Stage.SYNCED, LONG)
        site.churn_for(1.0)
    host.start_agent(site.pem(host.name))


def two_agents(site: Site) -> None:
    """Start a second agent; it says so and waits. Then kill the first."""
    host = site.hosts[2]
    first, words = host.agent, "another agent publishes this host"
    before, term = host.said(words), site.term(host)
    host.start_agent(site.pem(host.name))
    host.says(words, before + 1)
    site.churn_for(2.0)
    assert site.term(host) == term, "the second agent has taken the host from the first"
    host.kill(first)


def clocks_off(site: Site) -> None:
    """Start two agents again whose clocks are an hour fast and an hour slow; they go on so."""
    _set_clocks(site, "+1h", "-1h")


def clocks_right(site: Site) -> None:
    """Start the two again with the right time."""
    _set_clocks(site, "", "")


def _set_clocks(site: Site, *clocks: str) -> None:
    for host, clock in zip(site.hosts, clocks, strict=False):
        host.kill()
        host.start_agent(site.pem(host.name), clock)
    site.churn_for(4.0)


# A reader


def watch_cut(site: Site) -> None:
    """Cut a watch, time after time, while it catches up with thousands of changes."""
    host = site.hosts[0]
    for each in site.relays:
        each.hold()
    uuids = [each.uuid for each in host.guests]
    with ThreadChurner(host.uri, uuids[len(uuids) // 2 :], rate=600.0) as quick:
        quick.wait_changes(2_000)
        for each in site.relays:
            each.cut_after(20_000)
            each.release()
        for _ in range(5):
            quick.wait_changes(200)
            for each in site.relays:
                each.cut_after(10_000)
    for each in site.relays:
        each.release()


# Rights and TLS: on a site that has them


def wrong_credentials(site: Site) -> None:
    """Take an agent's role; a reader without rights is told."""
    host = site.hosts[1]
    words = "permission denied"
    before = host.said(words)
    auth.revoke_role(site.etcd, host.name, host.name)
    with Fleet(site.lab.endpoints, fleet="f", tls=site.tls(host.name)) as other:
        try:
            other.snapshot()
        except Denied:
            pass
        else:
            raise AssertionError("a user without rights reads the fleet")
    host.says(words, before + 1)
    site.churn_for(2.0)
    auth.grant_role(site.etcd, host.name, host.name)


def wrong_ca(site: Site) -> None:
    """Start an agent that trusts another authority; then the right one."""
    folder = site.lab.folder / "wrong"
    if not folder.exists():
        other = Authority("another")
        other.put(folder, client=other.issue("h1"))
    _start_wrongly(site, folder)


def plain_text(site: Site) -> None:
    """Start an agent that speaks plain text; then the right one."""
    _start_wrongly(site, None)


def _start_wrongly(site: Site, pem: Path | None) -> None:
    host = site.hosts[1]
    host.kill()
    words = "cannot"
    before = host.said(words)
    host.start_agent(pem)
    host.says(words, before + 1)
    site.churn_for(2.0)
    host.kill()
    host.start_agent(site.pem(host.name))


FAULTS: dict[str, Fault] = {
    "leader killed": leader_killed,
    "leader frozen": leader_frozen,
    "leader cut off from members": member_cut_off,
    "all members restarted": restarted,
    "all members killed": killed,
    "compacted behind a reader": compacted,
    "restored from an older state": restored,
    "out of space": out_of_space,
    "agent cut off, 3 s": agent_cut_off,
    "agent cut off past its lease": agent_cut_off_for_long,
    "agent frozen past its lease": agent_frozen,
    "lease ended": lease_ended,
    "agent killed, same machine": agent_killed,
    "agent killed, another machine": agent_elsewhere,
    "two agents for one host": two_agents,
    "watch cut as it catches up": watch_cut,
    "clocks off by an hour": clocks_off,
    "clocks right again": clocks_right,
}
"""On a site without TLS."""

GUARDED: dict[str, Fault] = {
    "wrong credentials": wrong_credentials,
    "wrong CA": wrong_ca,
    "plain text to a TLS port": plain_text,
}
"""On a site with TLS and rights."""


def unavailable(name: str) -> str | None:
    """Return why a fault cannot be had here; None: it can."""
    return faketime_available() if name.startswith("clocks") else None
