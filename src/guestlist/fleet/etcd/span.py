"""A range of etcd's keys. Pure.

In: keys. Out: a `Span`, in the two fields with which etcd names a range: its first key, and the key
before which it ends.
"""

from __future__ import annotations

from typing import NamedTuple

TO_THE_LAST = b"\0"
"""As the end of a span: the span has every key from its start on."""


class Span(NamedTuple):
    """The keys from `start` on and before `end`; with an empty `end`, the key `start` alone."""

    start: bytes
    end: bytes = b""

    def has(self, key: bytes) -> bool:
        """Return whether a key is one of them."""
        if not self.end:
            return key == self.start
        return self.start <= key and (key < self.end or self.end == TO_THE_LAST)


EVERYTHING = Span(b"\0", TO_THE_LAST)
"""All keys of the store."""


def shown(key: bytes) -> str:
    """Return a key for a message, between quotes, with escapes for what is no printable ASCII."""
    return repr(key)[1:]


def prefix(start: bytes) -> Span:
    """Return the span of all keys that begin with these bytes."""
    kept = start.rstrip(b"\xff")
    if not kept:
        return Span(start or b"\0", TO_THE_LAST)
    return Span(start, kept[:-1] + bytes([kept[-1] + 1]))
