"""A fleet in etcd, read: at one revision, from a revision on, host by host.

In: a connection, and the name of a fleet. Out: snapshots, news, summaries of hosts. Writes nothing,
except that `forget` deletes what a host has published. Threads may share a reader.
"""

from __future__ import annotations

from typing import NamedTuple

from guestlist.errors import short
from guestlist.fleet.etcd import kv
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import Refused
from guestlist.fleet.etcd.span import Span
from guestlist.fleet.layout import Layout
from guestlist.fleet.rows import FleetSnapshot
from guestlist.fleet.store_list import Tell, list_fleet, list_hosts
from guestlist.fleet.store_watch import StoreWatch
from guestlist.fleet.summary import HostSummary
from guestlist.unpatched import threading


class Forgotten(NamedTuple):
    """What `forget` has deleted: the host's record, if it had one; domains; tombstones."""

    on_roster: bool
    domains: int
    tombstones: int


class StoreReader:
    """The fleet of a name in an etcd."""

    def __init__(self, etcd: Etcd, fleet: str) -> None:
        self._etcd = etcd
        self._layout = Layout(fleet)
        self._watches: tuple[StoreWatch, ...] = ()
        self._lock = threading.Lock()
        self._is_closed = False

    def snapshot(self, tell: Tell = lambda _read, _published: None) -> FleetSnapshot:
        """Return the whole fleet at one revision. `tell` as for `list_fleet`.

        Raises:
            EtcdError: the store cannot be asked, or refuses.

        Cost: one read for each 50 hosts, and four more.
        """
        revision, content = list_fleet(self._etcd, self._layout, tell)
        hosts = content.states()
        return FleetSnapshot.over(content.claims.rows(hosts), hosts.values(), revision)

    def watch(self) -> StoreWatch:
        """Return the news of the fleet: the whole of it first, then what changes."""
        made = StoreWatch(self._etcd, self._layout, self._drop)
        with self._lock:
            self._watches = (*self._watches, made)
        if self._is_closed:
            made.close()
        return made

    def hosts(self) -> tuple[HostSummary, ...]:
        """Return the hosts of the fleet, by name, without reading their domains.

        Raises:
            EtcdError: the store cannot be asked, or refuses.
        """
        _, content = list_hosts(self._etcd, self._layout)
        return tuple(sorted((each.summary() for each in content.roster), key=lambda one: one.host))

    def forget(self, host: str) -> Forgotten:
        """Delete all that a host has published: it leaves the roster, and its guests with it.

        Raises:
            InvalidName: no host has such a name.
            Refused: the host is live: its agent would publish all of it again.
            Denied: the user may not write to the fleet.
            UnknownOutcome: whether it was done is not known; it may be repeated.
            EtcdError: the store cannot be asked, or refuses.
        """
        spans = (
            Span(self._layout.host(host)),
            self._layout.domains(host),
            self._layout.tombstones(host),
        )
        done = kv.transact(
            self._etcd,
            [kv.created_at(self._layout.live(host), 0)],
            [kv.Delete(each) for each in spans],
        )
        if not done.held:
            raise Refused(
                f"cannot forget host {short(host)}: its agent is running and would publish its "
                "domains again; stop the agent, or wait until its lease has expired"
            )
        deleted = [each if isinstance(each, int) else 0 for each in done.answers]
        return Forgotten(bool(deleted[0]), *deleted[1:])

    def close(self) -> None:
        """Close the connection. Lists and watches that are under way end; harmless twice.

        In a forked process the watches are the parent's, and stay.
        """
        self._is_closed = True
        for each in self._watches:
            each.close()
        self._etcd.close()

    def _drop(self, watch: StoreWatch) -> None:
        with self._lock:
            self._watches = tuple(each for each in self._watches if each is not watch)
