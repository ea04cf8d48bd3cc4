"""Users, roles and their rights.

In: names and spans. Out: what etcd has, or nothing when it is done. Needs the role `root` where
authentication is on.

A right is for a span of keys, and a role's rights are added up. A user without a password can only
come with a certificate whose common name (CN) is the user's.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from guestlist.errors import short
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.span import Span, shown

ROOT = "root"
"""The user, and the role, that may do everything. etcd wants both before authentication is on."""


class Access(IntEnum):
    """What a right allows: authpb.Permission.Type."""

    READ = 0
    WRITE = 1
    READWRITE = 2


class Right(NamedTuple):
    """What a role may do with the keys of a span."""

    access: Access
    span: Span


def enable(etcd: Etcd) -> None:
    """Turn authentication on. There must be a user root with the role root."""
    etcd.call("AuthEnable", "turn authentication on")


def disable(etcd: Etcd) -> None:
    """Turn authentication off."""
    etcd.call("AuthDisable", "turn authentication off")


def is_enabled(etcd: Etcd) -> bool:
    """Return whether authentication is on. Raises Refused before etcd 3.5."""
    return bool(etcd.call("AuthStatus", "ask whether authentication is on").enabled)


def users(etcd: Etcd) -> tuple[str, ...]:
    """Return the names of all users."""
    return tuple(etcd.call("UserList", "list the users").users)


def roles_of(etcd: Etcd, user: str) -> tuple[str, ...]:
    """Return the roles of a user. Raises Refused if there is no such user."""
    return tuple(etcd.call("UserGet", f"ask for user {short(user)!r}", name=user).roles)


def add_user(etcd: Etcd, user: str, password: str | None = None) -> None:
    """Add a user; None: without a password, for certificates. Raises Refused if it is there."""
    etcd.call(
        "UserAdd",
        f"add user {short(user)!r}",
        name=user,
        password=password or "",
        options={"no_password": password is None},
    )


def delete_user(etcd: Etcd, user: str) -> None:
    """Delete a user."""
    etcd.call("UserDelete", f"delete user {short(user)!r}", name=user)


def change_password(etcd: Etcd, user: str, password: str) -> None:
    """Give a user another password."""
    asked = f"change the password of user {short(user)!r}"
    etcd.call("UserChangePassword", asked, name=user, password=password)


def grant_role(etcd: Etcd, user: str, role: str) -> None:
    """Give a user a role. Succeeds where the user has it."""
    asked = f"give user {short(user)!r} role {short(role)!r}"
    etcd.call("UserGrantRole", asked, user=user, role=role)


def revoke_role(etcd: Etcd, user: str, role: str) -> None:
    """Take a role from a user."""
    asked = f"take role {short(role)!r} from user {short(user)!r}"
    etcd.call("UserRevokeRole", asked, name=user, role=role)


def roles(etcd: Etcd) -> tuple[str, ...]:
    """Return the names of all roles."""
    return tuple(etcd.call("RoleList", "list the roles").roles)


def rights_of(etcd: Etcd, role: str) -> tuple[Right, ...]:
    """Return the rights of a role. Raises Refused if there is no such role."""
    answer = etcd.call("RoleGet", f"ask for role {short(role)!r}", role=role)
    return tuple(
        Right(Access(each.permType), Span(each.key, each.range_end)) for each in answer.perm
    )


def add_role(etcd: Etcd, role: str) -> None:
    """Add a role without rights. Raises Refused if it is there."""
    etcd.call("RoleAdd", f"add role {short(role)!r}", name=role)


def delete_role(etcd: Etcd, role: str) -> None:
    """Delete a role, of all users."""
    etcd.call("RoleDelete", f"delete role {short(role)!r}", role=role)


def grant(etcd: Etcd, role: str, right: Right) -> None:
    """Give a role a right; it replaces the one for the same span."""
    start, end = right.span
    etcd.call(
        "RoleGrantPermission",
        f"give role {short(role)!r} the right to {shown(start)}",
        name=role,
        perm={"permType": int(right.access), "key": start, "range_end": end},
    )


def revoke(etcd: Etcd, role: str, span: Span) -> None:
    """Take the right to a span from a role. Raises Refused if it has none to exactly this span."""
    asked = f"take the right to {shown(span.start)} from role {short(role)!r}"
    etcd.call("RoleRevokePermission", asked, role=role, key=span.start, range_end=span.end)
