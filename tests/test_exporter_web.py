"""The exporter's server over real sockets: what it answers, to clients of every kind."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import signal
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab.certificates import Authority
from lab.programs import LONG
from lab.waiting import wait_until
from lab.web_server import WebServer, read_all, web_server

from guestlist.exporter.targets import NoSuchTarget, Targets
from guestlist.exporter.web import listening
from guestlist.exporter.web.door import LONGEST_HEAD, LONGEST_LINE, Patience
from guestlist.exporter.web.encodings import Encoding, accepted
from guestlist.settings_file import BadSettings

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
LAST = b"Connection: close\r\n\r\n"


@pytest.fixture
def server(tmp_path: Path):
    with web_server(tmp_path) as running:
        yield running


# The pages


def test_the_metrics(server: WebServer) -> None:
    answer = server.get()
    assert (answer.status, answer.body) == (200, b'body{of="host"} 1\n')
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["Server"] == "guestlist"


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/healthy", "/-/ready", "/nothing"])
def test_head_has_the_headers_of_get(server: WebServer, path: str) -> None:
    get, head = server.get(path), server.get(path, method="HEAD")
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["Content-Length"] == str(len(get.body))
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


def test_the_other_pages(server: WebServer) -> None:
    assert server.get("/-/healthy").body == b"healthy\n"
    assert server.get("/-/ready").body == b"ready\n"
    page = server.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'<a href="/metrics">' in page.body
    assert server.get("/metrics?name=libvirt_up").status == 200
    for path in ("/nothing", "/metrics/", "//metrics", "/-/", "/probe?target=x"):
        assert server.get(path).status == 404, path


def test_it_is_ready_when_the_exporter_is(tmp_path: Path) -> None:
    with web_server(tmp_path, is_ready=False) as server:
        assert server.get("/-/healthy").status == 200
        answer = server.get("/-/ready")
        assert (answer.status, answer.body.count(b"\n")) == (503, 1)


@pytest.mark.parametrize("path", ["/", "/other/path"])
def test_another_path_for_the_metrics(tmp_path: Path, path: str) -> None:
    with web_server(tmp_path, path=path) as server:
        assert server.get(path).body == b'body{of="host"} 1\n'
        assert server.get("/metrics").status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "X"])
def test_other_methods_are_refused(server: WebServer, method: str) -> None:
    answer = server.send(method.encode() + b" /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\n")


def test_several_addresses(tmp_path: Path) -> None:
    with web_server(tmp_path, addresses=("127.0.0.1:0", "localhost:0", "[::1]:0")) as server:
        assert len(set(server.ports)) == 3
        for port, host in zip(server.ports, ("127.0.0.1", "127.0.0.1", "::1"), strict=True):
            connection = http.client.HTTPConnection(host, port, timeout=LONG)
            with contextlib.closing(connection):
                connection.request("GET", "/-/healthy")
                assert connection.getresponse().read() == b"healthy\n"
        wait_until(lambda: len(server.log) == 3)
        assert f"listening on http://[::1]:{server.ports[2]}/metrics" in server.log


# Compression


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (None, Encoding.IDENTITY),
        ("", Encoding.IDENTITY),
        ("gzip", Encoding.GZIP),
        ("x-gzip", Encoding.GZIP),
        ("GZIP;Q=0.5", Encoding.GZIP),
        ("deflate, br", Encoding.IDENTITY),
        ("gzip;q=0", Encoding.IDENTITY),
        ("gzip;q=0.000", Encoding.IDENTITY),
        ("gzip; q=soon", Encoding.IDENTITY),
        ("gzip;q=0.5, identity", Encoding.IDENTITY),
        ("identity;q=0.5, gzip", Encoding.GZIP),
        ("identity;q=0.5, gzip;q=0.5", Encoding.GZIP),
        ("*", Encoding.GZIP),
        ("*;q=0, gzip", Encoding.GZIP),
        ("identity;q=0, *", Encoding.GZIP),
        ("*, gzip;q=0", Encoding.IDENTITY),
        ("identity;q=0", None),
        ("*;q=0", None),
        ("gzip;q=0, identity;q=0", None),
        ("zstd;q=1.0, gzip;q=0.8, *;q=0.1", Encoding.GZIP),
    ],
)
def test_the_encoding_that_a_client_accepts(header: str | None, encoding: Encoding | None) -> None:
    assert accepted(header) is encoding


def test_a_body_is_compressed_where_the_client_wants_it(tmp_path: Path) -> None:
    with web_server(tmp_path, lines=10_000) as server:
        answer = server.get(Accept_Encoding="gzip")
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert gzip.decompress(answer.body) == b'body{of="host"} 1\n' * 10_000
        plain = server.get(Accept_Encoding="gzip;q=0")
        assert plain.headers["Content-Encoding"] is None
        assert plain.body == b'body{of="host"} 2\n' * 10_000
        assert server.get(Accept_Encoding="identity;q=0").status == 406


# One body for all who ask at an instant


def test_requests_share_the_body_that_is_being_made_and_its_compressed_form(tmp_path: Path) -> None:
    with (
        web_server(tmp_path, waits=True, shared_for=LONG) as server,
        ThreadPoolExecutor(50) as all_,
    ):
        answers = [
            all_.submit(server.get, Accept_Encoding=("gzip", "identity")[each % 2])
            for each in range(50)
        ]
        assert server.says() == "scrape host 1"
        wait_until(lambda: established(server) == 50)
        probe = server.get("/-/healthy")  # the requests before this one have been taken in
        assert probe.status == 200
        server.tell()
        bodies = {plain(answer.result()) for answer in answers}
        assert bodies == {b'body{of="host"} 1\n'}
        assert server.says() == "gzip"
        again = all_.submit(server.get)
        assert server.says() == "scrape host 2"
        server.tell()
        assert again.result().body == b'body{of="host"} 2\n'


def test_later_requests_share_the_next_body(tmp_path: Path) -> None:
    with web_server(tmp_path, waits=True, shared_for=-1) as server, ThreadPoolExecutor(50) as all_:
        first = all_.submit(server.get)
        assert server.says() == "scrape host 1"
        later = [all_.submit(server.get) for _ in range(20)]
        wait_until(lambda: established(server) == 21)
        server.get("/-/healthy")
        server.tell()
        assert first.result().body == b'body{of="host"} 1\n'
        assert server.says() == "scrape host 2"
        server.tell()
        assert {answer.result().body for answer in later} == {b'body{of="host"} 2\n'}


def test_a_body_that_cannot_be_made_is_one_line_in_the_log(tmp_path: Path) -> None:
    with web_server(tmp_path, waits=True) as server, ThreadPoolExecutor() as asking:
        answer = asking.submit(server.get)
        server.tell("fail")
        assert answer.result().status == 500
        assert answer.result().body == b"Internal Server Error\n"
        assert server.log[1:] == ["a request failed: ValueError: no body"]
        server.tell()
        assert server.get().status == 200


def plain(answer) -> bytes:
    is_compressed = answer.headers["Content-Encoding"] == "gzip"
    return gzip.decompress(answer.body) if is_compressed else answer.body


def established(server: WebServer) -> int:
    """Return how many connections the server has, as the kernel tells."""
    lines = Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    port = f"{server.port:04X}"
    return sum(each[1].endswith(f":{port}") and each[3] == "01" for each in fields)


# Requests that are none


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nA b: c\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: x\r\n\r\n", 413),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        (b"GET /metrics HTTP/9.9\r\n\r\n", 400),
        (b"get /metrics HTTP/1.1\r\n\r\n", 400),
        (b"\0" * 100_000, 400),
        (b"A" * 100_000, 400),
        (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405),
        (b"GET /" + b"a" * LONGEST_LINE + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"a" * 1_000_000, 414),
        (GET + b"A: " + b"a" * LONGEST_HEAD + b"\r\n\r\n", 431),
        (GET + b"A: " + b"a" * 1_000_000, 431),
        (GET + b"A: b\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_what_is_no_request_gets_a_status(server: WebServer, request_: bytes, status: int) -> None:
    answer = server.send(request_)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ", 2)[1] == str(status).encode(), answer[:200]
    assert b"Traceback" not in body
    assert b"aiohttp" not in head
    assert len(body) < 500
    assert len(server.log) == 1
    assert server.get().status == 200


def test_what_may_look_odd_is_answered(server: WebServer) -> None:
    for odd in (
        b"\r\n\r\n" + GET + LAST,
        b"GET /metrics HTTP/1.0\r\n\r\n",
        b"GET http://other/metrics HTTP/1.1\r\nHost: x\r\n" + LAST,
        GET + b"Content-Length: 0\r\n" + LAST,
        GET + b"A: " + b"a" * 8_000 + b"\r\n" + LAST,
        b"GET /metrics?" + b"a" * 8_000 + b" HTTP/1.1\r\nHost: x\r\n" + LAST,
        GET
        + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: A\r\n"
        + LAST,
    ):
        assert server.send(odd).startswith((b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK")), odd


def test_requests_in_one_piece_are_answered_one_after_the_other(server: WebServer) -> None:
    answer = server.send((GET + b"\r\n") * 30 + GET + LAST)
    assert answer.count(b"HTTP/1.1 200 OK") == 31
    assert [b'body{of="host"} %d\n' % each in answer for each in range(1, 32)] == [True] * 31


def test_a_request_in_many_pieces(server: WebServer) -> None:
    with server.open() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GET + LAST:
            client.sendall(bytes([byte]))
        assert read_all(client).endswith(b'body{of="host"} 1\n')


# Slow and silent clients


def test_a_client_that_does_not_read_delays_no_other_and_is_cut(tmp_path: Path) -> None:
    with web_server(tmp_path, lines=1_000_000, patience=Patience(answer=2.0)) as server:
        with server.open() as client:
            client.sendall(GET + LAST)
            assert server.says() == "scrape host 1"
            assert server.get("/-/healthy").status == 200
            wait_until(lambda: established(server) == 0)
            assert len(read_all(client)) < 18_000_000
        assert len(server.get().body) == 18_000_000


def test_clients_that_do_not_read_keep_16_bodies_at_most(tmp_path: Path) -> None:
    with web_server(tmp_path, lines=500_000) as server, contextlib.ExitStack() as stack:
        lazy = [stack.enter_context(server.open()) for _ in range(17)]
        for place, client in enumerate(lazy):
            client.sendall(GET + LAST)
            assert server.says() == f"scrape host {place + 1}"
            assert client.recv(1) == b"H"  # its body is made: the next client gets another
        assert len(read_all(lazy[0])) < 9_000_000
        for client in lazy[1:]:
            assert len(read_all(client)) > 9_000_000


@pytest.mark.parametrize("begin", [b"", b"GET /metrics HTT", GET + b"\r\n" + GET])
def test_a_client_that_does_not_go_on_is_cut(tmp_path: Path, begin: bytes) -> None:
    with web_server(tmp_path, patience=Patience(head=0.3, idle=0.3)) as server:
        answer = server.send(begin)
        assert answer.count(b"HTTP/1.1 200 OK") == begin.count(b"\r\n\r\n")


def test_a_connection_is_kept_between_two_scrapes(tmp_path: Path) -> None:
    with web_server(tmp_path, patience=Patience(head=0.2)) as server:
        connection = server.connection()
        with contextlib.closing(connection):
            for each in range(3):
                connection.request("GET", "/metrics")
                assert connection.getresponse().read() == b'body{of="host"} %d\n' % (each + 1)
                with server.open() as silent:  # as long as the patience with a first head
                    assert read_all(silent) == b""


def test_silent_clients_beyond_the_limit_make_room(tmp_path: Path) -> None:
    with web_server(tmp_path, descriptors=64) as server, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(server.open()) for _ in range(100)]
        assert server.get().status == 200
        assert read_all(silent[0]) == b""


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a web-config file, and the context of a client that trusts the server."""
    authority = Authority("laboratory")
    place = authority.put(tmp_path / "pki", server=authority.issue("localhost"))
    (place / "serverkey.pem").chmod(0o600)
    config = place / "web.yml"
    config.write_text("tls_server_config: {cert_file: servercert.pem, key_file: serverkey.pem}")
    return config, ssl.create_default_context(cafile=place / "cacert.pem")


