"""The web-config file: every key of exporter-toolkit's, over real TLS connections."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
import pytest
from cryptography import x509
from lab.certificates import EXPIRED, Authority, Issued
from lab.web_server import web_server

from guestlist.exporter.web.config import web_config_file
from guestlist.exporter.web.rate import Bucket, Rate
from guestlist.exporter.web.tls import _SUITES
from guestlist.settings_file import BadSettings

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


class Place:
    """A directory with a web-config file, and all that the file may name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authority = Authority("laboratory")
        self.authority.put(path, server=self.authority.issue("localhost"))
        self.key = path / "serverkey.pem"
        self.key.chmod(0o600)
        self.config = path / "web.yml"
        self._clients = 0

    def write(self, text: str) -> Path:
        """Write the file."""
        self.config.write_text(text)
        return self.config

    def tls(self, *lines: str) -> Path:
        """Write a file with the server's certificate, and these lines below `tls_server_config`."""
        own = "cert_file: servercert.pem", "key_file: serverkey.pem"
        return self.write("\n  ".join(["tls_server_config:", *own, *lines]) + "\n")

    def client(self, issued: Issued | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts the server and has this certificate."""
        context = ssl.create_default_context(cafile=self.path / "cacert.pem")
        if issued is not None:
            self._clients += 1
            own = self.authority.put(self.path / f"client{self._clients}", client=issued)
            context.load_cert_chain(own / "clientcert.pem", own / "clientkey.pem")
        return context


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "pki")


def problem(config: Path) -> str:
    """Return what is wrong with a file: one line."""
    with pytest.raises(BadSettings) as raised:
        web_config_file(config).now()
    text = str(raised.value)
    assert "\n" not in text
    assert str(config.parent) in text
    return text


# What the file may not say


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls: {}", "web.yml has the unknown key 'tls'; known: tls_server_config, http_server_con"),
        ("tls_server_config: {certt: x}", "tls_server_config has the unknown key 'certt'; known: "),
        ("tls_server_config: [a]", "tls_server_config has no keys with values"),
        ("http_server_config: {http3: true}", "http_server_config has the unknown key 'http3'"),
        ("http_server_config: {http2: nope}", "http2 is no true or false"),
        ("http_server_config: {headers: {X-Other: a}}", "the header 'X-Other' cannot be set"),
        ("http_server_config: {headers: {X-Frame-Options: none}}", "known: deny, sameorigin"),
        ('http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb: c"}}', "no printable text"),
        ("rate_limit: {interval: soon}", "interval 'soon' is no duration"),
        ("rate_limit: {interval: 1.5}", "interval is no text or whole number"),
        ("rate_limit: {burst: many}", "burst is no whole number"),
        ("rate_limit: {requests: 1}", "rate_limit has the unknown key 'requests'"),
        ("basic_auth_users: {alice: secret}", "the password of 'alice' is no bcrypt hash"),
        ("basic_auth_users: {alice: $2y$99$" + "a" * 53 + "}", "is no bcrypt hash"),
        ("basic_auth_users: {alice: 1}", "is no bcrypt hash"),
        ("basic_auth_users: {alice: $2y$16$" + "a" * 53 + "}", "no bcrypt hash of cost 4 to 15"),
        ("basic_auth_users: {a: b, a: c}", "line 1: the key 'a' is there twice"),
        ("a: &a {b: c}\nd: {<<: *a}", "line 2: '<<' is not accepted"),
        ("rate_limit: {interval: 1s, burst: " + "9" * 400 + "}", "burst is more than"),
        ("#" * 1_000_001, "it has more than 1,000,000 bytes"),
        ("tls_server_config: {cert_file: a}", "cannot read cert_file"),
        ("tls_server_config: {key_file: serverkey.pem}", "cert or cert_file is missing"),
        ("tls_server_config: {cert_file: servercert.pem}", "key or key_file is missing"),
        ("tls_server_config: {client_auth_type: NoClientCert}", "cert or cert_file is missing"),
        ("tls_server_config: {client_allowed_sans: [a]}", "cert or cert_file is missing"),
        ("tls_server_config: {min_version: TLS14}", "min_version 'TLS14' is unknown; known: TLS10"),
        ("tls_server_config: {client_allowed_sans: [1]}", "has an item that is no text"),
        ("\x80", "web.yml"),
        ("]", "web.yml, line 1"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_line(place: Place, text: str, said: str) -> None:
    assert said in problem(place.write(text))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["cipher_suites: [TLS_INVENTED]"],
            "cipher suite 'TLS_INVENTED' is unknown; known: TLS_EC",
        ),
        (["curve_preferences: [CurveP257]"], "curve 'CurveP257' is unknown; known: CurveP256"),
        (["client_auth_type: Some"], "client_auth_type 'Some' is unknown; known: NoClientCert"),
        (["client_auth_type: RequireAnyClientCert"], "use RequireAndVerifyClientCert"),
        (["client_auth_type: RequireClientCert"], "use RequireAndVerifyClientCert"),
        (["client_ca_file: cacert.pem"], "client_ca is given without client_auth_type"),
        (["client_ca_file: serverkey.pem", "client_auth_type: VerifyClientCertIfGiven"], "in PEM"),
        (["client_allowed_sans: [a]"], "needs client_auth_type RequireAndVerifyClientCert"),
        (["max_version: TLS11"], "leave no version of TLS"),
        (
            ["max_version: TLS12", "cipher_suites: [TLS_AES_128_GCM_SHA256]"],
            "leave no version of TLS",
        ),
    ],
)
def test_tls_that_makes_no_sense_is_one_line(place: Place, lines: list[str], said: str) -> None:
    assert said in problem(place.tls(*lines))


@pytest.mark.skipif(hasattr(ssl.SSLContext, "set_groups"), reason="this Python sets lists")
def test_a_list_of_curves_is_refused(place: Place) -> None:
    assert "can set one curve" in problem(place.tls("curve_preferences: [X25519, CurveP256]"))


def test_a_key_that_every_user_can_read_is_refused(place: Place) -> None:
    place.key.chmod(0o644)
    assert problem(place.tls()) == (
        f"every user can read key_file {place.key}; run: chmod o-rwx {place.key}"
    )


def test_a_key_that_does_not_fit_is_refused(place: Place) -> None:
    other = place.authority.put(place.path / "other", server=place.authority.issue("localhost"))
    place.key.write_bytes((other / "serverkey.pem").read_bytes())
    assert "key values mismatch" in problem(place.tls())
    place.key.write_text("no key")
    assert "do not load" in problem(place.tls())


@pytest.mark.parametrize("missing", ["cert_file", "key_file", "client_ca_file"])
def test_a_file_that_is_missing_is_one_line(place: Place, missing: str) -> None:
    text = place.tls("client_ca_file: cacert.pem", "client_auth_type: RequestClientCert")
    names = {"cert_file": "servercert", "key_file": "serverkey", "client_ca_file": "cacert"}
    (place.path / f"{names[missing]}.pem").unlink()
    assert f"cannot read {missing} {place.path}" in problem(text)
    assert problem(text).endswith("No such file or directory")


def test_a_web_config_that_is_missing_is_one_line(place: Place) -> None:
    assert problem(place.config).startswith(
        f"cannot read --web.config.file {place.config}: No such"
    )


def test_no_message_quotes_a_secret(place: Place) -> None:
    place.write("basic_auth_users: {alice: hunter2, bob: hunter2}")
    assert "hunter2" not in problem(place.config)
    place.write("tls_server_config:\n  key: hunter2: x\n")
    assert "hunter2" not in problem(place.config)


# What it may say


@pytest.mark.parametrize(
    "text",
    [
        "",
        "---",
        "tls_server_config:",
        "tls_server_config: {}",
        "tls_server_config: {min_version: TLS13}",
        "http_server_config: {http2: false}",
        "rate_limit: {interval: 0, burst: 3}",
        "rate_limit: {interval: -1s, burst: 3}",
        "basic_auth_users: {}",
    ],
)
def test_files_that_leave_plain_http(place: Place, text: str) -> None:
    config = web_config_file(place.write(text)).now()
    assert (config.tls, config.users, config.rate) == (None, {}, None)


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [("1s", 1), ("1m30s", 90), ("250ms", 0.25), (".5h", 1800), ("1h1m1.5s", 3661.5), ("5us", 5e-6)],
)
def test_an_interval_as_go_writes_it(place: Place, interval: str, seconds: float) -> None:
    config = web_config_file(place.write(f"rate_limit: {{interval: {interval}, burst: 7}}")).now()
    assert config.rate == Rate(pytest.approx(seconds), 7)


def test_a_bucket_fills_with_time() -> None:
    bucket = Bucket(Rate(interval=2.0, burst=3))
    assert [bucket.takes(10.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.takes(11.9), bucket.takes(12.1), bucket.takes(12.2)] == [False, True, False]
    assert [bucket.takes(1_000.0) for _ in range(4)] == [True, True, True, False]


def test_each_cipher_suite_of_go_exists(place: Place) -> None:
    names = ", ".join(_SUITES)
    context = (
        web_config_file(place.tls(f"cipher_suites: [{names}]", "max_version: TLS12")).now().tls
    )
    assert context is not None
    offered = {each["name"] for each in context.get_ciphers()}
    assert set(_SUITES.values()) <= offered


@pytest.mark.parametrize("curve", ["CurveP256", "CurveP384", "CurveP521", "X25519"])
def test_a_curve(place: Place, curve: str) -> None:
    assert web_config_file(place.tls(f"curve_preferences: [{curve}]")).now().tls is not None


# TLS


def test_a_scrape_over_tls(place: Place, tmp_path: Path) -> None:
    with web_server(tmp_path, config=place.tls("min_version: TLS13")) as server:
        assert server.get(tls=place.client()).body == b'body{of="host"} 1\n'
        assert f"listening on https://127.0.0.1:{server.port}/metrics" in server.log
        old = place.client()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            server.get(tls=old)


def test_certificate_and_key_in_the_file_itself(place: Place, tmp_path: Path) -> None:
    def text(name: str) -> str:
        return (place.path / name).read_text().replace("\n", "\n    ")

    parts = {"cert": "servercert.pem", "key": "serverkey.pem", "client_ca": "cacert.pem"}
    lines = [f"  {key}: |\n    {text(name)}\n" for key, name in parts.items()]
    config = place.write(
        "tls_server_config:\n" + "".join(lines) + "  client_auth_type: RequireAndVerifyClientCert\n"
    )
    assert "which holds a key" in problem(config)
    config.chmod(0o640)
    client = place.client(place.authority.issue("prometheus"))
    with web_server(tmp_path, config=config) as server:
        assert server.get(tls=client).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            server.get(tls=place.client())


def test_the_chosen_cipher_suites_are_used(place: Place, tmp_path: Path) -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    config = place.tls("max_version: TLS12", f"cipher_suites: [{suite}]")
    with web_server(tmp_path, config=config) as server:
        connection = server.connection(place.client())
        with contextlib.closing(connection):
            connection.connect()
            assert isinstance(connection.sock, ssl.SSLSocket)
            assert connection.sock.cipher()[:2] == ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2")


def strangers(place: Place) -> dict[str, Issued | None]:
    return {
        "none": None,
        "good": place.authority.issue("prometheus"),
        "expired": place.authority.issue("prometheus", EXPIRED),
        "of another authority": Authority("laboratory").issue("prometheus"),
    }


@pytest.mark.parametrize(
    ("kind", "admitted"),
    [
        ("NoClientCert", {"none", "good", "expired", "of another authority"}),
        ("RequestClientCert", {"none", "good", "expired", "of another authority"}),
        ("VerifyClientCertIfGiven", {"none", "good"}),
        ("RequireAndVerifyClientCert", {"good"}),
    ],
)
def test_which_clients_are_admitted(
    place: Place, tmp_path: Path, kind: str, admitted: set[str]
) -> None:
    authority = () if kind == "NoClientCert" else ("client_ca_file: cacert.pem",)
    config = place.tls(f"client_auth_type: {kind}", *authority)
    with web_server(tmp_path, config=config) as server:
        assert {
            name
            for name, issued in strangers(place).items()
            if is_admitted(lambda issued=issued: server.get(tls=place.client(issued)).status == 200)
        } == admitted


def is_admitted(get: Callable[[], bool]) -> bool:
    try:
        return get()
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.mark.parametrize(
    ("allowed", "also"),
    [
        ("prometheus", []),
        ("10.0.0.7", [x509.IPAddress(ipaddress.ip_address("10.0.0.7"))]),
        ("2001:db8::7", [x509.IPAddress(ipaddress.ip_address("2001:db8::7"))]),
        ("ops@example.org", [x509.RFC822Name("ops@example.org")]),
        ("spiffe://a/b", [x509.UniformResourceIdentifier("spiffe://a/b")]),
    ],
)
def test_the_names_of_clients(
    place: Place, tmp_path: Path, allowed: str, also: list[x509.GeneralName]
) -> None:
    config = place.tls(
        "client_auth_type: RequireAndVerifyClientCert",
        "client_ca_file: cacert.pem",
        f"client_allowed_sans: [other, '{allowed}']",
    )
    right = place.client(place.authority.issue("prometheus", also=also))
    wrong = place.client(place.authority.issue("prometheus2"))
    with web_server(tmp_path, config=config) as server:
        assert is_admitted(lambda: server.get(tls=right).status == 200)
        assert not is_admitted(lambda: server.get(tls=wrong).status == 200)
        assert server.says() == "scrape host 1"
        assert is_admitted(lambda: server.get(tls=right).body == b'body{of="host"} 2\n')


def test_an_empty_list_of_names_admits_no_client(place: Place, tmp_path: Path) -> None:
    config = place.tls(
        "client_auth_type: RequireAndVerifyClientCert",
        "client_ca_file: cacert.pem",
        "client_allowed_sans: []",
    )
    with web_server(tmp_path, config=config) as server:
        client = place.client(place.authority.issue("prometheus"))
        assert not is_admitted(lambda: server.get(tls=client).status == 200)


# Users, headers, rate


def basic(name: str, password: str | bytes) -> str:
    raw = password.encode() if isinstance(password, str) else password
    return "Basic " + base64.b64encode(name.encode() + b":" + raw).decode()


def test_users(place: Place, tmp_path: Path) -> None:
    long = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    php = HASH.replace("$2b$", "$2y$")
    config = place.write(
        f"basic_auth_users: {{alice: {HASH}, bob: {long}, 'Zoë': {php}}}\n"
        "http_server_config: {headers: {X-Frame-Options: deny}}\n"
    )
    with web_server(tmp_path, config=config) as server:
        for right in (
            basic("alice", "secret"),
            basic("alice", "secret"),
            basic("Zoë", "secret").replace("Basic", "bAsIc"),
            basic("bob", "x" * 72),
            basic("bob", "x" * 80),  # as Go's bcrypt
        ):
            assert server.get(Authorization=right).status == 200, right
        for wrong in (
            basic("alice", "secret2"),
            basic("alice", ""),
            basic("alice", "secret\0"),
            basic("carol", "secret"),
            basic("", ""),
            basic("alice", "s" * 1_000),
            basic("alice", b"\xff"),
            "Basic",
            "Basic !",
            "Basic " + base64.b64encode(b"alice").decode(),
            "Bearer secret",
            "",
        ):
            answer = server.get(Authorization=wrong)
            assert (answer.status, answer.body) == (401, b"Unauthorized\n"), wrong
            assert answer.headers["WWW-Authenticate"] == "Basic"
            assert answer.headers["X-Frame-Options"] == "deny"
        for path in ("/", "/-/healthy", "/-/ready", "/probe", "/nothing"):
            assert server.get(path).status == 401


def test_a_client_that_guesses_passwords_is_told_to_wait(place: Place, tmp_path: Path) -> None:
    slow = bcrypt.hashpw(b"secret", bcrypt.gensalt(10)).decode()
    config = place.write(f"basic_auth_users: {{alice: {slow}}}")
    with web_server(tmp_path, config=config) as server, ThreadPoolExecutor(40) as guessing:
        right = basic("alice", "secret")
        assert server.get(Authorization=right).status == 200
        threads = server.threads()
        guesses = [
            guessing.submit(server.get, Authorization=basic("alice", f"guess {each}"))
            for each in range(40)
        ]
        assert server.get(Authorization=right).status == 200
        answers = [guess.result() for guess in guesses]
        assert {answer.status for answer in answers} == {401, 503}
        assert server.threads() <= threads + 1


def test_headers(place: Place, tmp_path: Path) -> None:
    headers = {
        "Strict-Transport-Security": "max-age=31536000",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "sameorigin",
        "X-XSS-Protection": "1",
        "Content-Security-Policy": "default-src 'self'",
    }
    lines = "".join(f'    {name}: "{value}"\n' for name, value in headers.items())
    config = place.write(f"http_server_config:\n  http2: true\n  headers:\n{lines}")
    with web_server(tmp_path, config=config) as server:
        for path in ("/metrics", "/", "/-/healthy", "/nothing"):
            answer = server.get(path)
            assert {name: answer.headers[name] for name in headers} == headers


def test_the_rate_of_requests(place: Place, tmp_path: Path) -> None:
    config = place.write("rate_limit: {interval: 1h, burst: 3}")
    with web_server(tmp_path, config=config) as server:
        assert [server.get().status for _ in range(5)] == [200, 200, 200, 429, 429]
        place.write("rate_limit: {interval: 1h, burst: 1}")
        assert [server.get().status for _ in range(2)] == [200, 429]
        place.write("")
        assert server.get().status == 200


# A file that changes


def test_a_new_certificate_is_taken_for_the_next_connection(place: Place, tmp_path: Path) -> None:
    with web_server(tmp_path, config=place.tls()) as server:
        connection = server.connection(place.client())
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            assert connection.getresponse().read() == b'body{of="host"} 1\n'
            new = Place(tmp_path / "new")
            for name in ("servercert.pem", "serverkey.pem"):
                (new.path / name).replace(place.path / name)
            assert server.get(tls=new.client()).status == 200
            assert not is_admitted(lambda: server.get(tls=place.client()).status == 200)
            connection.request("GET", "/metrics")  # the open connection goes on
            assert connection.getresponse().status == 200


def test_a_broken_file_refuses_connections_until_it_is_repaired(
    place: Place, tmp_path: Path
) -> None:
    with web_server(tmp_path, config=place.tls()) as server:
        client = place.client()
        assert server.get(tls=client).status == 200
        kept = server.connection(client)
        with contextlib.closing(kept):
            kept.connect()
            place.tls("oops: true")
            for _ in range(3):
                assert not is_admitted(lambda: server.get(tls=client).status == 200)
            kept.request("GET", "/metrics")
            assert kept.getresponse().status == 500
        place.key.chmod(0o644)
        place.tls()
        assert not is_admitted(lambda: server.get(tls=client).status == 200)
        place.key.chmod(0o600)
        assert server.get(tls=client).status == 200
        said = [line.partition(str(place.path))[2] for line in server.log[1:]]
        assert [line[:30] for line in said] == [
            "/web.yml: tls_server_config ha",
            "/serverkey.pem; run: chmod o-r",
            "/web.yml can be used again",
        ]


def test_a_file_that_never_ends_stops_no_server(place: Place, tmp_path: Path) -> None:
    with web_server(tmp_path, config=place.write("")) as server:
        assert server.get().status == 200
        for odd in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir):
            place.config.unlink()
            odd(place.config)
            assert server.get().status == 500
            place.config.rename(place.path / f"odd-{len(server.log)}")
            place.write("")
            assert server.get().status == 200
        assert sum("it is no regular file" in line for line in server.log) == 3


def test_plain_http_with_a_broken_file_is_status_500(place: Place, tmp_path: Path) -> None:
    with web_server(tmp_path, config=place.write("")) as server:
        assert server.get().status == 200
        place.write("a: b")
        assert [server.get().status for _ in range(3)] == [500, 500, 500]
        place.write(f"basic_auth_users: {{alice: {HASH}}}")
        assert server.get().status == 401
        assert len(server.log) == 3


def test_tls_that_comes_into_the_file_is_not_left_out_in_silence(
    place: Place, tmp_path: Path
) -> None:
    with web_server(tmp_path, config=place.write("")) as server:
        assert server.get().status == 200
        place.tls()
        assert [server.get().status for _ in range(2)] == [500, 500]
        assert sum("start again" in line for line in server.log) == 1


def test_tls_that_leaves_the_file_does_not_leave_the_server(place: Place, tmp_path: Path) -> None:
    with web_server(tmp_path, config=place.tls()) as server:
        place.write("")
        assert not is_admitted(lambda: server.get(tls=place.client()).status == 200)
        assert not is_admitted(lambda: server.get().status == 200)
