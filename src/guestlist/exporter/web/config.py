"""The web-config file of exporter-toolkit (`--web.config.file`): its text as records.

In: the file. Out: `WebConfig`: TLS, headers, users, rate. A key that the toolkit does not know is
an error, and so is a value that it refuses. Paths in the file are relative to the file. `tls` makes
the SSL context of it, `users` and `rate` do the rest.

Differences from the toolkit: a minimum version above the maximum, and a list of allowed names
without TLS, are errors here; there they would refuse, or admit, every client. `http2` may be given
and changes nothing: this server speaks HTTP/1.1, which every client of HTTP/2 speaks too.

Source: exporter-toolkit docs/web-configuration.md, web/tls_config.go, web/handler.go.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guestlist.exporter.web.rate import Rate
from guestlist.exporter.web.tls import Certificates, TlsOptions, new_context
from guestlist.settings_file import BadSettings, Files, SettingsFile, mapping, parse_yaml

_KNOWN = {
    "tls_server_config": (
        *("cert", "key", "client_ca", "cert_file", "key_file", "client_ca_file"),
        *("client_auth_type", "client_allowed_sans", "min_version", "max_version"),
        *("cipher_suites", "prefer_server_cipher_suites", "curve_preferences"),
    ),
    "http_server_config": ("http2", "headers"),
    "basic_auth_users": None,
    "rate_limit": ("interval", "burst"),
}
"""The keys of the file, and of each the keys below; None: any."""

_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""The headers that may be set, and the values of each; (): any value."""

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}

_is_bcrypt = re.compile(r"\$2[abxy]?\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}").fullmatch
"""The cost is 15 at most, which takes some seconds; each step more doubles that, up to 31."""

_MOST_BURST = 1_000_000_000

_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9}
_NANOSECONDS |= {"m": 60 * 10**9, "h": 3_600 * 10**9}

