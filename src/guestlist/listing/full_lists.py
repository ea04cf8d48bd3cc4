"""The two old list calls, active ids and inactive names, never cut short.

In: a peer. Out: all ids, or all names. libvirt-python's `listDomainsID` and `listDefinedDomains`
ask for the count first and then for at most that many. So a list that grew in between is cut, and
loses domains that never changed. The C calls underneath take the maximum as an argument and return
how many items they wrote: fewer than the maximum proves that the list is full. ctypes reaches them
through the library that the binding itself is linked to; both are in libvirt since 0.4.

A connection that is not libvirt-python's own class is asked through its methods of those names.

Source: libvirt src/libvirt-domain.c; libvirt-python libvirt-override.c.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import libvirt
import libvirtmod

from guestlist.errors import TooManyDomains
from guestlist.peer import Peer

_MAXIMA = (1_024, 16_384, 1_048_576)
"""Maxima to ask for, one after the other. An old libvirt puts at most 1,024 names into a message,
later ones 16,384 ids or names; beyond that only a driver inside this process answers."""


def active_ids(peer: Peer) -> list[int]:
    """Return the ids of all active domains, in libvirt's order.

    Raises:
        libvirt.libvirtError: the call failed.
        TooManyDomains: more than this libvirt puts into one message.

    Cost: 1 call up to 1,023 domains, 2 beyond.
    """
    if not isinstance(peer.connection, libvirt.virConnect):
        return list(peer.call(peer.connection.listDomainsID))
    ids, count = _whole_list(peer, "virConnectListDomains", ctypes.c_int, "active")
    return list(ids[:count])


def inactive_names(peer: Peer) -> list[str]:
    """Return the names of all inactive persistent domains, in libvirt's order.

    Errors and cost are those of `active_ids`.
    """
    if not isinstance(peer.connection, libvirt.virConnect):
        return list(peer.call(peer.connection.listDefinedDomains))
    names, count = _whole_list(peer, "virConnectListDefinedDomains", ctypes.c_void_p, "inactive")
    try:
        return [ctypes.string_at(name).decode("utf-8", "surrogateescape") for name in names[:count]]
    finally:
        for name in names[:count]:
            _library().free(ctypes.c_void_p(name))


def _whole_list(peer: Peer, function: str, item: Any, kind: str) -> tuple[Any, int]:
    call = getattr(_library(), function)
    handle = _connection_pointer(peer.connection)
    held = 0
    for maximum in _MAXIMA:
        array = (item * maximum)()
        count: int = peer.call(call, handle, array, maximum)
        if count < 0:
            error = libvirt.libvirtError(f"{function}() failed")
            if maximum == _MAXIMA[0] or peer.lost(error):
                raise error
            break  # a maximum that this libvirt refuses
        if count < maximum:
            return array, count
        held = maximum
    advice = "list the running ones only, or " if kind == "inactive" else ""
    raise TooManyDomains(
        f"cannot list the domains of {peer.label}: there are {held} {kind} ones or more, and its "
        f"libvirt puts no more into one message ({function}); {advice}upgrade the daemon"
    )


@functools.cache
def _library() -> ctypes.CDLL:
    """Return the libvirt that the binding is linked to, and with it the C library's `free`."""
    return ctypes.CDLL(libvirtmod.__file__)


def _connection_pointer(connection: libvirt.virConnect) -> ctypes.c_void_p:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    return ctypes.c_void_p(pointer(connection._o, b"virConnectPtr"))
