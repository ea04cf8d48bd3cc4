"""The options of `[guestlist]` in nova.conf.

In: Nova's configuration. Out: the options in it, registered. All of them may change while
nova-compute runs.
"""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "guestlist",
    title="guestlist",
    help="""
Options of the driver that answers without a call for each instance.
They are used where ``[DEFAULT] compute_driver`` is
``guestlist.LibvirtDriver``.
""",
)

OPTIONS = [
    cfg.BoolOpt(
        "enabled",
        default=True,
        mutable=True,
        help="""
Let guestlist answer. Off: every method is Nova's own, and
guestlist's connections to libvirt are closed.
""",
    ),
    cfg.BoolOpt(
        "live_view",
        default=True,
        mutable=True,
        help="""
Keep a live view of the instances, which libvirt's events keep in
step, over a connection of its own. The periodic synchronization of
power states reads this view. The view only confirms states that
Nova's record has already. Libvirt is asked for every other state,
and before an instance is reported as shut down or gone.
""",
    ),
    cfg.FloatOpt(
        "resync_interval",
        default=300.0,
        min=1.0,
        mutable=True,
        help="""
Seconds between two comparisons of the live view with a list of all
instances, events or not. A comparison is one call.
""",
    ),
    cfg.FloatOpt(
        "max_list_age",
        default=1.0,
        min=0.0,
        mutable=True,
        help="""
Seconds after its last comparison with such a list for which the
live view may answer. Later it is compared again first, in one call
for all instances. A libvirtd that hangs is not noticed for the same
time. 0: libvirt is asked about each instance, as Nova does.
""",
    ),
    cfg.BoolOpt(
        "disk_facts",
        default=True,
        mutable=True,
        help="""
Read the virtual size of qcow2 images from their headers, when the
file has changed. Off: Nova runs ``qemu-img`` twice for each image
at each update of the resources.
""",
    ),
    cfg.BoolOpt(
        "only_nova",
        default=False,
        mutable=True,
        help="""
Leave domains that Nova did not launch out of the lists of
instances. The resources that they use are counted either way.
""",
    ),
]


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return the options, for oslo-config-generator."""
    return [(GROUP, OPTIONS)]


def register(conf: Any) -> None:
    """Add the options to Nova's configuration; harmless twice."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, GROUP)


def forget_cached(conf: Any) -> None:
    """Empty the cache of option values. Call it when a reload is over.

    oslo.config empties its cache before it reads the files. A thread that reads an option in
    between puts the old value back, and it stays. Registering options empties the cache as well.
    """
    register(conf)
