"""The fleet as a program reads it: the same questions, whatever answers them.

In: the members of an etcd to which the hosts publish (`guestlist agent`), or the hosts themselves.
Out: snapshots, news and hosts. Publishes nothing. grpc, protobuf and msgspec, which the extra
`guestlist[fleet]` brings, are imported only for an etcd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Self

from guestlist.errors import NotSupported
from guestlist.fleet import over
from guestlist.fleet.summary import HostSummary

if TYPE_CHECKING:
    from guestlist.fleet.etcd.endpoints import Login, Tls
    from guestlist.fleet.over import HostsFleet
    from guestlist.fleet.readers import FleetWatch
    from guestlist.fleet.rows import FleetSnapshot
    from guestlist.fleet.store_reader import Forgotten, StoreReader
    from guestlist.host import Host

FLEET = "default"
"""The name of a fleet where none is given."""

TIMEOUT = 5.0
"""Seconds that one member of an etcd has to answer."""


class Fleet:
    """A fleet: every guest on every host, each once. Threads may share it.

    Opens nothing before it is first asked. A context manager that closes it.

    Args:
        endpoints: the members of the etcd, each by its own address: "etcd1:2379".
        fleet: the name of the fleet in that etcd.
        tls: TLS, and the certificate of this reader; None: plain text.
        login: a user and a password; None: the certificate says who it is, or nothing does.
        timeout: seconds that one member has to answer.

    Raises:
        ValueError: an endpoint is none, or contradicts `tls`; or a fleet cannot have that name.
        OSError: a file of `tls` cannot be read.
        ImportError: grpc, protobuf or msgspec is missing: pip install 'guestlist[fleet]'.
    """

    def __init__(
        self,
        endpoints: Iterable[str],
        *,
        fleet: str = FLEET,
        tls: Tls | None = None,
        login: Login | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        from guestlist.fleet.etcd.connection import Etcd  # noqa: PLC0415  an extra
        from guestlist.fleet.store_reader import StoreReader  # noqa: PLC0415  likewise

        etcd = Etcd(endpoints, tls=tls, login=login, timeout=timeout)
        self._reader: StoreReader | HostsFleet = StoreReader(etcd, fleet)

    @classmethod
    def over(
        cls,
        hosts: Mapping[str, Host] | Iterable[Host],
        *,
        details: bool = True,
        timeout: float = over.TIMEOUT,
    ) -> Self:
        """Return the fleet of these hosts, without any engine: a live view is kept of each.

        Args:
            hosts: the roster, 200 hosts at most: by the names that rows have, or hosts whose URIs
                are their names.
            details: False: `Instance.details` is None.
            timeout: seconds that one host has to answer, whenever it is asked.

        Raises:
            ValueError: too many hosts, or two of one name.
        """
        made = cls.__new__(cls)
        made._reader = over.over(hosts, details=details, timeout=timeout)
        return made

    def wait_told(self, timeout: float | None = None) -> bool:
        """Wait until each host has answered or failed; return whether that is so.

        Only a fleet over hosts waits; an etcd answers or fails when it is asked.
        """
        return not isinstance(self._reader, over.HostsFleet) or self._reader.wait_told(timeout)

    def snapshot(
        self, tell: Callable[[int, int], object] = lambda _read, _published: None
    ) -> FleetSnapshot:
        """Return the whole fleet: complete, or with the hosts that are not, and why.

        From an etcd it is read at one revision. Over hosts it is what their live views have; the
        first question waits until each host has answered or failed.

        Args:
            tell: from an etcd, is called while it is read: with the number of domains that were
                read so far, and of those that the hosts have published.

        Raises:
            EtcdError: the etcd cannot be asked, or refuses.

        Cost: from an etcd, one read for each 50 hosts and four more; over hosts, no call.
        """
        self.wait_told()
        if isinstance(self._reader, over.HostsFleet):
            return self._reader.snapshot()
        return self._reader.snapshot(tell)

    def watch(self) -> FleetWatch:
        """Return the news of the fleet: an iterator, for one thread, that begins with `Relisted`.

        From an etcd the changes follow from the revision of that list, in the store's order. Where
        the store has them no longer (a compaction, a store restored from an older state), the fleet
        is listed again, and another `Relisted` says why. While no member answers, the iterator
        raises `EtcdError` once; ask it again, it goes on where it was.
        """
        return self._reader.watch()

    def hosts(self) -> tuple[HostSummary, ...]:
        """Return the hosts of the fleet, by name.

        Raises:
            EtcdError: the etcd cannot be asked, or refuses.

        Cost: from an etcd, two reads; over hosts, as `snapshot`.
        """
        if isinstance(self._reader, over.HostsFleet):
            return summaries(self.snapshot())
        return self._reader.hosts()

    def forget(self, host: str) -> Forgotten:
        """Delete all that a host has published in the etcd: it leaves the roster, with its guests.

        It is the only way off the roster, for a host that will not come back.

        Raises:
            NotSupported: the fleet is one over hosts: its roster is what it was given.
            Refused: the host is live: its agent would publish all of it again.
            Denied: the user may not write to the fleet.
            UnknownOutcome: whether it was done is not known; it may be repeated.
            EtcdError: the etcd cannot be asked, or refuses.
        """
        if isinstance(self._reader, over.HostsFleet):
            raise NotSupported("cannot forget a host: a fleet over hosts has those it was given")
        return self._reader.forget(host)

    def close(self) -> None:
        """Close it, and end every iteration over its news, within a second; harmless twice."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def summaries(snapshot: FleetSnapshot) -> tuple[HostSummary, ...]:
    """Return the hosts of a snapshot, each with the number of guests of which it has a copy.

    The number is None for a host that has published nothing.
    """
    domains = dict.fromkeys((each.host for each in snapshot.hosts), 0)
    for row in snapshot.values():
        for host in (row.host, *row.others):
            domains[host] += 1
    return tuple(
        HostSummary(each, domains[each.host] if each.synced or domains[each.host] else None)
        for each in snapshot.hosts
    )
