"""An HTTP server that forwards each request once, and answers it from memory from then on.

In: the base URL of a server that answers GET. Out: its answers, byte by byte, without the time that
it takes to make them. Two requests are the same if path, query and headers of the API are. So it
suits a server whose answers do not change meanwhile.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

_TOLD = ("X-Auth-Token", "OpenStack-API-Version", "X-OpenStack-Nova-API-Version", "Accept")
_KEPT = ("Content-Type", "OpenStack-API-Version", "X-OpenStack-Nova-API-Version", "Vary")


class Replay:
    """Such a server on loopback; a context manager. `url` is its base URL."""

    def __init__(self, upstream: str) -> None:
        parts = urllib.parse.urlsplit(upstream)
        self._upstream = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path
        self._answers: dict[tuple[str, ...], tuple[int, list[tuple[str, str]], bytes]] = {}
        self.forwarded = 0

    def __enter__(self) -> Self:
        replay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, headers, body = replay._answer(self)
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{self._path}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="replay")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> tuple[int, list[tuple[str, str]], bytes]:
        told = {name: request.headers[name] for name in _TOLD if request.headers[name]}
        key = (request.path, *map(str, sorted(told.items())))
        if key not in self._answers:
            self.forwarded += 1
            self._answers[key] = self._forward(
                request.path, told | {"Host": request.headers["Host"]}
            )
        return self._answers[key]

    def _forward(
        self, path: str, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        asked = urllib.request.Request(self._upstream + path, headers=headers)
        try:
            answer = urllib.request.urlopen(asked)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            kept = [(name, answer.headers[name]) for name in _KEPT if answer.headers[name]]
            return answer.status, kept, answer.read()
