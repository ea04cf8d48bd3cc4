"""A check of an etcd: all attempts, at all members, with the credentials of one host's agent.

In: the members, the credentials, the fleet and the host. Out: a `Report`. Members are asked one
after the other. A member that does not answer leaves every check unknown there; so does an error of
one attempt for that attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from guestlist.fleet.etcd import kv
from guestlist.fleet.etcd.auth import Right
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.endpoints import endpoints
from guestlist.fleet.etcd.errors import Denied, EtcdError
from guestlist.fleet.etcd.span import Span
from guestlist.fleet.layout import Layout
from guestlist.fleet.security import tries
from guestlist.fleet.security.credentials import Credentials
from guestlist.fleet.security.findings import Hole, Report, Tried, finding

Attempt = Callable[[], Tried]

OF_THE_MEMBER = (Hole.PLAIN_TEXT, Hole.NO_CERTIFICATES)
"""Holes that need no user to be found."""


def check(
    members: Iterable[str],
    credentials: Credentials,
    layout: Layout,
    host: str,
    *,
    holes: Iterable[Hole] = Hole,
) -> Report:
    """Try every hole at every member.

    Args:
        members: their own addresses.
        credentials: those of the host's agent.
        layout: the keys of the fleet.
        host: the host whose agent has these credentials.
        holes: the holes to try.

    Raises:
        InvalidName: the name of the host cannot be part of a key.
        ValueError: an endpoint is none; a certificate and its key do not belong together.
        OSError: a file of the credentials cannot be read.

    Cost: up to 20 calls to each member, and 3 connections; at most about 10 s where one is silent.
    """
    user = credentials.user
    layout.host(host)
    wanted = tuple(holes)
    found: dict[Hole, dict[str, Tried]] = {hole: {} for hole in wanted}
    for member in map(str, endpoints(members, tls=credentials.tls is not None)):
        with credentials.client(member) as own:
            at_member = _Member(own, credentials, member, layout, host)
            for hole in wanted:
                found[hole][member] = at_member.tried(hole, user)
    return Report(user or "", tuple(finding(hole, tried) for hole, tried in found.items()))


class _Member:
    """One member, as the user of one host sees it."""

    def __init__(
        self, own: Etcd, credentials: Credentials, member: str, layout: Layout, host: str
    ) -> None:
        self._own = own
        self._credentials = credentials
        self._member = member
        self._layout = layout
        self._host = host
        self._silent: str | None = None
        self._obstacle: str | None = None
        self._rights: tuple[Right, ...] | None = None
        self._is_known = False

    def tried(self, hole: Hole, user: str | None) -> Tried:
        """Try one hole."""
        try:
            self._look(user)
            if self._silent is not None:
                return tries.unknown(self._silent)
            if self._obstacle is not None and hole in _OF_THE_USER:
                return tries.unknown(self._obstacle)
            return self._attempts()[hole]()
        except EtcdError as error:
            return tries.unknown(str(error))

    def _look(self, user: str | None) -> None:
        """Find out once whether the member answers, and what the user is there."""
        if self._is_known:
            return
        self._is_known = True
        try:
            is_locked = tries.is_locked(self._own)
        except EtcdError as error:
            self._silent = str(error)
            return
        if not is_locked:
            self._obstacle = "authentication is off"
            return
        try:
            self._rights = tries.rights(self._own, user)
            for span in (self._layout.domains(self._host), Span(self._layout.host(self._host))):
                kv.read(self._own, span, limit=1, keys_only=True)
        except tries.IsRoot:
            self._obstacle = "this user has the role root: use the credentials of a host's agent"
        except Denied as error:
            self._obstacle = f"this user is not the agent of host {self._host!r}: {error}"

    def _attempts(self) -> dict[Hole, Attempt]:
        own, credentials, member = self._own, self._credentials, self._member
        layout, host, rights = self._layout, self._host, self._rights
        return {
            Hole.PLAIN_TEXT: lambda: tries.plain_text(own, credentials, member),
            Hole.NO_CERTIFICATES: lambda: tries.no_certificates(credentials, member),
            Hole.NO_AUTHENTICATION: lambda: tries.no_authentication(own),
            Hole.WATCH: lambda: tries.watch(own, layout, host),
            Hole.NESTED_PUT: lambda: tries.nested_put(own, layout, host),
            Hole.COMPACTION: lambda: tries.compaction(own, credentials, member),
            Hole.READS_OTHERS: lambda: tries.reads_others(own, layout, host, rights),
            Hole.WIDE_ROLE: lambda: tries.wide_role(own, layout, host, rights),
            Hole.NO_COMPACTION: lambda: tries.no_compaction(own, layout, host),
            Hole.QUOTA: lambda: tries.quota(own, credentials, member),
        }


_OF_THE_USER = {
    Hole.WATCH,
    Hole.NESTED_PUT,
    Hole.COMPACTION,
    Hole.READS_OTHERS,
    Hole.WIDE_ROLE,
}
"""Holes that only a user finds who is kept to the keys of one host."""
