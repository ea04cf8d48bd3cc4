"""LibvirtDriver: Nova's own libvirt driver, with the methods converted that asked each domain.

In: Nova, which loads it from `compute_driver = guestlist.LibvirtDriver`. Out: the results, types,
units, log lines and exceptions of Nova's own methods. Nova's methods do the work; what they ask
libvirt and qemu-img for is known already, or is asked for all domains at once. Where guestlist
cannot answer, Nova asks libvirt itself.

Source: Nova 2023.1 to 2026.2, nova/virt/libvirt/driver.py.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import nova.conf
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import guest as libvirt_guest
from nova.virt.libvirt import host as libvirt_host
from oslo_log import log as logging

from guestlist.errors import Code
from guestlist.nova import options, proof
from guestlist.nova.domains import CountedDomain, ListedDomain, StatedDomain, standing_in
from guestlist.nova.gate import Gate, OnlyLooking
from guestlist.nova.host import NovaHost
from guestlist.nova.questions import HostQuestions

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

options.register(CONF)

_FROM_QEMU = 10

_VCPUS_MAX_AGE = 3_600.0
"""Seconds for which a domain's number of vCPUs is used where libvirt has no statistics of them."""

_qcow2_images: ContextVar[Mapping[str, tuple[int, int]]] = ContextVar(
    "guestlist_qcow2_images",
    default={},  # noqa: B039  never written to
)


