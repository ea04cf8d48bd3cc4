"""Where the members of an etcd are, and how a client proves who it is. Pure.

In: text of the user's. Out: an `Endpoint` for each member. Opens nothing, and reads no file before
`Tls.read` is called.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from guestlist.errors import short

PORT = 2379
"""The port of clients where an endpoint names none."""

_ENDPOINT = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[0-9A-Za-z._-]+)(?::(?P<port>\d{1,5}))?/?",
    re.ASCII,
)


class Pem(NamedTuple):
    """The bytes of PEM files; None: the system's authorities, or no certificate."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS: PEM files. None for `ca`: the authorities of the system.

    `certificate` and `key` are the client's own. An etcd with `--client-cert-auth` takes the common
    name (CN) of the certificate for the name of the user. `server_name` is the name that the
    certificate of each member has, where that is not the host of the endpoint.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate needs its key, and a key its certificate: give both")

    def read(self) -> Pem:
        """Read the files.

        Raises:
            OSError: one cannot be read.
            ValueError: one is not what it should be, or the key is not that of the certificate.
        """
        ca, certificate, key = (
            None if path is None else path.read_bytes()
            for path in (self.ca, self.certificate, self.key)
        )
        self._check()
        return Pem(ca, certificate, key)

    def _check(self) -> None:
        """Let Python read the files: gRPC says of a wrong one that it cannot make a handshaker."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # how strong a key is, etcd decides
        wrong = f"{self.ca} has no certificate of an authority (PEM)"
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
            wrong = f"{self.certificate} and {self.key} are no certificate and its key (PEM)"
            if self.certificate is not None and self.key is not None:
                context.load_cert_chain(self.certificate, self.key, password="")
        except ssl.SSLError as error:
            raise ValueError(wrong) from error


@dataclass(frozen=True, slots=True)
class Login:
    """A user's name and password. Each login costs etcd some 60 ms of one core."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of one member, for its clients."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def endpoints(given: Iterable[str], *, tls: bool) -> tuple[Endpoint, ...]:
    """Return the members that the texts name: "host", "host:2379", "https://[::1]:2379".

    Raises:
        ValueError: none was given; one is no address; or one says http although TLS is wanted, or
            https although not.
    """
    found = tuple(_endpoint(text, tls=tls) for text in given)
    if not found:
        raise ValueError("no endpoint of etcd was given: give host:port of each member")
    return found


def _endpoint(text: str, *, tls: bool) -> Endpoint:
    user, _, where = text.rpartition("@")
    if user:  # and a password, it may be, that belongs into no message
        raise ValueError(
            f"endpoint {short(where)!r} comes with a user: give the user apart from it"
        )
    parts = _ENDPOINT.fullmatch(text)
    if parts is None or not 0 < int(parts["port"] or PORT) < 65_536:
        raise ValueError(f"{short(text)!r} is no endpoint of etcd: write host:port, as etcd1:2379")
    if parts["scheme"] == "http" and tls:
        raise ValueError(f"endpoint {short(text)!r} is plain http, and TLS is wanted")
    if parts["scheme"] == "https" and not tls:
        raise ValueError(f"endpoint {short(text)!r} is https: say which authority to trust (TLS)")
    return Endpoint(parts["host"], int(parts["port"] or PORT))
