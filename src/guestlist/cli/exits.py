"""Exit statuses: one for each kind of failure.

In: the failures of the hosts. Out: a number for the shell, and the words for --help. A number keeps
its meaning for ever.
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
    NovaDenied,
    NovaLost,
    NovaUnreachable,
    TooManyDomains,
)


class Exit(IntEnum):
    """The statuses of the command. 130 and 141 are the shell's, for Ctrl-C and a broken pipe."""

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
    FINDINGS = 10
    HOLES = 11
    NOT_FOUND = 12


MEANINGS = {
    Exit.OK: "every host answered; an empty list is an answer; an audit found nothing",
    Exit.FAILED: "a failure without a number of its own",
    Exit.USAGE: "invalid command line or configuration file; no host was asked",
    Exit.PARTIAL: "some hosts answered and some failed; a fleet or an audit is not complete",
    Exit.UNREACHABLE: "no connection could be opened",
    Exit.DENIED: "access denied",
    Exit.LOST: "the connection was lost before the answer was complete",
    Exit.UNSTABLE: "an old libvirt whose domains change too fast for a complete list",
    Exit.TOO_MANY: "more domains than one libvirt message carries",
    Exit.UNSUPPORTED: "not supported by this libvirt or its hypervisor driver",
    Exit.FINDINGS: "an audit is complete and found a difference, certain or possible",
    Exit.HOLES: "'fleet check' found a hole, or 'fleet setup' refused because of one",
    Exit.NOT_FOUND: "every host answered, and 'show' found no domain for one of its words",
}

_OF_SIGNALS = {
    129: "ended by SIGHUP: its terminal was closed",
    130: "interrupted by Ctrl-C",
    141: "the reader of standard output has left",
    143: "ended by SIGTERM",
}

_BY_ERROR: dict[type[Exception], Exit] = {
    ConnectionFailed: Exit.UNREACHABLE,
    AccessDenied: Exit.DENIED,
    ConnectionLost: Exit.LOST,
    ListingUnstable: Exit.UNSTABLE,
    TooManyDomains: Exit.TOO_MANY,
    NotSupported: Exit.UNSUPPORTED,
    NovaUnreachable: Exit.UNREACHABLE,
    NovaDenied: Exit.DENIED,
    NovaLost: Exit.LOST,
}

_OF_ETCD = {"Unreachable": Exit.UNREACHABLE, "Denied": Exit.DENIED}
"""By the names of errors of an etcd, whose client most commands do without."""


def statuses() -> dict[int, str]:
    """Return all statuses and their meanings."""
    return dict([*MEANINGS.items(), *_OF_SIGNALS.items()])


def in_words() -> str:
    """Return all statuses and their meanings, for --help."""
    lines = (f"  {status:<5d}{words}" for status, words in statuses().items())
    return "\n".join(["exit status:", *lines])


def verdict(answered: int, failures: Sequence[Exception]) -> Exit:
    """Return the status for this number of answers and these failures.

    If no host answered, it is the status of the first failure.
    """
    if not failures:
        return Exit.OK
    if answered:
        return Exit.PARTIAL
    of = type(failures[0])
    return _BY_ERROR.get(of) or _OF_ETCD.get(of.__name__, Exit.FAILED)
