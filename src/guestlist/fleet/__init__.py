"""The fleet: every guest on every host, once, at one instant.

In: what each host publishes of its domains. Out: one row for each guest, by a rule that is a pure
function; and whether every host of the fleet is current, or which are not and why. Prints nothing,
and knows neither the command line nor Nova.

    rows         what a host publishes, a host's state, a row, a snapshot, a change         (pure)
    rule         the publications of all hosts -> one row for each guest: F1, F2, …         (pure)
    folded       the same kept up to date, and how the rows change                          (pure)
    phases       the news of one host's live view -> what that host publishes               (pure)
    endings      the events that tell of the end of domains, heard beside a live view
    readers      what every reader of the fleet has, and the queue of its news
    layout       the keys of the store, and what is in the rows of a read                   (pure)
    values       the values of the keys: JSON, with a version                               (pure)
    etcd/        the client of etcd, where the hosts publish
    reading      Fleet: what a program asks of a fleet, whatever answers it
    summary      a host of the fleet, without its domains                                   (pure)
    store_reader the fleet in an etcd: snapshots, news, hosts, and the way off the roster
    store_watch  the news of it, from a list on, resumed or listed again
    store_list   the whole of it at one revision
    paging       its keys at one revision, in pages that are bounded
    store_state  what a watch keeps of it, and what changes of the rows                     (pure)
    content      its hosts and their guests, from etcd's own records                        (pure)
    roster       its hosts: who is silent, and what is wrong with the keys                  (pure)
    claims       what all hosts publish of each guest; a row is made when looked at         (pure)
    stored       a publication over a value of the store, decoded when looked at            (pure)
    over         the fleet without any engine: a live view of each host
    board        what readers read of it, and what a store does elsewhere
    host_view    one host of it: its live view, and what is published of that
    agent        publishes one host in etcd
    security/    whether an etcd keeps each host to its own keys: tried
    setup        the users, roles and rights of a fleet, and the steps that lead to them

The names below are for programs; each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guestlist.fleet.reading import Fleet
    from guestlist.fleet.rows import (
        FleetNews,
        FleetRow,
        FleetSnapshot,
        HostChange,
        HostState,
        Relisted,
        RowChange,
        Standing,
    )
    from guestlist.fleet.summary import HostStatus, HostSummary

__all__ = [
    "Fleet",
    "FleetNews",
    "FleetRow",
    "FleetSnapshot",
    "HostChange",
    "HostState",
    "HostStatus",
    "HostSummary",
    "Relisted",
    "RowChange",
    "Standing",
]

_MODULES = {"Fleet": "reading", "HostStatus": "summary", "HostSummary": "summary"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'rows')}"), name)
    globals()[name] = found
    return found
