"""TLS as exporter-toolkit's web-config file describes it, in the terms of Python's ssl.

In: options by Go's names, and certificates in PEM. Out: an SSL context. The names of a client's
certificate are checked at the end of the handshake, so that a client which is not admitted sends no
request. Opens no file.

What Go can do and Python's ssl cannot: accept a certificate without verifying it
(RequireAnyClientCert: refused here), and several curves before Python 3.15 (refused). A server that
only requests a certificate (RequestClientCert) admits every client in Go; here it does the same and
does not ask.

Source: Go crypto/tls (ClientAuthType, CipherSuites, CurveID); Python ssl; openssl-ciphers(1).
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = "RequireAnyClientCert", "RequireClientCert"

_TLS13_SUITES = frozenset(
    {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
)
"""Go knows the names and does not let a list choose among these."""

_SUITES = {
    f"TLS_ECDHE_{go_key}_WITH_{go_cipher}": f"ECDHE-{go_key}-{cipher}"
    for go_key in ("ECDSA", "RSA")
    for go_cipher, cipher in (
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
"""OpenSSL's names of cipher suites by Go's."""

_CURVES = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}

_OLD_VERSIONS_ALLOWED = "@SECLEVEL=0"
"""OpenSSL 3 has TLS 1.0 and 1.1 at this level only."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """The options of `tls_server_config` that are no certificates."""

    client_auth_type: str
    client_allowed_sans: tuple[str, ...] | None
    min_version: ssl.TLSVersion
    max_version: ssl.TLSVersion
    cipher_suites: tuple[str, ...]
    prefer_server_cipher_suites: bool
    curve_preferences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM texts: the server's certificate and those that it is signed by, its key, and whose
    clients' certificates are accepted.
    """

    certificate: bytes
    key: bytes
    client_ca: bytes | None


def new_context(options: TlsOptions, certificates: Certificates) -> ssl.SSLContext:
    """Return an SSL context of a server.

    Raises:
        ValueError: an option is unknown, or cannot be had with Python; or a text is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _set_versions_and_ciphers(context, options)
    if options.curve_preferences:
        _set_curves(context, options.curve_preferences)
    _load_own(context, certificates)
    _set_client_auth(context, options, certificates.client_ca)
    return context


def _set_versions_and_ciphers(context: ssl.SSLContext, options: TlsOptions) -> None:
    lowest = options.min_version
    chosen = [name for name in options.cipher_suites if name not in _TLS13_SUITES]
    for name in chosen:
        if name not in _SUITES:
            raise ValueError(f"cipher suite {name!r} is unknown; known: {', '.join(_SUITES)}")
    if options.cipher_suites and not chosen:  # none for TLS 1.2
        lowest = ssl.TLSVersion.TLSv1_3
    if lowest > options.max_version:
        raise ValueError("min_version, or cipher_suites, and max_version leave no version of TLS")
    ciphers = [_SUITES[name] for name in chosen]
    if lowest < ssl.TLSVersion.TLSv1_2:
        ciphers = [*(ciphers or ["DEFAULT"]), _OLD_VERSIONS_ALLOWED]
    if ciphers:
        context.set_ciphers(":".join(ciphers))
    with warnings.catch_warnings():  # Python warns of old versions: the file asks for them
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = lowest, options.max_version
    if options.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


def _set_curves(context: ssl.SSLContext, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in _CURVES:
            raise ValueError(f"curve {name!r} is unknown; known: {', '.join(_CURVES)}")
    curves = [_CURVES[name] for name in names]
    if hasattr(context, "set_groups"):  # Python 3.15
        context.set_groups(":".join(curves))
    elif len(curves) == 1:
        context.set_ecdh_curve(curves[0])
    else:
        raise ValueError("curve_preferences: this Python can set one curve, not a list")


def _load_own(context: ssl.SSLContext, certificates: Certificates) -> None:
    """Load the server's certificate and key: Python's ssl reads them from a file only."""
    descriptor = os.memfd_create("guestlist-certificate")
    try:
        os.write(descriptor, certificates.key.rstrip() + b"\n" + certificates.certificate)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_refuse_password)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or "no PEM text"
        raise ValueError(
            f"the server's certificate and key do not load: {reason.replace('_', ' ').lower()}"
        ) from None
    finally:
        os.close(descriptor)


def _refuse_password() -> NoReturn:
    raise ValueError("the server's key is encrypted; a key without a password is needed")


def _set_client_auth(context: ssl.SSLContext, options: TlsOptions, client_ca: bytes | None) -> None:
    kind = options.client_auth_type
    if kind in _UNVERIFIED:
        raise ValueError(
            f"client_auth_type {kind} is not supported: Python verifies each certificate; "
            "use RequireAndVerifyClientCert"
        )
    if kind not in _CLIENT_AUTH:
        known = ", ".join((*_CLIENT_AUTH, *_UNVERIFIED))
        raise ValueError(f"client_auth_type {kind!r} is unknown; known: {known}")
    if client_ca is not None and kind == "NoClientCert":
        raise ValueError("client_ca is given without client_auth_type")
    context.verify_mode = _CLIENT_AUTH[kind]
    if client_ca is not None:
        try:
            context.load_verify_locations(cadata=client_ca.decode("ascii", "replace"))
        except ssl.SSLError:
            raise ValueError("client_ca has no certificate in PEM") from None
    elif context.verify_mode != ssl.CERT_NONE:  # Go then takes the system's authorities
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    if options.client_allowed_sans is not None:
        if context.verify_mode != ssl.CERT_REQUIRED:
            raise ValueError(
                "client_allowed_sans needs client_auth_type RequireAndVerifyClientCert"
            )
        context.sslobject_class = _admitting(frozenset(options.client_allowed_sans))


def _admitting(allowed: frozenset[str]) -> type[ssl.SSLObject]:
    """Return the class of TLS connections whose clients have one of these names."""

    class Admitting(ssl.SSLObject):
        """A TLS connection; its handshake fails for clients of other names."""

        def do_handshake(self) -> None:
            """Make the next step of the handshake.

            Raises:
                ssl.SSLCertVerificationError: the client has none of the names.
            """
            super().do_handshake()
            if allowed.isdisjoint(_names(self)):
                raise ssl.SSLCertVerificationError("the client has no allowed name")

    return Admitting


def _names(connection: ssl.SSLObject) -> Iterator[str]:
    """Yield the alternative names of a client: DNS, e-mail, URI; addresses as Go writes them."""
    certificate: dict[str, Any] = dict(connection.getpeercert() or {})
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in ("DNS", "email", "URI"):
            yield str(value)
        elif kind == "IP Address":
            address = ipaddress.ip_address(str(value).strip())
            yield str(getattr(address, "ipv4_mapped", None) or address)
