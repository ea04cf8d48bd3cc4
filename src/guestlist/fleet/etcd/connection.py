"""A connection to an etcd: calls with a deadline, at one member after the other.

In: endpoints, TLS, a login. Out: answers, as protobuf messages, or an `EtcdError`. Starts no thread
for a call that is one question and one answer. Never sends a write twice.

**The next member.** One member is asked until it fails (no answer within the deadline, no
connection, no leader); then the next is. A read is repeated there; a write only if it is certain
that the first member did not take it.

**TLS.** Where a connection fails, the cause is looked for (`refusals`), and the files are looked at
again: a certificate that was renewed is used for the next connection.

**A login.** With a `Login` the first call gets a token. Where etcd calls the token invalid (it has
expired, the server was restarted, users changed) the client logs in once more and repeats the call,
writes too: etcd checks the token before it does anything. (It also says so, once, to a user with a
certificate while another changes the users.)

**What grpc cannot do.** After a fork the child's calls would hang, and green threads (eventlet,
gevent) would stop; both are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, Self

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes to the terminal; errors say the same

import grpc

from guestlist.errors import ForkedProcess, ThreadsReplaced, short
from guestlist.fleet.etcd.channels import Channels
from guestlist.fleet.etcd.endpoints import Endpoint, Login, Pem, Tls, endpoints
from guestlist.fleet.etcd.errors import EtcdError, Refused, Unreachable
from guestlist.fleet.etcd.failures import Failure, Remedy, failure
from guestlist.fleet.etcd.messages import METHODS, Method
from guestlist.fleet.etcd.refusals import LONGEST_LOOK, why_refused
from guestlist.unpatched import green_by, threading

TIMEOUT = 5.0
"""Seconds that one member has to answer."""

_NEEDS_LEADER = ("hasleader", "true")
"""Metadata: a member that has no leader refuses, instead of keeping a stream open for nothing."""


class _Member:
    """One member, and the gRPC channel to it: opened when it is first asked."""

    def __init__(self, endpoint: Endpoint, channels: Channels) -> None:
        self.endpoint = endpoint
        self.label = str(endpoint)
        self._channels = channels
        self._files: Pem | None = None
        """What the files of TLS had when the channel was opened."""
        self._channel: grpc.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._lock = threading.Lock()

    def call(self, method: Method, *, stream: bool = False) -> Any:
        """Return gRPC's callable of a method."""
        calls = self._calls  # those of the channel, which another thread may leave at this moment
        found = calls.get(method.path)
        if found is None:
            channel = self._opened()
            make: Any = channel.stream_stream if stream else channel.unary_unary
            found = calls[method.path] = make(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.answer.FromString,
            )
        return found

    @property
    def is_outdated(self) -> bool:
        """Whether the files of TLS have changed since the connection was made."""
        return self._channel is not None and self._files != self._channels.files()

    def leave(self) -> None:
        """Open another connection for the next call: this one carries nothing any more.

        Calls that use it go on; gRPC closes it after the last of them.
        """
        with self._lock:
            self._channel = None
            self._calls = {}

    def close(self) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
            self._calls = {}
        if channel is not None:
            channel.close()

    def _opened(self) -> grpc.Channel:
        with self._lock:
            if self._channel is None:
                self._files = self._channels.files()
                self._channel = self._channels.open(self.label, self._files)
            return self._channel


