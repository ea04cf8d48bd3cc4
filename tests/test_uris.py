"""URIs as libvirt reads them, and what a listing does not pay for."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guestlist import uris

URIS = [
    "test:///default",
    "test:///home/me/node.xml",
    "QEMU:///system",
    "qemu+ssh://root@node1.example/system?no_tty=1&keyfile=/a%20b",
    "qemu+tls://Node1:16515/system?pkipath=/etc/pki&pkipath=/other#there",
    "qemu://[2001:DB8::1]:16514/system",
    "qemu+tcp://user@home@host/session",
    "qemu+unix:///system?socket=/run/x",
    "qemu+ssh://host:ssh/system",
    "qemu+tls://host:65536/system",
    "qemu://host:/system",
    "esx://host",
    "xen://",
    "nonsense",
    "foo bar",
    "",
    ":",
    "a:b",
]
SHAPE = (
    r"[a-z]{1,4}(\+[a-z]{2,4})?:(//([a-z]@)?[a-zA-Z0-9.]{0,5}(:[0-9]{0,6})?)?"
    r"(/[a-z/]*)?(\?[a-z=&]*)?(#[a-z]*)?"
)


@pytest.mark.parametrize("uri", URIS)
def test_the_parts_are_those_of_urllib(uri):
    compare(uri)


@given(st.from_regex(SHAPE, fullmatch=True))
@example("qemu+ssh://a@b:1/c?d#e")
def test_the_parts_of_any_uri_are_those_of_urllib(uri):
    compare(uri)


def compare(uri: str) -> None:
    expected = urlsplit(uri)
    try:
        hostname, port = expected.hostname or "", expected.port
    except ValueError:
        assert uris.parts(uri) == uris.Parts()
        return
    if not expected.scheme:
        assert uris.parts(uri) == uris.Parts()
        return
    assert uris.parts(uri) == uris.Parts(
        expected.scheme, hostname, port, expected.path, expected.query
    )


@pytest.mark.parametrize(
    ("uri", "transport"),
    [
        ("test:///default", ""),
        ("qemu+unix:///system", "unix"),
        ("qemu+ssh://node1/system", "ssh"),
        ("qemu://node1/system", "tls"),
        ("nonsense", ""),
    ],
)
def test_the_transport_is_named_or_tls_with_a_host(uri, transport):
    assert uris.transport(uri) == transport


def test_parameters_are_decoded_and_the_last_one_counts():
    assert uris.query("qemu+tls://a/system?pkipath=/a%20b&x=1&x=2") == {"pkipath": "/a b", "x": "2"}


@pytest.mark.parametrize(
    ("uri", "without"),
    [
        ("test:///default", "test:///default"),
        ("qemu+ssh://a/system", "qemu+ssh://a/system?no_tty=1"),
        ("qemu+ssh://a/system?x=1#y", "qemu+ssh://a/system?x=1&no_tty=1#y"),
        ("qemu+ssh://a/system?no_tty=0", "qemu+ssh://a/system?no_tty=0"),
    ],
)
def test_prompts_are_switched_off_for_ssh_alone(uri, without):
    assert uris.without_prompts(uri) == without


def test_an_alias_and_the_default_are_those_of_libvirts_file(tmp_path, monkeypatch):
    configuration = tmp_path / "libvirt" / "libvirt.conf"
    configuration.parent.mkdir()
    configuration.write_text(
        'uri_aliases = [\n  "lab=qemu+ssh://lab/system",\n]\nuri_default = "test:///default"\n'
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    monkeypatch.setattr(uris.os, "geteuid", lambda: 1000)
    assert uris.resolved("lab") == "qemu+ssh://lab/system"
    assert uris.resolved(None) == "test:///default"
    assert uris.resolved("other") == "other"
    assert uris.transport("lab") == "ssh"


def test_connecting_imports_nothing_for_tls_and_tunnels():
    script = (
        "import sys, guestlist.connection as c; connection = c.Connection('test:///default'); "
        "connection.peer(); connection.close(); "
        "print({'ssl', 'socket', 'pathlib', 'urllib'} & set(sys.modules))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "set()"
