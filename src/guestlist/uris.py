"""A libvirt URI, as libvirt itself would read it: which one is meant, by which transport.

In: a URI, an alias of one, or None. Out: the URI that libvirt would open, how it travels, and the
same URI with prompts switched off. Opens nothing; reads libvirt.conf, as libvirt does, for aliases
and for the default.

Source: libvirt docs/uri.rst; src/libvirt.c (virConnectGetDefaultURI).
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

_SYSTEM = Path("/etc/libvirt/libvirt.conf")
_SSH = "ssh"
_NO_PROMPTS = "no_tty"


def resolved(uri: str | None) -> str | None:
    """The URI that libvirt makes of this one; None where it looks for a hypervisor on this machine.

    An alias is replaced by the URI it stands for; None by LIBVIRT_DEFAULT_URI or `uri_default`.
    """
    uri = uri or os.environ.get("LIBVIRT_DEFAULT_URI") or _setting("uri_default")
    if uri is None or ":" in uri:
        return uri
    aliases = re.search(r"^\s*uri_aliases\s*=\s*\[(.*?)\]", _configuration(), re.M | re.S)
    pairs = re.findall(r"""["']([^"'=]+)=([^"']+)["']""", aliases[1]) if aliases else []
    found: str = dict(pairs).get(uri, uri)
    return found


def transport(uri: str | None) -> str:
    """How the connection travels: "unix", "ssh", "tls", "tcp", "ext"…; "" for none at all."""
    parts = split(uri)
    _, _, named = parts.scheme.partition("+")
    return named or ("tls" if parts.hostname else "")


def split(uri: str | None) -> SplitResult:
    """The parts of a URI; empty ones where it is none."""
    try:
        parts = urlsplit(resolved(uri) or "")
        _ = parts.hostname, parts.port
    except ValueError:
        return urlsplit("")
    return parts


def query(uri: str | None) -> dict[str, str]:
    """The parameters of a URI, by name."""
    return {name: values[-1] for name, values in parse_qs(split(uri).query).items()}


def without_prompts(uri: str | None) -> str | None:
    """The URI with which ssh fails where it would ask for a password or about a host's key.

    The same where another transport carries it, or where it says itself (`no_tty`) what it wants.
    """
    if transport(uri) != _SSH or _NO_PROMPTS in query(uri):
        return uri
    main, mark, fragment = (resolved(uri) or "").partition("#")
    return f"{main}{'&' if '?' in main else '?'}{_NO_PROMPTS}=1{mark}{fragment}"


def _setting(name: str) -> str | None:
    found = re.search(rf"""^\s*{name}\s*=\s*["'](.*?)["']""", _configuration(), re.M)
    return found[1] if found else None


def _configuration() -> str:
    path = _SYSTEM
    if os.geteuid() != 0:
        home = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
        path = Path(home, "libvirt", "libvirt.conf")
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return ""
