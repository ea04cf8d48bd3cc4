"""The drop-in for a released Nova: `compute_driver = guestlist.LibvirtDriver` in nova.conf.

    __init__       LibvirtDriver, where Nova's loader looks for it
    driver         LibvirtDriver: Nova's own, with the methods converted that asked each domain
    host           NovaHost: Nova's own Host, whose lists hold domains that answer for themselves
    domains        the domains of such a list                                        (pure)
    gate           between Nova and guestlist: switches, threads and failures
    questions      HostQuestions: what the drop-in asks about one host, in real threads
    live_answers   when `get_info` may be answered from the live view                (pure)
    vcpus          numbers of vCPUs, remembered from a domain's start on
    connector      connections are opened on threads of their own, so that no question waits
    green_threads  which thread makes a call, and which one writes the log
    proof          which conversions this Nova allows
    options        [guestlist] in nova.conf
    finding        how Nova finds the driver by its name

A method that is not converted is Nova's. A converted one falls back to Nova's where guestlist
fails. Nova's files, its connection to libvirt and its events stay as they are.
"""

from __future__ import annotations

__all__ = ["LibvirtDriver"]


def __getattr__(name: str) -> object:
    if name != "LibvirtDriver":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from guestlist.nova.driver import LibvirtDriver  # noqa: PLC0415  it imports Nova

    return LibvirtDriver
