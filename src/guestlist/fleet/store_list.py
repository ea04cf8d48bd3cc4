"""A fleet as it is in the store, read whole at one revision.

In: a connection, and the name of a fleet. Out: its hosts and what they publish, at one revision. A
compaction that overtakes the reading begins it again, and so does a store that is restored
meanwhile.

**One history.** A store that is restored from an older state counts on from there, and soon it has
the revision of this list again, with other keys. Each write of a host writes its record, too. So if
the key of a host that was written last is at the end the one of the beginning, all pages are of one
history.

Cost: one read for the records and leases of all hosts, and one at the end; one for the domains of
each 50 hosts, and one for the tombstones of each 500.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from operator import attrgetter

from guestlist.fleet.content import Content
from guestlist.fleet.etcd import kv
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import Compacted, StoreReplaced
from guestlist.fleet.etcd.kv import KeyValue
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
    content.newest = max(rows, key=attrgetter("mod_revision"), default=None)
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
    _check_history(etcd, layout, revision, content.newest)
    return revision, content


def _check_history(etcd: Etcd, layout: Layout, revision: int, known: KeyValue | None) -> None:
    """Make sure that the store still has the history in which a key of a host was the newest.

    Raises:
        StoreReplaced: it has another one.
    """
    if not kv.is_newest(etcd, layout.summary, known, revision=revision):
        raise StoreReplaced(
            f"cannot list the fleet at revision {revision}: etcd {etcd.label} was restored from an "
            "older state meanwhile; list again"
        )
