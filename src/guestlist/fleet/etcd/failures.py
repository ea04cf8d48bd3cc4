"""Which answer of gRPC means which error.

In: gRPC's error of one call, and whether the call writes. Out: an `EtcdError`, and what the client
may do about it. The status alone does not tell: etcd says RESOURCE_EXHAUSTED of a full store and of
too many requests, and gRPC says it of an answer that is too long. So etcd's text is read, too.

**Whether a write was done.** Statuses of gRPC itself (UNAVAILABLE, DEADLINE_EXCEEDED, those of a
connection that broke) leave it open, and so do etcd's "request timed out", "leader changed" and
"server stopped". It is certain that nothing was done where no connection to the member was opened,
and where a member has no leader to pass the write to. Every other answer comes from a store that
refused.

Source: etcd api/v3rpc/rpctypes/error.go; gRPC core's client_channel ("failed to connect to all
addresses").
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import grpc

from guestlist.errors import one_line
from guestlist.fleet.etcd.errors import (
    Compacted,
    Denied,
    EtcdError,
    LeaseGone,
    LoginExpired,
    NoSpace,
    Refused,
    StoreReplaced,
    UnknownOutcome,
    Unreachable,
)

_Status = grpc.StatusCode

_OPEN = {
    _Status.UNAVAILABLE,
    _Status.DEADLINE_EXCEEDED,
    _Status.CANCELLED,
    _Status.INTERNAL,
    _Status.ABORTED,
    _Status.DATA_LOSS,
}
"""Statuses that say nothing about what the store did."""

_NOT_DONE = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "etcdserver: no leader",
    "raft proposal dropped",
)
"""How gRPC says that it had no connection, and a member that it did not take the write."""

_STALE_LOGIN = ("invalid auth token", "revision of auth store is old")
"""How etcd says that the token of a login is not valid any more, before it does anything."""

_DENIALS = (
    "permission denied",
    "authentication failed",
    "user name is empty",
    "authentication is not enabled",
    "invalid auth management",
)

_FUTURE = "required revision is a future revision"


class Remedy(Enum):
    """What may be done about a failure."""

    NONE = "none"
    NEXT_MEMBER = "next member"
    """Ask another member; if the call writes, only where nothing was sent."""
    LOGIN = "login"
    """Log in again, and ask again: the store refused before it did anything."""


class Failure(NamedTuple):
    """An error, and what may be done about it.

    `may_be_done` says whether the store may have done it, `is_silent` that no answer came in time,
    `is_connection` that gRPC's connection failed, before any answer.
    """

    error: EtcdError
    remedy: Remedy
    may_be_done: bool
    is_silent: bool = False
    is_connection: bool = False


def failure(error: grpc.RpcError, asked: str, label: str, *, changes: bool) -> Failure:
    """Return what an error of gRPC means.

    Args:
        error: gRPC's, of one call.
        asked: the call, in words that complete "cannot …".
        label: the member.
        changes: whether the call writes.
    """
    status, details = error.code(), error.details() or ""
    text = f"cannot {asked} at etcd {label}: {one_line(details or status.name)}"
    if status in _OPEN or (status is _Status.UNKNOWN and "etcdserver:" not in details):
        may_be_done = not any(each in details for each in _NOT_DONE)
        if changes and may_be_done:
            lost: EtcdError = UnknownOutcome(f"{text}; whether the store did it is not known")
        else:
            advice = "the store did nothing" if changes else "check the address, and that etcd runs"
            lost = Unreachable(f"{text}; {advice}")
        is_silent = status is _Status.DEADLINE_EXCEEDED
        is_connection = status is _Status.UNAVAILABLE and "etcdserver:" not in details
        return Failure(lost, Remedy.NEXT_MEMBER, may_be_done, is_silent, is_connection)
    if any(each in details for each in _STALE_LOGIN):
        return Failure(LoginExpired(f"{text}; log in again"), Remedy.LOGIN, may_be_done=False)
    return Failure(_refusal(status, details, text), Remedy.NONE, may_be_done=True)


def _refusal(status: grpc.StatusCode, details: str, text: str) -> EtcdError:
    """Return the error for an answer of the store itself."""
    if "has been compacted" in details:
        return Compacted(f"{text}; list again at the present revision")
    if _FUTURE in details:
        return StoreReplaced(f"{text}; the store was restored from an older state: list again")
    if "database space exceeded" in details:
        return NoSpace(f"{text}; compact and defragment it, then disarm the alarm")
    if "requested lease not found" in details:
        return LeaseGone(f"{text}; it expired or was revoked, and its keys are deleted")
    if status in (_Status.PERMISSION_DENIED, _Status.UNAUTHENTICATED) or any(
        each in details for each in _DENIALS
    ):
        return Denied(f"{text}; see the rights of this user (etcdctl user get)")
    return Refused(text)


def cancelled(reason: str, compact_revision: int, asked: str, label: str) -> EtcdError:
    """Return the error for a watch that etcd cancelled, and its reason.

    `compact_revision` is 0 unless a compaction is the reason.
    """
    said = one_line(reason) or "no reason given"
    text = f"cannot {asked} at etcd {label}: cancelled: {said}"
    if compact_revision or "has been compacted" in reason:
        return Compacted(
            f"{text} (compacted at revision {compact_revision}); list again",
            revision=compact_revision or None,
        )
    if any(each in reason for each in _STALE_LOGIN):
        return LoginExpired(f"{text}; log in again")
    if any(each in reason for each in _DENIALS):
        return Denied(f"{text}; see the rights of this user (etcdctl user get)")
    if _FUTURE in reason:
        return StoreReplaced(f"{text}; the store was restored from an older state: list again")
    return Unreachable(f"{text}; it can be opened again")
