"""What libvirt has once per process: which process may use it after a fork, and what it prints.

libvirt's event loop and its connections do not survive a fork. In the child the loop's timers never
fire, so a call to a daemon that hangs would never end; and the sockets belong to the parent. So
`claim` notes the process that libvirt's loop belongs to, and `check` refuses any other process. It
does so before it takes a lock: a thread that the child does not have may hold that lock. Opens and
closes nothing.
"""

from __future__ import annotations

import logging
import operator
import os
import weakref
from collections import deque
from typing import NoReturn

import libvirt

from guestlist import unpatched
from guestlist.errors import ForkedProcess, ThreadsReplaced

log = logging.getLogger(__name__)

_NO_PROCESS = 0
"""An owner that no process is: no process has this number."""

_FIELDS, _MESSAGE = 9, 2
"""How many fields libvirt-python gives of an error, and which of them is the message."""

_printed: deque[object] = deque(maxlen=_FIELDS * 1_000)
"""The fields of the errors that libvirt would have printed, the last thousand errors."""

_owner: int | None = None
"""The number of the process that libvirt's loop belongs to; None: no process has asked yet."""

_is_forked = False
_connections: weakref.WeakSet[libvirt.virConnect] = weakref.WeakSet()


def claim() -> None:
    """Take libvirt's event loop for this process: no child that is forked from it may use it.

    Raises:
        ForkedProcess, ThreadsReplaced: see `check`.
    """
    global _owner  # noqa: PLW0603  libvirt has one loop per process
    check()
    if _owner is None:
        _owner = os.getpid()


def belongs_to_parent() -> bool:
    """Return whether libvirt's loop and its connections belong to the process that forked this."""
    return _owner is not None and _owner != os.getpid()


def is_forked() -> bool:
    """Return whether this process was forked since this import, without starting a program."""
    return _is_forked


def check() -> None:
    """Raise where libvirt could never answer. Takes no lock. Cost: no call; a microsecond.

    Raises:
        ForkedProcess: the parent had asked libvirt before it forked this process.
        ThreadsReplaced: Python's threads were replaced after guestlist had begun to use them.
    """
    if belongs_to_parent():
        raise _forked()
    if unpatched.is_mixed():
        raise ThreadsReplaced(
            f"{unpatched.green_by()} replaced Python's threads after guestlist had begun to use "
            "them: call its monkey patching first, before a Host or an Inventory is made"
        )


def refuse() -> NoReturn:
    """Refuse every question from now on: libvirt's loop is dead in this child of its process.

    Raises:
        ForkedProcess: always.
    """
    global _owner  # noqa: PLW0603
    _owner = _NO_PROCESS
    raise _forked()


def _forked() -> ForkedProcess:
    return ForkedProcess(
        "libvirt cannot be asked in this process: it was forked after its parent had begun to use "
        "libvirt's event loop, which does not survive that. Fork before the first question, or "
        "start processes by 'spawn' or 'forkserver'"
    )


def leave_to_parent(connection: libvirt.virConnect) -> None:
    """Prevent children from closing this connection: they share its socket."""
    _connections.add(connection)


def _on_fork() -> None:
    """Forget the parent's connections, in the child. Takes no lock and makes no call."""
    global _is_forked  # noqa: PLW0603
    _is_forked = True
    for connection in list(_connections):
        connection._o = None  # libvirt-python would close it with the object; it leaks instead


os.register_at_fork(after_in_child=_on_fork)


def quiet() -> None:
    """Stop libvirt from printing its errors to standard error; log them at debug level instead.

    libvirt prints each error as it happens, on any thread, also an error that guestlist raises or
    expects. There is one printer per process: call this in a program, not in a library that others
    use. It replaces what the program gave to `libvirt.registerErrorHandler`. A second call changes
    nothing. A driver inside the process (`test:///FILE`) may print lines of libxml2; this function
    does not stop them.

    The logger is `guestlist.process`. Cost: none.
    """
    # Python could run a signal handler within an error handler written in Python, and so within
    # libvirt's call; an exception from it would leave the call as a SystemError. So a function of C
    # keeps the errors.
    libvirt.registerErrorHandler(operator.iconcat, _printed)


def log_printed() -> None:
    """Write what libvirt would have printed to the log. Cost: no call, and no time without any."""
    if _printed:
        errors = list(_printed)
        _printed.clear()
        for message in errors[_MESSAGE::_FIELDS]:
            log.debug("libvirt: %s", message)
