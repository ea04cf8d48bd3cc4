"""A fleet as it is in the store, read whole at one revision.

In: a connection, and the name of a fleet. Out: its hosts and what they publish, at one revision. A
compaction that overtakes the reading begins it again, and so does a store that is restored
meanwhile.

Cost: one read for the records and leases of all hosts; one for the domains of each 50 hosts, and
one for the tombstones of each 500.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress

from guestlist.fleet.content import Content
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import Compacted, StoreReplaced
from guestlist.fleet.layout import Layout, is_valid
from guestlist.fleet.paging import read_all, read_small

Tell = Callable[[int, int], object]
"""Is called with the domains that were read so far, and with those that hosts have published."""

MOST_ATTEMPTS = 3
"""Times that a list is begun, where compactions overtake it or the store is replaced."""


def list_fleet(
    etcd: Etcd, layout: Layout, tell: Tell = lambda _read, _published: None
) -> tuple[int, Content]:
    """Read a fleet whole; return it, and its revision. `tell` is called after each page.

    Raises:
        Compacted: the store is compacted faster than the fleet is read.
        StoreReplaced: the store was restored again and again.
        EtcdError: the store cannot be asked, or refuses.
    """
    for _ in range(MOST_ATTEMPTS - 1):
        with suppress(Compacted, StoreReplaced):
            return _list(etcd, layout, tell)
    return _list(etcd, layout, tell)


def list_hosts(etcd: Etcd, layout: Layout) -> tuple[int, Content]:
    """Read the hosts of a fleet, without their domains. Raises as `list_fleet`."""
    content = Content(layout)
    revision, rows = read_small(etcd, layout.summary)
    for row in rows:
        content.put(row, is_new=True)
    return revision, content


def _list(etcd: Etcd, layout: Layout, tell: Tell) -> tuple[int, Content]:
    revision, content = list_hosts(etcd, layout)
    read, published = 0, sum(each.record.count for each in content.roster if each.record)
    tell(read, published)
    hosts = [each.host for each in content.roster if is_valid(each.host)]
    with closing(read_all(etcd, layout.pages_of_domains(hosts), revision)) as pages:
        for rows in pages:
            content.put_domains(rows)
            read += len(rows)
            tell(read, published)
    with closing(read_all(etcd, layout.pages_of_tombstones(hosts), revision)) as pages:
        for rows in pages:
            for row in rows:
                content.put(row, is_new=True)
    return revision, content
