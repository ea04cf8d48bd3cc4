"""Which conversions this Nova allows: each is tried on Nova's own code before it is used.

In: the Nova that is installed. Out: the names of the conversions that are proven, and a line in the
log for each of the others, whose method stays Nova's. A conversion relies on what Nova's code calls
and on what it makes of the answers. So that code is run here over stand-ins with known answers, and
its result is compared. Asks no libvirt, runs no process, changes nothing of Nova's.

Source: Nova 2023.1 to 2026.2.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import cache, partial
from types import FunctionType, SimpleNamespace
from typing import Any

import libvirt
from nova.virt.libvirt import config as libvirt_config
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import guest as libvirt_guest
from nova.virt.libvirt import host as libvirt_host
from oslo_log import log as logging

from guestlist.errors import Code
from guestlist.nova.domains import (
    CountedDomain,
    KnownDomain,
    ListedDomain,
    StatedDomain,
    XmlDocuments,
)
from guestlist.nova.live_answers import POWER_STATES

LOG = logging.getLogger(__name__)

_UUID = "5b3c6a44-0c5c-4d3f-9f3a-0a9d4f6d2a11"
_LISTED = ListedDomain(_UUID, "instance-00000001", 7)

_Driver = libvirt_driver.LibvirtDriver


class Differs(Exception):
    """Nova's code gave another result than the conversion relies on."""


@cache
def proven() -> frozenset[str]:
    """Return the conversions that this Nova allows; log the others. Tried once per process.

    The driver calls this when it is made, not when it is imported. Cost: some 5 ms, no call.
    """
    names = set()
    for prove in (
        _list_instance_domains,
        _sum_domain_memory_mb,
        _get_info,
        _get_vcpu_used,
        _get_disk_over_committed_size_total,
        _get_all_volume_usage,
    ):
        name = prove.__name__
        name = name if hasattr(_Driver, name) or hasattr(libvirt_host.Host, name) else name[1:]
        try:
            prove()
        except Exception as error:
            why = str(error) if isinstance(error, Differs) else repr(error)
            LOG.warning("guestlist leaves %s to Nova, whose code differs: %s", name, why)
        else:
            names.add(name)
    return frozenset(names)


def _list_instance_domains() -> None:
    """Nova lists by flags, and reads name, UUID, id and XML of the handles, nothing else."""
    _same(_parameters(libvirt_host.Host.list_instance_domains), ["self", "only_running"])
    asked = []

    def list_all(flags: int) -> list[str]:
        asked.append(flags)
        return ["domain"]

    host = SimpleNamespace(
        get_connection=lambda: SimpleNamespace(listAllDomains=list_all),
        _wrap_libvirt_proxy=lambda domain: domain,
    )
    for only_running in (True, False):
        _same(_quiet(libvirt_host.Host.list_instance_domains)(host, only_running), ["domain"])
    _same(asked, [1, 3])
    document = f"<domain><name>{_LISTED.name}</name><uuid>{_UUID}</uuid></domain>"
    known = KnownDomain(_LISTED, XmlDocuments(lambda: {_UUID: document}), _not_to_be_asked)
    host.list_instance_domains = lambda only_running: [known]  # noqa: ARG005  Nova's
    (guest,) = libvirt_host.Host.list_guests(host, only_running=False)
    _same((guest.uuid, guest.name, guest.id), _LISTED)
    driver = SimpleNamespace(_host=SimpleNamespace(list_guests=lambda only_running: [guest]))  # noqa: ARG005
    _same(_quiet(_Driver.list_instances)(driver), [_LISTED.name])
    _same(_quiet(_Driver.list_instance_uuids)(driver), [_UUID])
    _same((guest.get_config().uuid, guest.get_all_disks()), (_UUID, []))


def _sum_domain_memory_mb() -> None:
    """Nova adds the third field of `info`, in MiB, and leaves a domain out that cannot tell."""
    guests = [
        _guest(info=(1, 4096, 2048, 1, 0)),
        _guest(info=None),
        _guest(info=(1, 1024, 1024, 1, 0)),
    ]
    host = SimpleNamespace(list_guests=lambda: guests)
    _same(_quiet(libvirt_host.Host._sum_domain_memory_mb)(host), 3)


def _get_info() -> None:
    """Nova takes the id, and the state from the first field of `info`, and reads nothing else."""
    _same(_parameters(_Driver.get_info), ["self", "instance", "use_cache"])
    for state, power_state in POWER_STATES.items():
        domain = StatedDomain(_LISTED, state, _not_to_be_asked)
        info = libvirt_guest.Guest(domain).get_info(None)
        _same((info.state, info.internal_id), (power_state, _LISTED.id))


def _get_vcpu_used() -> None:
    """Nova adds what `vcpus` lists of each active domain; 1 where the call fails."""
    guests = [_guest(vcpus=3), _guest(vcpus=None), _guest(vcpus=2)]
    driver = SimpleNamespace(_host=SimpleNamespace(list_guests=lambda: guests))
    _same(_quiet(_Driver._get_vcpu_used)(driver), 6)