class Etcd:
    """An etcd, by its members' own addresses. Threads may share it.

    Opens nothing until the first call. A context manager that closes it.

    Args:
        at: the members: "host", "host:2379", "https://host:2379".
        tls: TLS, and the client's certificate; None: plain text.
        login: a user's name and password; None: the certificate says who it is, or nothing does.
        timeout: seconds that one member has to answer one call.

    Raises:
        ValueError: an endpoint is none, or contradicts `tls`; a file of `tls` is not what it should
            be.
        OSError: a file of `tls` cannot be read.
        ThreadsReplaced: eventlet or gevent replaced Python's threads.
    """

    def __init__(
        self,
        at: Iterable[str],
        *,
        tls: Tls | None = None,
        login: Login | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        if (green := green_by()) is not None:
            raise ThreadsReplaced(
                f"etcd cannot be asked where {green} replaced Python's threads: grpc's calls would "
                "stop them all; run this in a process of its own"
            )
        self.timeout = timeout
        self._login = login
        self._tls = tls
        self._pid = os.getpid()
        channels = Channels(tls)
        self._members = tuple(
            _Member(each, channels) for each in endpoints(at, tls=tls is not None)
        )
        self._asked = 0
        self._is_closed = False
        self._token: str | None = None
        self._logging_in = threading.Lock()

    @property
    def label(self) -> str:
        """The members, for messages."""
        return short(", ".join(self.members))

    @property
    def members(self) -> tuple[str, ...]:
        """The address of each member, as "host:port"."""
        return tuple(each.label for each in self._members)

    @property
    def member(self) -> str:
        """The address of the member that is asked at present."""
        return self._members[self._asked].label

    def call(
        self,
        name: str,
        asked: str,
        /,
        *,
        timeout: float | None = None,
        member: str | None = None,
        **fields: Any,
    ) -> Any:
        """Make one call; return its answer, a message.

        Args:
            name: the call: "Range".
            asked: what it asks, in words that complete "cannot …".
            timeout: seconds that one member has; None: as the connection's.
            member: asks this member alone, one of `members`.
            fields: the fields of the request.

        Raises:
            EtcdError: see `errors`; `UnknownOutcome` of writes only.
            ForkedProcess: the process was forked after this connection was made.
        """
        method = METHODS[name]
        request = method.request(**fields)
        longest = self.timeout if timeout is None else timeout

        def once(of: _Member) -> Any:
            return of.call(method)(request, timeout=longest, metadata=self._metadata(method))

        return self._asking(once, method, asked, member)

    def open_stream(self, name: str, requests: Iterator[Any]) -> tuple[Any, str]:
        """Open a stream at the member that is asked at present; return it, and the member.

        The stream is gRPC's: an iterator of answers, with `cancel`. It raises grpc.RpcError.
        """
        self._check_usable()
        method = METHODS[name]
        member = self._members[self._asked]
        metadata = self._metadata(method)
        try:
            stream = member.call(method, stream=True)(requests, metadata=metadata)
        except ValueError:
            self._check_usable()
            raise
        return stream, member.label

    def next_member(self, failed: str, *, is_silent: bool = False) -> None:
        """Ask the next member from now on, unless another thread has left `failed` already.

        A member that `is_silent` gets a new connection when it is asked again, and so does each one
        if the files of TLS have changed.
        """
        at = self._asked
        if self._members[at].label == failed:
            if is_silent or self._members[at].is_outdated:
                self._members[at].leave()
            self._asked = (at + 1) % len(self._members)

    def renew_login(self) -> None:
        """Forget the token: the next call logs in."""
        self._token = None

    def close(self) -> None:
        """Close all connections. Streams end, and no further call is made. May be called twice."""
        self._is_closed = True
        if not self.belongs_to_parent:
            for each in self._members:
                each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Etcd at {self.label}>"

    def _asking(self, once: Any, method: Method, asked: str, member: str | None = None) -> Any:
        """Ask one member after the other, each once, and a lonely one twice."""
        self._check_usable()
        left = 1 if member else max(2, len(self._members))
        has_renewed = method.name == "Authenticate"
        while True:
            of = self._members[self.members.index(member) if member else self._asked]
            try:
                return once(of)
            except ValueError:  # gRPC's, of a connection that another thread has just closed
                self._check_usable()
                raise
            except grpc.RpcError as error:
                why = failure(error, asked, of.label, changes=method.changes)
                cause = error
            if why.remedy is Remedy.LOGIN and not has_renewed:
                has_renewed = True
                self.renew_login()
                continue
            if why.remedy is Remedy.NEXT_MEMBER and member is None:
                self.next_member(of.label, is_silent=why.is_silent)
                left -= 1
                if left and not (method.changes and why.may_be_done):
                    continue
            raise self._told(why, asked, of) from cause

    def _told(self, why: Failure, asked: str, of: _Member) -> EtcdError:
        error = why.error
        if why.is_connection:
            cause = why_refused(of.endpoint, self._tls, min(self.timeout, LONGEST_LOOK))
            if cause is not None:
                error = type(error)(f"cannot {asked} at etcd {of.label}: {cause}")
        if isinstance(error, Unreachable) and len(self._members) > 1:
            return Unreachable(f"{error} (the last of {self.label})")
        return error

    def _metadata(self, method: Method) -> tuple[tuple[str, str], ...]:
        """Return what every request carries; log in first if there is no token."""
        if method.name == "Authenticate":
            return ()
        leader = () if method.name in _WITHOUT_LEADER else (_NEEDS_LEADER,)
        return leader if self._login is None else (*leader, ("token", self._valid_token()))

    def _valid_token(self) -> str:
        token = self._token
        if token is not None:
            return token
        assert self._login is not None
        with self._logging_in:
            if self._token is None:
                login = self._login
                self._token = self.call(
                    "Authenticate",
                    f"log in as {short(login.user)!r}",
                    name=login.user,
                    password=login.password,
                ).token
            return self._token

    def _check_usable(self) -> None:
        if self._is_closed:
            raise Refused(f"cannot ask etcd {self.label}: this connection was closed")
        self.check_process()

    @property
    def belongs_to_parent(self) -> bool:
        """Whether the process was forked after this connection was made: then leave it alone."""
        return os.getpid() != self._pid

    def check_process(self) -> None:
        """Refuse a child that was forked.

        Raises:
            ForkedProcess: the process was forked after this connection was made.
        """
        if self.belongs_to_parent:
            raise ForkedProcess(
                f"cannot ask etcd {self.label}: this process was forked after the connection was "
                "made, and grpc does not survive that; make a new Etcd only in a new process"
            )


_WITHOUT_LEADER = {"Status", "MemberList", "Alarm", "Defragment", "HashKV", "AuthStatus"}
"""Calls that a member without a leader may answer."""
