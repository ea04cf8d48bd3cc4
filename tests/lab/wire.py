"""libvirt's messages: bytes to values and back. Pure; uses no socket.

A message is a length (which counts itself), a header of six words, and a payload in XDR: words are
big-endian, strings are a length and bytes padded to four. Of a payload this module knows only what
the proxy must change: errors, a domain's name and a domain's id.

Source: libvirt docs/internals/rpc, src/rpc/virnetprotocol.x, src/remote/remote_protocol.x.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from lab.procedures import KEEPALIVE_PROGRAM, PROGRAM, procedure_name

CALL, REPLY, EVENT = 0, 1, 2
OK, ERROR = 0, 1

_HEADER = struct.Struct(">IIIiiIi")
_WORD = struct.Struct(">I")
_INACTIVE = b"\xff\xff\xff\xff"
_LEVEL_ERROR = 2


@dataclass(frozen=True, slots=True)
class Message:
    """One message, its payload still in XDR."""

    program: int
    version: int
    procedure: int
    type: int
    serial: int
    status: int
    payload: bytes

    @classmethod
    def decode(cls, frame: bytes) -> Self:
        _, program, version, procedure, kind, serial, status = _HEADER.unpack_from(frame)
        return cls(program, version, procedure, kind, serial, status, frame[_HEADER.size :])

    def encode(self) -> bytes:
        header = _HEADER.pack(
            _HEADER.size + len(self.payload),
            self.program,
            self.version,
            self.procedure,
            self.type,
            self.serial,
            self.status,
        )
        return header + self.payload

    @property
    def remote(self) -> bool:
        """Whether it belongs to the program of ordinary libvirt calls ("remote")."""
        return self.program == PROGRAM

    @property
    def keepalive(self) -> bool:
        return self.program == KEEPALIVE_PROGRAM

    @property
    def name(self) -> str:
        return procedure_name(self.procedure)

    def carrying(self, payload: bytes) -> Message:
        """Return the same message with another payload."""
        return replace(self, payload=payload)

    def answer(self, payload: bytes) -> Message:
        """Return the reply that a daemon gives to this call when it succeeds."""
        return replace(self, type=REPLY, status=OK, payload=payload)

    def answer_error(self, code: int, domain: int, message: str) -> Message:
        """Return the reply that a daemon gives to this call when it fails."""
        text = b"\0\0\0\1" + xdr_string(message.encode())
        nothing = bytes(4)
        payload = b"".join(
            [
                *(_WORD.pack(code), _WORD.pack(domain), text, _WORD.pack(_LEVEL_ERROR)),
                nothing,  # the domain concerned
                *(text, nothing, nothing),  # three strings
                *(nothing, nothing),  # two integers
                nothing,  # the network concerned
            ]
        )
        return replace(self, type=REPLY, status=ERROR, payload=payload)


def type_of(frame: bytes) -> int:
    """Return the type of a message: CALL, REPLY, EVENT or another one, which is passed on."""
    _, _, _, _, kind, _, _ = _HEADER.unpack_from(frame)
    return int(kind)


def take_frames(inbox: bytearray) -> Iterator[bytes]:
    """Remove the complete messages from the head of `inbox` and return them.

    Raises:
        ValueError: a length is below that of a header: this is not libvirt's protocol.
    """
    start = 0
    while len(inbox) - start >= _WORD.size:
        (length,) = _WORD.unpack_from(inbox, start)
        if length < _HEADER.size:
            raise ValueError(f"a message of {length} bytes")
        if len(inbox) - start < length:
            break
        yield bytes(memoryview(inbox)[start : start + length])
        start += length
    del inbox[:start]


def xdr_string(text: bytes) -> bytes:
    """Return `text` in XDR, as in the payload of a reply."""
    return _WORD.pack(len(text)) + text + bytes(-len(text) % 4)


def xdr_int(number: int) -> bytes:
    """Return a 32-bit integer, signed or unsigned, in XDR."""
    return _WORD.pack(number & 0xFFFFFFFF)


def xdr_hyper(number: int) -> bytes:
    """Return a 64-bit integer in XDR."""
    return struct.pack(">q", number)


def read_int(payload: bytes, at: int = 0) -> int:
    """Return the signed 32-bit integer at this offset; negative offsets count from the end."""
    (number,) = struct.unpack_from(">i", payload, at if at >= 0 else len(payload) + at)
    return int(number)


class DomainHandle:
    """A domain in payloads: found by name or by UUID where name, UUID and id stand together.

    A UUID is searched for as it is; a name as an XDR string with a UUID after it.
    """

    def __init__(self, domain: str | uuid.UUID) -> None:
        self.domain = domain
        before = (
            re.escape(domain.bytes)
            if isinstance(domain, uuid.UUID)
            else re.escape(xdr_string(domain.encode())) + b".{16}"
        )
        self._pattern = re.compile(b"(" + before + b")(.{4})", re.DOTALL)

    def with_id(self, payload: bytes, number: int) -> bytes:
        """Return `payload` with the domain's id replaced, except an id that means "inactive"."""

        def replaced(found: re.Match[bytes]) -> bytes:
            return found[0] if found[2] == _INACTIVE else found[1] + xdr_int(number)

        return self._pattern.sub(replaced, payload)
