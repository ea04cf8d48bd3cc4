"""guestlist: list the domains of a libvirt host in one call, lose none, and tell which are yours.

The public names. Each is imported when it is first used, so that `import guestlist` costs nothing
and a command's `--help` does not wait for libvirt. They are written three times: for type checkers
and editors (the imports below), for this module (`_EXPORTS`) and for `import *` (`__all__`, which
type checkers read as well). A test compares the three.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guestlist.capabilities import Capabilities, Versions
    from guestlist.driver import ComputeDriver, InstanceInfo
    from guestlist.errors import (
        AccessDenied,
        BadServersFile,
        ConnectionFailed,
        ConnectionLost,
        DomainGone,
        ForkedProcess,
        GuestlistError,
        InterpreterEnding,
        InvalidNameTemplate,
        LibvirtFailure,
        ListingUnstable,
        NotSupported,
        NotSynced,
        NovaDenied,
        NovaFailure,
        NovaLost,
        NovaUnreachable,
        Reentered,
        ThreadsReplaced,
        ThreadUnavailable,
        TooManyDomains,
    )
    from guestlist.event import Event, EventKind, Lifecycle
    from guestlist.event_loop import use_running_event_loop
    from guestlist.host import Host
    from guestlist.images import Image, Images
    from guestlist.inventory import Inventory, InventoryStatistics
    from guestlist.inventory.changes import (
        Change,
        Changed,
        Defined,
        Gone,
        Resynced,
        Stale,
        Started,
        Stopped,
        Undefined,
    )
    from guestlist.inventory.drift import Drift
    from guestlist.inventory.subscribers import Changes
    from guestlist.launcher import Anyone, LaunchedBy, Launcher, NovaLaunched
    from guestlist.node import Hypervisor, Node
    from guestlist.process import quiet
    from guestlist.records import (
        Details,
        Disk,
        DiskDevice,
        Flavor,
        Instance,
        IoTune,
        Nic,
        NovaMetadata,
        Os,
        Owner,
        Snapshot,
        Source,
        SourceKind,
    )
    from guestlist.states import DomainState
    from guestlist.usage import InstanceUsage, Usage

_EXPORTS = {
    "capabilities": "Capabilities Versions",
    "driver": "ComputeDriver InstanceInfo",
    "errors": """
        AccessDenied BadServersFile ConnectionFailed ConnectionLost DomainGone ForkedProcess
        GuestlistError InterpreterEnding InvalidNameTemplate LibvirtFailure ListingUnstable
        NotSupported NotSynced NovaDenied NovaFailure NovaLost NovaUnreachable Reentered
        ThreadUnavailable ThreadsReplaced TooManyDomains
    """,
    "event": "Event EventKind Lifecycle",
    "event_loop": "use_running_event_loop",
    "host": "Host",
    "images": "Image Images",
    "inventory": "Inventory InventoryStatistics",
    "inventory.changes": "Change Changed Defined Gone Resynced Stale Started Stopped Undefined",
    "inventory.drift": "Drift",
    "inventory.subscribers": "Changes",
    "launcher": "Anyone LaunchedBy Launcher NovaLaunched",
    "node": "Hypervisor Node",
    "process": "quiet",
    "records": """
        Details Disk DiskDevice Flavor Instance IoTune Nic NovaMetadata Os
        Owner Snapshot Source SourceKind
    """,
    "states": "DomainState",
    "usage": "InstanceUsage Usage",
}
"""The public names of each module."""

_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "Anyone",
    "BadServersFile",
    "Capabilities",
    "Change",
    "Changed",
    "Changes",
    "ComputeDriver",
    "ConnectionFailed",
    "ConnectionLost",
    "Defined",
    "Details",
    "Disk",
    "DiskDevice",
    "DomainGone",
    "DomainState",
    "Drift",
    "Event",
    "EventKind",
    "Flavor",
    "ForkedProcess",
    "Gone",
    "GuestlistError",
    "Host",
    "Hypervisor",
    "Image",
    "Images",
    "Instance",
    "InstanceInfo",
    "InstanceUsage",
    "InterpreterEnding",
    "InvalidNameTemplate",
    "Inventory",
    "InventoryStatistics",
    "IoTune",
    "LaunchedBy",
    "Launcher",
    "LibvirtFailure",
    "Lifecycle",
    "ListingUnstable",
    "Nic",
    "Node",
    "NotSupported",
    "NotSynced",
    "NovaDenied",
    "NovaFailure",
    "NovaLaunched",
    "NovaLost",
    "NovaMetadata",
    "NovaUnreachable",
    "Os",
    "Owner",
    "Reentered",
    "Resynced",
    "Snapshot",
    "Source",
    "SourceKind",
    "Stale",
    "Started",
    "Stopped",
    "ThreadUnavailable",
    "ThreadsReplaced",
    "TooManyDomains",
    "Undefined",
    "Usage",
    "Versions",
    "quiet",
    "use_running_event_loop",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
