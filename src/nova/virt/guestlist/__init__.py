"""guestlist's driver under the name by which Nova looks for it: `compute_driver = guestlist.…`."""

from guestlist.nova.driver import LibvirtDriver

__all__ = ["LibvirtDriver"]
