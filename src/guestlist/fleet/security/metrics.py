"""The numbers that a member of an etcd shows over HTTP, in Prometheus's format.

In: a member's address, TLS files. Out: numbers by their names. etcd serves them at the port of its
clients to every client that may connect, also where it denies `Status` to ordinary users; unless it
is told to serve them elsewhere (`--listen-metrics-urls`, `--listen-client-http-urls`).
"""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl

from guestlist.fleet.etcd.endpoints import Tls

_NUMBER = re.compile(r"^(etcd_[a-z_]+) ([0-9.eE+-]+)$", re.MULTILINE)

LONGEST = 8 << 20
"""Bytes that are read of an answer."""


def metrics(member: str, tls: Tls | None, timeout: float) -> dict[str, float]:
    """Return the numbers without labels that a member shows, by their names.

    Raises:
        OSError: the member does not answer, or a file cannot be read.
        http.client.HTTPException: what it answers is not HTTP.
        ValueError: it answers without the numbers.
    """
    with contextlib.closing(_connection(member, tls, timeout)) as connection:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read(LONGEST).decode("utf-8", "replace")
    if answer.status != http.client.OK:
        raise ValueError(f"/metrics answers {answer.status} {answer.reason}")
    return {name: float(value) for name, value in _NUMBER.findall(text)}


def _connection(member: str, tls: Tls | None, timeout: float) -> http.client.HTTPConnection:
    if tls is None:
        return http.client.HTTPConnection(member, timeout=timeout)
    context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # of Python 3.13; gRPC asks for less
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return http.client.HTTPSConnection(member, timeout=timeout, context=context)
