"""A placement service for one compute node: it remembers what Nova's report client sends.

In: HTTP on loopback, without authentication. Out: resource providers with their generations,
inventories, traits, aggregates and allocations, in placement's words. Has no candidates, reshaping
or quotas: it answers an unknown request with 404, and lists it in `unknown`.

Source: OpenStack's Placement API reference; nova/scheduler/client/report.py.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

_VERSION = {
    "id": "v1.0",
    "status": "CURRENT",
    "min_version": "1.0",
    "max_version": "1.39",
    "links": [{"rel": "self", "href": ""}],
}
_ASPECTS: dict[str, Any] = {"inventories": {}, "traits": [], "aggregates": [], "allocations": {}}

_Reply = tuple[int, object]


@dataclass
class Provider:
    """A resource provider with its aspects: inventories, traits, aggregates, allocations."""

    uuid: str
    name: str
    parent: str | None = None
    generation: int = 0
    aspects: dict[str, Any] = field(default_factory=lambda: dict(_ASPECTS))

    def as_json(self) -> dict[str, Any]:
        return {
            "uuid": self.uuid,
            "name": self.name,
            "generation": self.generation,
            "parent_provider_uuid": self.parent,
            "root_provider_uuid": self.parent or self.uuid,
            "links": [],
        }

    def aspect(self, name: str) -> dict[str, Any]:
        return {name: self.aspects[name], "resource_provider_generation": self.generation}


class Placement:
    """A placement service at `url`; a context manager."""

    def __init__(self) -> None:
        self.providers: dict[str, Provider] = {}
        self.unknown: list[str] = []
        self._allocations: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._routes: list[tuple[str, Callable[..., _Reply]]] = [
            (r"GET /", lambda query, body: (200, {"versions": [_VERSION]})),
            (r"GET /resource_providers", self._list),
            (r"POST /resource_providers", self._create),
            (r"GET /resource_providers/([^/]+)", self._show),
            (r"GET /resource_providers/([^/]+)/(\w+)", self._aspect),
            (r"PUT /resource_providers/([^/]+)/(\w+)", self._change),
            (r"GET /traits", lambda query, body: (200, {"traits": _names(query)})),
            (r"PUT /(?:traits|resource_classes)/\w+", lambda query, body: (201, None)),
            (r"GET /allocations/([^/]+)", self._consumer),
            (r"PUT /allocations/([^/]+)", self._consume),
        ]

    def __enter__(self) -> Self:
        placement = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, reply = placement.answer(self.command, self.path, body)
                payload = json.dumps(reply).encode() if reply is not None else b""
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_PUT = do_POST = do_DELETE = _serve

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="placement")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, method: str, target: str, body: bytes) -> _Reply:
        """Answer a request: a status, and a value for the body; None: no body."""
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        with self._lock:
            for pattern, answer in self._routes:
                if match := re.fullmatch(pattern, f"{method} {url.path}"):
                    return answer(*match.groups(), query=query, body=json.loads(body or b"null"))
            self.unknown.append(f"{method} {target}")
        return _missing(target)

    def _list(self, query: dict[str, str], body: None) -> _Reply:
        tree, name = query.get("in_tree"), query.get("name")
        found = [
            provider.as_json()
            for provider in self.providers.values()
            if "member_of" not in query
            and (tree is None or tree in (provider.uuid, provider.parent))
            and (name is None or name == provider.name)
        ]
        return 200, {"resource_providers": found}

    def _create(self, query: dict[str, str], body: dict[str, str]) -> _Reply:
        provider = Provider(body["uuid"], body["name"], body.get("parent_provider_uuid"))
        self.providers[provider.uuid] = provider
        return 200, provider.as_json()

    def _show(self, uuid: str, query: dict[str, str], body: None) -> _Reply:
        provider = self.providers.get(uuid)
        return (200, provider.as_json()) if provider else _missing(uuid)

    def _aspect(self, uuid: str, name: str, query: dict[str, str], body: None) -> _Reply:
        provider = self.providers.get(uuid)
        return (200, provider.aspect(name)) if provider and name in _ASPECTS else _missing(uuid)

    def _change(self, uuid: str, name: str, query: dict[str, str], body: dict[str, Any]) -> _Reply:
        provider = self.providers.get(uuid)
        if provider is None or name not in _ASPECTS:
            return _missing(uuid)
        if body["resource_provider_generation"] != provider.generation:
            return _error(
                409, "placement.concurrent_update", "resource provider generation conflict"
            )
        provider.generation += 1
        provider.aspects[name] = body[name]
        return 200, provider.aspect(name)

    def _consumer(self, uuid: str, query: dict[str, str], body: None) -> _Reply:
        return 200, self._allocations.get(uuid, {"allocations": {}})

    def _consume(self, uuid: str, query: dict[str, str], body: dict[str, Any]) -> _Reply:
        self._allocations[uuid] = body
        return 204, None


def _names(query: dict[str, str]) -> list[str]:
    """Return the traits that are asked for: every trait exists."""
    return query.get("name", "in:").removeprefix("in:").split(",")


def _missing(what: str) -> _Reply:
    return _error(404, "placement.undefined_code", f"no {what} here")


def _error(status: int, code: str, detail: str) -> _Reply:
    return status, {"errors": [{"status": status, "code": code, "detail": detail}]}
