"""An exporter as a process that listens on loopback, and what it answers and uses.

In: the words of a command line. Out: a `Serving`: answers to requests, and what the kernel tells of
the process. `guestlist_exporter` runs the command `guestlist exporter`, `serving` any other one.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import re
import resource
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.command import COMMAND, started
from lab.programs import LONG
from lab.scraped import Scraped
from lab.waiting import wait_until

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Serving:
    """An exporter that runs. `tls`: how to ask one that serves HTTPS."""

    pid: int
    port: int
    log_path: Path
    tls: ssl.SSLContext | None = None

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"localhost:{self.port}" if self.tls else f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it wrote on standard error."""
        return self.log_path.read_text()

    def get(self, path: str = "/metrics", **headers: str) -> bytes:
        """Return the body of an answer, as it came. `Accept_Encoding=…` sets a header.

        Raises:
            RuntimeError: the status is another one than 200.
        """
        connection: http.client.HTTPConnection
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        else:
            connection = http.client.HTTPSConnection(
                "localhost", self.port, timeout=LONG, context=self.tls
            )
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", path, headers=named)
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{path}: {answer.status}: {body.decode(errors='replace')}")
        return body

    def scrape(self, path: str = "/metrics") -> Scraped:
        """Return a scrape, compressed on the way, as Prometheus asks for it."""
        return Scraped.of(gzip.decompress(self.get(path, Accept_Encoding="gzip")))

    def cpu_seconds(self) -> float:
        """Return the processor time that it took."""
        return cpu_seconds(self.pid)

    def threads(self) -> int:
        """Return how many threads it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def descriptors(self) -> int:
        """Return how many file descriptors it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def resident_bytes(self) -> int:
        """Return the memory that it occupies."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def free_port() -> int:
    """Return a port of loopback on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def guestlist_exporter(*words: str, tls: ssl.SSLContext | None = None) -> Iterator[Serving]:
    """Run `guestlist exporter` on a free port of loopback until the block ends."""
    command = [*COMMAND, "exporter", "--web.listen-address=127.0.0.1:0", *words]
    with started(command) as (process, log):

        def port() -> int | None:
            found = re.search(r"listening on https?://127\.0\.0\.1:(\d+)/", log.read_text())
            return int(found[1]) if found else None

        wait_until(lambda: port() is not None or process.poll() is not None)
        listening = port()
        assert listening is not None, log.read_text()
        yield Serving(process.pid, listening, log, tls)


@contextlib.contextmanager
def serving(command: Sequence[str], port: int) -> Iterator[Serving]:
    """Run a command that listens on this port of loopback until the block ends."""

    def listens() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    with started(command) as (process, log):
        wait_until(lambda: listens() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Serving(process.pid, port, log)
