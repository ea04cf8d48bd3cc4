"""Connections over TLS that libvirt refuses: which certificate is the reason, and what to do."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from lab.certificates import EXPIRED, NOT_YET, VALID, Authority
from lab.command import run
from lab.daemon import Daemon
from lab.waiting import wait_until

from guestlist import AccessDenied, ConnectionFailed, Host
from guestlist.cli.exits import Exit


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def authority():
    return Authority("laboratory")


@pytest.fixture(scope="module")
def place():
    """A directory that the daemon's user can read."""
    directory = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def served(needs_libvirtd, authority, place):
    """Return a function that starts a daemon with a certificate for a name and a time."""
    daemons = []

    def serve(name="localhost", days=VALID, extra=""):
        certificates = authority.put(
            place / f"server-{len(daemons)}", server=authority.issue(name, days)
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = {
            "listen_addr": "127.0.0.1",
            "tls_port": str(port),
            "auth_tls": "none",
            "ca_file": certificates / "cacert.pem",
            "cert_file": certificates / "servercert.pem",
            "key_file": certificates / "serverkey.pem",
        }
        lines = [f'{key} = "{value}"' for key, value in settings.items()]
        lines += ["listen_tls = 1", "tls_no_sanity_certificate = 1", extra]
        daemon = Daemon(extra="\n".join(lines), listen=True)
        daemons.append(daemon)
        daemon.__enter__()
        wait_until(lambda: listens(port))  # its unix socket is there earlier
        return f"test+tls://localhost:{port}/default?pkipath={{}}"

    yield serve
    for daemon in daemons:
        daemon.__exit__()


@pytest.fixture(scope="module")
def right(served):
    """Return the URI's parts for a daemon with a good certificate."""
    return served()


@pytest.fixture(scope="module")
def client(authority, place):
    """Return the files of a client with a good certificate."""
    return authority.put(place / "client", client=authority.issue("client"))


def refusal(kind, uri):
    """Check that a Host raises it, and that the command says it in one line, with its status."""
    with Host(uri) as host, pytest.raises(kind) as raised:
        host.list_instance_domains()
    message = str(raised.value)
    assert "group" not in message
    assert "auth.conf" not in message
    ended = run("ls", "-c", uri)
    status = Exit.DENIED if kind is AccessDenied else Exit.UNREACHABLE
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr == f"guestlist: {message}\n"
    return message


def test_certificates_that_are_right_open_the_door(right, client):
    with Host(right.format(client)) as host:
        assert host.list_instance_domains(include_foreign=True)


@pytest.mark.parametrize(
    ("name", "days", "says"),
    [
        ("localhost", EXPIRED, "has expired: renew it"),
        ("localhost", NOT_YET, "not valid yet: compare the clocks"),
        ("elsewhere", VALID, "for another name"),
    ],
)
def test_a_servers_certificate_that_is_wrong(served, client, name, days, says):
    """It was "access denied", with advice about the socket's group."""
    message = refusal(ConnectionFailed, served(name, days).format(client))
    assert "the server's certificate is not trusted: " in message
    assert says in message


def test_a_server_of_an_authority_that_is_not_trusted(right, place):
    other = Authority("other")
    files = other.put(place / "other", client=other.issue("client"))
    message = refusal(ConnectionFailed, right.format(files))
    assert f"its issuer is not in {files}/cacert.pem" in message


def test_a_certificate_that_cannot_be_looked_at(right, place, monkeypatch):
    monkeypatch.setattr("guestlist.refusals._authority", lambda uri: Path("/nonexistent"))
    other = Authority("other")
    files = other.put(place / "unseen", client=other.issue("client"))
    with Host(right.format(files)) as host, pytest.raises(ConnectionFailed) as raised:
        host.list_instance_domains()
    assert "expired, is for another name, or its issuer is not in cacert.pem" in str(raised.value)


@pytest.mark.parametrize("fault", ["missing", "not on the list"])
def test_a_client_that_the_server_refuses(served, authority, place, client, fault):
    if fault == "missing":
        uri = served().format(authority.put(place / "nothing"))
    else:
        uri = served(extra='tls_allowed_dn_list = ["CN=other"]').format(client)
    message = refusal(AccessDenied, uri)
    assert "the server refuses this client's certificate" in message
    assert "tls_allowed_dn_list" in message


@pytest.mark.parametrize("fault", ["expired", "other authority", "no authority"])
def test_a_client_whose_own_certificates_are_wrong(right, authority, place, fault):
    files = place / fault.replace(" ", "-")
    if fault == "expired":
        authority.put(files, client=authority.issue("client", EXPIRED))
    elif fault == "other authority":
        authority.put(files, client=Authority("other").issue("client"))
    assert "repair this client's own certificates" in refusal(ConnectionFailed, right.format(files))


def test_libvirts_own_log_is_shown_to_those_who_ask_for_it(right, place):
    """The command prints its own line on standard error, and not libvirt's."""
    other = Authority("other")
    uri = right.format(other.put(place / "log", client=other.issue("client")))
    assert run("ls", "-c", uri).stderr.count("\n") == 1
    assert "virNetTLSContext" in run("ls", "-c", uri, LIBVIRT_LOG_OUTPUTS="3:stderr").stderr
    assert "virNetTLSContext" in run("ls", "-v", "-c", uri).stderr
