"""Host: Nova's own, whose lists hold domains that answer for themselves.

In: a gate, which the driver puts in. Out: for Nova's code that goes over all domains, one list
and what is known of each, in place of a call per domain. Nova's code itself is not touched.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from nova import exception
from nova.virt.libvirt import guest as libvirt_guest
from nova.virt.libvirt import host as libvirt_host

from guestlist.nova import green_threads
from guestlist.nova.domains import DomainDocuments, KnownDomain, stand_in
from guestlist.nova.gate import Gate
from guestlist.nova.questions import HostQuestions


class NovaHost(libvirt_host.Host):
    """Nova's Host over one call for all domains. Without a gate it is Nova's Host, no more."""

    guestlist: Gate | None = None
    guestlist_proven: frozenset[str] = frozenset()

    def guestlist_attach(self, gate: Gate, proven: frozenset[str]) -> None:
        """Answer through a gate from now on, with the conversions that are proven.

        On native threads Nova (34) locks itself out where a thread of its own is the first to find
        the connection lost: libvirt tells that thread so within the call that it made under the
        lock, and Nova's callback takes the lock again. So the lock lets its owner in.
        """
        self.guestlist, self.guestlist_proven = gate, proven
        lock = getattr(self, "_wrapped_conn_lock", None)
        if not green_threads.are_green() and type(lock) is type(threading.Lock()):
            self._wrapped_conn_lock = threading.RLock()

    def list_instance_domains(self, only_running: bool = True) -> list[Any]:
        """As Nova's. 1 call; their XML, should it be asked for, 1 more for all of them."""
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
            return host.documents(gate.in_hand(), only_running=only_running)

        documents = DomainDocuments(lambda: gate.ask("read the XML of the domains", read))
        return [
            KnownDomain(one, documents, partial(self.guestlist_domain, one.uuid)) for one in listed
        ]

    def get_guest(self, instance: Any) -> Any:
        """As Nova's; notes that Nova may be about to change it."""
        if (known := stand_in(instance.uuid)) is not None:
            return libvirt_guest.Guest(known)
        if self.guestlist is not None:
            self.guestlist.take_in_hand(instance.uuid)
        return super().get_guest(instance)

    def write_instance_config(self, xml: str) -> Any:
        """As Nova's; notes that the domain is another now."""
        guest = super().write_instance_config(xml)
        if self.guestlist is not None:
            self.guestlist.take_in_hand(guest.uuid)
        return guest

    def _sum_domain_memory_mb(self) -> int:
        """As Nova's, in MiB. 1 call."""
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
        """The domain as Nova would have had it, over Nova's connection.

        Raises:
            libvirt.libvirtError: it is gone, or libvirt is: what a handle of it would have raised.
        """
        try:
            connection = self.get_connection()
        except exception.HypervisorUnavailable as error:
            if isinstance(error.__context__, libvirt_host.libvirt.libvirtError):
                raise error.__context__ from None
            raise
        return connection.lookupByUUIDString(uuid)

    def guestlist_domains(self) -> list[Any]:
        """All of them, as Nova would have listed them, over Nova's connection. 2 calls.

        Raises:
            nova.exception.HypervisorUnavailable: libvirt is gone.
        """
        domains: list[Any] = super().list_instance_domains(only_running=False)
        return domains

    def _gate(self, conversion: str) -> Gate | None:
        return self.guestlist if conversion in self.guestlist_proven else None
