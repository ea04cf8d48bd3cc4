"""The file of hosts: names and libvirt URIs.

In: a file in YAML. Out: the URI of each name, in the order of the file. Opens no connection. The
exporter's `--probe.targets` and the audit's `--hosts` are such files.

    node1: qemu+tls://node1/system
    node2:
      uri: qemu+ssh://node2/system
"""

from __future__ import annotations

from pathlib import Path

from guestlist import uris
from guestlist.errors import short
from guestlist.settings_file import BadSettings, Files, mapping, parse_yaml

_EXAMPLE = "node1: qemu+tls://node1/system"


def uris_in(path: Path, files: Files) -> dict[str, str]:
    """Return the URIs of the file, by name. A file without a name is an empty mapping.

    Raises:
        BadSettings: the file cannot be used. The message is one line.
    """
    document = parse_yaml(files.read(path, "the file of hosts"), path, like=_EXAMPLE)
    found = {}
    for name, value in document.items():
        where = f"{path}: host {short(name)!r}"
        if not name or not name.isprintable():
            raise BadSettings(f"{where} is no name: it is empty, or cannot be printed")
        found[name] = _uri(value, where)
    return found


def distinct_hosts(path: Path) -> dict[str, str]:
    """Return the URIs of the file, by name, where each host has one name only.

    Raises:
        BadSettings: the file cannot be used, names no host, or has one URI under two names.
    """
    found = uris_in(path, Files())
    if not found:
        raise BadSettings(f"{path} names no host; a line of it reads, for example, {_EXAMPLE}")
    first: dict[str | None, str] = {}
    for name, uri in found.items():
        earlier = first.setdefault(uris.resolved(uri), name)
        if earlier != name:
            raise BadSettings(
                f"{path}: hosts {short(earlier)!r} and {short(name)!r} have the same URI, "
                f"{short(uri)}; which is it?"
            )
    return found


def _uri(value: object, where: str) -> str:
    if isinstance(value, dict):
        options = mapping(value, where)
        for key in options:
            if key != "uri":
                raise BadSettings(f"{where} has the unknown key {key!r}; known: uri")
        value = options.get("uri")
    if not isinstance(value, str) or not value or not value.isprintable():
        raise BadSettings(f"{where} has no URI")
    return value
