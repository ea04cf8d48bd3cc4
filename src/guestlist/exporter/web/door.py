"""One client's connection, in front of aiohttp's handler of it.

In: bytes of a client. Out: to aiohttp, one whole head of a request at a time; to the client, a
short answer where the head is too long, is no HTTP, or asks for something else than GET and HEAD.
aiohttp parses the head and answers.

A client that sends slowly, or reads slowly, or neither, costs a socket and a few kilobytes, and its
connection is cut when its time is up: each phase has one (`Patience`). While a request is being
answered nothing more is read.

Source: RFC 9110 and 9112; aiohttp limits the length of one line only, and answers 400 to it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

log = logging.getLogger(__name__)

LONGEST_LINE = 8_190
"""Bytes of the first line, which has the path."""

LONGEST_HEAD = 16_384
"""Bytes of the head of a request."""

_MOST_LINES = 100
"""aiohttp takes 128 headers."""

_MOST_DISCARDED = 1_000_000
"""Bytes that are read and dropped after a refusal, so that the client reads the answer."""

_end_of_head = re.compile(rb"\r?\n\r?\n")
_is_http_1 = re.compile(rb"[^\r\n]+ HTTP/1\.[01]\r?\n").match
_is_method = re.compile(rb"[A-Z][A-Z_-]{0,31} ").match
_has_body = re.compile(
    rb"^(?:transfer-encoding|content-length[ \t]*:(?![ \t]*0[ \t]*\r?$))",
    re.IGNORECASE | re.MULTILINE,
).search


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a client may take."""

    handshake: float = 5.0
    """For the TLS handshake."""

    head: float = 10.0
    """To send the head of a request: from the opening, or from the first byte of a later one."""

    idle: float = 150.0
    """Between two requests. Prometheus keeps the connection between two scrapes."""

    answer: float = 30.0
    """To read the answer, the making of it included."""

    refusal: float = 1.0
    """To read why a request is refused, and to close."""

    ending: float = 0.5
    """To get an answer that is under way when the server ends."""


class Door(asyncio.Protocol):
    """A connection, from its opening to its end."""

    def __init__(
        self,
        new_handler: Callable[[], asyncio.Protocol],
        patience: Patience,
        opened: Callable[[Door], None],
        used: Callable[[Door], None],
        closed: Callable[[Door], None],
    ) -> None:
        self._new_handler = new_handler
        self._patience = patience
        self._opened, self._used, self._closed = opened, used, closed
        self._handler: asyncio.Protocol | None = None
        self._head = bytearray()
        self._discarded: int | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None
        self.is_busy = False
        """Whether a request is being answered."""

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self.transport = cast("asyncio.Transport", transport)
        self._handler = self._new_handler()
        self._opened(self)
        self._handler.connection_made(transport)
        self._expire_in(self._patience.head)

    def data_received(self, data: bytes) -> None:
        """Collect a head; hand it on when it is whole."""
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > _MOST_DISCARDED:
                self.cut("it goes on sending")
            return
        if not self._head and not self.is_busy:
            self._expire_in(self._patience.head)
        self._head += data
        if not self.is_busy:
            self._take_head()

    def eof_received(self) -> bool | None:
        """End the connection; asyncio closes it after what is still to be written."""
        return None

    def pause_writing(self) -> None:
        """Tell aiohttp that the client does not read."""
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Tell aiohttp that the client reads again."""
        if self._handler is not None:
            self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the connection off the list."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._closed(self)
        if self._handler is not None:
            self._handler.connection_lost(exc)

    # the server calls these

    def answered(self) -> None:
        """Wait for the next request: this one's answer is written, or as good as written."""
        self.is_busy = False
        if self.transport is None or self.transport.is_closing():
            return
        self._used(self)
        self._expire_in(self._patience.head if self._head else self._patience.idle)
        self.transport.resume_reading()
        if self._head:
            self._take_head()

    def cut(self, why: str) -> None:
        """End the connection at once."""
        if self.transport is not None:
            log.debug("the connection of %s is cut: %s", self.client, why)
            self.transport.abort()

    @property
    def client(self) -> str:
        """The client's address."""
        name = self.transport.get_extra_info("peername") if self.transport else None
        return str(name[0]) if name else "?"

    def _take_head(self) -> None:
        """Hand the first head on if it is whole, or refuse it."""
        while self._head.startswith(
            (b"\r", b"\n")
        ):  # some clients end a request with one more line
            del self._head[:1]
        end = _end_of_head.search(self._head)
        if (end is None and not self._head) or self._is_refused(end.end() if end else None):
            return
        if end is not None and self.transport is not None and self._handler is not None:
            head = bytes(self._head[: end.end()])
            del self._head[: end.end()]
            self.is_busy = True
            self._expire_in(self._patience.answer)
            self.transport.pause_reading()
            self._handler.data_received(head)

    def _is_refused(self, end: int | None) -> bool:
        """Refuse a head that has no meaning here; `end` is its length, None if it goes on."""
        first_line = self._head.find(b"\n", 0, LONGEST_LINE + 2)
        length = end if end is not None else len(self._head)
        method = _is_method(self._head)
        if method is None and (len(self._head) > 32 or not self._head[:32].isupper()):
            self._refuse(HTTPStatus.BAD_REQUEST)
        elif first_line < 0 and length > LONGEST_LINE:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif length > LONGEST_HEAD or self._head.count(b"\n", 0, length) > _MOST_LINES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif method is not None and method[0] not in (b"GET ", b"HEAD "):
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD\r\n")
        elif end is not None and not _is_http_1(self._head):
            self._refuse(HTTPStatus.BAD_REQUEST)
        elif end is not None and _has_body(self._head, 0, end):
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            return False
        return True

    def _refuse(self, status: HTTPStatus, headers: str = "") -> None:
        """Answer, and end the connection when the client has read it."""
        assert self.transport is not None
        log.debug("a request of %s is refused: %d %s", self.client, status, status.phrase)
        text = f"{status.phrase}\n"
        answer = (
            f"HTTP/1.1 {status:d} {status.phrase}\r\n{headers}"
            "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
            f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
        )
        self._discarded = 0
        self._head.clear()
        self.transport.write(answer.encode())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._expire_in(self._patience.refusal)

    def _expire_in(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(seconds, self.cut, f"{seconds:g} s are over")
