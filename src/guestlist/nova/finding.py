"""How nova-compute finds the driver: `compute_driver = guestlist.LibvirtDriver`.

In: os-vif, whose plugins nova-compute loads before its driver. Out: the module name
`nova.virt.guestlist`, the only place where Nova looks for that driver. os-vif loads every entry
point of its group, wherever Nova and guestlist are installed. One of them is this class, a plugin
that plugs nothing. So guestlist puts no file into Nova's package: a directory `nova` of guestlist's
would hide a Nova that is installed editable, and so would the remains after an uninstall.

Source: Nova 2023.1 to 2026.2, nova/cmd/compute.py (`main`), nova/virt/driver.py
(`load_compute_driver`); os-vif 3.1 to 5.3, os_vif/__init__.py (`initialize`).
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from os_vif import objects
from os_vif.plugin import PluginBase

import guestlist.nova

MODULE = "nova.virt.guestlist"


class Finder(PluginBase):
    """os-vif's plugin "guestlist": it gives the driver its name, and supports no interface."""

    @classmethod
    def load(cls, plugin_name: str) -> Any:
        """Make `MODULE` importable. Imports neither Nova nor libvirt; harmless twice."""
        sys.modules[MODULE] = guestlist.nova
        return super().load(plugin_name)

    def describe(self) -> Any:
        """Return that no kind of interface is supported."""
        return objects.host_info.HostPluginInfo(plugin_name="guestlist", vif_info=[])

    def plug(self, vif: Any, instance_info: Any) -> NoReturn:
        """Never called: no interface names this plugin."""
        raise NotImplementedError("guestlist plugs no interface")

    def unplug(self, vif: Any, instance_info: Any) -> NoReturn:
        """Never called: no interface names this plugin."""
        raise NotImplementedError("guestlist plugs no interface")
