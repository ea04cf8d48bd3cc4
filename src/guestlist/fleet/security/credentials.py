"""Who a client is to an etcd, and how else the same member can be asked.

In: TLS files and a login, as a client of the fleet has them. Out: the name of the user; clients of
one member with these credentials, without a certificate, or in plain text. Reads files, and opens
no connection by itself.

**The name in a certificate.** etcd takes the common name (CN) of a certificate for the name of the
user. Python tells the names in a certificate only to the other end of a TLS connection, so
`common_name` is both ends of one, in memory.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.endpoints import Login, Tls
from guestlist.fleet.etcd.refusals import met

TIMEOUT = 3.0
"""Seconds that a member has to answer one attempt."""


class Credentials(NamedTuple):
    """The credentials of one client, and the seconds that a member has for one attempt."""

    tls: Tls | None
    login: Login | None = None
    timeout: float = TIMEOUT

    @property
    def user(self) -> str | None:
        """The name of the user that etcd sees; None: none.

        Raises:
            ValueError: the certificate and its key do not belong together.
            OSError: one of their files cannot be read.
        """
        if self.login is not None:
            return self.login.user
        if self.tls is None or self.tls.certificate is None or self.tls.key is None:
            return None
        return common_name(self.tls.certificate, self.tls.key)

    def client(self, *members: str) -> Etcd:
        """Return a client that has these credentials."""
        return Etcd(members, tls=self.tls, login=self.login, timeout=self.timeout)

    def without_login(self, member: str) -> Etcd:
        """Return a client that has no certificate and does not log in."""
        return Etcd([member], tls=self._anonymous_tls(), timeout=self.timeout)

    def in_plain_text(self, member: str) -> Etcd:
        """Return a client that speaks no TLS and does not log in."""
        return Etcd([member], timeout=self.timeout)

    def _anonymous_tls(self) -> Tls | None:
        return None if self.tls is None else Tls(self.tls.ca, server_name=self.tls.server_name)


def common_name(certificate: Path, key: Path) -> str | None:
    """Return the common name in a certificate; None: it has none.

    Raises:
        ValueError: they do not belong together, or are no PEM files.
        OSError: a file cannot be read.
    """
    here, there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    there.check_hostname, there.verify_mode = False, ssl.CERT_NONE
    here.verify_mode = ssl.CERT_REQUIRED
    here.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trusts the certificate as such
    pem = certificate.read_bytes()
    try:
        for each in (here, there):
            each.load_cert_chain(certificate, key)
        here.load_verify_locations(cadata=pem.decode("ascii"))
        found = met(here, there).getpeercert() or {}
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ValueError(f"{certificate} cannot be used with {key}: {error}") from error
    subject: tuple[tuple[tuple[str, str], ...], ...] = found.get("subject", ())  # type: ignore[assignment]
    names = dict(pair for part in subject for pair in part)
    return names.get("commonName")
