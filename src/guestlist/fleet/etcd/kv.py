"""Keys and values: reads at one revision, writes, transactions, compaction.

In: spans, values, comparisons. Out: what is there, and the revision at which it was so. A page has
etcd's own records, not copies: a million of them cost little.

**Never read a large span unbounded.** The server builds the whole answer in memory, even for a
client that then refuses it. A `limit` makes it count the rest of the span each time (3.4, 3.5):
read parts of the span by their keys, all at the revision of the first part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.messages import MESSAGES
from guestlist.fleet.etcd.span import Span, shown

MOST_OPERATIONS = 128
"""Operations that one transaction may have, by default (`--max-txn-ops`)."""


class KeyValue(Protocol):
    """A key and its value; mvccpb.KeyValue.

    `create_revision` is that of its first write since it was last absent, `mod_revision` that of
    its last write, `version` how often it was written since it was absent, `lease` the lease that
    deletes it, or 0.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


class Page(NamedTuple):
    """What a read found: the keys in order, and the revision at which it was so.

    With a limit `more` says that the span has further keys. `total` is the number of keys in the
    span.
    """

    revision: int
    rows: Sequence[KeyValue]
    more: bool
    total: int


class Compare(NamedTuple):
    """A condition of a transaction; the functions below make it."""

    key: bytes
    what: str
    how: int
    value: int | bytes

    def message(self) -> Any:
        """Return etcd's message."""
        fields = {self.what: self.value, "key": self.key, "result": self.how}
        return MESSAGES["Compare"](target=_TARGETS[self.what], **fields)


_TARGETS = {"version": 0, "create_revision": 1, "mod_revision": 2, "value": 3, "lease": 4}
_EQUAL, _GREATER, _LESS = 0, 1, 2


def created_at(key: bytes, revision: int) -> Compare:
    """Return the condition that a key was created at a revision; 0: that there is none."""
    return Compare(key, "create_revision", _EQUAL, revision)


def modified_at(key: bytes, revision: int) -> Compare:
    """Return the condition that a key was last written at a revision; 0: that there is none."""
    return Compare(key, "mod_revision", _EQUAL, revision)


def has_value(key: bytes, value: bytes) -> Compare:
    """Return the condition that a key is there and has this value."""
    return Compare(key, "value", _EQUAL, value)


class Put(NamedTuple):
    """Write a value; on a lease, or on none (0)."""

    key: bytes
    value: bytes
    lease: int = 0

    def message(self) -> Any:
        """Return etcd's message."""
        return MESSAGES["RequestOp"](request_put=self._asdict())


class Delete(NamedTuple):
    """Delete the keys of a span."""

    span: Span

    def message(self) -> Any:
        """Return etcd's message."""
        return MESSAGES["RequestOp"](request_delete_range=_keys(self.span))


class Get(NamedTuple):
    """Read the keys of a span."""

    span: Span
    limit: int = 0
    keys_only: bool = False

    def message(self) -> Any:
        """Return etcd's message."""
        fields = {**_keys(self.span), "limit": self.limit, "keys_only": self.keys_only}
        return MESSAGES["RequestOp"](request_range=fields)


class Txn(NamedTuple):
    """Do `then` if all conditions hold, else `otherwise`: all of it at one revision.

    A transaction may hold others.
    """

    conditions: Sequence[Compare] = ()
    then: Sequence[Operation] = ()
    otherwise: Sequence[Operation] = ()

    def message(self) -> Any:
        """Return etcd's message."""
        return MESSAGES["RequestOp"](request_txn=MESSAGES["TxnRequest"](**self.fields()))

    def fields(self) -> dict[str, Any]:
        """Return the fields of etcd's message."""
        return {
            "compare": [each.message() for each in self.conditions],
            "success": [each.message() for each in self.then],
            "failure": [each.message() for each in self.otherwise],
        }


Operation = Put | Delete | Get | Txn


class Done(NamedTuple):
    """What a transaction did: whether its conditions held, and the revision of the store after it.

    `answers` has one entry for each operation that was done: the `Page` of a `Get`, the `Done` of a
    `Txn`, the number of keys that a `Delete` deleted; None for a `Put`.
    """

    held: bool
    revision: int
    answers: tuple[Page | Done | int | None, ...]


def read(
    etcd: Etcd,
    span: Span,
    *,
    revision: int = 0,
    limit: int = 0,
    keys_only: bool = False,
    count_only: bool = False,
    serializable: bool = False,
    timeout: float | None = None,
) -> Page:
    """Read the keys of a span, in order.

    Args:
        etcd: the connection.
        span: the keys.
        revision: reads as the store was then; 0: now.
        limit: keys at most; 0: all.
        keys_only: leaves the values out.
        count_only: returns no keys, only how many there are.
        serializable: asks the member alone, which may lag; else the answer has all writes that were
            answered before.
        timeout: seconds that one member has; None: as the connection's.

    Raises:
        Compacted: the store no longer has that revision.
        StoreReplaced: the store does not have that revision yet: it was restored.
        Denied, Unreachable, Refused.
    """
    answer = etcd.call(
        "Range",
        f"read {shown(span.start)}",
        timeout=timeout,
        **_keys(span),
        revision=revision,
        limit=limit,
        keys_only=keys_only,
        count_only=count_only,
        serializable=serializable,
    )
    return _page(answer, revision or answer.header.revision)


