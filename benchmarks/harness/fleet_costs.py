"""What one host costs an etcd: processor time of each call that an agent makes, and its connection.

In: a running etcd, how many. Out: a `Costs`. Makes the agent's own calls (`guestlist.fleet.agent`),
one after the other, and reads the processor time of the etcd before and after.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness.fleet_results import Costs
from lab.etcd import Etcd as Lab
from lab.etcd import Member
from lab.nodes import nova_instance

from guestlist.fleet.agent import HostKeys, Owner
from guestlist.fleet.agent import term as terms
from guestlist.fleet.agent.chain import Chain
from guestlist.fleet.etcd import kv
from guestlist.fleet.etcd.connection import Etcd

_TICKS = os.sysconf("SC_CLK_TCK")
_VALUE = b"x" * 260
"""About as long as the value of a domain."""


def costs(lab: Lab, calls: int, connections: int) -> Costs:
    """Measure each call so many times, and so many connections."""
    keys = HostKeys("costs", "h1")
    member = lab.members[0]
    with Etcd(lab.endpoints) as etcd:
        term = terms.take(etcd, keys.live, Owner.of_this_process(), 600)
        assert term is not None
        chain = Chain(etcd, keys, term)
        chain.read()
        chain.write([], b"{}")
        put = kv.Put(keys.domain(nova_instance(1).uuid), _VALUE)
        found = Costs(
            check=_spent(member, calls, chain.check),
            keep=_spent(member, calls, lambda: terms.keep(etcd, term)),
            write=_spent(member, calls, lambda: chain.write([put], _VALUE)),
        )
    with ExitStack() as stack:
        before = member.rss()
        for _ in range(connections):
            kv.get(stack.enter_context(Etcd(lab.endpoints)), keys.live)
        found.connection = (member.rss() - before) / connections
    return found


def processor(pid: int) -> float:
    """Return the seconds of a processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _spent(member: Member, calls: int, call: Callable[[], object]) -> float:
    before = processor(member.pid)
    for _ in range(calls):
        call()
    return (processor(member.pid) - before) / calls
