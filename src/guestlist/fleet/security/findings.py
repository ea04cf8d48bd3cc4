"""The holes that an etcd can have, by their names, and what a check of them found. Pure.

In: nothing. Out: constant texts, and frozen values.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from guestlist.fleet.etcd.span import EVERYTHING, Span


class Hole(Enum):
    """A hole: its name, what it means, and the remedy. Each is one line."""

    PLAIN_TEXT = (
        "plain-text",
        "a member takes connections without TLS: who reads along sees every key and every login",
        "give etcd only https:// URLs in --listen-client-urls and --advertise-client-urls",
    )
    NO_CERTIFICATES = (
        "no-client-certificates",
        "a member takes clients without a certificate: any machine that reaches it may try",
        "start etcd with --client-cert-auth and --trusted-ca-file",
    )
    NO_AUTHENTICATION = (
        "no-authentication",
        "authentication is off: every client may read, write and delete every key",
        "run 'guestlist fleet setup', or 'etcdctl auth enable'",
    )
    WATCH = (
        "watch",
        "a user who may read one key may watch every key behind it (GHSA-xg4h-6gfc-h4m8): each "
        "agent sees the guests of all hosts",
        "use etcd 3.5.33, 3.6.14, 3.7.1 or later; no 3.4 is repaired",
    )
    NESTED_PUT = (
        "nested-put",
        "a write inside a nested transaction needs no right (CVE-2026-33343): each agent may "
        "write and delete every key",
        "use etcd 3.4.44, 3.5.30, 3.6.11 or later",
    )
    COMPACTION = (
        "compaction-without-right",
        "a client without the right may compact the store (CVE-2026-33413): the history that "
        "readers resume from is lost",
        "use etcd 3.4.44, 3.5.30, 3.6.11 or later",
    )
    READS_OTHERS = (
        "reads-others",
        "this user may read keys of other hosts",
        "give each host a role of its own keys: 'guestlist fleet setup HOST'",
    )
    WIDE_ROLE = (
        "wide-role",
        "the roles of this user reach beyond the keys of its host",
        "take the other rights away: 'etcdctl role revoke-permission', 'etcdctl user revoke-role'",
    )
    NO_COMPACTION = (
        "no-compaction",
        "the history of the keys is not discarded: the store grows until it takes no write",
        "start etcd with --auto-compaction-mode=periodic --auto-compaction-retention=10m",
    )
    QUOTA = (
        "quota",
        "the store is nearly full, or full: then it takes no write, and every host becomes unknown",
        "compact and defragment it, disarm the alarm, or raise --quota-backend-bytes",
    )

    def __init__(self, label: str, means: str, remedy: str) -> None:
        self.label = label
        self.means = means
        self.remedy = remedy


class Verdict(Enum):
    """What a check of a hole found."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    """The check could not be made."""


class Tried(NamedTuple):
    """What one attempt at one member found, and the observation behind it."""

    verdict: Verdict
    why: str


class Finding(NamedTuple):
    """What the check of one hole found: at which members, and why, in one line.

    A hole that is open at one member is open. One that is closed at some members and could not be
    checked at others is unknown.
    """

    hole: Hole
    verdict: Verdict
    members: tuple[str, ...]
    why: str


class Report(NamedTuple):
    """What a check found of every hole, in the order of `Hole`."""

    user: str
    findings: tuple[Finding, ...]

    @property
    def open(self) -> tuple[Finding, ...]:
        """The holes that are open."""
        return self._of(Verdict.OPEN)

    @property
    def unknown(self) -> tuple[Finding, ...]:
        """The holes of which the check could not be made."""
        return self._of(Verdict.UNKNOWN)

    def _of(self, verdict: Verdict) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.verdict is verdict)


_WORST_FIRST = (Verdict.OPEN, Verdict.UNKNOWN, Verdict.CLOSED)


def finding(hole: Hole, tried: dict[str, Tried]) -> Finding:
    """Return what the attempts at all members say together; members by their addresses."""
    found = {each.verdict for each in tried.values()}
    verdict = next((each for each in _WORST_FIRST if each in found), Verdict.UNKNOWN)
    named = {member: each.why for member, each in tried.items() if each.verdict is verdict}
    why = "; ".join(dict.fromkeys(named.values())) or "no member was asked"
    return Finding(hole, verdict, tuple(named), why)


def in_words(span: Span) -> str:
    """Return the keys of a span, for messages: 'every key', "'/a/b' and on"."""
    if span == EVERYTHING:
        return "every key"
    start = span.start.decode("utf-8", "backslashreplace")
    return f"'{start}'" if not span.end else f"'{start}' and on"
