"""What the server answers: the paths, and the checks before them.

In: requests that aiohttp has parsed, GET and HEAD only (`door`). Out: responses. The order of the
checks is exporter-toolkit's: the web-config file, the rate, the user, then the path. All paths are
behind them, /-/healthy included. Answers no exception and no text of the request.

A body goes out in pieces, each when the client has taken the one before, so that a slow client
costs little memory however large the body is.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

import guestlist
from guestlist.errors import one_line
from guestlist.exporter.targets import NoSuchTarget, Targets
from guestlist.exporter.web.bodies import Bodies, Body
from guestlist.exporter.web.config import WebConfig
from guestlist.exporter.web.encodings import Encoding, accepted
from guestlist.exporter.web.rate import Bucket
from guestlist.exporter.web.users import Busy, Users
from guestlist.exporter.web.workers import Workers
from guestlist.settings_file import BadSettings, SettingsFile
from guestlist.unpatched import time

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of an exposition; OpenMetrics is not offered."""

_MOST_THREADS = 4
"""Threads for scrapes of the exporter's own host, and for compression."""

_MOST_PROBES = 64
"""Threads for the hosts of /probe: a host that hangs keeps its thread for a second."""

_PIECE = 65_536

_MOST_BODIES = 16
"""Different bodies that clients read at a time. One more cuts the readers of the oldest, so that
clients which do not read keep little memory: a body of 1,000 guests has 7 MB."""


class Scraped(Protocol):
    """The exporter of one host."""

    def scrape(self) -> bytes:
        """Return a whole exposition, in UTF-8; raises nothing because of libvirt."""

    @property
    def is_ready(self) -> bool:
        """Whether its live view has been in step once."""

    def close(self) -> None:
        """Close its connections."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the server serves."""

    exporter: Scraped
    telemetry_path: str = "/metrics"
    targets: Targets[Scraped] | None = None
    """The hosts of /probe; None: there are none."""

    config: SettingsFile[WebConfig] | None = None
    """The web-config file; None: plain HTTP for every client."""


