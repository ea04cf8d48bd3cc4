"""Where the server listens: addresses as Go writes them, and systemd's sockets.

In: ":9177", "127.0.0.1:9177", "[::1]:9177", "localhost:9177". Out: listening sockets. An address
without a host means all interfaces, IPv4 and IPv6.

Source: Go net.Listen; exporter-toolkit web/kingpinflag; sd_listen_fds(3).
"""

from __future__ import annotations

import os
import re
import socket
from typing import NamedTuple

_is_address = re.compile(
    r"(?:\[(?P<v6>[^][]*)\]|(?P<host>[^][:/]*)):(?P<port>[0-9]{1,5})"
).fullmatch
_BACKLOG = 1_024
_FIRST_OF_SYSTEMD = 3


class Address(NamedTuple):
    """A host and a port; the host "" means all interfaces."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the address as Go writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class CannotListen(Exception):
    """An address cannot be listened on. The message is one line."""


def address(text: str) -> Address:
    """Return the address of a text.

    Raises:
        ValueError: it is no address with a port.
    """
    found = _is_address(text)
    if found is None or int(found["port"]) > 65_535:
        raise ValueError(f"{text!r} is no address; write HOST:PORT, [IPv6]:PORT or :PORT")
    return Address(found["host"] or found["v6"] or "", int(found["port"]))


def sockets(addresses: list[Address]) -> list[socket.socket]:
    """Return a socket that listens on each address.

    Raises:
        CannotListen: an address is in use, is not of this machine, or has an unknown name.
    """
    opened: list[socket.socket] = []
    try:
        for each in addresses:
            opened.append(_socket(each))
    except OSError as error:
        for done in opened:
            done.close()
        raise CannotListen(f"cannot listen on {each}: {_reason(error)}") from error
    return opened


def systemd_sockets() -> list[socket.socket]:
    """Return the sockets that systemd has opened for this process.

    Raises:
        CannotListen: there is none.
    """
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or count == "0":
        raise CannotListen("--web.systemd-socket: systemd has passed no socket to this process")
    opened = [socket.socket(fileno=_FIRST_OF_SYSTEMD + place) for place in range(int(count))]
    for each in opened:
        each.setblocking(False)
        os.set_inheritable(each.fileno(), False)
    return opened


def name_of(listening: socket.socket) -> str:
    """Return the address of a socket, with the port that the system has chosen."""
    if listening.family == socket.AF_UNIX:
        return str(listening.getsockname())
    return str(Address(*listening.getsockname()[:2]))


def _socket(where: Address) -> socket.socket:
    if where.host in ("", "::"):
        if socket.has_dualstack_ipv6():
            return _listen(socket.AF_INET6, ("::", where.port), is_dual=True)
        return _listen(socket.AF_INET, ("0.0.0.0", where.port))  # noqa: S104  as it was asked for
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=flags)
    first = sorted(found, key=lambda each: each[0] != socket.AF_INET)[0]  # as Go: IPv4 if it can
    return _listen(first[0], first[4])


def _listen(
    family: socket.AddressFamily | int, where: tuple[object, ...], *, is_dual: bool = False
) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_dual)
        listening.bind(where)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
