"""NovaHost: Nova's own Host, whose lists hold domains that answer for themselves.

In: a gate, which the driver puts in. Out: one list, and what is known of each domain, for Nova's
code that goes over all domains; that code made a call for each. Does not touch Nova's code.
"""

from __future__ import annotations

import threading
from typing import Any

from nova import exception
from nova.virt.libvirt import guest as libvirt_guest
from nova.virt.libvirt import host as libvirt_host

from guestlist.nova import green_threads
from guestlist.nova.domains import KnownDomain, XmlDocuments, stand_in
from guestlist.nova.gate import Gate
from guestlist.nova.questions import HostQuestions


class NovaHost(libvirt_host.Host):
    """Nova's Host over one call for all domains. Without a gate it behaves as Nova's."""

    guestlist: Gate | None = None
    guestlist_proven: frozenset[str] = frozenset()

    def guestlist_attach(self, gate: Gate, proven: frozenset[str]) -> None:
        """Answer through a gate from now on, with the conversions that are proven.

        The lock of Nova's connection becomes reentrant. On native threads Nova 34 deadlocks where
        its own thread is the first to find the connection lost: that thread holds the lock while it
        calls libvirt, libvirt runs Nova's callback within the call, and the callback takes the lock
        again.
        """
        self.guestlist, self.guestlist_proven = gate, proven
        lock = getattr(self, "_wrapped_conn_lock", None)
        if not green_threads.are_green() and type(lock) is type(threading.Lock()):
            self._wrapped_conn_lock = threading.RLock()

    def list_instance_domains(self, only_running: bool = True) -> list[Any]:
        """Return the domains, as Nova's. 1 call; 1 more for the XML of all if it is asked for."""
        gate = self._gate("list_instance_domains")
        listed = None
        if gate is not None:
            listed = gate.ask(
                "list the domains", lambda host: host.listed(only_running=only_running)
            )
        if gate is None or listed is None:
            domains: list[Any] = super().list_instance_domains(only_running=only_running)
            return domains

        def read(host: HostQuestions) -> dict[str, str]:
            return host.documents(gate.being_changed(), only_running=only_running)

        documents = XmlDocuments(lambda: gate.ask("read the XML of the domains", read))
        look_up = self.guestlist_domain
        return [KnownDomain(one, documents, look_up) for one in listed]

    def get_guest(self, instance: Any) -> Any:
        """Return the guest, as Nova's; note that Nova may change the domain."""
        uuid = instance.uuid
        if (known := stand_in(uuid)) is not None:
            return libvirt_guest.Guest(known)
        if self.guestlist is not None:
            self.guestlist.note_use(uuid)
        return super().get_guest(instance)

    def write_instance_config(self, xml: str) -> Any:
        """Define the domain, as Nova's; note that Nova has changed it."""
        guest = super().write_instance_config(xml)
        if self.guestlist is not None:
            self.guestlist.note_use(guest.uuid)
        return guest

    def _sum_domain_memory_mb(self) -> int:
        """Return the sum in MiB, as Nova's. 1 call."""
        gate = self._gate("_sum_domain_memory_mb")
        known = None
        if gate is not None:
            known = gate.ask("read the memory of the domains", HostQuestions.memory_kib)
        if known is None:
            total: int = super()._sum_domain_memory_mb()
            return total
        used = 0
        for uuid, kib in known:
            if kib is not None:
                used += kib
                continue
            try:
                used += int(self.guestlist_domain(uuid).info()[2])
            except libvirt_host.libvirt.libvirtError as error:
                libvirt_host.LOG.warning(
                    "couldn't obtain the memory from domain: %(uuid)s, exception: %(ex)s",
                    {"uuid": uuid, "ex": error},
                )
        return used // 1024

    def guestlist_domain(self, uuid: str) -> Any:
        """Return the libvirt.virDomain, over Nova's connection. 1 call, and Nova's test of it.

        Raises:
            libvirt.libvirtError: the domain or the connection is gone, as a handle's own calls say.
        """
        try:
            connection = self.get_connection()
        except exception.HypervisorUnavailable as error:
            if isinstance(error.__context__, libvirt_host.libvirt.libvirtError):
                raise error.__context__ from None
            raise
        return connection.lookupByUUIDString(uuid)

    def guestlist_domains(self) -> list[Any]:
        """Return all domains as Nova's own method lists them, over Nova's connection. 2 calls.

        Raises:
            nova.exception.HypervisorUnavailable: libvirt cannot be reached.
        """
        domains: list[Any] = super().list_instance_domains(only_running=False)
        return domains

    def _gate(self, conversion: str) -> Gate | None:
        return self.guestlist if conversion in self.guestlist_proven else None