class Answers:
    """Answers requests. Make it, and use it, on the thread of asyncio's loop."""

    def __init__(self, site: Site, *, has_tls: bool) -> None:
        self._site = site
        self._has_tls = has_tls
        self._has_told = False
        self._workers = Workers("guestlist-scrape", _MOST_THREADS)
        self._probing = Workers("guestlist-probe", _MOST_PROBES)
        self._users = Users()
        self._bucket: Bucket | None = None
        self._bodies: dict[Scraped, Bodies] = {}
        self._readers: dict[Body, set[asyncio.Transport]] = {}
        self._paths: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
            "/": self._landing_page,
            "/-/healthy": self._healthy,
            "/-/ready": self._ready,
            "/probe": self._probe,
            site.telemetry_path: self._metrics,
        }

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the response, written or still to be written."""
        try:
            config = self._site.config.now() if self._site.config is not None else WebConfig()
        except BadSettings:  # the log has it; exporter-toolkit answers the same
            return status_page(HTTPStatus.INTERNAL_SERVER_ERROR)
        if config.tls is not None and not self._has_tls:
            if not self._has_told:
                log.error("the web-config file wants TLS since this start: start again for it")
            self._has_told = True
            return status_page(HTTPStatus.INTERNAL_SERVER_ERROR)
        if not self._has_token(config):
            return status_page(HTTPStatus.TOO_MANY_REQUESTS)
        response = await self._checked(request, config)
        if not response.prepared:
            response.headers.update(config.headers)
        return response

    def _has_token(self, config: WebConfig) -> bool:
        if config.rate is None:
            return True
        if self._bucket is None or self._bucket.rate != config.rate:
            self._bucket = Bucket(config.rate)
        return self._bucket.takes(time.monotonic())

    async def _checked(self, request: web.BaseRequest, config: WebConfig) -> web.StreamResponse:
        """Return the response for a user."""
        if config.users:
            header = request.headers.get("Authorization")
            try:
                is_admitted = await self._users.admits(header, config.users, request.remote or "")
            except Busy:
                return status_page(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "5"})
            if not is_admitted:
                return status_page(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Basic"})
        return await self._page(request, config)

    async def _page(self, request: web.BaseRequest, config: WebConfig) -> web.StreamResponse:
        """Return the response of a path."""
        answer = self._paths.get(request.path)
        if answer is None:
            return status_page(HTTPStatus.NOT_FOUND)
        request["headers"] = config.headers
        try:
            return await answer(request)
        except BadSettings:  # of the file of targets; the log has it
            return status_page(HTTPStatus.INTERNAL_SERVER_ERROR)
        except TimeoutError:
            log.error(  # noqa: TRY400  one line
                "there was no body for a scrape in time"
            )
            return status_page(HTTPStatus.SERVICE_UNAVAILABLE)
        except ConnectionError:  # the client has left
            raise
        except Exception as error:  # one line, and nothing of it for the client
            log.error(  # noqa: TRY400  one line
                "a request failed: %s: %s", type(error).__name__, one_line(error)
            )
            return status_page(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._exposition(request, self._site.exporter)

    async def _probe(self, request: web.BaseRequest) -> web.StreamResponse:
        targets = self._site.targets
        if targets is None:
            return status_page(HTTPStatus.NOT_FOUND, text="there are no targets: --probe.targets")
        names = request.query.getall("target", [])
        if len(names) != 1:
            return status_page(HTTPStatus.BAD_REQUEST, text="give one target: /probe?target=NAME")
        try:
            exporter = await self._probing.run(partial(targets.get, names[0]))
        except NoSuchTarget:
            return status_page(
                HTTPStatus.NOT_FOUND,
                text="no such target; a target is a name in the file of targets, never a URI",
            )
        return await self._exposition(request, exporter)

    async def _exposition(self, request: web.BaseRequest, exporter: Scraped) -> web.StreamResponse:
        """Send a body of the exporter, in pieces."""
        encoding = accepted(", ".join(request.headers.getall("Accept-Encoding", [])) or None)
        if encoding is None:
            return status_page(HTTPStatus.NOT_ACCEPTABLE)
        body = await self._body(exporter)
        data = body.plain if encoding is Encoding.IDENTITY else await body.compressed()
        headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding", "Server": _SERVER}
        if encoding is Encoding.GZIP:
            headers["Content-Encoding"] = "gzip"
        response = web.StreamResponse(headers={**headers, **request["headers"]})
        response.content_length = len(data)
        await response.prepare(request)
        if request.method != "HEAD" and request.transport is not None:
            with self._reading(body, request.transport):
                pieces = memoryview(data)
                for start in range(0, len(data), _PIECE):
                    await response.write(pieces[start : start + _PIECE])
        return response

    @contextlib.contextmanager
    def _reading(self, body: Body, client: asyncio.Transport) -> Iterator[None]:
        """Count a client among the readers of a body while it reads."""
        if body not in self._readers and len(self._readers) >= _MOST_BODIES:
            for slowest in self._readers.pop(next(iter(self._readers))):
                slowest.abort()
        readers = self._readers.setdefault(body, set())
        readers.add(client)
        try:
            yield
        finally:
            readers.discard(client)
            if not readers:
                self._readers.pop(body, None)

    async def _body(self, exporter: Scraped) -> Body:
        """Return a body that this request may have."""
        bodies = self._bodies.get(exporter)
        if bodies is None:
            workers = self._workers if exporter is self._site.exporter else self._probing
            bodies = self._bodies[exporter] = Bodies(exporter.scrape, workers)
        try:
            return await bodies.body()
        finally:
            if bodies.is_idle:  # keep no exporter of a target that has left the file
                self._bodies.pop(exporter, None)

    async def _healthy(self, _: web.BaseRequest) -> web.StreamResponse:
        return status_page(HTTPStatus.OK, text="healthy")

    async def _ready(self, _: web.BaseRequest) -> web.StreamResponse:
        if self._site.exporter.is_ready:
            return status_page(HTTPStatus.OK, text="ready")
        text = "not ready: the domains of the host have not been listed yet"
        return status_page(HTTPStatus.SERVICE_UNAVAILABLE, text=text)

    async def _landing_page(self, _: web.BaseRequest) -> web.StreamResponse:
        page = _PAGE.format(
            version=html.escape(guestlist.__version__),
            path=html.escape(self._site.telemetry_path, quote=True),
        )
        return web.Response(text=page, content_type="text/html", headers={"Server": _SERVER})


_SERVER = "guestlist"

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>guestlist exporter</title></head>
<body>
<h1>guestlist exporter</h1>
<p>Version {version}</p>
<ul>
<li><a href="{path}">Metrics</a></li>
<li><a href="/-/healthy">Whether the exporter runs</a></li>
<li><a href="/-/ready">Whether the domains have been listed</a></li>
</ul>
</body>
</html>
"""


def status_page(
    status: HTTPStatus, headers: Mapping[str, str] | None = None, *, text: str | None = None
) -> web.Response:
    """Return a response of one line."""
    return web.Response(
        status=status,
        text=f"{text or status.phrase}\n",
        headers={"Server": _SERVER, "X-Content-Type-Options": "nosniff", **(headers or {})},
    )
