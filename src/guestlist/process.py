"""What libvirt has one of in each process: who may use it after a fork, and what it prints.

libvirt's event loop and its connections do not survive a fork: in the child the loop's timers never
fire, so that a daemon that hangs would be waited for without end, and its sockets are the parent's.
So `claim` notes which process libvirt's loop belongs to, and `check` refuses any other one, before
a lock is taken: a thread that the child does not have may hold it. Opens and closes nothing.
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

_NOBODY = 0  # no process has this number

_FIELDS, _MESSAGE = 9, 2
"""How many fields libvirt-python gives of an error, and which of them is the message."""

_printed: deque[object] = deque(maxlen=_FIELDS * 1_000)

_owner: int | None = None
_is_forked = False
_connections: weakref.WeakSet[libvirt.virConnect] = weakref.WeakSet()


def claim() -> None:
    """From now on libvirt's event loop is this process's, and no child's that is forked from it.

    Raises:
        ForkedProcess, ThreadsReplaced: see `check`.
    """
    global _owner  # noqa: PLW0603  libvirt has one loop per process
    check()
    if _owner is None:
        _owner = os.getpid()


def is_foreign() -> bool:
    """Whether libvirt's loop, and all that hangs on it, belong to the process that forked this."""
    return _owner is not None and _owner != os.getpid()


def is_forked() -> bool:
    """Whether this process was forked, and not replaced by another program, since the import."""
    return _is_forked


def check() -> None:
    """Refuse where no answer could be had. Takes no lock. Cost: no call; a microsecond.

    Raises:
        ForkedProcess: the parent had asked libvirt before it forked this process.
        ThreadsReplaced: Python's threads were replaced after guestlist had begun to use them.
    """
    if is_foreign():
        raise _forked()
    if unpatched.is_mixed():
        raise ThreadsReplaced(
            f"{unpatched.green_by()} replaced Python's threads after guestlist had begun to use "
            "them: call its monkey patching first, before a Host or an Inventory is made"
        )


def refuse() -> NoReturn:
    """Refuse from now on: libvirt's loop was found dead, in a child of a process that ran it.

    Raises:
        ForkedProcess: always.
    """
    global _owner  # noqa: PLW0603
    _owner = _NOBODY
    raise _forked()


def _forked() -> ForkedProcess:
    return ForkedProcess(
        "libvirt cannot be asked in this process: it was forked after its parent had begun to use "
        "libvirt's event loop, which does not survive that. Fork before the first question, or "
        "start processes by 'spawn' or 'forkserver'"
    )


def leave_to_parent(connection: libvirt.virConnect) -> None:
    """Let children never close this connection: its socket is shared with them."""
    _connections.add(connection)


def _on_fork() -> None:
    """In the child: forget the parent's connections. Takes no lock, and asks nothing."""
    global _is_forked  # noqa: PLW0603
    _is_forked = True
    for connection in list(_connections):
        connection._o = None  # what libvirt-python closes when the object goes; it leaks instead


os.register_at_fork(after_in_child=_on_fork)


def quiet() -> None:
    """Keep libvirt from printing its errors to standard error; they go to the log, at debug level.

    libvirt prints each error as it happens, on whatever thread, also those that guestlist raises or
    expects. The printer is one per process: call this in a program, and not in a library that
    others use. It replaces what the program gave to `libvirt.registerErrorHandler`. Harmless twice.
    A driver inside the process (`test:///FILE`) may print lines of libxml2's, which this leaves.

    The logger is `guestlist.process`. Cost: none.
    """
    # A handler in Python would run a signal handler within libvirt's call, and what that raises
    # would leave the call as a SystemError. So a function of C keeps the errors.
    libvirt.registerErrorHandler(operator.iconcat, _printed)


def log_printed() -> None:
    """Write to the log what libvirt would have printed. Cost: no call; nothing if there is none."""
    if _printed:
        errors = list(_printed)
        _printed.clear()
        for message in errors[_MESSAGE::_FIELDS]:
            log.debug("libvirt: %s", message)