class LibvirtDriver(libvirt_driver.LibvirtDriver):
    """Nova's libvirt driver over guestlist. Options: `[guestlist]` in nova.conf.

    The conversions are tried on Nova's own code when the first driver is made; see `proof`.

    Cost in calls to libvirt, warm, however many domains there are: `list_instances`,
    `list_instance_uuids`, `get_num_instances` and `_get_vcpu_used` 1,
    `_get_disk_over_committed_size_total` 3 and no process, mediated devices and mount state 2,
    memory with file-backed memory 1, volume usage 2; `get_info` none where the live view may
    answer, 1 where the view is compared first, and Nova's 3 otherwise. `instance_exists` is Nova's
    own: 2.
    """

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self._proven = proof.proven()
        self._gate = Gate(self._uri(), CONF, self._proven)
        self._vcpus_known: dict[str, tuple[int, int, float]] = {}
        if type(self._host) is libvirt_host.Host:
            self._host.__class__ = NovaHost  # other objects of Nova's hold this one already
        if isinstance(self._host, NovaHost):
            self._host.guestlist_attach(self._gate, self._proven)

    def init_host(self, host: str) -> None:
        """Start as Nova's driver, then connect guestlist, over Nova's running event loop.

        Nova's connection comes first: where the daemon has no place for it, Nova waits without end.
        """
        super().init_host(host)
        self._gate.open()

    def cleanup_host(self, host: str) -> None:
        """Close guestlist's connections, then clean up as Nova's driver."""
        self._gate.close()
        super().cleanup_host(host)

    # Which instances there are

    def list_instances(self) -> list[str]:
        """Return the names, as Nova's; with `only_nova`, those of Nova's own domains."""
        names = self._listed("list the names of the domains", HostQuestions.names)
        return list(super().list_instances()) if names is None else names

    def list_instance_uuids(self) -> list[str]:
        """Return the UUIDs, as Nova's; with `only_nova`, those of Nova's own domains."""
        uuids = self._listed("list the UUIDs of the domains", HostQuestions.uuids)
        return list(super().list_instance_uuids()) if uuids is None else uuids

    def _listed(self, what: str, question: Callable[..., list[str]]) -> list[str] | None:
        if "list_instance_domains" not in self._proven:
            return None
        only_nova = self._gate.wants("only_nova")
        return self._gate.ask(what, partial(question, launched_by_nova=only_nova))

    def instance_exists(self, instance: Any) -> bool:
        """Return whether libvirt has the instance, by Nova's own code. 2 calls."""
        with OnlyLooking():
            return bool(super().instance_exists(instance))

    def get_info(self, instance: Any, use_cache: bool = True) -> Any:
        """Return state and id, as Nova's; from the live view where `may_answer` allows it."""
        if "get_info" in self._proven:
            known = self._gate.live_answer(
                instance.uuid,
                allows_cache=use_cache,
                task_state=_recorded(instance, "task_state"),
                power_state=_recorded(instance, "power_state"),
            )
            if known is not None:
                listed = ListedDomain(
                    instance.uuid, known.name, -1 if known.id is None else known.id
                )
                domain = StatedDomain(listed, known.state, self._host.guestlist_domain)
                return libvirt_guest.Guest(domain).get_info(self._host)
        with OnlyLooking():
            return super().get_info(instance, use_cache=use_cache)

    # What instances use

    def _get_vcpu_used(self) -> int:
        """Return the number, as Nova's: 1 for a domain whose vCPUs libvirt does not list."""
        if "_get_vcpu_used" not in self._proven:
            return int(super()._get_vcpu_used())
        counted = self._gate.ask("count the vCPUs", HostQuestions.vcpus)
        if counted is None:
            return int(super()._get_vcpu_used())
        known = self._vcpus_known
        self._vcpus_known = {each.uuid: known[each.uuid] for each in counted if each.uuid in known}
        return sum(
            self._vcpus(each.uuid, each.id) if each.listed is None else each.listed
            for each in counted
        )

    def _vcpus(self, uuid: str, id: int) -> int:
        """Return the vCPUs of a domain without statistics: asked for at each start, and hourly."""
        known_id, count, until = self._vcpus_known.get(uuid, (None, 0, 0.0))
        if known_id == id and time.monotonic() < until:
            return count
        try:
            guest = libvirt_guest.Guest(self._host.guestlist_domain(uuid))
            count = len(list(guest.get_vcpus_info()))
        except libvirt_driver.libvirt.libvirtError as error:
            if error.get_error_code() != Code.NO_SUPPORT:
                return 1
            count = 1
        self._vcpus_known[uuid] = id, count, time.monotonic() + _VCPUS_MAX_AGE
        return count

    def _get_disk_over_committed_size_total(self) -> int:
        """Return the sum in bytes, as Nova's; sizes of qcow2 images come from their headers."""
        images = None
        if self._gate.wants("disk_facts") and "_get_disk_over_committed_size_total" in self._proven:
            images = self._gate.ask("measure the images", HostQuestions.qcow2_images)
        with _with_images(images or {}):
            return int(super()._get_disk_over_committed_size_total())

    def _get_instance_disk_info_from_config(
        self, guest_config: Any, block_device_info: Any
    ) -> list[dict[str, Any]]:
        """Return what Nova says of the devices, one by one while sizes of images are known."""
        images = _qcow2_images.get()
        if not images:
            infos: list[dict[str, Any]] = super()._get_instance_disk_info_from_config(
                guest_config, block_device_info
            )
            return infos
        return [
            info
            for device in guest_config.devices
            for info in self._disk_info(guest_config, device, block_device_info, images)
        ]

    def _disk_info(
        self,
        guest_config: Any,
        device: Any,
        block_device_info: Any,
        images: Mapping[str, tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Return what Nova says of one device of a domain.

        Nova is asked about a qcow2 image of known size as if it were raw: the same rules say
        whether it counts, and a raw image costs one stat. Then the known sizes are put in.
        """
        ask = super()._get_instance_disk_info_from_config
        sizes = images.get(getattr(device, "source_path", None) or "")
        infos: list[dict[str, Any]]
        if sizes is not None and _is_qcow2_file(device):
            raw = copy.copy(device)
            raw.driver_format = "raw"
            try:
                infos = ask(_config_of(guest_config, raw), block_device_info)
            except OSError:  # Nova has another message for a qcow2 image that is gone
                pass
            else:
                virtual, allocated = sizes
                return [
                    {
                        **info,
                        "type": "qcow2",
                        "virt_disk_size": virtual,
                        "disk_size": allocated,
                        "over_committed_disk_size": max(0, virtual - allocated),
                    }
                    for info in infos
                ]
        infos = ask(_config_of(guest_config, device), block_device_info)
        return infos

    def get_all_volume_usage(
        self, context: Any, compute_host_bdms: list[Any]
    ) -> list[dict[str, Any]]:
        """Return the usage, as Nova's; one call over another connection counts all volumes.

        A stuck guest is left out and logged, like a guest whose volume was detached. Where libvirt
        has no such statistics: 4 calls, and 1 for each volume.
        """
        counted = None
        if compute_host_bdms and "get_all_volume_usage" in self._proven:
            counted = self._gate.ask("count what volumes are used", HostQuestions.volumes)
        domains: dict[str, Any] = {
            one.uuid: CountedDomain(
                one,
                counters,
                _no_answer(),
                _no_disk,
                self._host.guestlist_domain,
            )
            for one, counters in counted or ()
        }
        if counted is not None and not domains:
            with suppress(libvirt_driver.libvirt.libvirtError):  # Nova looks each up then, and logs
                domains = {each.UUIDString(): each for each in self._host.guestlist_domains()}
        with standing_in(domains), OnlyLooking():
            usage: list[dict[str, Any]] = super().get_all_volume_usage(context, compute_host_bdms)
        return usage


@contextmanager
def _with_images(images: Mapping[str, tuple[int, int]]) -> Iterator[None]:
    token = _qcow2_images.set(images)
    try:
        yield
    finally:
        _qcow2_images.reset(token)


def _is_qcow2_file(device: Any) -> bool:
    return (
        device.root_name == "disk"
        and device.source_type == "file"
        and device.driver_format == "qcow2"
    )


def _config_of(guest_config: Any, device: Any) -> Any:
    config = copy.copy(guest_config)
    config.devices = [device]
    return config


def _recorded(instance: Any, name: str) -> Any:
    """Return a field of Nova's record; None where it was not loaded: loading it costs a message."""
    is_set = getattr(instance, "obj_attr_is_set", None)
    return getattr(instance, name, None) if is_set is None or is_set(name) else None


def _no_answer() -> Exception:
    """Make the error that libvirt raises for a stuck guest after a long wait."""
    message = "Timed out during operation: the guest does not answer"
    return _error(Code.OPERATION_TIMEOUT, message)


def _no_disk(target: str) -> Exception:
    """Make the error that libvirt raises for a disk that a domain does not have."""
    return _error(Code.INVALID_ARG, f"invalid argument: invalid path: {target}")


def _error(code: Code, message: str) -> Exception:
    error: Exception = libvirt_driver.libvirt.libvirtError(message)
    error.args = (message,)
    error.err = (code, _FROM_QEMU, message, 2)  # type: ignore[attr-defined]
    return error