def _get_disk_over_committed_size_total() -> None:
    """Nova adds over the devices; a qcow2 image counts its virtual less its allocated size."""
    measure = _Driver._get_instance_disk_info_from_config
    _same(_parameters(measure), ["self", "guest_config", "block_device_info"])
    if measure.__name__ not in _Driver._get_disk_over_committed_size_total.__code__.co_names:
        raise Differs(f"the sum is not made of what {measure.__name__} returns")
    path = os.path.realpath(__file__)
    found = os.stat(path)  # noqa: PTH116
    taken = found.st_blocks * 512
    qcow2 = SimpleNamespace(virtual_size=10 * taken, disk_size=taken)
    quiet = _quiet(
        measure,
        disk_api=SimpleNamespace(get_disk_info=lambda _path: qcow2),
        libvirt_utils=SimpleNamespace(get_disk_backing_file=lambda _path: "base"),
    )
    volume: dict[str, Any] = {"mount_device": "/dev/vdb", "connection_info": {}, "boot_index": None}
    for kind, virtual, over in (
        ("qcow2", 10 * taken, 9 * taken),
        ("raw", found.st_size, found.st_size - taken),
    ):
        config = libvirt_config.LibvirtConfigGuest()
        config.devices = [_disk(path, target, kind) for target in ("vda", "vdb")]
        _same(
            quiet(None, config, {"block_device_mapping": [volume]}),
            [
                {
                    "type": kind,
                    "path": path,
                    "virt_disk_size": virtual,
                    "backing_file": "base" if kind == "qcow2" else "",
                    "disk_size": taken,
                    "over_committed_disk_size": over,
                }
            ],
        )


def _get_all_volume_usage() -> None:
    """Nova takes the first four fields of `blockStats`, and skips a domain that cannot tell."""
    instance = SimpleNamespace(uuid=_UUID, name=_LISTED.name)
    counted = CountedDomain(_LISTED, {"vdb": (1, 2, 3, 4)}, _unable(), _absent, _not_to_be_asked)
    silent = CountedDomain(_LISTED, None, _unable(), _absent, _not_to_be_asked)
    without = CountedDomain(_LISTED, {}, _unable(), _absent, _not_to_be_asked)
    bdm = {"device_name": "/dev/vdb", "volume_id": "volume"}
    for domain, expected in (
        (
            counted,
            [
                {
                    "volume": "volume",
                    "instance": instance,
                    "rd_req": 1,
                    "rd_bytes": 2,
                    "wr_req": 3,
                    "wr_bytes": 4,
                }
            ],
        ),
        (silent, []),
        (without, []),
    ):
        host = SimpleNamespace(get_guest=lambda _, domain=domain: libvirt_guest.Guest(domain))
        driver = SimpleNamespace(_host=host)
        driver.block_stats = partial(_quiet(_Driver.block_stats), driver)
        asked = [{"instance": instance, "instance_bdms": [bdm]}]
        _same(_quiet(_Driver.get_all_volume_usage)(driver, None, asked), expected)


def _quiet(function: Any, **others: Any) -> Any:
    """Return Nova's function with a silent log, and with `others` in its module's names.

    The module's `libvirt` is put in as well: up to 2025.2 Nova sets it when a driver is made.
    """
    silence = logging.getLogger(f"{__name__}.silence")
    silence.logger.disabled = True
    names = {**function.__globals__, "LOG": silence, "libvirt": libvirt, **others}
    return FunctionType(function.__code__, names, argdefs=function.__defaults__)


def _unable() -> Exception:
    """Make the error that libvirt raises where it cannot tell."""
    error = libvirt.libvirtError("proof")
    error.err = (Code.OPERATION_INVALID, 0, "proof", 0)
    return error


def _absent(_disk: str) -> Exception:
    return _unable()


def _guest(**answers: Any) -> Any:
    """Make a guest whose domain gives these answers; the call raises for None."""

    def answer(value: Any) -> Callable[[], Any]:
        def give() -> Any:
            if value is None:
                raise _unable()
            return value

        return give

    vcpus = answers.get("vcpus")
    info = answer(answers.get("info"))
    lines = [(n, 1, 0, 0) for n in range(vcpus)] if vcpus else None
    domain = SimpleNamespace(
        info=info, vcpus=answer(lines and (lines, [])), UUIDString=lambda: _UUID
    )
    return libvirt_guest.Guest(domain)


def _disk(path: str, target: str, format: str) -> Any:
    disk = libvirt_config.LibvirtConfigGuestDisk()
    disk.source_type, disk.source_path = "file", path
    disk.target_dev, disk.driver_format = target, format
    return disk


def _not_to_be_asked(_uuid: str) -> Any:
    raise Differs("it asks for more than the list and the XML tell")


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _same(found: Any, expected: Any) -> None:
    if found != expected:
        raise Differs(f"{found!r} instead of {expected!r}")
