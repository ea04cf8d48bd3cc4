"""A user that exists for one check: it has the rights of a host that there is not.

In: the credentials of root, and a fleet. Out: the credentials of such a user, until the context
ends; then the user and its role are deleted. Needs authentication to be on.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from typing import Self

from guestlist.fleet.etcd import auth, kv
from guestlist.fleet.etcd.auth import Right
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.endpoints import Login
from guestlist.fleet.etcd.errors import EtcdError
from guestlist.fleet.etcd.span import Span
from guestlist.fleet.layout import Layout
from guestlist.fleet.security.credentials import Credentials


class Trial:
    """A user for one check: a context manager. `credentials` and `host` are what `check` takes.

    Args:
        root: a client whose user has the role root.
        credentials: root's.
        layout: the keys of the fleet.
        members: the members that will be asked as the user.

    Entering and leaving raise EtcdError.
    """

    def __init__(
        self, root: Etcd, credentials: Credentials, layout: Layout, members: Iterable[str]
    ) -> None:
        self.host = f"guestlist-check-{secrets.token_hex(4)}"
        """The name of the user, of its role, and of the host that there is not."""
        password = secrets.token_urlsafe(24)
        self.credentials = credentials._replace(login=Login(self.host, password))
        self._root = root
        self._as_root = credentials
        self._layout = layout
        self._members = tuple(members)

    def __enter__(self) -> Self:
        root, name, login = self._root, self.host, self.credentials.login
        assert login is not None
        try:
            auth.add_role(root, name)
            for span in self._layout.own(name):
                auth.grant(root, name, Right(auth.Access.READWRITE, span))
            auth.add_user(root, name, login.password)
            auth.grant_role(root, name, name)
            self._let_members_know()
        except BaseException:
            self._delete()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._delete()

    def _let_members_know(self) -> None:
        """Read through each member, which first takes all writes up to now."""
        for each in self._members:
            with self._as_root.client(each) as client, contextlib.suppress(EtcdError):
                kv.read(client, Span(b"\0"), limit=1, keys_only=True)

    def _delete(self) -> None:
        if self.host in auth.users(self._root):
            auth.delete_user(self._root, self.host)
        if self.host in auth.roles(self._root):
            auth.delete_role(self._root, self.host)
