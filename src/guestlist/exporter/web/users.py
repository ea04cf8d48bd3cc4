"""Users and their passwords: the header Authorization, checked against bcrypt hashes.

In: the header, the hashes by name, and the address of the client. Out: whether the client is
admitted. bcrypt takes tens of milliseconds of CPU on purpose, so it runs on a thread of its own,
one password at a time, and a pair of hash and password that fitted once is not computed again: it
is remembered as a keyed digest. A name that is not known costs as much as the most expensive known
one.

One client address has at most `MOST_OF_ONE` passwords checked or waiting, and all together
`MOST`: others are told to come again. So one client that guesses passwords does not keep the others
out, and those that were admitted before do not wait at all.

Source: exporter-toolkit web/handler.go; RFC 7617.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from functools import partial

import bcrypt

from guestlist.exporter.web.workers import Workers

MOST = 32
MOST_OF_ONE = 4

_LONGEST_PASSWORD = 72
"""Bytes of a password that bcrypt takes."""

_REMEMBERED = 256


class Busy(Exception):
    """Too many passwords are being checked."""


class Users:
    """Checks passwords. Use it on the thread of asyncio's loop."""

    def __init__(self) -> None:
        self._workers = Workers("guestlist-password", 1)
        self._key = os.urandom(32)
        self._fitting: dict[bytes, None] = {}
        self._of_clients: Counter[str] = Counter()

    async def admits(self, header: str | None, hashes: Mapping[str, str], client: str) -> bool:
        """Return whether the header has the name and the password of a user.

        Raises:
            Busy: too many passwords are being checked; this one was not.
        """
        given = _credentials(header)
        if given is None:
            return False
        name, password = given
        known = hashes.get(name)
        if known is None:
            await self._fits(_decoy(hashes), password, client)
            return False
        digest = self._digest(known, password)
        if digest in self._fitting:
            return True
        if not await self._fits(known, password, client):
            return False
        if len(self._fitting) >= _REMEMBERED:
            self._fitting.clear()
        self._fitting[digest] = None
        return True

    async def _fits(self, known: str, password: bytes, client: str) -> bool:
        if self._workers.load >= MOST or self._of_clients[client] >= MOST_OF_ONE:
            raise Busy
        self._of_clients[client] += 1
        checking = self._workers.run(partial(_check, known, password))
        checking.add_done_callback(lambda _: self._forget(client))
        return await checking

    def _forget(self, client: str) -> None:
        self._of_clients[client] -= 1
        if not self._of_clients[client]:
            del self._of_clients[client]

    def _digest(self, known: str, password: bytes) -> bytes:
        """Return what stands for a hash and a password that fit; the key is this process's own."""
        text = known.encode() + b"\0" + password
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()


def _credentials(header: str | None) -> tuple[str, bytes] | None:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _decoy(hashes: Mapping[str, str]) -> str:
    """Return a hash that no password is known for, at the highest cost of the known ones."""
    cost = max(known.split("$")[2] for known in hashes.values())
    return f"$2b${cost}${'.' * 53}"


def _check(known: str, password: bytes) -> bool:
    """Compare a password with a hash, in constant time, on a worker's thread."""
    try:
        return bcrypt.checkpw(password[:_LONGEST_PASSWORD], known.encode())
    except ValueError:  # a zero byte in the password, or a kind of hash that this bcrypt lacks
        return False
