"""The public face as a type checker sees it; `./dev check` reads this file, nothing runs it."""

from __future__ import annotations

from typing import assert_type
from uuid import UUID

import libvirt

import guestlist


class OursByPrefix:
    """An object of the `LaunchedBy` protocol, without inheriting anything."""

    def by_name(self, name: str) -> bool | None:
        return name.startswith("ours-") or None

    def by_metadata(self, namespaces: frozenset[str]) -> bool:
        return "urn:ours" in namespaces


def use(host: guestlist.Host) -> None:
    assert_type(host.bulk_listing, bool | None)
    assert_type(host.list_instance_domains(include_inactive=True), list[libvirt.virDomain])
    snapshot = host.snapshot(include_foreign=True, include_dom0=True)
    assert_type(snapshot, guestlist.Snapshot)
    assert_type(snapshot.instances, tuple[guestlist.Instance, ...])
    for uuid, instance in snapshot.items():
        assert_type(uuid, UUID)
        assert_type(instance.id, int | None)
        assert_type(instance.state, guestlist.DomainState)
        assert_type(instance.launcher, guestlist.Launcher)


guestlist.Host()
guestlist.Host("qemu:///system", readonly=True, launched_by=guestlist.NovaLaunched(verify=True))
guestlist.Host(launched_by=guestlist.Anyone())
guestlist.Host(launched_by=OursByPrefix(), keepalive_interval=5, keepalive_count=3)
guestlist.Host(open_timeout=None)
