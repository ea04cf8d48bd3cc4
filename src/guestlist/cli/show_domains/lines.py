"""A domain for people: a line for each thing that is known, its name first.

In: a domain that was found. Out: lines. What strangers chose in them is escaped
(`terminal.escape`). On a terminal a line that is too long continues below its value: so no value,
however long, can look like a line of its own. What is not there has no line, and what should be
known and is not is in the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

from guestlist.cli.show import table, words
from guestlist.cli.show.columns import COLUMNS
from guestlist.cli.show.terminal import escape
from guestlist.records import SourceKind

if TYPE_CHECKING:
    from guestlist.cli.show_domains.found import FoundDomain
    from guestlist.records import Details, Disk, Instance, IoTune, NovaMetadata, Source

_GAP = "  "
_LEAST = 20
"""Cells of a value at least, on a terminal however narrow."""


class _Line(NamedTuple):
    """A name and its value; `more` are lines below the value. `colour` are its attributes."""

    name: str
    value: str
    more: tuple[str, ...] = ()
    colour: str = ""


def lines(found: FoundDomain, *, width: int | None, colours: bool) -> Iterator[str]:
    """Yield the lines of one domain.

    Args:
        found: the domain.
        width: cells of a line; None: no bound.
        colours: whether names and the state are coloured.
    """
    shown = list(_lines(found))
    names = max(table.cells(escape(line.name)) for line in shown)
    room = None if width is None else max(_LEAST, width - names - len(_GAP))
    for line in shown:
        name = escape(line.name)
        name += " " * (names - table.cells(name))
        if colours:
            name = f"\x1b[1m{name}\x1b[0m"
        for text in (line.value, *line.more):
            shown_text = escape(text)
            for piece in [shown_text] if room is None else table.folded(shown_text, room):
                painted = f"\x1b[{line.colour}m{piece}\x1b[0m" if colours and line.colour else piece
                yield f"{name}{_GAP}{painted}".rstrip(" ")
                name = " " * names


def _lines(found: FoundDomain) -> Iterator[_Line]:
    instance = found.row.instance
    details = instance.details
    yield from _identity(found)
    if details is not None:
        yield from _machine(details)
        if details.nova is not None:
            yield from _nova(found, details.nova)
        yield from _disks(found, details)
        yield from _nics(details)
    if found.unknown:
        yield _Line("unknown", *_first_and_rest(found.unknown))


def _identity(found: FoundDomain) -> Iterator[_Line]:
    instance = found.row.instance
    yield _Line("name", instance.name)
    yield _Line("uuid", str(instance.uuid))
    yield _Line("id", "-" if instance.id is None else str(instance.id))
    yield _Line("host", found.row.host)
    state = str(instance.state)
    colour = COLUMNS["state"].colours.get(state, "")
    why = instance.reason_text
    yield _Line("state", state if why == "unknown" else f"{state} ({why})", colour=colour)
    yield _Line("launcher", f"{instance.launcher}, {_whose(instance)}")


def _whose(instance: Instance) -> str:
    return "ours" if instance.ours else "not ours"


def _machine(details: Details) -> Iterator[_Line]:
    if details.current_vcpus is not None:
        most = details.vcpus
        rest = "" if most in (None, details.current_vcpus) else f" of {most}"
        yield _Line("vcpus", f"{details.current_vcpus}{rest}")
    if details.current_memory_kib is not None:
        now, limit = _kib(details.current_memory_kib), _kib(details.memory_kib)
        memory = now if now == limit else f"{now} of {limit}"
        if details.max_memory_kib is not None:
            memory += f", up to {_kib(details.max_memory_kib)} by hotplug"
        yield _Line("memory", memory)
    os = details.os
    parts = [details.type, *([os.type, os.arch, os.machine] if os else [])]
    if machine := _joined(parts):
        yield _Line("machine", machine)
    if details.agent_connected is not None:
        yield _Line("agent", "connected" if details.agent_connected else "not connected")


def _nova(found: FoundDomain, nova: NovaMetadata) -> Iterator[_Line]:
    if nova.name is not None:
        yield _Line("nova_name", nova.name)
    if nova.created_at is not None:
        age = COLUMNS["age_seconds"].value(found.row)
        ago = f" ({words.age(age)} ago)" if isinstance(age, int) else ""
        yield _Line("created_at", words.instant(nova.created_at) + ago)
    if nova.flavor is not None:
        flavor = nova.flavor
        parts = [
            flavor.id,
            flavor.vcpus is not None and words.number(flavor.vcpus, "vCPU"),
            flavor.memory_mib is not None and f"{words.size(flavor.memory_mib << 20)} memory",
            flavor.disk_gb is not None and f"{flavor.disk_gb:,} GiB disk",
            flavor.ephemeral_gb and f"{flavor.ephemeral_gb:,} GiB ephemeral",
            flavor.swap_mb and f"{words.size(flavor.swap_mb << 20)} swap",
        ]
        yield _Line("flavor", _named(flavor.name, parts))
    if nova.owner is not None:
        owner = nova.owner
        yield _Line("project", _named(owner.project_name, [owner.project_id]))
        yield _Line("user", _named(owner.user_name, [owner.user_id]))
    if nova.image_id is not None:
        yield _Line("image", str(nova.image_id))
    if nova.root_type is not None:
        yield _Line("root", _joined([nova.root_type, nova.root_uuid]))
    yield _Line("nova", _joined([nova.package, f"metadata {nova.version}"]))


def _disks(found: FoundDomain, details: Details) -> Iterator[_Line]:
    used = found.usage
    if details.disks and used.disk_virtual_bytes is not None and not used.unknown:
        count = words.number(len(details.disks), "disk")
        allocated = words.size(used.disk_allocated_bytes or 0)
        grow = words.size(used.disk_over_committed_bytes or 0)
        size = words.size(used.disk_virtual_bytes)
        yield _Line("disks", f"{count}: {size}, {allocated} allocated, may grow by {grow}")
    for place, disk in enumerate(details.disks, 1):
        yield _Line(f"disk {disk.target or f'#{place}'}", *_disk(found, disk))


def _disk(found: FoundDomain, disk: Disk) -> tuple[str, tuple[str, ...]]:
    virtual, allocated = found.size(disk)
    facts = [
        _joined([disk.bus, disk.device], " "),
        disk.readonly and "read-only",
        disk.shareable and "shareable",
        disk.transient and "transient",
        disk.cache and f"cache {disk.cache}",
        disk.discard and f"discard {disk.discard}",
        disk.serial and f"serial {disk.serial}",
        virtual is not None and words.size(virtual),
        allocated is not None and f"{words.size(allocated)} allocated",
    ]
    if disk.source.kind is SourceKind.NONE:
        return _joined([*facts, "no medium"]), ()
    more = [_source(disk.source)]
    more += [f"over {_source(each)}" for each in disk.backing]
    if disk.iotune is not None:
        more.append(f"limits: {_limits(disk.iotune)}")
    return _joined(facts), tuple(more)


def _source(source: Source) -> str:
    """Return where an image is: its format and kind, and its place."""
    kind = source.kind and str(source.kind)
    return _joined(
        [
            _joined([source.format, kind], " ") if source.format else f"{kind} of no named format",
            source.encryption and f"encrypted by {source.encryption}",
            source.slice and f"a part from {source.slice.offset} on, {source.slice.size} bytes",
            source.location or "place not known",
        ]
    )


def _limits(iotune: IoTune) -> str:
    limits = ((each.name, getattr(iotune, each.name)) for each in fields(iotune))
    return _joined(f"{name} {limit}" for name, limit in limits if limit is not None)


def _nics(details: Details) -> Iterator[_Line]:
    """Yield a line for each interface, and one for the addresses of ports without interface."""
    ports = {port.uuid: port.ips for port in details.nova.ports} if details.nova else {}
    for place, nic in enumerate(details.nics, 1):
        facts = [
            nic.mac,
            _joined([nic.kind, nic.source], " "),
            nic.bridge and nic.bridge != nic.source and f"bridge {nic.bridge}",
            nic.model,
            nic.mtu is not None and f"MTU {nic.mtu:,}",
        ]
        ips = ports.pop(nic.interface_id, ()) if nic.interface_id else ()
        port = nic.interface_id and _joined([f"port {nic.interface_id}", *ips])
        yield _Line(f"nic {nic.target or f'#{place}'}", _joined(facts), (port,) if port else ())
    if rest := _joined(ip for ips in ports.values() for ip in ips):
        yield _Line("ips", rest)


def _named(name: str | None, rest: Iterable[object]) -> str:
    """Return a name, and what else is known in parentheses."""
    known = _joined(rest)
    return " ".join(filter(None, [name or "-", f"({known})" if known else ""]))


def _joined(parts: Iterable[object], between: str = ", ") -> str:
    """Return the parts that there are."""
    return between.join(str(part) for part in parts if part)


def _first_and_rest(texts: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    first, *rest = texts
    return first, tuple(rest)


def _kib(kib: int | None) -> str:
    return "?" if kib is None else words.size(kib << 10)
