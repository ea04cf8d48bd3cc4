"""The server: asyncio's loop in the main thread, from the first connection to the last.

In: a `Site`, listening sockets, and the signals that end it. Out: the signal that did. The loop
does no work that takes long: bodies, compression and passwords are on threads (`workers`), and
their number does not grow with the number of clients.

When a signal comes, the sockets are closed first, then the connections without a request; requests
that are being answered have `Patience.ending` seconds. A second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from asyncio import sslproto
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

from guestlist.errors import one_line
from guestlist.exporter.web.answers import Answers, Site, status_page
from guestlist.exporter.web.door import LONGEST_HEAD, LONGEST_LINE, Patience
from guestlist.exporter.web.doors import Doors
from guestlist.exporter.web.listening import name_of
from guestlist.settings_file import BadSettings

log = logging.getLogger(__name__)

_TLS_BUFFER = 16_384
"""Bytes that asyncio keeps for what a TLS client sends; its own 262,144 are kept for each client
that stays silent, too. A request is smaller."""

_BEYOND_PATIENCE = 3_600.0
"""Seconds of aiohttp's own timer: `Door` has the timers."""


def serve(
    site: Site,
    listening: Sequence[socket.socket],
    ends_on: Collection[signal.Signals],
    patience: Patience | None = None,
) -> signal.Signals:
    """Serve until a signal comes, and return the signal. Call it in the main thread.

    Args:
        site: what to serve.
        listening: sockets that listen; they are closed in the end.
        ends_on: the signals. In the end their handlers are the system's.
        patience: how long clients may take.

    Raises:
        BadSettings: the web-config file cannot be used.
    """
    has_tls = site.config is not None and site.config.now().tls is not None
    with asyncio.Runner() as runner:
        return runner.run(_serve(site, listening, ends_on, patience or Patience(), has_tls=has_tls))


async def _serve(
    site: Site,
    listening: Sequence[socket.socket],
    ends_on: Collection[signal.Signals],
    patience: Patience,
    *,
    has_tls: bool,
) -> signal.Signals:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_surprise)
    ended: asyncio.Future[signal.Signals] = loop.create_future()
    for number in ends_on:
        loop.add_signal_handler(number, _end, ended, number)
    answers = Answers(site, has_tls=has_tls)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        door = doors.of(request.transport)
        try:
            return await answers.answer(request)
        finally:
            if door is not None:
                door.answered()

    server = _Server(
        answer,
        access_log=None,
        logger=_quiet(),
        keepalive_timeout=_BEYOND_PATIENCE,
        lingering_time=0,
        max_line_size=LONGEST_LINE,
        max_field_size=LONGEST_HEAD,
    )
    sslproto.SSLProtocol.max_size = _TLS_BUFFER
    doors = Doors(server, _tls_of(site) if has_tls else None, patience)
    accepting = [loop.create_task(doors.accept(each)) for each in listening]
    for each in listening:
        scheme = "https" if has_tls else "http"
        log.info("listening on %s://%s%s", scheme, name_of(each), site.telemetry_path)
    try:
        by = await ended
        log.info("ended by %s", by.name)
        return by
    finally:
        for number in ends_on:
            loop.remove_signal_handler(number)
        for task in accepting:
            task.cancel()
        await asyncio.wait(accepting)
        for each in listening:
            each.close()
        doors.cut_idle()
        await asyncio.wait([loop.create_task(server.shutdown(patience.ending))])
        doors.cut_all()


class _Handler(web.RequestHandler):
    """aiohttp's own, except that what it refuses by itself quotes nothing of the request."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  it quotes the request
    ) -> web.StreamResponse:
        """Return the answer to a request that aiohttp refuses, and close the connection."""
        self.log_exception("a request was refused", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        answer = status_page(HTTPStatus(status))
        answer.force_close()
        return answer


class _Server(web.Server):
    """aiohttp's own, with the handler above."""

    def __call__(self) -> web.RequestHandler:
        """Return the handler of a connection."""
        return _Handler(self, loop=self._loop, **self._kwargs)


def _end(ended: asyncio.Future[signal.Signals], number: signal.Signals) -> None:
    if not ended.done():
        ended.set_result(number)


def _tls_of(site: Site) -> Any:
    """Return the function that returns the SSL context for a new connection."""

    def context() -> ssl.SSLContext:
        assert site.config is not None
        found = site.config.now().tls
        if found is None:
            log.warning("%s has no TLS any more: connections are refused", site.config.path)
            raise BadSettings("no TLS")
        return found

    return context


def _quiet() -> logging.Logger:
    """Return the logger for aiohttp: one line of what it tells, without a traceback."""
    logger = log.getChild("aiohttp")
    logger.filters[:] = [_without_traceback]
    return logger


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        record.msg = f"{record.getMessage()}: {type(error).__name__}: {one_line(error)}"
        record.args, record.exc_info = (), None
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return log.isEnabledFor(record.levelno)


def _log_surprise(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio could not tell anyone, in one line."""
    error = context.get("exception")
    log.error("%s: %s", context.get("message"), one_line(error))
