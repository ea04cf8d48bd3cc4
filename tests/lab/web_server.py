"""The exporter's server in a process of its own, with an exporter that the test commands.

In: a web-config file, options, and what the exporter does. Out: a `WebServer`: its port, what it
answers, its log. The exporter writes a line for each body that it begins and, where the test wants
that, waits for a line of the test before it ends it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.programs import LONG, running
from lab.waiting import wait_until

from guestlist.exporter.web.door import Patience

_PROGRAM = """
import json, logging, resource, signal, sys
from pathlib import Path
from guestlist.exporter.targets import Targets
from guestlist.exporter.web import bodies, listening
from guestlist.exporter.web.answers import Site
from guestlist.exporter.web.config import web_config_file
from guestlist.exporter.web.door import Patience
from guestlist.exporter.web.server import serve

options = json.loads(sys.argv[1])
log = logging.getLogger("guestlist")
log.setLevel(logging.INFO)
log.addHandler(logging.FileHandler(options["log"]))
if options["descriptors"]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (options["descriptors"], hard))
if options["shared_for"] is not None:
    bodies.SHARED_FOR = options["shared_for"]
compress = bodies._gzip

def told(plain):
    print("gzip", flush=True)
    return compress(plain)

bodies._gzip = told

class Exporter:
    def __init__(self, name):
        self.name, self.made, self.is_ready = name, 0, options["is_ready"]
    def scrape(self):
        self.made += 1
        print("scrape", self.name, self.made, flush=True)
        if options["waits"] and sys.stdin.readline() == "fail\\n":
            raise ValueError("no\\nbody")
        return (f"body{{of=\\"{self.name}\\"}} {self.made}\\n").encode() * options["lines"]
    def close(self):
        sys.stdout.write(f"close {self.name}\\n")  # in one piece: two threads may close
        sys.stdout.flush()

def make(uri):
    print("make", uri, flush=True)
    return Exporter(uri)

config = web_config_file(Path(options["config"])) if options["config"] else None
targets = Targets(Path(options["targets"]), make) if options["targets"] else None
sockets = listening.sockets([listening.address(each) for each in options["addresses"]])
print("ready", flush=True)
print(*(each.getsockname()[1] for each in sockets), flush=True)
site = Site(Exporter("host"), options["path"], targets, config)
ended = serve(site, sockets, [signal.SIGTERM, signal.SIGINT], Patience(**options["patience"]))
print("ended", ended.name, flush=True)
if targets: targets.close()
"""

ALL = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the server."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class WebServer:
    """A server that runs."""

    process: subprocess.Popen[str]
    ports: list[int]
    log_path: Path

    @property
    def port(self) -> int:
        """The port of its first address."""
        return self.ports[0]

    @property
    def log(self) -> list[str]:
        """The lines of its log."""
        return self.log_path.read_text().splitlines()

    def listens(self) -> bool:
        """Whether it has read its files and serves on each address."""
        return sum("listening on" in line for line in self.log) == len(self.ports)

    def says(self) -> str:
        """Return the next line that the exporter writes."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def tell(self, line: str = "") -> None:
        """Let a body that waits go on; "fail": by an error."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def get(
        self,
        path: str = "/metrics",
        *,
        method: str = "GET",
        tls: ssl.SSLContext | None = None,
        **headers: str,
    ) -> Answer:
        """Ask over a new connection; return the answer. `Accept_Encoding=…` sets a header."""
        connection = self.connection(tls)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def connection(self, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        """Return a connection, not yet opened."""
        if tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        return http.client.HTTPSConnection("localhost", self.port, timeout=LONG, context=tls)

    def open(self) -> socket.socket:
        """Return a connected socket."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=LONG)

    def send(self, request: bytes) -> bytes:
        """Send bytes; return all that comes until the server closes the connection."""
        with self.open() as client:
            client.sendall(request)
            return read_all(client)

    def threads(self) -> int:
        """Return how many threads it has."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))


def read_all(client: socket.socket) -> bytes:
    """Return all that comes until the other side closes the connection, or cuts it."""
    got = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65_536):
            got += piece
    return bytes(got)


@contextlib.contextmanager
def web_server(
    place: Path,
    *,
    config: Path | None = None,
    targets: Path | None = None,
    path: str = "/metrics",
    addresses: tuple[str, ...] = (ALL,),
    patience: Patience | None = None,
    **options: Any,
) -> Iterator[WebServer]:
    """Run a server for the length of the block; its log has no traceback at the end.

    Options: `waits`, each body waits for `tell`; `lines` of a body; `is_ready`; `descriptors` that
    it may open; `shared_for`, in the place of `bodies.SHARED_FOR`.
    """
    given = {
        "waits": False,
        "lines": 1,
        "is_ready": True,
        "descriptors": None,
        "shared_for": None,
        **options,
        "config": str(config) if config else None,
        "targets": str(targets) if targets else None,
        "path": path,
        "addresses": addresses,
        "log": str(place / "server.log"),
        "patience": {
            name: getattr(patience or Patience(), name) for name in Patience.__dataclass_fields__
        },
    }
    with running(_PROGRAM, json.dumps(given)) as process:
        assert process.stdout is not None
        ports = [int(port) for port in process.stdout.readline().split()]
        server = WebServer(process, ports, place / "server.log")
        wait_until(lambda: process.poll() is not None or server.listens())
        yield server
        assert not [line for line in server.log if "Traceback" in line]