def is_newest(etcd: Etcd, span: Span, known: KeyValue | None, *, revision: int) -> bool:
    """Return whether this key of a span was last written, as it is known, at a revision.

    None: whether the span has no key. Another history of the store has another one. etcd reads the
    whole span for that, and returns one key. Raises as `read` does.
    """
    asked = f"read the newest of {shown(span.start)}"
    newest: dict[str, Any] = {"limit": 1, "sort_order": _DESCENDING, "sort_target": _BY_REVISION}
    found = etcd.call("Range", asked, **_keys(span), revision=revision, **newest).kvs
    if known is None or not found:
        return known is None and not found
    if found[0].mod_revision != known.mod_revision:
        return False
    if found[0].key != known.key:  # it may be that one transaction wrote both
        found = read(etcd, Span(known.key), revision=revision).rows
    return [(each.mod_revision, each.value) for each in found] == [
        (known.mod_revision, known.value)
    ]


_DESCENDING, _BY_REVISION = 2, 3
"""etcdserverpb.RangeRequest: SortOrder.DESCEND, SortTarget.MOD."""


def get(etcd: Etcd, key: bytes, *, revision: int = 0) -> KeyValue | None:
    """Return one key with its value; None: there is no such key. Raises as `read` does."""
    rows = read(etcd, Span(key), revision=revision).rows
    return rows[0] if rows else None


def pages(etcd: Etcd, spans: Iterable[Span], *, revision: int = 0) -> Iterator[Page]:
    """Yield the page of each span, all at one revision: that of the first page, where 0 is given.

    Raises:
        As `read`.
    """
    for span in spans:
        page = read(etcd, span, revision=revision)
        revision = revision or page.revision
        yield page


def put(etcd: Etcd, key: bytes, value: bytes, *, lease: int = 0) -> int:
    """Write a value; return the revision.

    Raises:
        UnknownOutcome: the answer was lost.
        LeaseGone: there is no such lease.
        NoSpace, Denied, Unreachable, Refused.
    """
    asked = f"write {shown(key)}"
    answer = etcd.call("Put", asked, key=key, value=value, lease=lease)
    return int(answer.header.revision)


def delete(etcd: Etcd, span: Span) -> int:
    """Delete the keys of a span; return how many there were.

    Raises:
        UnknownOutcome: the answer was lost.
        Denied, Unreachable, Refused.
    """
    return int(etcd.call("DeleteRange", f"delete {shown(span.start)}", **_keys(span)).deleted)


def transact(
    etcd: Etcd,
    conditions: Sequence[Compare],
    then: Sequence[Operation] = (),
    otherwise: Sequence[Operation] = (),
) -> Done:
    """Do `then` if all conditions hold, else `otherwise`: all of it at one revision, or nothing.

    Raises:
        UnknownOutcome: the answer was lost. Read what the store has; never guess.
        NoSpace, LeaseGone, Denied, Unreachable.
        Refused: too many operations, a request that is too long, one key written twice.
    """
    fields = Txn(conditions, then, otherwise).fields()
    return _done(etcd.call("Txn", "do a transaction", **fields))


def compact(etcd: Etcd, revision: int, *, physical: bool = False) -> None:
    """Discard what the store knows of revisions before this one.

    `physical` waits until the space inside the file is free.

    Raises:
        Compacted: that revision is compacted already.
        UnknownOutcome, Denied, Unreachable, Refused.
    """
    etcd.call("Compact", f"compact at revision {revision}", revision=revision, physical=physical)


def _keys(span: Span) -> dict[str, Any]:
    return {"key": span.start, "range_end": span.end}


def _page(answer: Any, revision: int) -> Page:
    return Page(revision, answer.kvs, answer.more, answer.count)


def _done(answer: Any, revision: int = 0) -> Done:
    """Return what a transaction did; only the outermost one tells the revision."""
    revision = revision or answer.header.revision
    return Done(
        answer.succeeded, revision, tuple(_part(each, revision) for each in answer.responses)
    )


def _part(answer: Any, revision: int) -> Page | Done | int | None:
    match answer.WhichOneof("one"):
        case "response_range":
            return _page(answer.response_range, revision)
        case "response_delete_range":
            return int(answer.response_delete_range.deleted)
        case "response_txn":
            return _done(answer.response_txn, revision)
    return None