def test_300_silent_tls_clients_delay_no_scrape_and_take_no_thread(
    tmp_path: Path, tls: tuple[Path, ssl.SSLContext]
) -> None:
    config, context = tls
    with (
        web_server(tmp_path, config=config, patience=Patience(handshake=LONG)) as server,
        contextlib.ExitStack() as stack,
    ):
        assert server.get(tls=context).status == 200
        threads = server.threads()
        silent = [stack.enter_context(server.open()) for _ in range(300)]
        for each in silent[::2]:
            each.sendall(b"\x16\x03\x01\x02\x00\x01")  # a handshake that stops
        assert server.get(tls=context).body == b'body{of="host"} 2\n'
        assert server.threads() <= threads
        assert established(server) >= 300


def test_a_handshake_that_stops_is_cut(tmp_path: Path, tls: tuple[Path, ssl.SSLContext]) -> None:
    with web_server(tmp_path, config=tls[0], patience=Patience(handshake=0.3)) as server:
        assert server.send(b"\x16\x03\x01\x02\x00\x01") == b""
        assert not server.send(GET + LAST).startswith(b"HTTP/1.1 200")
        assert server.get(tls=tls[1]).status == 200


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_answers_that_are_under_way(
    tmp_path: Path, number: signal.Signals
) -> None:
    with (
        web_server(tmp_path, waits=True, patience=Patience(ending=LONG)) as server,
        ThreadPoolExecutor() as asking,
        server.open() as idle,
    ):
        answer = asking.submit(server.get)
        assert server.says() == "scrape host 1"
        server.process.send_signal(number)
        assert read_all(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            server.open()
        server.tell()
        assert answer.result().body == b'body{of="host"} 1\n'
        assert server.says() == f"ended {number.name}"
        assert server.process.wait() == 0


def test_an_answer_that_takes_too_long_does_not_delay_the_end(tmp_path: Path) -> None:
    with web_server(tmp_path, waits=True) as server, server.open() as client:
        client.sendall(GET + LAST)
        assert server.says() == "scrape host 1"
        server.process.send_signal(signal.SIGTERM)
        assert read_all(client) == b""
        assert server.says() == "ended SIGTERM"


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with (
        web_server(tmp_path, waits=True, patience=Patience(ending=LONG)) as server,
        server.open() as client,
        server.open() as idle,
    ):
        client.sendall(GET + LAST)
        assert server.says() == "scrape host 1"
        server.process.send_signal(signal.SIGTERM)
        assert read_all(idle) == b""
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait() == -signal.SIGTERM


# Targets


def test_a_probe_asks_the_host_of_a_name(tmp_path: Path) -> None:
    file = tmp_path / "targets.yml"
    file.write_text("node1: test:///one\nnode2: {uri: 'test:///two'}\n")
    with web_server(tmp_path, targets=file) as server:
        assert server.get("/probe?target=node1").body == b'body{of="test:///one"} 1\n'
        assert server.get("/probe?target=node1").body == b'body{of="test:///one"} 2\n'
        assert server.get("/probe?target=node2").body == b'body{of="test:///two"} 1\n'
        said = [server.says() for _ in range(5)]
        assert [line for line in said if line.startswith("make")] == [
            "make test:///one",
            "make test:///two",
        ]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?", 400),
        ("?name=node1", 400),
        ("?target=node1&target=node1", 400),
        ("?target=", 404),
        ("?target=other", 404),
        ("?target=test:///one", 404),
        ("?target=qemu%2Bext:///system%3Fcommand%3D/bin/true", 404),
        ("?target=" + "a" * 8_000, 404),
        ("?target=node1%00", 404),
    ],
)
def test_a_probe_takes_names_of_the_file_only(tmp_path: Path, query: str, status: int) -> None:
    file = tmp_path / "targets.yml"
    file.write_text("node1: test:///one\n")
    with web_server(tmp_path, targets=file) as server:
        answer = server.get(f"/probe{query}")
        assert (answer.status, answer.body.count(b"\n")) == (status, 1)
        assert b"target" in answer.body
        assert server.get("/metrics").status == 200
        assert server.says() == "scrape host 1"  # no exporter was made