_ONE_PART = r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_is_duration = re.compile(rf"[-+]?({_ONE_PART})+", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What a web-config file says."""

    tls: ssl.SSLContext | None = None
    """None: plain HTTP."""

    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    """bcrypt hashes by name. Without any, every client is admitted."""

    rate: Rate | None = None


def web_config_file(path: Path) -> SettingsFile[WebConfig]:
    """Return the file, which is read when it is asked for."""
    return SettingsFile(path, _read)


def _read(path: Path, files: Files) -> WebConfig:
    """Return what the file says.

    Raises:
        BadSettings: the file, or one that it names, cannot be used.
    """
    found = _checked(parse_yaml(files.read(path, "--web.config.file"), path), path)
    if found["tls_server_config"].values.get("key"):
        files.read(path, "--web.config.file, which holds a key,", private=True)
    http = found["http_server_config"]
    http.get("http2", True, bool)
    return WebConfig(
        tls=_tls(found["tls_server_config"], path.parent, files),
        headers=_headers(http),
        users=_users(found["basic_auth_users"]),
        rate=_rate(found["rate_limit"]),
    )


class _Section:
    """The values under one key of the file."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def get(self, key: str, default: Any, *types: type) -> Any:
        """Return a value of one of these types; `default` where it is absent or empty.

        Raises:
            BadSettings: it is of another type.
        """
        value = self.values.get(key)
        if value is None:
            return default
        if type(value) not in types:
            wanted = " or ".join(_TYPE_NAMES[each] for each in types)
            raise BadSettings(f"{self.where}: {key} is no {wanted}")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Return a list of texts; None where it is absent."""
        values = self.get(key, None, list)
        if values is None:
            return None
        if not all(isinstance(value, str) for value in values):
            raise BadSettings(f"{self.where}: {key} has an item that is no text")
        return tuple(values)

    def refuse(self, problem: str) -> BadSettings:
        """Return the error for a value that has no meaning."""
        return BadSettings(f"{self.where}: {problem}")


_TYPE_NAMES = {str: "text", bool: "true or false", int: "whole number", list: "list"}


def _checked(document: Mapping[str, Any], path: Path) -> dict[str, _Section]:
    """Return each section; one that is absent is empty. Refuse keys that are not known."""
    sections = {}
    _refuse_unknown(document, _KNOWN, str(path))
    for name, known in _KNOWN.items():
        where = f"{path}: {name}"
        values = mapping(document.get(name), where)
        if known is not None:
            _refuse_unknown(values, known, where)
        sections[name] = _Section(values, where)
    return sections


def _refuse_unknown(values: Mapping[str, Any], known: Any, where: str) -> None:
    for key in values:
        if key not in known:
            raise BadSettings(f"{where} has the unknown key {key!r}; known: {', '.join(known)}")


def _tls(section: _Section, place: Path, files: Files) -> ssl.SSLContext | None:
    text: Callable[[str], str] = lambda key: section.get(key, "", str)  # noqa: E731
    asked_for = [
        *("cert", "cert_file", "key", "key_file", "client_ca", "client_ca_file"),
        "client_auth_type",
    ]
    sans = section.texts("client_allowed_sans")
    options = TlsOptions(
        client_auth_type=text("client_auth_type") or "NoClientCert",
        client_allowed_sans=sans,
        min_version=_version(section, "min_version", "TLS12"),
        max_version=_version(section, "max_version", "TLS13"),
        cipher_suites=section.texts("cipher_suites") or (),
        prefer_server_cipher_suites=section.get("prefer_server_cipher_suites", True, bool),
        curve_preferences=section.texts("curve_preferences") or (),
    )
    if not any(map(text, asked_for)) and sans is None:
        return None

    def content(inline: str, file: str, *, private: bool = False) -> bytes | None:
        if text(file):
            return files.read(place / text(file), file, private=private)
        return text(inline).encode() or None

    certificate, key = content("cert", "cert_file"), content("key", "key_file", private=True)
    for found, name in ((certificate, "cert"), (key, "key")):
        if found is None:
            raise section.refuse(f"{name} or {name}_file is missing")
    certificates = Certificates(
        certificate or b"", key or b"", content("client_ca", "client_ca_file")
    )
    try:
        return new_context(options, certificates)
    except ValueError as error:
        raise section.refuse(str(error)) from None


def _version(section: _Section, key: str, default: str) -> ssl.TLSVersion:
    name = section.get(key, default, str)
    if name not in _VERSIONS:
        raise section.refuse(f"{key} {name!r} is unknown; known: {', '.join(_VERSIONS)}")
    return _VERSIONS[name]


def _headers(http: _Section) -> dict[str, str]:
    headers = mapping(http.values.get("headers"), f"{http.where}: headers")
    for name, value in headers.items():
        if name not in _HEADERS:
            raise http.refuse(f"the header {name!r} cannot be set; known: {', '.join(_HEADERS)}")
        if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
            raise http.refuse(f"the value of header {name} is no printable text")
        if _HEADERS[name] and value not in _HEADERS[name]:
            raise http.refuse(f"header {name} is {value!r}; known: {', '.join(_HEADERS[name])}")
    return {name: value for name, value in headers.items() if value}


def _users(section: _Section) -> dict[str, str]:
    for name, value in section.values.items():
        if not isinstance(value, str) or not _is_bcrypt(value):
            raise section.refuse(
                f"the password of {name!r} is no bcrypt hash of cost 4 to 15 ($2y$10$…)"
            )
    return dict(section.values)


def _rate(section: _Section) -> Rate | None:
    interval = _nanoseconds(section, section.get("interval", 0, str, int))
    burst = section.get("burst", 0, int)
    if burst > _MOST_BURST:
        raise section.refuse(f"burst is more than {_MOST_BURST:,}")
    return Rate(interval / 10**9, burst) if interval > 0 else None


def _nanoseconds(section: _Section, value: str | int) -> float:
    """Return a duration as Go reads it: "1m30s", or a number of nanoseconds."""
    if isinstance(value, int) or value == "0":
        return int(value)
    if not _is_duration(value):
        raise section.refuse(f"interval {value!r} is no duration; write 1s, or 1m30s")
    parts = re.findall(_ONE_PART, value, re.ASCII)
    length = sum(float(number) * _NANOSECONDS[unit] for number, unit in parts)
    return -length if value.startswith("-") else length
