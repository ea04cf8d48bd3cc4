"""The users, roles and rights of a fleet in an etcd, and the steps that lead to them.

In: the names of hosts and readers; what the etcd has. Out: the steps that are missing, in order;
none where all is there. The name of a user is the common name (CN) of its certificate; no user has
a password, but root where it logs in with one.

    user HOST      role guestlist/FLEET/host/HOST   the keys that this host writes, and no others
    user READER    role guestlist/FLEET/reader      reads all keys of the fleet
    user root      role root                        everything; etcd wants it

A role that begins with "guestlist/FLEET/" is guestlist's: further rights are taken away from it.
Other users and roles stay as they are.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from guestlist.errors import GuestlistError, short
from guestlist.fleet.etcd import auth
from guestlist.fleet.etcd.auth import Access, Right
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.endpoints import Login
from guestlist.fleet.etcd.errors import Denied, Refused
from guestlist.fleet.layout import Layout, valid_name
from guestlist.fleet.security.checking import check
from guestlist.fleet.security.credentials import Credentials
from guestlist.fleet.security.findings import Report, in_words
from guestlist.fleet.security.trial import Trial
from guestlist.fleet.security.tries import is_locked


class CannotSetUp(GuestlistError):
    """What was asked for cannot be set up; nothing was done."""


class Step(NamedTuple):
    """One change: in words that complete "would …", how to make it, and how to undo it."""

    words: str
    make: Callable[[Etcd], None]
    undo: Callable[[Etcd], None] = lambda _: None


class User(NamedTuple):
    """A user, the one role that the user needs, and the rights of that role."""

    name: str
    role: str
    rights: tuple[Right, ...]


def users_of(fleet: str, hosts: Sequence[str], readers: Sequence[str]) -> tuple[User, ...]:
    """Return the users of a fleet: hosts first.

    Raises:
        InvalidName: a name cannot be part of a key.
        CannotSetUp: a name is that of root, or of a host and of a reader.
    """
    layout = Layout(fleet)
    if twice := set(hosts) & set(readers):
        raise CannotSetUp(f"{min(twice)!r} is a host and a reader: a host reads its own keys only")
    if auth.ROOT in {*hosts, *readers}:
        raise CannotSetUp("'root' is etcd's administrator, and cannot be a host or a reader")
    start = f"guestlist/{fleet}"
    all_keys = (Right(Access.READ, layout.everything),)
    return (
        *(
            User(
                host,
                f"{start}/host/{host}",
                tuple(Right(Access.READWRITE, span) for span in layout.own(host)),
            )
            for host in dict.fromkeys(hosts)
        ),
        *(
            User(valid_name(reader, "reader"), f"{start}/reader", all_keys)
            for reader in dict.fromkeys(readers)
        ),
    )


def steps_of(etcd: Etcd, users: Sequence[User]) -> list[Step]:
    """Return the steps that these users need, in order; none where all is there.

    Raises:
        EtcdError: `Denied` where authentication is on and the user of `etcd` is not root.

    Cost: 2 calls, and 2 for each user that is there already.
    """
    found: list[Step] = []
    has_users, has_roles = set(auth.users(etcd)), set(auth.roles(etcd))
    for role, rights in {each.role: each.rights for each in users}.items():
        found += _steps_of_role(etcd, role, rights, is_there=role in has_roles)
    for user in users:
        is_there = user.name in has_users
        if not is_there:
            found.append(_step(f"add user {user.name}", auth.add_user, user.name))
        if not is_there or user.role not in auth.roles_of(etcd, user.name):
            words = f"give user {user.name} role {user.role}"
            found.append(_step(words, auth.grant_role, user.name, user.role))
    return found


def steps_to_lock(etcd: Etcd, password: str | None) -> list[Step]:
    """Return the steps that turn authentication on, where it is off.

    Args:
        etcd: the connection.
        password: root's; None: root comes with a certificate.

    Raises:
        EtcdError.

    Cost: 3 calls.
    """
    found: list[Step] = []
    root = auth.ROOT
    is_there = root in auth.users(etcd)
    if not is_there:
        step = _step("add user root", auth.add_user, root, password)
        found.append(step._replace(undo=lambda at: auth.delete_user(at, root)))
    elif password is not None:
        words = "give user root the password of this login"
        found.append(_step(words, auth.change_password, root, password))
    if root not in auth.roles(etcd):
        step = _step("add role root", auth.add_role, root)
        found.append(step._replace(undo=lambda at: auth.delete_role(at, root)))
    if not is_there or root not in auth.roles_of(etcd, root):
        found.append(_step("give user root role root", auth.grant_role, root, root))
    return [*found, _step("turn authentication on", auth.enable)]


def _steps_of_role(
    etcd: Etcd, role: str, rights: Sequence[Right], *, is_there: bool
) -> Iterator[Step]:
    if not is_there:
        yield _step(f"add role {role}", auth.add_role, role)
    has = auth.rights_of(etcd, role) if is_there else ()
    spans = {each.span for each in rights}
    for each in has:
        if each.span not in spans:
            yield _step(f"take {_words(each)} from role {role}", auth.revoke, role, each.span)
    for each in rights:
        if each not in has:
            yield _step(f"give role {role} {_words(each)}", auth.grant, role, each)


def _step(words: str, make: Callable[..., None], *arguments: object) -> Step:
    return Step(words, lambda etcd: make(etcd, *arguments))


def _words(right: Right) -> str:
    return f"{right.access.name} of {in_words(right.span)}"


class Setup:
    """A setup of a fleet in an etcd, with root's credentials. A context manager that closes it.

    Args:
        members: the etcd's members.
        credentials: a certificate with the common name root, or the login of root.
        layout: the keys of the fleet.
        users: the users that it needs, from `users_of`.

    Raises:
        CannotSetUp: the credentials are not root's, or without TLS.
        EtcdError, ValueError, OSError.
    """

    def __init__(
        self,
        members: Iterable[str],
        credentials: Credentials,
        layout: Layout,
        users: Sequence[User],
    ) -> None:
        if credentials.tls is None:
            raise CannotSetUp("cannot set up a fleet over plain text: give --cacert, --cert, --key")
        if credentials.user != auth.ROOT:
            raise CannotSetUp(
                "cannot set up a fleet as "
                f"{short(credentials.user) if credentials.user else 'a client without a name'}: "
                "give a certificate with the common name root, or --user root"
            )
        self._credentials, self._layout, self._users = credentials, layout, users
        with credentials._replace(login=None).client(*members) as client:
            self._was_locked = is_locked(client)
            self._members = client.members
        login = credentials.login if self._was_locked else None
        self._root = credentials._replace(login=login).client(*self._members)
        self._made: list[Step] = []
        self._spare: Login | None = None

    def steps(self) -> list[Step]:
        """Return the steps that are missing, in order."""
        return [*self._steps_to_lock(), *steps_of(self._root, self._users)]

    def lock(self) -> Report:
        """Turn authentication on, and check the etcd as a user who exists for that alone.

        After an error nothing is changed, except that a user root who was there before keeps the
        password of this login.

        Raises:
            CannotSetUp: etcd does not take these credentials for root's.
            EtcdError.
        """
        try:
            self._turn_on()
            with Trial(self._root, self._credentials, self._layout, self._members) as trial:
                report = check(self._members, trial.credentials, self._layout, trial.host)
            if self._spare is not None:
                auth.delete_user(self._root, self._spare.user)
                self._spare = None
        except BaseException:
            self.unlock()
            raise
        return report

    def unlock(self) -> None:
        """Undo what `lock` has changed."""
        steps, self._made = self._made, []
        if not steps:
            return
        spare, self._spare = self._spare, None
        self._renew(spare or self._credentials.login)
        with contextlib.suppress(Denied):  # it is not on
            auth.disable(self._root)
        self._renew(None)
        if spare is not None:
            _undo(self._root, lambda root: auth.delete_user(root, spare.user))
        for step in reversed(steps):
            _undo(self._root, step.undo)

    def make(self) -> Iterator[str]:
        """Take all steps that are missing; yield the words of each that is done."""
        yield from (each.words for each in self._made)
        for step in steps_of(self._root, self._users):
            step.make(self._root)
            yield step.words

    def close(self) -> None:
        """Close the connections."""
        self._root.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _steps_to_lock(self) -> list[Step]:
        if self._was_locked or self._made:
            return []
        login = self._credentials.login
        return steps_to_lock(self._root, login.password if login else None)

    def _turn_on(self) -> None:
        """Take the steps that turn authentication on.

        A spare administrator with a password is there meanwhile: etcd may not take these
        credentials for root's, and without another way in nothing could be undone.
        """
        steps = self._steps_to_lock()
        if not steps:
            return
        for step in steps[:-1]:
            self._made.append(step)
            step.make(self._root)
        spare = Login(f"guestlist-setup-{secrets.token_hex(4)}", secrets.token_urlsafe(24))
        self._spare = spare
        auth.add_user(self._root, spare.user, spare.password)
        auth.grant_role(self._root, spare.user, auth.ROOT)
        self._made.append(steps[-1])
        steps[-1].make(self._root)
        self._renew(self._credentials.login)
        try:
            auth.users(self._root)
        except Denied as error:
            raise CannotSetUp(
                "etcd does not take these credentials for root's, and nothing was changed: start "
                "it with --client-cert-auth, or give --user root"
            ) from error

    def _renew(self, login: Login | None) -> None:
        """Ask as another user from now on, or without a login."""
        self._root.close()
        self._root = self._credentials._replace(login=login).client(*self._members)


def _undo(etcd: Etcd, undo: Callable[[Etcd], None]) -> None:
    with contextlib.suppress(Refused):  # it was not made
        undo(etcd)
