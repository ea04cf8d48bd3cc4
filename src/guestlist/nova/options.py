"""The options of `[guestlist]` in nova.conf. All of them may change while nova-compute runs."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "guestlist",
    title="guestlist",
    help="""
Answers of the libvirt driver that do not cost a call per instance. Used where
``[DEFAULT] compute_driver`` is ``guestlist.LibvirtDriver``.
""",
)

OPTIONS = [
    cfg.BoolOpt(
        "enabled",
        default=True,
        mutable=True,
        help="""
Whether anything is answered by guestlist. Off, every method is Nova's own, and guestlist's
connections to libvirt are closed.
""",
    ),
    cfg.BoolOpt(
        "live_view",
        default=True,
        mutable=True,
        help="""
Keep a view of the instances that libvirt's events keep in step, over a connection of its own, and
have the periodic synchronization of power states read it. Only states that are as the caller
already has them are read from it, and never that an instance is shut down or gone: libvirt is
asked for those.
""",
    ),
    cfg.FloatOpt(
        "resync_interval",
        default=300.0,
        min=1.0,
        mutable=True,
        help="""
Seconds after which the live view is held against a list of all instances, events or not. One call.
""",
    ),
    cfg.FloatOpt(
        "max_list_age",
        default=1.0,
        min=0.0,
        mutable=True,
        help="""
Seconds since the live view was last held against such a list beyond which it is not believed: it
is then held against another one first, at one call for all instances. It is also how long a
libvirtd that hangs may go unnoticed. 0: libvirt is asked for each instance, as Nova does.
""",
    ),
    cfg.BoolOpt(
        "disk_facts",
        default=True,
        mutable=True,
        help="""
Read the virtual size of qcow2 images from their headers, and only when the file has changed. Off:
Nova runs ``qemu-img`` twice for each image and each update of the resources.
""",
    ),
    cfg.BoolOpt(
        "only_nova",
        default=False,
        mutable=True,
        help="""
Leave domains that Nova did not launch out of the lists of instances. What they use of the host is
counted either way.
""",
    ),
]


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """For oslo-config-generator."""
    return [(GROUP, OPTIONS)]


def register(conf: Any) -> None:
    """Add the options to Nova's configuration; harmless twice."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, GROUP)


def forget_cached(conf: Any) -> None:
    """Have every option read anew. To be called once a reload is over.

    oslo.config empties its cache before it reads the files, not after: whoever asks for an option
    in between keeps the old value there, for good. Registering empties it, too.
    """
    register(conf)
