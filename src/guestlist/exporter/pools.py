"""Storage pools: their state and sizes, as libvirt last counted them.

In: a connection. Out: lines by family. No pool is refreshed: that would read through all its
volumes. The calls have a connection of their own, and a pool that does not answer delays no scrape
by more than the deadline.

Source: libvirt src/storage/storage_driver.c (storagePoolGetInfo tells what the last refresh found).
"""

from __future__ import annotations

from guestlist import threads
from guestlist.connection import Connection
from guestlist.errors import GuestlistError
from guestlist.exporter.exposition import Lines, label, sample
from guestlist.peer import Peer
from guestlist.side_calls import SideCalls
from guestlist.waiting import Outcome

_START = "libvirt_storage_pool_"
_VALUES = "state", "capacity_bytes", "allocation_bytes", "available_bytes"
"""In libvirt's order."""

_INACTIVE = 0
"""VIR_STORAGE_POOL_INACTIVE."""

_TINKOFF = {f"{_START}{value}": f"libvirt_pool_info_{value}" for value in _VALUES[1:]}


class Pools:
    """The storage pools of one host. Threads may share it."""

    def __init__(self, connection: Connection, *, for_tinkoff: bool) -> None:
        self._side_calls = SideCalls(connection, 1)
        self._for_tinkoff = for_tinkoff
        self._answers: dict[str, tuple[int, ...] | None] = {}
        """What the call under way has brought, by the pool's name; None: it waits for this pool."""

    def lines(self, deadline: float) -> Lines:
        """Return the lines of all pools that answer within `deadline` seconds.

        Empty if libvirt cannot be asked. While an earlier call hangs, the pool that it waits for is
        marked, and what the call had brought of the others is shown.

        Cost: 1 call, and 1 for each pool.
        """
        return threads.run_uninterrupted(lambda: self._lines(deadline), "guestlist-exporter-pools")

    def _lines(self, deadline: float) -> Lines:
        answers: dict[str, tuple[int, ...] | None] = {}
        ended: Outcome[GuestlistError | None] = Outcome()

        def ask(peer: Peer) -> None:
            for pool in peer.connection.listAllStoragePools(0):
                answers[pool.name()] = None
                answers[pool.name()] = tuple(pool.info())

        if not self._side_calls.start("read the pools", ask, lambda error: ended.of(lambda: error)):
            return self._as_lines(dict(self._answers), has_ended=False)
        self._answers = answers
        ended.wait(deadline)
        return self._as_lines(dict(answers), has_ended=ended.is_there)

    def _as_lines(
        self, answers: dict[str, tuple[int, ...] | None], *, has_ended: bool
    ) -> dict[str, str]:
        lines: dict[str, str] = {}

        def add(family: str, its_label: str, value: int) -> None:
            lines[family] = lines.get(family, "") + sample(family, its_label, value)

        for name, values in sorted(answers.items()):
            its_label = label("storage_pool", name)
            if values is None and has_ended:
                continue  # it is gone, or libvirt is
            add(f"{_START}timed_out", its_label, int(values is None))
            told = values or ()
            if told and told[0] == _INACTIVE:
                told = told[:1]  # libvirt does not know the sizes, and tells 0
            for family, value in zip(_VALUES, told, strict=False):
                add(_START + family, its_label, value)
                if self._for_tinkoff and _START + family in _TINKOFF:
                    add(_TINKOFF[_START + family], label("pool", name), value)
        return lines

    def close(self) -> None:
        """Close the idle connection; a call that hangs closes its own when it returns."""
        threads.run_uninterrupted(self._side_calls.close, "guestlist-exporter-close")
