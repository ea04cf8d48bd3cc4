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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_SYSTEM = "/etc/libvirt/libvirt.conf"
_SSH = "ssh"
_NO_PROMPTS = "no_tty"

_INTERNAL = re.compile(r"\w+:///")
"""A URI without transport and host. Most have this form; urllib, which takes 2 ms to import, reads
the others."""


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
    if _INTERNAL.match(resolved(uri) or ""):
        return ""
    parts = split(uri)
    _, _, named = parts.scheme.partition("+")
    return named or ("tls" if parts.hostname else "")


def split(uri: str | None) -> SplitResult:
    """Return the parts of a URI; empty parts where the text is no URI."""
    from urllib.parse import urlsplit  # noqa: PLC0415  see `_INTERNAL`

    try:
        parts = urlsplit(resolved(uri) or "")
        _ = parts.hostname, parts.port
    except ValueError:
        return urlsplit("")
    return parts


def query(uri: str | None) -> dict[str, str]:
    """Return the parameters of a URI, by name; of a repeated one the last value."""
    from urllib.parse import parse_qs  # noqa: PLC0415  see `_INTERNAL`

    return {name: values[-1] for name, values in parse_qs(split(uri).query).items()}


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
    from pathlib import Path  # noqa: PLC0415  4 ms with its own imports, and most URIs are full ones

    path = Path(_SYSTEM)
    if os.geteuid() != 0:
        home = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
        path = Path(home, "libvirt", "libvirt.conf")
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return ""
