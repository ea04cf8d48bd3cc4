"""LibvirtDriver: Nova's own, with the methods converted that asked domain by domain.

In: Nova, which loads it from `compute_driver = guestlist.LibvirtDriver`. Out: the results, types,
units, log and exceptions of Nova's own methods, which do the work: only what they ask libvirt and
qemu-img for is known already, or asked for of all domains at once. Whatever guestlist cannot answer
Nova asks itself.

Source: Nova 2023.1 to 2026.2, nova/virt/libvirt/driver.py.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
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
from guestlist.nova.gate import Gate
from guestlist.nova.host import NovaHost
from guestlist.nova.questions import HostQuestions

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

options.register(CONF)

_PROVEN = proof.proven()
_FROM_QEMU = 10

_VCPUS_MAX_AGE = 3_600.0
"""Seconds for which the vCPUs of an active domain are believed, without statistics of them."""

_qcow2_images: ContextVar[Mapping[str, tuple[int, int]]] = ContextVar(
    "guestlist_qcow2_images",
    default={},  # noqa: B039  never written to
)


class LibvirtDriver(libvirt_driver.LibvirtDriver):
    """Nova's libvirt driver over guestlist. Options: `[guestlist]` in nova.conf.

    What it costs in calls to libvirt, warm, however many domains there are: `list_instances`,
    `list_instance_uuids` and `get_num_instances` 1 (2 with `only_nova`), `_get_vcpu_used` 2,
    `_get_disk_over_committed_size_total` 3 and no process, mediated devices and mount state 2,
    memory with file-backed memory 1, volume usage 2; `get_info` none where the live view may
    answer, and 1 if that has to be compared first, else Nova's 3. `instance_exists` is Nova's own:
    2.
    """

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self._gate = Gate(self._uri(), CONF, _PROVEN)
        self._vcpus_known: dict[str, tuple[int, int, float]] = {}
        if type(self._host) is libvirt_host.Host:
            self._host.__class__ = NovaHost  # others hold it already, so it is not made anew
        if isinstance(self._host, NovaHost):
            self._host.guestlist_attach(self._gate, _PROVEN)

    def init_host(self, host: str) -> None:
        """As Nova's; connects guestlist, once Nova has its event loop and its connection.

        Nova waits without end for one that the daemon has no place for.
        """
        super().init_host(host)
        self._gate.open()

    def cleanup_host(self, host: str) -> None:
        """As Nova's; guestlist's connections are closed."""
        self._gate.close()
        super().cleanup_host(host)

    # Who is here

    def list_instances(self) -> list[str]:
        """As Nova's; with `only_nova`, of Nova's own alone."""
        return [guest.name for guest in self._listed_guests()]

    def list_instance_uuids(self) -> list[str]:
        """As Nova's; with `only_nova`, of Nova's own alone."""
        return [guest.uuid for guest in self._listed_guests()]

    def _listed_guests(self) -> list[Any]:
        guests: list[Any] = self._host.list_guests(only_running=False)
        if not self._gate.wants("only_nova"):
            return guests
        ours = self._gate.ask("tell Nova's domains", HostQuestions.launched_by_nova)
        return guests if ours is None else [guest for guest in guests if guest.uuid in ours]

    def instance_exists(self, instance: Any) -> bool:
        """As Nova's, which asks libvirt: two calls."""
        with self._gate.only_looking():
            exists: bool = super().instance_exists(instance)
        return exists

    def get_info(self, instance: Any, use_cache: bool = True) -> Any:
        """As Nova's; from the live view where that has what the caller has, and is beyond doubt.

        Never that an instance is shut down, has crashed or is gone: libvirt is asked for that.
        """
        if use_cache and "get_info" in _PROVEN and _is_at_rest(instance):
            known = self._gate.undisputed(instance)
            if known is not None:
                id = -1 if known.id is None else known.id
                listed = ListedDomain(instance.uuid, known.name, id)
                find = partial(self._host.guestlist_domain, instance.uuid)
                info = libvirt_guest.Guest(StatedDomain(listed, known.state, find)).get_info(
                    self._host
                )
                if _is_no_news(instance, info.state):
                    return info
        with self._gate.only_looking():
            return super().get_info(instance, use_cache=use_cache)

    # What they use

    def _get_vcpu_used(self) -> int:
        """As Nova's: 1 for a domain whose vCPUs libvirt does not list."""
        if "_get_vcpu_used" not in _PROVEN:
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
        """Of a domain that libvirt has no statistics of: asked for once per start, and hour."""
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
        """As Nova's, in bytes; the sizes of qcow2 images are read from their headers."""
        images = None
        if self._gate.wants("disk_facts") and "_get_disk_over_committed_size_total" in _PROVEN:
            images = self._gate.ask("measure the images", HostQuestions.qcow2_images)
        with _with_images(images or {}):
            return int(super()._get_disk_over_committed_size_total())

    def _get_instance_disk_info_from_config(
        self, guest_config: Any, block_device_info: Any
    ) -> list[dict[str, Any]]:
        """As Nova's, one device after the other while their images are known."""
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
        """What Nova says of one device of a domain.

        Of a known image Nova is asked as if it were raw: whether it counts is the same then, and
        of a raw one it takes but a stat. The numbers that a header gives are put in.
        """
        ask = super()._get_instance_disk_info_from_config
        sizes = images.get(getattr(device, "source_path", None) or "")
        infos: list[dict[str, Any]]
        if sizes is not None and _is_qcow2_file(device):
            raw = copy.copy(device)
            raw.driver_format = "raw"
            try:
                infos = ask(_config_of(guest_config, raw), block_device_info)
            except OSError:  # of a qcow2 image that is gone Nova says something else
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
        """As Nova's; the counters are asked of all guests at once, over another connection.

        A guest that is stuck is left out and logged, as one is whose volume was detached. Where
        libvirt has no such statistics: 4 calls, and 1 a volume.
        """
        counted = None
        if compute_host_bdms and "get_all_volume_usage" in _PROVEN:
            counted = self._gate.ask("count what volumes are used", HostQuestions.volumes)
        domains: dict[str, Any] = {
            one.uuid: CountedDomain(
                one,
                counters,
                _no_answer(),
                _no_disk,
                partial(self._host.guestlist_domain, one.uuid),
            )
            for one, counters in counted or ()
        }
        if counted is not None and not domains:
            with suppress(libvirt_driver.libvirt.libvirtError):  # then Nova looks each up, and logs
                domains = {each.UUIDString(): each for each in self._host.guestlist_domains()}
        with standing_in(domains), self._gate.only_looking():
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


def _is_at_rest(instance: Any) -> bool:
    """Whether, as far as the caller knows, nobody is doing anything to an instance."""
    return not _callers(instance, "task_state")


def _is_no_news(instance: Any, state: int) -> bool:
    """Whether a power state is what the caller has already, or the caller has none (0)."""
    return _callers(instance, "power_state") in (None, 0, state)


def _callers(instance: Any, name: str) -> Any:
    """What the caller has of an instance; None where it was not loaded: it is not asked for."""
    is_set = getattr(instance, "obj_attr_is_set", None)
    return getattr(instance, name, None) if is_set is None or is_set(name) else None


def _no_answer() -> Exception:
    """What libvirt would have said of a guest that is stuck, in the end."""
    message = "Timed out during operation: the guest does not answer"
    return _error(Code.OPERATION_TIMEOUT, message)


def _no_disk(target: str) -> Exception:
    """What libvirt says of a disk that a guest does not have."""
    return _error(Code.INVALID_ARG, f"invalid argument: invalid path: {target}")


def _error(code: Code, message: str) -> Exception:
    error: Exception = libvirt_driver.libvirt.libvirtError(message)
    error.args = (message,)
    error.err = (code, _FROM_QEMU, message, 2)  # type: ignore[attr-defined]
    return error
