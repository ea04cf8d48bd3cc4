"""What can go wrong, and which libvirt error means it.

    GuestlistError
    ├── ConnectionFailed    (ConnectionError)      no connection could be opened
    ├── ConnectionLost      (ConnectionError)      it was open; the daemon went away or silent
    ├── AccessDenied        (PermissionError)      socket, credentials, policy, read-only
    ├── NotSupported        (NotImplementedError)  this libvirt or hypervisor driver cannot
    ├── DomainGone          (LookupError)          the domain asked for no longer exists
    ├── ListingUnstable     (RuntimeError)         the walk could not prove its list complete
    ├── NotSynced           (RuntimeError)         a live view was never in step so far
    ├── Reentered           (RuntimeError)         a signal handler asked within a question
    ├── ThreadUnavailable   (RuntimeError)         no thread could be started
    │   └── InterpreterEnding                      the interpreter ends and starts no thread
    ├── TooManyDomains      (OverflowError)        more than one libvirt message may carry
    ├── InvalidNameTemplate (ValueError)           a template that Nova could not use
    ├── ForkedProcess       (RuntimeError)         the parent had asked libvirt before it forked
    ├── ThreadsReplaced     (RuntimeError)         gevent or eventlet patched Python too late
    ├── NovaFailure                                an audit cannot look at Nova's side
    │   ├── NovaUnreachable (ConnectionError)      no such cloud, no endpoint, no connection, TLS
    │   ├── NovaDenied      (PermissionError)      credentials, token, policy
    │   ├── NovaLost        (ConnectionError)      no complete answer in time
    │   └── BadServersFile  (ValueError)           a file that is no list of servers
    └── LibvirtFailure                             anything else libvirt said

Every message is one line: what was asked, which host was asked, what libvirt answered, what to do.
Where libvirt reported an error, that error is the `__cause__`, and its numbers are `code` and
`domain`. Makes no call and needs no libvirt: it is told codes and text.

Source: libvirt include/libvirt/virterror.h; the numbers are ABI and older bindings lack some names.
"""

from __future__ import annotations

import copy
import errno
import textwrap
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, TypedDict, TypeVar

if TYPE_CHECKING:
    import libvirt

    from guestlist.capabilities import Versions

E = TypeVar("E", bound=BaseException)


class GuestlistError(Exception):
    """The root of the tree: every error that guestlist raises on purpose is one of these.

    `copy.copy` and `pickle` keep class, message and fields; they keep neither cause nor traceback.
    """

    def __init__(
        self, message: str = "", *, code: int | None = None, domain: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        """libvirt's number of the error (virErrorNumber); None where libvirt reported none."""
        self.domain = domain
        """The part of libvirt that reported the error (virErrorDomain), likewise."""


class ConnectionFailed(GuestlistError, ConnectionError):
    """No connection could be opened: no daemon listens, no such driver, no answer in time."""


class ConnectionLost(GuestlistError, ConnectionError):
    """The daemon went away or went silent during the call. The next call opens a new connection."""


class AccessDenied(GuestlistError, PermissionError):
    """libvirt is there and refuses: socket mode, credentials, policy, or a read-only connection."""


class NotSupported(GuestlistError, NotImplementedError):
    """The client library, daemon, hypervisor driver or event loop lacks what was asked for.

    Where `found` is not below `needed`, another version does not help: the hypervisor driver, or
    the installed libvirt-python, lacks it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        needed: int | None = None,
        found: int | None = None,
        code: int | None = None,
        domain: int | None = None,
    ) -> None:
        super().__init__(message, code=code, domain=domain)
        self.needed = needed
        """The libvirt that brought it, as libvirt numbers it (1002008 is 1.2.8); None: no version
        of libvirt is the reason."""
        self.found = found
        """The older of client library and daemon, likewise; None where neither was looked at."""


class DomainGone(GuestlistError, LookupError):
    """The domain asked for no longer exists on this host."""


class ListingUnstable(GuestlistError, RuntimeError):
    """The walk reached its bound before it could prove the list complete. It never guesses."""


class NotSynced(GuestlistError, RuntimeError):
    """A live view was read before it first was in step. It never answers with an empty list."""


class Reentered(GuestlistError, RuntimeError):
    """A signal handler or a finalizer asked while the thread it interrupted was asking."""


class ThreadUnavailable(GuestlistError, RuntimeError):
    """The system starts no further thread for this process. The next call tries again."""


class InterpreterEnding(ThreadUnavailable):
    """The interpreter ends: guestlist closes its connections and accepts no question any more."""


class TooManyDomains(GuestlistError, OverflowError):
    """The host has more domains than one libvirt message may carry (16,384)."""


class InvalidNameTemplate(GuestlistError, ValueError):
    """An instance_name_template that Nova could not use, or that gives every domain one name."""


class ForkedProcess(GuestlistError, RuntimeError):
    """This process was forked after its parent had asked libvirt, whose event loop is dead here.

    Fork before the first question, or start processes by `spawn` or `forkserver`.
    """


class ThreadsReplaced(GuestlistError, RuntimeError):
    """gevent or eventlet replaced Python's threads after guestlist had made some. Patch first."""


class NovaFailure(GuestlistError):
    """An audit cannot look at Nova's side; itself where Nova answered and the answer is unusable.

    The message is one line and has neither a password nor a token in it.
    """


class NovaUnreachable(NovaFailure, ConnectionError):
    """Nova could not be asked: no such cloud, no compute endpoint, no connection, a failed TLS."""


class NovaDenied(NovaFailure, PermissionError):
    """Keystone or Nova refuses: wrong credentials, an expired token, a policy."""


class NovaLost(NovaFailure, ConnectionError):
    """Nova did not answer completely in time, or closed the connection before that."""


class BadServersFile(NovaFailure, ValueError):
    """A file is no list of Nova's servers: no JSON, cut, or the output of another command."""


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
    OPERATION_UNSUPPORTED = 84
    NO_DOMAIN_METADATA = 80
    ACCESS_DENIED = 88
    AUTH_UNAVAILABLE = 94


_LONGEST = 10_000
"""Characters of a message that are read at all."""

_OURS = "guestlist", "libvirt"
"""The packages that `is_ours` knows."""

FROM_RPC = 7
"""virErrorDomain of errors of the connection itself."""

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
    """Return the text on one line of bounded length: libvirt quotes documents in its messages."""
    return textwrap.shorten(str(text)[:_LONGEST], 300, placeholder=" …")


def short(text: str, longest: int = 200) -> str:
    """Return the text; of a longer one only its beginning and its end, which say most.

    For text that a message quotes and that a stranger or a command line chose: URIs, names,
    templates.
    """
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def is_denial(error: libvirt.libvirtError) -> bool:
    """Return whether libvirt refused, rather than failed: by code, domain or the socket's errno."""
    return (
        error.get_error_code() in _DENIED
        or error.get_error_domain() == _FROM_AUTH
        or (error.get_error_code() == Code.SYSTEM_ERROR and error.get_int1() == errno.EACCES)
    )


def is_credentials(error: libvirt.libvirtError) -> bool:
    """Return whether a name or password is missing or wrong: SASL's, or the hypervisor driver's."""
    domain = error.get_error_domain()
    if domain == _FROM_AUTH or error.get_error_code() != Code.AUTH_FAILED:
        return domain == _FROM_AUTH
    return domain not in (FROM_RPC, _FROM_POLKIT) or "SASL" in str(error)


def is_loss(error: libvirt.libvirtError) -> bool:
    """Return whether this error by itself says that an open connection is dead.

    Necessary on old client libraries, whose `isAlive()` stays true after the daemon died; not
    sufficient elsewhere: the caller asks `isAlive()` too.
    """
    code, domain = error.get_error_code(), error.get_error_domain()
    return code == Code.INVALID_CONN or (code == Code.SYSTEM_ERROR and domain == FROM_RPC)


def is_ours(error: BaseException) -> bool:
    """Return whether only guestlist's and libvirt's code raised an error, no signal handler's."""
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] not in _OURS:
            return False
        trace = trace.tb_next
    return True


