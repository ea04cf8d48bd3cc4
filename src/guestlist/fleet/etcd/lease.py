"""Leases: keys that disappear unless their owner keeps telling that it lives.

In: seconds. Out: a lease's number, and how long it has. Counts on etcd's clock alone. Sends nothing
by itself: the owner calls `keep` when it has checked itself, every third of the time to live.
"""

from __future__ import annotations

from typing import NamedTuple, Self

from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import LeaseGone, LoginExpired, Unreachable
from guestlist.fleet.etcd.stream import Stream


class Lease(NamedTuple):
    """A lease: its number, and the seconds until it expires unless it is kept."""

    id: int
    ttl: int


class LeaseState(NamedTuple):
    """How long a lease has: the seconds left, the seconds it is granted for, the keys on it."""

    left: int
    ttl: int
    keys: tuple[bytes, ...]


def grant(etcd: Etcd, ttl: int) -> Lease:
    """Make a lease. etcd may grant more seconds than were asked for: two elections at least.

    Raises:
        UnknownOutcome: the answer was lost. A lease that was made expires by itself.
        NoSpace, Denied, Unreachable, Refused.
    """
    answer = etcd.call("LeaseGrant", "make a lease", TTL=ttl)
    return Lease(answer.ID, answer.TTL)


class Keeper:
    """Keeps one lease alive over one stream, which costs etcd half as much as one for each time.

    One thread calls `keep`, whenever the lease may live on; nothing is sent by itself. Opens the
    stream with the first `keep`, and another one, at the next member, where that is lost.
    """

    def __init__(self, etcd: Etcd, lease: int) -> None:
        self._etcd = etcd
        self._lease = lease
        self._asked = f"keep lease {lease:x}"
        self._stream: Stream | None = None

    def keep(self) -> int:
        """Let the lease live for its whole time again; return that time, in seconds.

        Succeeds also when the store is full, and needs no right to any key.

        Raises:
            LeaseGone: it has expired, or was revoked.
            Denied, Unreachable.
        """
        attempts = max(2, len(self._etcd.members))
        has_renewed = False
        while True:
            try:
                return self._kept()
            except LoginExpired:
                self._stream = None
                if has_renewed:
                    raise
                has_renewed = True
                self._etcd.renew_login()
            except Unreachable:
                attempts -= 1
                lost, self._stream = self._stream, None
                if lost is not None:
                    self._etcd.next_member(lost.member, is_silent=True)
                if not attempts:
                    raise

    def close(self) -> None:
        """End the stream. The lease lives on until it expires."""
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kept(self) -> int:
        if self._stream is None:
            self._stream = Stream(self._etcd, "LeaseKeepAlive", self._asked)
        stream = self._stream
        stream.send(ID=self._lease)
        answer = stream.receive(self._etcd.timeout)
        if answer is None:
            raise stream.silent(self._etcd.timeout)
        if answer.TTL <= 0:
            raise LeaseGone(
                f"cannot {self._asked} at etcd {stream.member}: it expired or was revoked, and its "
                "keys are deleted"
            )
        return int(answer.TTL)


def keep(etcd: Etcd, lease: int) -> int:
    """Let a lease live for its whole time again, once; as `Keeper.keep`."""
    with Keeper(etcd, lease) as keeper:
        return keeper.keep()


def state(etcd: Etcd, lease: int) -> LeaseState:
    """Return how long a lease has, and its keys. Needs the right to read the keys on it.

    Raises:
        LeaseGone: it has expired, or was revoked.
        Denied, Unreachable.
    """
    answer = etcd.call("LeaseTimeToLive", f"ask for lease {lease:x}", ID=lease, keys=True)
    if answer.TTL < 0:
        raise LeaseGone(f"etcd {etcd.label} has no lease {lease:x}: it expired or was revoked")
    return LeaseState(answer.TTL, answer.grantedTTL, tuple(answer.keys))


def revoke(etcd: Etcd, lease: int) -> None:
    """End a lease, and delete the keys on it.

    Raises:
        LeaseGone: it had ended.
        UnknownOutcome, Denied, Unreachable.
    """
    etcd.call("LeaseRevoke", f"end lease {lease:x}", ID=lease)
