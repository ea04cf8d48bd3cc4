"""What can go wrong, and which libvirt error means it.

    GuestlistError
    ├── ConnectionFailed    (ConnectionError)      no connection could be opened
    ├── ConnectionLost      (ConnectionError)      it was open; the daemon went away or silent
    ├── AccessDenied        (PermissionError)      socket, credentials, policy, read-only
    ├── NotSupported        (NotImplementedError)  this libvirt or hypervisor driver cannot
    ├── DomainGone          (LookupError)          the domain asked for is not there any more
    ├── ListingUnstable     (RuntimeError)         the walk could not prove that it lost nobody
    ├── NotSynced           (RuntimeError)         a live view that has not been in step yet
    ├── Reentered           (RuntimeError)         asked by a signal handler within a question
    ├── ThreadUnavailable   (RuntimeError)         no thread could be started
    │   └── InterpreterEnding                      it is ending, and starts none any more
    ├── TooManyDomains      (OverflowError)        more than one libvirt message may carry
    ├── InvalidNameTemplate (ValueError)           a template that Nova could not use
    ├── ForkedProcess       (RuntimeError)         the parent had asked libvirt before it forked
    ├── ThreadsReplaced     (RuntimeError)         gevent or eventlet patched Python too late
    └── LibvirtFailure                             anything else libvirt said

Every message is one line: what was asked, of whom, what libvirt answered, what to do. The libvirt
error, where there is one, is the `__cause__`. Touches no libvirt: it is told codes and text.

Source: libvirt include/libvirt/virterror.h; the numbers are ABI and older bindings lack some names.
"""

from __future__ import annotations

import errno
import textwrap
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import libvirt


class GuestlistError(Exception):
    """The root of the tree: whatever guestlist raises on purpose is one of these."""


class ConnectionFailed(GuestlistError, ConnectionError):
    """No connection could be opened: nobody listens, no such driver, no answer in time."""


class ConnectionLost(GuestlistError, ConnectionError):
    """The daemon went away or went silent during the call. The next call opens a new connection."""


class AccessDenied(GuestlistError, PermissionError):
    """libvirt is there and refuses: socket mode, credentials, policy, or a read-only connection."""


class NotSupported(GuestlistError, NotImplementedError):
    """This client library, daemon, hypervisor driver or event loop lacks what was asked for."""


class DomainGone(GuestlistError, LookupError):
    """The domain asked for no longer exists on this host."""


class ListingUnstable(GuestlistError, RuntimeError):
    """The walk hit its bound before it could prove the list complete. Never a guess instead."""


class NotSynced(GuestlistError, RuntimeError):
    """A live view was read before it first was in step. Never an empty list instead."""


class Reentered(GuestlistError, RuntimeError):
    """A signal handler or a finalizer asked while the thread it interrupted was asking."""


class ThreadUnavailable(GuestlistError, RuntimeError):
    """The system starts no further thread for this process. The next call tries again."""


class InterpreterEnding(ThreadUnavailable):
    """The interpreter is ending: connections are closed, and no question is asked any more."""


class TooManyDomains(GuestlistError, OverflowError):
    """The host has more domains than one libvirt message may carry (16,384)."""


class InvalidNameTemplate(GuestlistError, ValueError):
    """An instance_name_template that Nova could not use, or that gives every guest one name."""


class ForkedProcess(GuestlistError, RuntimeError):
    """This process was forked after its parent had asked libvirt, whose event loop is dead here.

    Fork before the first question, or start processes by `spawn` or `forkserver`.
    """


class ThreadsReplaced(GuestlistError, RuntimeError):
    """gevent or eventlet replaced Python's threads after guestlist had made some. Patch first."""


class LibvirtFailure(GuestlistError):
    """libvirt answered with an error that has no class of its own here."""


class Code(IntEnum):
    """The virErrorNumber values that guestlist tells apart."""

    INTERNAL_ERROR = 1
    NO_SUPPORT = 3
    NO_CONNECT = 5
    INVALID_CONN = 6
    INVALID_ARG = 8
    OPERATION_DENIED = 29
    SYSTEM_ERROR = 38
    RPC = 39
    NO_DOMAIN = 42
    AUTH_FAILED = 45
    OPERATION_INVALID = 55
    OPERATION_TIMEOUT = 68
    AUTH_CANCELLED = 79
    NO_DOMAIN_METADATA = 80
    ACCESS_DENIED = 88
    AUTH_UNAVAILABLE = 94


_LONGEST = 10_000
_OURS = "guestlist", "libvirt"
FROM_RPC = 7
_FROM_AUTH = 46
_FROM_POLKIT = 60
_DENIED = {
    Code.OPERATION_DENIED,
    Code.AUTH_FAILED,
    Code.AUTH_CANCELLED,
    Code.ACCESS_DENIED,
    Code.AUTH_UNAVAILABLE,
}


def one_line(text: object) -> str:
    """The text on one line of bounded length: libvirt quotes whole documents in its messages."""
    return textwrap.shorten(str(text)[:_LONGEST], 300, placeholder=" …")


def short(text: str, longest: int = 200) -> str:
    """The text, where it is longer without its middle: beginning and end say most.

    For what a message quotes and strangers or a command line chose: URIs, names, templates.
    """
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def is_denial(error: libvirt.libvirtError) -> bool:
    """Whether libvirt refused, rather than failed: by code, by domain, or by the socket's errno."""
    return (
        error.get_error_code() in _DENIED
        or error.get_error_domain() == _FROM_AUTH
        or (error.get_error_code() == Code.SYSTEM_ERROR and error.get_int1() == errno.EACCES)
    )


def is_credentials(error: libvirt.libvirtError) -> bool:
    """Whether a name or password is missing or wrong: SASL's, or the hypervisor driver's own."""
    domain = error.get_error_domain()
    if domain == _FROM_AUTH or error.get_error_code() != Code.AUTH_FAILED:
        return domain == _FROM_AUTH
    return domain not in (FROM_RPC, _FROM_POLKIT) or "SASL" in str(error)


def is_loss(error: libvirt.libvirtError) -> bool:
    """Whether this error by itself says that an open connection is dead.

    Necessary on old client libraries, whose `isAlive()` stays true after the daemon died; not
    sufficient elsewhere: the caller asks `isAlive()` too.
    """
    code, domain = error.get_error_code(), error.get_error_domain()
    return code == Code.INVALID_CONN or (code == Code.SYSTEM_ERROR and domain == FROM_RPC)


def is_ours(error: BaseException) -> bool:
    """Whether an error comes from guestlist's and libvirt's code only, and no signal handler's."""
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] not in _OURS:
            return False
        trace = trace.tb_next
    return True


def call_failure(
    error: libvirt.libvirtError, asked: str, label: str, *, lost: bool
) -> GuestlistError:
    """The error for a call that failed on an open connection.

    `asked` completes "cannot …"; `lost` is the connection's own verdict on whether it still lives.
    """
    said = one_line(error)
    text = f"cannot {asked} of {label}: {said}"
    if lost:
        return ConnectionLost(
            f"{text}; the connection is lost, nothing was answered: the next question reconnects"
        )
    if is_denial(error):
        return AccessDenied(f"{text}; this user or connection may not: see libvirt's polkit rules")
    match error.get_error_code():
        case Code.NO_DOMAIN:
            return DomainGone(f"{text}; it was undefined, or it stopped and was transient")
        case Code.NO_SUPPORT:
            return NotSupported(f"{text}; 'guestlist check' tells what this libvirt can do")
    return LibvirtFailure(f"{text}; libvirt's error code is {error.get_error_code()}")