class Codes(TypedDict):
    """The numbers of a libvirt error, as keywords of `GuestlistError`."""

    code: int | None
    domain: int | None


def codes(error: Exception) -> Codes:
    """Return libvirt's numbers of an error, for the error that is raised in its place.

    None and None where neither libvirt nor guestlist raised it.
    """
    if isinstance(error, GuestlistError):
        return {"code": error.code, "domain": error.domain}
    if hasattr(error, "get_error_code") and hasattr(error, "get_error_domain"):
        return {"code": error.get_error_code(), "domain": error.get_error_domain()}
    return {"code": None, "domain": None}


def without_frames(error: E) -> E:
    """Return a copy of an error and of its causes, without traceback and context.

    A traceback holds frames, these hold libvirt's handles, and a handle keeps its connection open.
    So an error that is kept, or that another thread raises, is copied first. A cause whose class
    cannot be copied (lxml's) is left out: the message quotes it.
    """
    copied = copy.copy(error)
    copied.args = error.args  # libvirtError's constructor takes the text of this thread's last one
    if error.__cause__ is not None:
        try:
            copied.__cause__ = without_frames(error.__cause__)
        except TypeError:
            copied.__cause__ = None
    return copied


def call_failure(
    error: libvirt.libvirtError,
    asked: str,
    label: str,
    *,
    lost: bool,
    versions: Callable[[], Versions],
) -> GuestlistError:
    """Return the error for a call that failed on an open connection.

    Args:
        error: libvirt's.
        asked: completes "cannot …".
        label: the host's name in messages.
        lost: whether the connection found that it is dead.
        versions: returns those of the host; it is called only where the host lacks the call.
    """
    text = f"cannot {asked} of {label}: {one_line(error)}"
    said = codes(error)
    if lost:
        return ConnectionLost(
            f"{text}; the connection is lost, nothing was answered: the next question reconnects",
            **said,
        )
    if is_denial(error):
        return AccessDenied(
            f"{text}; this user or connection may not: see libvirt's polkit rules", **said
        )
    match said["code"]:
        case Code.NO_DOMAIN:
            return DomainGone(f"{text}; it was undefined, or it stopped and was transient", **said)
        case Code.NO_SUPPORT:
            there = versions()
            by_daemon = said["domain"] == FROM_RPC  # "unknown procedure"
            why = (
                f"this needs a newer daemon than that of {label}"
                if by_daemon
                else f"driver {there.driver} lacks it, and no other version of libvirt helps"
            )
            return NotSupported(
                f"{text}; {why} ({there}); 'guestlist check' tells what this libvirt can do",
                found=there.oldest,
                **said,
            )
    return LibvirtFailure(f"{text}; libvirt's error code is {said['code']}", **said)
