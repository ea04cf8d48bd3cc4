"""What can go wrong with etcd. Pure.

    EtcdError
    ├── Unreachable    (ConnectionError)   no member answered; the store did nothing
    ├── UnknownOutcome (ConnectionError)   a write was sent and its answer lost: done, or not done
    ├── Denied         (PermissionError)   no right, a wrong password, a login that is missing
    │   └── LoginExpired                   the token of a login is not valid any more
    ├── Compacted      (LookupError)       the store no longer has this revision
    ├── StoreReplaced                      the store is older than what it told before
    ├── NoSpace        (OSError)           the store is full and takes no write
    ├── LeaseGone      (LookupError)       the lease has expired, or was revoked
    └── Refused        (ValueError)        anything else that etcd said

Every message is one line: what was asked, which members were asked, what the answer was. gRPC's
error is the `__cause__`.
"""

from __future__ import annotations

from guestlist.errors import GuestlistError


class EtcdError(GuestlistError):
    """The root: every error of the client is one of these."""


class Unreachable(EtcdError, ConnectionError):
    """No member answered in time. The store changed nothing; ask again later."""


class UnknownOutcome(EtcdError, ConnectionError):
    """A write was sent, and no answer came: the store may have done it, or may do it yet.

    The client never sends such a write again. Read what the store has, and decide from that.
    """


class Denied(EtcdError, PermissionError):
    """The user has no right to this, the password is wrong, or there is no login."""


class LoginExpired(Denied):
    """The token of a login is not valid any more. The client logs in again by itself.

    A caller gets it where that did not help.
    """


class Compacted(EtcdError, LookupError):
    """The store no longer has what was asked for: that revision was compacted. List again."""

    def __init__(self, message: str = "", *, revision: int | None = None) -> None:
        super().__init__(message)
        self.revision = revision
        """The revision of the compaction; None: a read does not tell it."""


class StoreReplaced(EtcdError):
    """The store does not have a revision that it had: it was restored, or is another one.

    Discard what was read of it, and list again.
    """

    def __init__(self, message: str = "", *, revision: int | None = None) -> None:
        super().__init__(message)
        self.revision = revision
        """The revision of the store now; None: not asked."""


class NoSpace(EtcdError, OSError):
    """The store is full. It takes no write until space is freed and the alarm disarmed.

    Reads, watches, keepalives and deletes of a lease still work.
    """


class LeaseGone(EtcdError, LookupError):
    """The lease has expired, or was revoked, and its keys are deleted."""


class Refused(EtcdError, ValueError):
    """etcd refused the request for a reason that has no class of its own here. It did nothing."""
