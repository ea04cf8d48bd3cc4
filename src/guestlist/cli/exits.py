"""Exit statuses: one per kind of failure.

In: what went wrong, host by host. Out: a number for the shell, and the words for --help. A number
once given keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from guestlist.errors import (
    AccessDenied,
    ConnectionFailed,
    ConnectionLost,
    ListingUnstable,
    NotSupported,
    TooManyDomains,
)


class Exit(IntEnum):
    """What the command ends with. 130 and 141 are the shell's, for Ctrl-C and a broken pipe."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    UNREACHABLE = 4
    DENIED = 5
    LOST = 6
    UNSTABLE = 7
    TOO_MANY = 8
    UNSUPPORTED = 9


MEANINGS = {
    Exit.OK: "every host answered; an empty list is an answer",
    Exit.FAILED: "a failure without a number of its own",
    Exit.USAGE: "invalid command line; no host was asked",
    Exit.PARTIAL: "some hosts answered and some failed",
    Exit.UNREACHABLE: "no connection could be opened",
    Exit.DENIED: "access denied",
    Exit.LOST: "the connection was lost before the answer was whole",
    Exit.UNSTABLE: "an old libvirt, and domains that change too fast to be walked",
    Exit.TOO_MANY: "more domains than one libvirt message carries",
    Exit.UNSUPPORTED: "not supported by this libvirt or its hypervisor driver",
}

_BY_ERROR: dict[type[Exception], Exit] = {
    ConnectionFailed: Exit.UNREACHABLE,
    AccessDenied: Exit.DENIED,
    ConnectionLost: Exit.LOST,
    ListingUnstable: Exit.UNSTABLE,
    TooManyDomains: Exit.TOO_MANY,
    NotSupported: Exit.UNSUPPORTED,
}


def verdict(answered: int, failures: Sequence[Exception]) -> Exit:
    """The status for so many answers and these failures; where nobody answered, the first's."""
    if not failures:
        return Exit.OK
    if answered:
        return Exit.PARTIAL
    return _BY_ERROR.get(type(failures[0]), Exit.FAILED)
