"""The drop-in for a released Nova: `compute_driver = guestlist.LibvirtDriver` in nova.conf.

    driver      LibvirtDriver: Nova's own, with the methods that asked domain by domain converted
    host        Host: Nova's own, whose lists hold domains that answer for themselves
    domains     such a domain
    gate      what stands between Nova and guestlist: switches, threads, failures
    questions       guestlist's side of it: one host, asked in real threads
    connector   its connection, opened aside
    green_threads  green or real: whose thread makes a call, and who writes to the log
    proof       which of the conversions this Nova allows
    options     [guestlist] in nova.conf
    finding     how Nova finds the driver by its name

What is not converted is Nova's. What is converted falls back to Nova's wherever guestlist fails.
Nova's files, its connection to libvirt and its events are left alone.
"""

from __future__ import annotations

__all__ = ["LibvirtDriver"]


def __getattr__(name: str) -> object:
    if name != "LibvirtDriver":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from guestlist.nova.driver import LibvirtDriver  # noqa: PLC0415  it imports Nova

    return LibvirtDriver
