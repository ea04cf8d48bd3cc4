"""The values of a fleet's keys in etcd. Pure.

In: publications, tombstones, records of a host. Out: JSON with its version, about 260 bytes for a
domain; and back. The names of the fields are part of what guestlists of different versions agree
on: they are not those of the classes.

Devices are not published, and neither is what Nova lets tenants choose.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from uuid import UUID

import msgspec

from guestlist.errors import one_line, short
from guestlist.fleet.rows import Fate, Phase, Publication, Tombstone
from guestlist.launcher import Launcher
from guestlist.records import Details, Instance, NovaMetadata, Owner
from guestlist.states import DomainState

if TYPE_CHECKING:
    from guestlist.fleet.etcd.kv import KeyValue

VERSION = 1
"""The version of the values that this guestlist writes, and the only one that it reads."""

LONGEST_TEXT = 4096
"""Characters of a name or an id in a value."""

LARGEST = 2**63 - 1
"""The largest number in a value."""

_Number = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
_Text = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]


class _Value(msgspec.Struct, omit_defaults=True, gc=False):
    """What every value has first: its version."""

    v: int


class Domain(_Value, omit_defaults=True, gc=False):
    """A domain, as a host publishes it. A number is libvirt's; None: not known, or not there.

    `began` is the revision from which the domain runs, or ran last, where its key is older; else 0,
    and it is that of the key.
    """

    name: _Text
    state: _Number
    reason: int
    launcher: _Text
    id: _Number | None = None
    ours: bool = True
    phase: Phase = Phase.RESIDENT
    arrived: bool = False
    has_details: bool = False
    vcpus: _Number | None = None
    vcpus_now: _Number | None = None
    memory_kib: _Number | None = None
    memory_now_kib: _Number | None = None
    project: _Text | None = None
    user: _Text | None = None
    began: _Number = 0


class _Present(Domain, omit_defaults=True, gc=False):
    """A domain of the present version: `are_domains` makes a million of them."""

    v: Literal[1]


class _Gone(Domain, omit_defaults=True, kw_only=True, gc=False):
    """A domain that a host had, and what became of it."""

    fate: Fate
    born: _Number = 0


class HostRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a host has published so far; every transaction of the host writes it.

    `term` is the revision at which the present agent took the host over, `sequence` counts its
    transactions, `count` the domains that are published. `synced` says that all are. `agent` names
    the program and its version. `written` is the host's own time (ISO 8601), for people alone.
    `failure` is the line that says why the host is not current, where its agent knows.
    """

    term: _Number
    synced: bool
    sequence: _Number
    count: _Number
    agent: _Text = ""
    written: _Text = ""
    failure: _Text = ""


class LiveRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who holds the lease of a host.

    `machine` tells machines apart: an agent that starts again on the same one need not wait for the
    old lease. `incarnation` is new with each start of an agent.
    """

    machine: _Text
    incarnation: _Text
    agent: _Text = ""


def publication_value(publication: Publication, began: int = 0) -> bytes:
    """Return the value of a domain. The same publication always gives the same bytes.

    `began` is the revision from which the domain runs, where its key is older.
    """
    known = _values_of(publication.instance)
    phase, arrived = publication.phase, publication.arrived
    return _encode(Domain(**known, phase=phase, arrived=arrived, began=began))


def tombstone_value(tombstone: Tombstone) -> bytes:
    """Return the value of a tombstone."""
    known = _values_of(tombstone.instance)
    return _encode(_Gone(**known, fate=tombstone.fate, born=tombstone.born))


def record_value(record: HostRecord | LiveRecord) -> bytes:
    """Return the value of a host's record, or of the key on its lease."""
    return _encode({"v": VERSION, **msgspec.structs.asdict(record)})


def host_record(value: bytes) -> HostRecord:
    """Return a host's record. Raises ValueError, as all of these: it cannot be read."""
    _check(_version(value))
    return _host_record(value)


def live_record(value: bytes) -> LiveRecord:
    """Return who holds a lease."""
    _check(_version(value))
    return _live_record(value)


_T = TypeVar("_T")


def _reader_of(kind: type[_T]) -> Callable[[bytes], _T]:
    """Return the function that reads values of a kind, and raises ValueError of all others."""
    decode = msgspec.json.Decoder(kind).decode

    def read(value: bytes) -> _T:
        try:
            return decode(value)
        except RecursionError as error:  # also of fields that are skipped
            raise ValueError("it is nested too deeply") from error

    return read


_encode = msgspec.json.Encoder().encode
_domain = _reader_of(Domain)
_present_domain = msgspec.json.Decoder(_Present).decode
_gone = _reader_of(_Gone)
_version = _reader_of(_Value)
_host_record = _reader_of(HostRecord)
_live_record = _reader_of(LiveRecord)

