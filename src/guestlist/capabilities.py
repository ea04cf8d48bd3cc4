"""What one libvirt is, and what it can do: versions, capabilities, and where it is. Pure.

In: what a connection told. Out: tuples with names, because the shortest command makes some, and to
import `dataclasses` takes 6 ms; and the error for what this libvirt cannot do. Says
for each ability and each kind of event which libvirt brought it. Makes no calls.

Source: libvirt's release notes and include/libvirt/*.h, for the release of each ability.
"""

from __future__ import annotations

from typing import NamedTuple

from guestlist import uris
from guestlist.errors import NotSupported, codes


def version_text(number: int | None) -> str:
    """Return libvirt's version number as people write it: 9000000 is 9.0.0; None is unknown."""
    if number is None:
        return "unknown"
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


class Versions(NamedTuple):
    """The versions at both ends of a connection, as libvirt numbers them: 9000000 is 9.0.0.

    None is unknown.
    """

    client: int
    daemon: int | None
    driver: str
    hypervisor: int | None

    @property
    def oldest(self) -> int:
        """The version of client library or daemon, whichever is older."""
        return self.client if self.daemon is None else min(self.client, self.daemon)

    def __str__(self) -> str:
        return (
            f"client library {version_text(self.client)}, daemon {version_text(self.daemon)}, "
            f"driver {self.driver} {version_text(self.hypervisor)}"
        )


class Capabilities(NamedTuple):
    """What the libvirt at the other end of one connection can do for guestlist."""

    uri: str
    versions: Versions
    bulk_listing: bool
    bulk_stats: bool
    lifecycle_events: bool
    keepalive: bool | None
    """None: a driver inside this process, whose connection cannot be lost."""


class Ability(NamedTuple):
    """Something that libvirt learned in one release."""

    name: str
    """The field of `Capabilities`."""

    words: str
    since: int
    """The release that brought it to the client library and to the daemon: both need it."""

    worth: str
    """What it is good for, as the beginning of a line of advice."""


BULK_LISTING = Ability("bulk_listing", "bulk listing", 9_013, "to list in one call")
BULK_STATS = Ability("bulk_stats", "bulk state", 1_002_008, "to have all states in one call")
LIFECYCLE_EVENTS = Ability("lifecycle_events", "lifecycle events", 8_000, "to be told of changes")
KEEPALIVE = Ability("keepalive", "keepalive", 9_008, "to notice a daemon that hangs")

ABILITIES = BULK_LISTING, BULK_STATS, LIFECYCLE_EVENTS, KEEPALIVE
"""The table of abilities, in the order of `guestlist check`."""

EVENTS_SINCE = {
    "LIFECYCLE": 0,  # it comes with the registration itself: see `Peer.events`
    "REBOOT": 8_000,
    "DISK_CHANGE": 9_009,
    "TRAY_CHANGE": 9_011,
    "BALLOON_CHANGE": 10_000,
    "DEVICE_REMOVED": 1_001_001,
    "BLOCK_JOB_2": 1_002_006,
    "AGENT_LIFECYCLE": 1_002_011,
    "DEVICE_ADDED": 1_002_015,
    "METADATA_CHANGE": 3_000_000,
}
"""The release that brought a kind of event, by its name in VIR_DOMAIN_EVENT_ID_*."""


def remedy(ability: Ability, versions: Versions) -> str:
    """Return what to do about an ability that is missing.

    Names what is too old, the nearest first. Where neither client library nor daemon is, says that
    the hypervisor driver or the Python binding lacks it.
    """
    release = version_text(ability.since)
    old = [
        f"the {what} ({version_text(version)})"
        for what, version in (("client library", versions.client), ("daemon", versions.daemon))
        if version is not None and version < ability.since
    ]
    if old:
        return f"upgrade {' and '.join(old)} to {release} or newer"
    return (
        f"libvirt has had it since {release}, but neither is too old: driver {versions.driver} or "
        "libvirt-python lacks it"
    )


def lacking(
    ability: Ability, asked: str, label: str, versions: Versions, error: Exception
) -> NotSupported:
    """Return the error for a question that takes an ability which this libvirt lacks.

    Args:
        ability: the ability that is missing.
        asked: completes "cannot …".
        label: the host's name in messages.
        versions: those of the host.
        error: what libvirt or its binding raised.
    """
    return NotSupported(
        f"cannot {asked} of {label}: {ability.words} is missing; {remedy(ability, versions)}",
        needed=ability.since,
        found=versions.oldest,
        **codes(error),
    )


class Location(NamedTuple):
    """Where a libvirt is, as its URI tells."""

    is_local: bool
    """On this machine: paths in its answers are paths here."""

    same_domains_again: bool
    """Whether a second connection reaches the same domains."""

    asked_again_at_will: bool
    """Whether a second connection reaches the same domains and never asks for a password."""

    instance: str = ""
    """Which of the driver's instances on its machine: "/system", "/session"."""

    driver: str = ""
    """The hypervisor driver: "qemu", "xen", "test"."""

    @classmethod
    def of(cls, uri: str) -> Location:
        """Read the location off a resolved URI: driver[+transport]://[user@][host]/path.

        Source: libvirt docs/uri.rst. The test driver gives each connection to a node file a host
        of its own.
        """
        parts = uris.parts(uri)
        driver, _, transport = parts.scheme.partition("+")
        same_domains_again = driver != "test" or parts.path == "/default"
        return cls(
            is_local=transport in ("", "unix") and not parts.hostname,
            same_domains_again=same_domains_again,
            asked_again_at_will=same_domains_again and transport in ("", "unix", "tcp", "tls"),
            instance=parts.path,
            driver=driver,
        )
