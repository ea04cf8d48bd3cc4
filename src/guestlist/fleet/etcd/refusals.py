"""Why TLS with a member fails, and what to do about it: gRPC tells no cause, or the wrong one.

In: a member, and how a client speaks to it. Out: the cause, in a line for people; None where TLS is
not it. Looks over a connection of its own, without gRPC. Sends nothing that etcd acts on.

A member that refuses a client's certificate says so after the handshake, in an alert, and Go's says
"bad certificate" of most causes. So the client's own certificate is looked at here as well.

Source: RFC 8446, 6.2 (alerts); RFC 9113, 3.4 (the preface of HTTP/2); OpenSSL's X509_V_ERR_*.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from guestlist.errors import one_line
from guestlist.fleet.etcd.endpoints import Endpoint, Tls

LONGEST_LOOK = 1.0
"""Seconds that each step of a look may take, at most."""

_DATES = {
    9: "is not valid yet: compare the clocks of both machines",
    10: "has expired, or that of its issuer has: renew it",
}
_CAUSES = {
    **_DATES,
    62: "is for another name: use a name that it has",
    64: "is for another address",
}
"""Causes by OpenSSL's number. Any other number concerns the issuer."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What a client of HTTP/2 says first, and no settings."""
_SETTINGS = 4
"""The type of the frame that a server of HTTP/2 sends first, its fourth byte."""


def why_refused(member: Endpoint, tls: Tls | None, longest: float = LONGEST_LOOK) -> str | None:
    """Return why a member and this client cannot speak; None: TLS is not the reason, or no answer.

    Cost: two connections at most, for `longest` seconds each.
    """
    with contextlib.suppress(OSError, ValueError):
        if tls is None:
            return _speaks_tls(member, longest)
        return _why_not(member, tls, longest)
    return None


def met(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Let two ends shake hands in memory; return the server's.

    Raises:
        ssl.SSLError: one end does not accept the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = server.wrap_bio(to_server, to_client, server_side=True)
    there = client.wrap_bio(to_client, to_server)
    for _ in range(4):
        for end in (there, here):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return here


def _speaks_tls(member: Endpoint, longest: float) -> str | None:
    """Return that a member wants TLS, if it does."""
    try:
        with _opened(member, longest) as plain, _anyone().wrap_socket(plain):
            pass
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return None
    return "it speaks TLS only: say which authority to trust (--cacert), and give a certificate"


def _why_not(member: Endpoint, tls: Tls, longest: float) -> str | None:
    try:
        with (
            _opened(member, longest) as plain,
            _context(tls).wrap_socket(
                plain, server_hostname=tls.server_name or member.host.strip("[]")
            ) as shaken,
        ):
            shaken.recv(
                1
            )  # a member that closes with something unread resets, and its alert is lost
    except ssl.SSLCertVerificationError as error:
        authority = tls.ca or "the authorities of this system"
        issuer = f"was not issued by {authority} ({error.verify_message})"
        return f"its certificate {_CAUSES.get(error.verify_code, issuer)}"
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            return _why_refuses(tls, one_line(error.reason or ""))
    except ConnectionError:
        pass
    else:
        return None
    with _opened(member, longest) as plain:
        plain.sendall(_PREFACE)
        if plain.recv(9)[3:4] == bytes((_SETTINGS,)):
            return "it speaks plain text: leave out the options of TLS and https, or let it use TLS"
    return None


def _why_refuses(tls: Tls, said: str) -> str:
    """Return why a member refuses this client's certificate, of which it says little."""
    if tls.certificate is None or tls.key is None:
        return "it wants a certificate of this client: give --cert and --key"
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), _anyone()
    server.verify_mode = ssl.CERT_REQUIRED
    for each in (server, client):
        each.set_ciphers("DEFAULT:@SECLEVEL=0")
        each.load_cert_chain(tls.certificate, tls.key, password="")
    if tls.ca is not None:
        server.load_verify_locations(tls.ca)
    cause = "is not one that it trusts: see which authority its --trusted-ca-file has"
    try:
        met(server, client)
    except ssl.SSLCertVerificationError as error:
        cause = _DATES.get(error.verify_code, cause)
    words = said.replace("_", " ").lower()
    return f"it refuses this client's certificate: {tls.certificate} {cause} ({words})"


def _opened(member: Endpoint, longest: float) -> socket.socket:
    return socket.create_connection((member.host.strip("[]"), member.port), longest)


def _anyone() -> ssl.SSLContext:
    """Return how to speak to any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def _context(tls: Tls) -> ssl.SSLContext:
    """Return how to speak to a member, as gRPC does."""
    context = ssl.create_default_context(cafile=tls.ca)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # of Python 3.13; gRPC asks for less
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    if tls.certificate is not None and tls.key is not None:
        context.load_cert_chain(tls.certificate, tls.key, password="")
    return context
