"""The term of a host: which agent may write the host's keys, and until when.

In: a connection to etcd, the host's keys, the owner that this agent is. Out: a term: the
create_revision of the host's live key, which is on a lease. Every write of the host compares it
(`chain`), so an agent that has lost its term writes nothing, however late it notices.

Of two agents for one host one has the key. The other waits until the key is gone: its owner ended
in order, or its lease expired. An owner that has ended on this machine without deleting its key is
replaced at once. Clocks of two machines are never compared: the lease is etcd's.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from guestlist.fleet.agent.owner import Owner
from guestlist.fleet.etcd import kv, lease
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import EtcdError, LeaseGone
from guestlist.fleet.etcd.span import Span


class TermLost(Exception):
    """The host's live key is not this agent's any more: the lease expired, or another has it."""


class Holder(NamedTuple):
    """Another agent that has the host's live key. `owner` is None if its value cannot be read."""

    owner: Owner | None
    modified: int


class Term(NamedTuple):
    """A term: its number, its lease, and the seconds that the lease lives unless it is kept."""

    number: int
    lease: int
    ttl: int


def holder(etcd: Etcd, key: bytes) -> Holder | None:
    """Return the owner of a host's live key; None: there is no such key.

    Raises:
        EtcdError.
    """
    found = kv.get(etcd, key)
    if found is None:
        return None
    return Holder(Owner.of_row(found), found.mod_revision)


def remove(etcd: Etcd, key: bytes, gone: Holder) -> None:
    """Delete the live key of an owner that has ended, unless it has changed since.

    Raises:
        EtcdError.
    """
    kv.transact(etcd, [kv.modified_at(key, gone.modified)], [kv.Delete(Span(key))])


def take(etcd: Etcd, key: bytes, owner: Owner, ttl: int) -> Term | None:
    """Take the term of a host; None: another agent was faster.

    Raises:
        EtcdError: after `UnknownOutcome` the key may be its own: look at the `holder`.
    """
    granted = lease.grant(etcd, ttl)
    put = kv.Put(key, owner.encode(), granted.id)
    done = kv.transact(etcd, [kv.created_at(key, 0)], [put])
    if done.held:
        return Term(done.revision, granted.id, granted.ttl)
    with contextlib.suppress(EtcdError):
        lease.revoke(etcd, granted.id)
    return None


def seek(etcd: Etcd, key: bytes, owner: Owner, ttl: int) -> Term | Holder | None:
    """Take the term of a host, unless another agent has it that may live: return that one.

    None: another agent was faster.

    Raises:
        EtcdError: as `take`.
    """
    found = holder(etcd, key)
    if found is not None:
        if not owner.may_replace(found.owner):
            return found
        remove(etcd, key, found)
    return take(etcd, key, owner, ttl)


def keep(etcd: Etcd, term: Term) -> None:
    """Let the lease of a term live for its whole time again.

    Raises:
        TermLost: it has expired.
        EtcdError.
    """
    try:
        lease.keep(etcd, term.lease)
    except LeaseGone as error:
        raise TermLost("its lease expired") from error


def end(etcd: Etcd, term: Term) -> None:
    """End the lease of a term, as far as etcd can be asked. Its live key goes with it."""
    with contextlib.suppress(EtcdError):
        lease.revoke(etcd, term.lease)
