"""What one libvirt is, and what it can do: versions, capabilities, and where it is. Pure.

In: what a connection told. Out: frozen values. Makes no calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


def version_text(number: int | None) -> str:
    """Libvirt's version number as people write it: 9000000 is 9.0.0; None is unknown."""
    if number is None:
        return "unknown"
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


@dataclass(frozen=True, slots=True)
class Versions:
    """Who talks to whom. Numbers as libvirt encodes them: 9000000 is 9.0.0; None is unknown."""

    client: int
    daemon: int | None
    driver: str
    hypervisor: int | None

    def __str__(self) -> str:
        return (
            f"client library {version_text(self.client)}, daemon {version_text(self.daemon)}, "
            f"driver {self.driver} {version_text(self.hypervisor)}"
        )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the libvirt at the other end of one connection can do for us."""

    uri: str
    versions: Versions
    bulk_listing: bool
    bulk_stats: bool
    lifecycle_events: bool
    keepalive: bool | None
    """None: a driver inside this process, which nobody can lose."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a libvirt is, as its URI tells."""

    is_local: bool
    """On this machine: paths in its answers are paths here."""

    same_domains_again: bool
    """Whether a second connection reaches the same domains."""

    asked_again_at_will: bool
    """Whether a second connection reaches the same domains, and asks nobody for a password."""

    instance: str = ""
    """Which of the driver's instances on its machine: "/system", "/session"."""

    driver: str = ""
    """The hypervisor driver: "qemu", "xen", "test"."""

    @classmethod
    def of(cls, uri: str) -> Location:
        """Read it off a URI as libvirt resolved it: driver[+transport]://[user@][host]/path.

        Source: libvirt docs/uri.rst. The test driver gives each connection to a node file a host
        of its own.
        """
        parts = urlsplit(uri)
        driver, _, transport = parts.scheme.partition("+")
        same_domains_again = driver != "test" or parts.path == "/default"
        return cls(
            is_local=transport in ("", "unix") and not parts.hostname,
            same_domains_again=same_domains_again,
            asked_again_at_will=same_domains_again and transport in ("", "unix", "tcp", "tls"),
            instance=parts.path,
            driver=driver,
        )
