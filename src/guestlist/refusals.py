"""Why libvirt would not open a connection, and what to do about it.

In: libvirt's error, and the URI. Out: the error to raise, with advice that fits the cause. libvirt
has one code for most causes, so the transport and libvirt's words decide. Where these do not settle
it (a server's certificate), this module looks at the certificate itself. Makes no libvirt call.

Source: libvirt src/rpc/virnettlscontext.c, src/remote/remote_driver.c; measured on libvirt 9.0.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from guestlist import uris
from guestlist.errors import (
    FROM_RPC,
    AccessDenied,
    Code,
    ConnectionFailed,
    GuestlistError,
    codes,
    is_credentials,
    is_denial,
    one_line,
)

if TYPE_CHECKING:
    import libvirt

TLS_PORT = 16514
"""The port on which libvirtd listens for TLS, where the URI names none."""

LONGEST_LOOK = 2.0
"""Seconds that the look at a server's certificate may take."""

_UNTRUSTED = {
    9: "it is not valid yet: compare the clocks of both machines",
    10: "it, or its issuer's, has expired: renew it",
    62: "it is for another name: use a name that it has, or issue one for this name",
}
"""Causes by OpenSSL's number (X509_V_ERR_*). Any other number concerns the issuer."""

_CERTIFICATES = "client certificates are in pkipath of the URI, else in ~/.pki/libvirt or /etc/pki"
_HUNG_UP = {errno.EIO, errno.EPIPE, errno.ECONNRESET}
"""Numbers of a system error that mean that the other end closed the connection."""

_ENDED = "socket is closed"
"""libvirt's words when its event loop noticed the end before the attempt did."""

_LOG_IN = (
    "ssh must get in without a question: accept the host's key once, and use a key that asks for "
    "no passphrase (ssh-agent); '?no_tty=0' in the URI lets ssh ask all the same"
)


def open_failure(error: libvirt.libvirtError, label: str, uri: str | None) -> GuestlistError:
    """Return the error for a connection that libvirt refused to open.

    Cost: none; if a server's certificate was refused, one TLS connection to that server, for
    `LONGEST_LOOK` seconds at most.
    """
    said = one_line(error)
    kind, advice = _verdict(error, said, uri)
    return kind(f"cannot connect to {label}: {said}; {advice}", **codes(error))


def no_answer(label: str, uri: str | None, seconds: float | None) -> ConnectionFailed:
    """Return the error for a connection that did not open in time."""
    advice = "the daemon is stopped, hung, or already serves as many clients as max_clients allows"
    if uris.transport(uri) == "ssh":
        advice = f"ssh waits for an answer to its question or for a silent network, or {advice}"
    return ConnectionFailed(f"cannot connect to {label}: no answer within {seconds:g} s; {advice}")


_Verdict = tuple[type[GuestlistError], str]


def _verdict(error: libvirt.libvirtError, said: str, uri: str | None) -> _Verdict:
    code, transport = error.get_error_code(), uris.transport(uri)
    if is_credentials(error):
        return AccessDenied, "check the credentials in libvirt's auth.conf"
    if _is_hung_up(error) and transport in ("", "unix", "tcp"):
        return ConnectionFailed, (
            "the daemon hung up: it may serve as many clients as its max_clients allows (20 by "
            "default in old releases; 'virt-admin client-list' or its log tells), or not be libvirt"
        )
    verdict = None
    if transport == "tls":
        verdict = _tls(said, uri)
    elif transport == "ssh" and (code == Code.SYSTEM_ERROR or _ENDED in said):
        verdict = _ssh(said)
    if verdict is not None:
        return verdict
    if is_denial(error):
        return AccessDenied, _denied(code, transport)
    if code in (Code.NO_CONNECT, Code.INVALID_ARG, Code.INTERNAL_ERROR) and _ENDED not in said:
        form = "driver[+transport]://[user@][host]/path, for example qemu:///system"
        return ConnectionFailed, f"check the URI: {form}"
    return ConnectionFailed, "check the URI and that the daemon runs"


def _is_hung_up(error: libvirt.libvirtError) -> bool:
    """Return whether the other end closed the connection before it sent anything to libvirt.

    An old daemon does so when it already serves `max_clients`; a newer one lets the client wait.
    """
    if error.get_error_domain() != FROM_RPC:
        return False
    code, number = error.get_error_code(), error.get_int1()
    return code == Code.INTERNAL_ERROR or (code == Code.SYSTEM_ERROR and number in _HUNG_UP)


def _ssh(said: str) -> _Verdict:
    """Return the verdict by what ssh wrote to its standard error, which libvirt quotes."""
    if "Permission denied (" in said:  # in parentheses: the server's ways to log in
        return AccessDenied, _LOG_IN
    if "Host key verification failed" in said:
        return ConnectionFailed, _LOG_IN
    if "Permission denied" in said:
        return AccessDenied, "that user may not use libvirt's socket there: check its group"
    return ConnectionFailed, "check the URI, that ssh logs in there, and that the daemon runs"


def _denied(code: int | None, transport: str) -> str:
    if transport not in ("", "unix"):
        return "the daemon there refuses this user: see its auth_* settings and its log"
    if code == Code.SYSTEM_ERROR:  # and EACCES
        return "check the socket's group (often 'libvirt'), or ask for a read-only connection"
    return (
        "a polkit rule or the socket's group (often 'libvirt') must admit this user; or ask for a "
        "read-only connection"
    )


# TLS


def _tls(said: str, uri: str | None) -> _Verdict | None:
    if "verify peer's certificate" in said:
        cause = _why_not_trusted(uri) or (
            "it has expired, is for another name, or its issuer is not in cacert.pem"
        )
        return ConnectionFailed, f"the server's certificate is not trusted: {cause}"
    if "TLS confirmation" in said:
        return AccessDenied, (
            "the server refuses this client's certificate: missing, expired, of an issuer that it "
            f"does not know, or not in its tls_allowed_dn_list; its log says which; {_CERTIFICATES}"
        )
    if "ertificate" in said or "private key" in said:
        return ConnectionFailed, f"repair this client's own certificates; {_CERTIFICATES}"
    return None


def _why_not_trusted(uri: str | None) -> str | None:
    """Return what is wrong with a server's certificate; None: OpenSSL finds no fault or no server.

    libvirt writes the cause only to its log, and calls an expired certificate just "not trusted".
    """
    parts = uris.split(uri)
    name, authority = parts.hostname, _authority(uri)
    if not name or authority is None:
        return None
    with contextlib.suppress(OSError, ValueError, ImportError):
        import socket  # noqa: PLC0415  5 ms with ssl, for this failure only
        import ssl  # noqa: PLC0415

        context = ssl.create_default_context(cafile=authority)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # of Python 3.13; GnuTLS asks for less
        address = (name, parts.port or TLS_PORT)
        try:
            with (
                socket.create_connection(address, LONGEST_LOOK) as plain,
                context.wrap_socket(plain, server_hostname=name),
            ):
                return None
        except ssl.SSLCertVerificationError as error:
            issuer = f"its issuer is not in {authority} ({error.verify_message})"
            return _UNTRUSTED.get(error.verify_code, issuer)
    return None


def _authority(uri: str | None) -> str | None:
    """Return the file with the issuers that libvirt trusts; None where there is no such file."""
    if given := uris.query(uri).get("pkipath"):
        return f"{given}/cacert.pem"
    own = os.path.expanduser("~/.pki/libvirt/cacert.pem")
    if os.geteuid() != 0 and os.path.exists(own):
        return own
    system = "/etc/pki/CA/cacert.pem"
    return system if os.path.exists(system) else None