_LAUNCHERS = {each.value: each for each in Launcher}
_OTHER = Launcher.OTHER


def _values_of(instance: Instance) -> dict[str, Any]:
    known: dict[str, Any] = {
        "v": VERSION,
        "name": _text(instance.name),
        "state": int(instance.state),
        "reason": instance.reason,
        "launcher": instance.launcher.value,
        "id": instance.id,
        "ours": instance.ours,
    }
    details = instance.details
    if details is not None:
        owner = details.nova.owner if details.nova else None
        known |= {
            "has_details": True,
            "vcpus": _number(details.vcpus),
            "vcpus_now": _number(details.current_vcpus),
            "memory_kib": _number(details.memory_kib),
            "memory_now_kib": _number(details.current_memory_kib),
            "project": owner and _text(owner.project_id),
            "user": owner and _text(owner.user_id),
        }
    return known


def _text(text: str | None) -> str | None:
    """Return text that a value may hold: cut, and without halves of characters."""
    return text and text[:LONGEST_TEXT].encode("utf-8", "replace").decode()


def _number(number: int | None) -> int | None:
    """Return a number that a value may hold; None where it is not known, or not plausible."""
    return number if number is not None and 0 <= number <= LARGEST else None


def _check(value: _Value) -> None:
    if value.v != VERSION:
        raise ValueError("another version")


def domain(value: bytes) -> Domain:
    """Return a domain's value, checked; no record is made of it yet, which takes longest."""
    found = _domain(value)
    _check(found)
    return found


def are_domains(page: Iterable[bytes]) -> bool:
    """Return whether `domain` takes all of these values."""
    try:
        deque(map(_present_domain, page), maxlen=0)
    except (ValueError, RecursionError):
        return False
    return True


def instance_of(uuid: UUID, value: Domain) -> Instance:
    """Return the instance of a value, made field by field.

    A list of a fleet makes a million of them, and the constructor of a frozen dataclass takes as
    long as everything else here.
    """
    instance: Instance = object.__new__(Instance)
    _set_uuid(instance, uuid)
    _set_name(instance, value.name)
    _set_id(instance, value.id)
    _set_state(instance, DomainState.of(value.state))
    _set_reason(instance, value.reason)
    _set_launcher(instance, _LAUNCHERS.get(value.launcher, _OTHER))
    _set_details(instance, _published_details(value) if value.has_details else None)
    _set_statistics(instance, None)
    _set_ours(instance, value.ours)
    return instance


(
    _set_uuid,
    _set_name,
    _set_id,
    _set_state,
    _set_reason,
    _set_launcher,
    _set_details,
    _set_statistics,
    _set_ours,
) = (Instance.__dict__[each.name].__set__ for each in fields(Instance))


def _published_details(value: Domain) -> Details:
    size = value.vcpus, value.vcpus_now, value.memory_kib, value.memory_now_kib
    return _details(size, (value.project, value.user))


_Size = tuple[int | None, int | None, int | None, int | None]


@lru_cache(maxsize=100_000)
def _details(size: _Size, owner: tuple[str | None, str | None]) -> Details:
    """Return what is published of the details, shared by all domains for which it is the same.

    `size` is vCPUs and memory, each at most and now; `owner` is project and user. The devices are
    not published, and are named as unknown.
    """
    vcpus, vcpus_now, memory_kib, memory_now_kib = size
    project, user = owner
    nova = None
    if project is not None or user is not None:
        nova = NovaMetadata("", None, None, None, None, Owner(user, None, project, None))
    return Details(
        None,
        None,
        None,
        vcpus,
        vcpus_now,
        memory_kib,
        memory_now_kib,
        nova=nova,
        unknown=("devices",),
    )


def publication(host: str, uuid: UUID, value: bytes, created: int) -> Publication:
    """Return the publication in a value, with its record made; `created` is its key's revision."""
    found = domain(value)
    born = max(created, found.began)
    return Publication(host, instance_of(uuid, found), found.phase, found.arrived, born)


def tombstone(host: str, uuid: UUID, row: KeyValue) -> Tombstone:
    """Return the tombstone in a row."""
    value = _gone(row.value)
    _check(value)
    born = value.born or row.create_revision
    return Tombstone(host, instance_of(uuid, value), value.fate, born)


def why_not(value: bytes, error: ValueError) -> str:
    """Return why a value cannot be read: first of all its version."""
    try:
        version = _version(value).v
    except ValueError:
        return f"the value is none of guestlist's: {one_line(error)}"
    if version == VERSION:
        return f"the value cannot be read: {one_line(error)}"
    return (
        f"the value has version {short(str(version))}, and this guestlist reads version {VERSION}; "
        "read it with a newer guestlist"
    )
