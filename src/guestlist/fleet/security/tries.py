"""The attempts at one member: each does what must be refused, in a form that changes nothing.

In: clients of one member, the keys of one host. Out: for each hole whether it is open there, and
what was observed. Raises an `EtcdError` where an attempt could not be made.

How an attempt changes nothing: a transaction has a condition that never holds; a compaction names a
revision that the store does not have yet, so a store that lets it pass refuses the number instead;
a login names a user who does not exist.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterable

from guestlist.fleet.etcd import auth, kv, maintenance
from guestlist.fleet.etcd.auth import Access, Right
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.errors import (
    Compacted,
    Denied,
    EtcdError,
    Refused,
    StoreReplaced,
    Unreachable,
)
from guestlist.fleet.etcd.failures import cancelled
from guestlist.fleet.etcd.span import EVERYTHING, TO_THE_LAST, Span
from guestlist.fleet.etcd.stream import Stream
from guestlist.fleet.layout import Layout
from guestlist.fleet.security.credentials import Credentials
from guestlist.fleet.security.findings import Tried, Verdict, in_words
from guestlist.fleet.security.metrics import metrics

MOST_HISTORY = 500_000
"""Revisions that a store with compaction may keep: half an hour of 300 changes a second."""

NEARLY_FULL = 0.8
"""The part of its quota from which on a store is nearly full."""

_FUTURE = 1 << 62
_NO_USER = "guestlist-check"


def open_(why: str) -> Tried:
    """Return that the hole is open."""
    return Tried(Verdict.OPEN, why)


def closed(why: str) -> Tried:
    """Return that the hole is closed."""
    return Tried(Verdict.CLOSED, why)


def unknown(why: str) -> Tried:
    """Return that the check could not be made."""
    return Tried(Verdict.UNKNOWN, why)


# How a member takes clients


def plain_text(own: Etcd, credentials: Credentials, member: str) -> Tried:
    """Speak without TLS; look for members that tell their clients to do so."""
    if credentials.tls is None:
        return open_("this client speaks no TLS, and is answered")
    with credentials.in_plain_text(member) as client:
        if _is_answered(client):
            return open_("the port with TLS answers without TLS as well")
    try:
        urls = [url for each in maintenance.members(own) for url in each.client_urls]
    except (Denied, Refused):
        urls = []
    told = sorted({url for url in urls if url.startswith("http://")})
    return open_(f"members tell their clients {', '.join(told)}") if told else closed("refused")


def no_certificates(credentials: Credentials, member: str) -> Tried:
    """Connect without a certificate."""
    with credentials.without_login(member) as client:
        if _is_answered(client):
            return open_("a client without a certificate is answered")
    return closed("refused")


def no_authentication(own: Etcd) -> Tried:
    """Ask whether authentication is on."""
    return closed("authentication is on") if is_locked(own) else open_("etcd says so")


def is_locked(etcd: Etcd) -> bool:
    """Return whether authentication is on. Every client may ask, of every version.

    It logs in as a user who does not exist: etcd says first whether it has users at all.

    Raises:
        EtcdError: it was not found out.
    """
    try:
        etcd.call("Authenticate", "ask whether authentication is on", name=_NO_USER)
    except (Denied, Refused) as error:
        return "authentication is not enabled" not in str(error)
    return True


def _is_answered(client: Etcd) -> bool:
    """Return whether etcd itself answers, whatever it says, and does not refuse the connection.

    Raises:
        Unreachable: it does neither in time.
    """
    try:
        kv.read(client, Span(b"\0"), limit=1, keys_only=True)
    except Unreachable as error:
        if "Deadline Exceeded" in str(error):
            raise
        return False
    except EtcdError:
        return True
    return True


# What the user may do


def watch(own: Etcd, layout: Layout, host: str) -> Tried:
    """Watch from a key of the host's own to the last key of the store, until etcd grants it.

    The watch begins after the last change, and ends before it has told of one.
    """
    start = layout.domains(host).start
    behind = Span(start, TO_THE_LAST)
    if _may_read(own, behind):
        return unknown("this user may read the keys behind its own anyway")
    now = kv.read(own, Span(start), limit=1).revision
    asked = f"watch from {start!r} on"
    create = {"key": start, "range_end": TO_THE_LAST, "start_revision": now + 1}
    with contextlib.closing(Stream(own, "Watch", asked)) as stream:
        stream.send(create_request=create)
        try:
            answer = stream.receive(own.timeout)
        except Denied as error:
            _check_is_denial(error)
            return closed("the watch was denied")
        if answer is None:
            raise stream.silent(own.timeout)
    if answer.canceled:
        why = cancelled(answer.cancel_reason, answer.compact_revision, asked, stream.member)
        _check_is_denial(why)
        return closed("the watch was denied")
    return open_(f"a watch of {in_words(behind)} was granted, and reading it denied")


def _check_is_denial(error: EtcdError) -> None:
    """Raise the error unless it says that the user has no right; a stale login is no denial."""
    if "permission denied" not in str(error):
        raise error


def nested_put(own: Etcd, layout: Layout, host: str) -> Tried:
    """Put a write to a foreign key into a nested transaction, in a branch that cannot run."""
    put = kv.Put(_foreign(layout, host), b"")
    if _may_do(own, layout, host, put):
        return unknown("this user may write keys of others anyway")
    if _may_do(own, layout, host, kv.Txn((), [put])):
        return open_("a nested write of a foreign key passed, in a branch that did not run")
    return closed("the write was denied")


def compaction(own: Etcd, credentials: Credentials, member: str) -> Tried:
    """Compact at a revision that is not there yet, as this user, and without a login."""
    if (found := _may_compact(own)) is not None:
        return open_(f"this user: {found}")
    with credentials.without_login(member) as client:
        if (found := _may_compact(client)) is not None:
            return open_(f"a client without a login: {found}")
    return closed("the compaction was denied")


def _may_compact(client: Etcd) -> str | None:
    """Return what shows that a client may compact; None: it may not, or not connect."""
    try:
        kv.compact(client, _FUTURE)
    except StoreReplaced:
        return "etcd refused the number of the revision, not the right"
    except (Denied, Refused, Unreachable) as error:
        if "log in again" in str(error):
            raise
        return None
    return "etcd took a revision that it does not have"


def reads_others(own: Etcd, layout: Layout, host: str, rights: Iterable[Right] | None) -> Tried:
    """Read all keys, those of the fleet, the records of all hosts; look at the rights to read."""
    for span in (EVERYTHING, layout.everything, layout.summary):
        if _may_read(own, span):
            return open_(f"it may read {in_words(span)}")
    if rights is None:
        return unknown("the whole fleet was denied; etcd does not tell this user its rights")
    others = [
        each.span for each in beyond(rights, layout.own(host)) if each.access is not Access.WRITE
    ]
    if others:
        return open_(f"it may read {', '.join(map(in_words, others))}")
    return closed("reading them was denied")


def wide_role(own: Etcd, layout: Layout, host: str, rights: Iterable[Right] | None) -> Tried:
    """Look for rights that are not to keys of the host; try to write a foreign key."""
    if rights is None:
        return unknown("etcd does not tell this user its rights")
    others = beyond(rights, layout.own(host))
    if others:
        return open_(", ".join(f"{each.access.name} {in_words(each.span)}" for each in others))
    if _may_do(own, layout, host, kv.Put(_foreign(layout, host), b"")):
        return open_("it may write a key of no host")
    return closed("all its rights are to keys of its host")


def beyond(rights: Iterable[Right], own: Iterable[Span]) -> list[Right]:
    """Return the rights that are not within one of the spans."""
    spans = tuple(own)
    return [each for each in rights if not any(_has(span, each.span) for span in spans)]


def _has(span: Span, part: Span) -> bool:
    """Return whether all keys of a part are in a span."""
    start, end = _bounds(span)
    part_start, part_end = _bounds(part)
    if start > part_start:
        return False
    return end is None or (part_end is not None and part_end <= end)


def _bounds(span: Span) -> tuple[bytes, bytes | None]:
    """Return the first key of a span and the key before which it ends; None: no end."""
    if span.end == TO_THE_LAST:
        return span.start, None
    return span.start, span.end or span.start + b"\0"


def _may_read(own: Etcd, span: Span) -> bool:
    try:
        kv.read(own, span, limit=1, keys_only=True)
    except Denied as error:
        _check_is_denial(error)
        return False
    return True


def _may_do(own: Etcd, layout: Layout, host: str, operation: kv.Operation) -> bool:
    """Return whether etcd takes an operation, in a branch that cannot run."""
    never = kv.modified_at(layout.host(host), -1)
    try:
        kv.transact(own, [never], [operation])
    except Denied as error:
        _check_is_denial(error)
        return False
    return True


def _foreign(layout: Layout, host: str) -> bytes:
    """Return a key that no host has a right to, and that nothing writes."""
    return b"%scheck/%s" % (layout.root, host.encode())


# How the store is kept


def no_compaction(own: Etcd, layout: Layout, host: str) -> Tried:
    """Read a key of the host as it was long ago: a store that is compacted has forgotten it."""
    key = Span(layout.host(host))
    now = kv.read(own, key, limit=1).revision
    long_ago = max(now - MOST_HISTORY, 1)
    try:
        kv.read(own, key, revision=long_ago, limit=1)
    except Compacted:
        return closed(f"revision {long_ago} of {now} is compacted")
    if long_ago > 1:
        return open_(f"{MOST_HISTORY} revisions are kept, or more")
    return unknown(f"all {now} revisions are kept: too few to tell")


def quota(own: Etcd, credentials: Credentials, member: str) -> Tried:
    """Ask for alarms; compare the size of the store with its quota, where the member shows both."""
    try:
        if any(each.alarm is maintenance.Alarm.NOSPACE for each in maintenance.alarms(own)):
            return open_("the alarm NOSPACE is raised")
    except (Denied, Refused):
        pass
    try:
        shown = metrics(member, credentials.tls, credentials.timeout)
        size, most = (
            shown["etcd_mvcc_db_total_size_in_bytes"],
            shown["etcd_server_quota_backend_bytes"],
        )
    except KeyError as error:
        return unknown(f"/metrics does not show {error}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return unknown(f"/metrics cannot be read: {error or type(error).__name__}")
    part = f"{size / 2**20:,.1f} of {most / 2**20:,.1f} MiB are used"
    return open_(part) if size >= NEARLY_FULL * most else closed(part)


def rights(own: Etcd, user: str | None) -> tuple[Right, ...] | None:
    """Return all rights of a user; None: etcd does not tell this user.

    Raises:
        IsRoot: the user has the role root, so that nothing is refused.
    """
    if user is None:
        return None
    found: list[Right] = []
    try:
        for role in auth.roles_of(own, user):
            if role == auth.ROOT:
                raise IsRoot(user)
            found += auth.rights_of(own, role)
    except (Denied, Refused):
        return None
    return tuple(found)


class IsRoot(Exception):
    """The user has the role root: etcd refuses it nothing, so no attempt tells anything."""
