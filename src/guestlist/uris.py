"""A libvirt URI as libvirt itself reads it: which host is meant, and by which transport.

In: a URI, an alias of one, or None. Out: the URI that libvirt would open, its transport, and the
same URI with prompts switched off. Opens no connection; reads libvirt.conf, as libvirt does, for
aliases and for the default.

Source: libvirt docs/uri.rst; src/libvirt.c (virConnectGetDefaultURI).
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import NamedTuple

_SYSTEM = "/etc/libvirt/libvirt.conf"
_SSH = "ssh"
_NO_PROMPTS = "no_tty"
_LAST_PORT = 65_535

_URI = re.compile(
    r"(?P<scheme>[a-z][a-z0-9.+-]*):"
    r"(?://(?:[^/?#]*@)?(?P<host>\[[^]/?#]*\]|[^][:/?#]*)(?::(?P<port>[0-9]*))?(?=[/?#]|$)|(?!//))"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?",
    re.IGNORECASE,
)
"""RFC 3986, appendix B. urllib does the same and takes 2 ms to import, for each short command."""


class Parts(NamedTuple):
    """The parts of a URI; "" and None for what it does not contain."""

    scheme: str = ""
    """driver[+transport], in lower case."""

    hostname: str = ""
    port: int | None = None
    path: str = ""
    query: str = ""


def resolved(uri: str | None) -> str | None:
    """Return the URI that libvirt makes of this one: it resolves aliases and the default.

    None becomes LIBVIRT_DEFAULT_URI or `uri_default`. Where neither is set the answer is None:
    libvirt then looks for a hypervisor on this machine.
    """
    uri = uri or os.environ.get("LIBVIRT_DEFAULT_URI") or _setting("uri_default")
    if uri is None or ":" in uri:
        return uri
    aliases = re.search(r"^\s*uri_aliases\s*=\s*\[(.*?)\]", _configuration(), re.M | re.S)
    pairs = re.findall(r"""["']([^"'=]+)=([^"']+)["']""", aliases[1]) if aliases else []
    found: str = dict(pairs).get(uri, uri)
    return found


def transport(uri: str | None) -> str:
    """Return how the connection travels: "unix", "ssh", "tls", "tcp", "ext" or another word.

    "" is libvirt's own choice on this machine: a driver in this process, or the daemon's socket.
    """
    found = split(uri)
    _, _, named = found.scheme.partition("+")
    return named or ("tls" if found.hostname else "")


def parts(uri: str) -> Parts:
    """Return the parts of a URI as it is written; empty parts: the text is no URI."""
    found = _URI.match(uri)
    if found is None or int(found["port"] or 0) > _LAST_PORT:
        return Parts()
    return Parts(
        scheme=found["scheme"].lower(),
        hostname=(found["host"] or "").strip("[]").lower(),
        port=int(found["port"]) if found["port"] else None,
        path=found["path"],
        query=found["query"] or "",
    )


def split(uri: str | None) -> Parts:
    """Return the parts of the URI that libvirt makes of this one."""
    return parts(resolved(uri) or "")


def query(uri: str | None) -> dict[str, str]:
    """Return the parameters of a URI, by name; of a repeated one the last value."""
    text = split(uri).query
    if not text:
        return {}
    from urllib.parse import parse_qs  # noqa: PLC0415  2 ms, and most URIs have no parameters

    return {name: values[-1] for name, values in parse_qs(text).items()}


def without_prompts(uri: str | None) -> str | None:
    """Return the URI with which ssh fails instead of asking for a password or about a host's key.

    The URI stays as it is where ssh does not carry it, and where it contains `no_tty` already.
    """
    if transport(uri) != _SSH or _NO_PROMPTS in query(uri):
        return uri
    main, mark, fragment = (resolved(uri) or "").partition("#")
    return f"{main}{'&' if '?' in main else '?'}{_NO_PROMPTS}=1{mark}{fragment}"


def _setting(name: str) -> str | None:
    found = re.search(rf"""^\s*{name}\s*=\s*["'](.*?)["']""", _configuration(), re.M)
    return found[1] if found else None


def _configuration() -> str:
    """Return the text of libvirt.conf: the system's for root, else the user's; "" without one."""
    path = _SYSTEM
    if os.geteuid() != 0:
        home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        path = f"{home}/libvirt/libvirt.conf"
    with contextlib.suppress(OSError, UnicodeDecodeError), open(path) as configuration:
        return configuration.read()
    return ""
