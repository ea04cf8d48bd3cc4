"""Which hosts of an audit are this machine. Pure, except that an alias is read in libvirt.conf.

In: where a host is, as its URI tells. Out: whether the paths in its XML are paths here, and whether
tap devices of this machine may belong to its domains. A host is this machine if its hypervisor
driver uses the files of the machine where libvirt is, and its URI names no other machine.

Only the daemon of the system (qemu:///system) owns tap devices. That of a session makes none.
"""

from __future__ import annotations

from guestlist import uris
from guestlist.capabilities import Location

_USE_FILES = {"qemu", "xen", "lxc", "ch", "vz"}
"""Hypervisor drivers whose guests use files of the machine where libvirt is."""

_LIKELY_DEFAULT = "qemu:///system"


def is_here(location: Location) -> bool:
    """Return whether the paths in a host's XML are paths on this machine."""
    return location.is_local and location.driver in _USE_FILES


def owns_taps(location: Location) -> bool:
    """Return whether tap devices of this machine may belong to a host's domains."""
    return is_here(location) and (location.driver, location.instance) == ("qemu", "/system")


def before_it_opens(uri: str | None) -> Location:
    """Return where a host seems to be that has no connection yet.

    libvirt chooses its default when it connects; until then it may be the system's QEMU.
    """
    return Location.of(uris.resolved(uri) or _LIKELY_DEFAULT)