def test_targets_that_leave_the_file_are_closed(tmp_path: Path) -> None:
    file = tmp_path / "targets.yml"
    file.write_text("node1: test:///one\nnode2: test:///two\n")
    with web_server(tmp_path, targets=file) as server:
        for name in ("node1", "node2"):
            server.get(f"/probe?target={name}")
        assert {server.says() for _ in range(4)} >= {"make test:///one", "make test:///two"}
        file.write_text("node2: test:///other\nnode3: test:///three\n")
        assert server.get("/probe?target=node1").status == 404
        assert {server.says(), server.says()} == {"close test:///one", "close test:///two"}
        assert server.get("/probe?target=node2").body == b'body{of="test:///other"} 1\n'
        file.write_text("node2: [")
        assert server.get("/probe?target=node2").status == 500
        assert server.get("/metrics").status == 200
        assert len(server.log) == 2
        file.unlink()
        assert server.get("/probe?target=node2").status == 500
        file.write_text("node2: test:///other\n")
        assert server.get("/probe?target=node2").body == b'body{of="test:///other"} 2\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "has no keys with values"),
        ("a: b\na: c", "line 1: the key 'a' is there twice"),
        ("a: {url: b}", "host 'a' has the unknown key 'url'; known: uri"),
        ("a: [b]", "host 'a' has no URI"),
        ("a:", "host 'a' has no URI"),
        ("a: 'b\\n'\nb: \"c\\n\"", "host 'b' has no URI"),
        ("1: b", "the key 1 is no text; put it between quotes"),
        ("a: b: c", "line 1: mapping values are not allowed here"),
        ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("\0", "is no YAML text in UTF-8"),
    ],
)
def test_a_file_of_targets_that_makes_no_sense(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "targets.yml"
    file.write_text(text)
    with pytest.raises(BadSettings) as raised:
        Targets(file, Closed)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


class Closed:
    """An exporter that remembers whether it is closed."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_closed_targets_stay_closed(tmp_path: Path) -> None:
    file = tmp_path / "targets.yml"
    file.write_text("a: test:///one")
    targets = Targets(file, Closed)
    exporter = targets.get("a")
    assert targets.get("a") is exporter
    targets.close()
    wait_until(lambda: exporter.is_closed)
    with pytest.raises(NoSuchTarget):
        targets.get("a")


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9177", ("", 9177)),
        ("127.0.0.1:9177", ("127.0.0.1", 9177)),
        ("[::1]:9177", ("::1", 9177)),
        ("[::]:0", ("::", 0)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_an_address_as_go_writes_it(text: str, address: tuple[str, int]) -> None:
    assert listening.address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9177",
        "localhost",
        "::1:9177",
        "[::1]",
        "a:b",
        "a:-1",
        ":65536",
        "vsock://:9177",
        "a/b:1",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is no address; write HOST:PORT"):
        listening.address(text)


def test_all_interfaces_are_both_families() -> None:
    (listens,) = listening.sockets([listening.address(":0")])
    with listens:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, listens.getsockname()[1])).close()


def test_a_port_in_use_is_one_line() -> None:
    (listens,) = listening.sockets([listening.address("127.0.0.1:0")])
    with listens:
        name = listening.name_of(listens)
        with pytest.raises(listening.CannotListen, match=f"cannot listen on {name}: Address alr"):
            listening.sockets([listening.address("127.0.0.1:0"), listening.address(name)])


def test_a_client_that_is_a_program(server: WebServer) -> None:
    """curl, as people try it."""
    url = f"http://127.0.0.1:{server.port}/metrics"
    for words in ([], ["--compressed"], ["--http1.0"], ["--http2"]):
        command = ["curl", "-sS", "--fail", "--noproxy", "*", *words, url]
        done = subprocess.run(command, capture_output=True, check=True)
        assert done.stdout.startswith(b'body{of="host"}')
