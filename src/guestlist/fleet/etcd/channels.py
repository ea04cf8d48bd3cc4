"""gRPC's channels to members, each with the certificates that the files have when it is opened.

In: TLS, addresses. Out: channels. gRPC reads no file again by itself: a channel connects with what
it was made with, however often. So a certificate that was renewed is taken for the next channel.
"""

from __future__ import annotations

import contextlib

import grpc

from guestlist.fleet.etcd.endpoints import Pem, Tls

LONGEST_ANSWER = 256 << 20
"""Bytes of the longest message that is taken."""

_OPTIONS = (
    ("grpc.max_receive_message_length", LONGEST_ANSWER),
    ("grpc.max_send_message_length", LONGEST_ANSWER),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
"""gRPC's: no retry of its own, no HTTP proxy, no connection shared with other clients."""

_TARGET_NAME = "grpc.ssl_target_name_override"


class Channels:
    """Opens channels. Threads may share it.

    Raises:
        ValueError: a file of `tls` is not what it should be.
        OSError: a file of `tls` cannot be read.
    """

    def __init__(self, tls: Tls | None) -> None:
        self._tls = tls
        self._pem = None if tls is None else tls.read()

    def files(self) -> Pem | None:
        """Return what the files have now, or last had while they made sense; None: no TLS."""
        if self._tls is not None:
            with contextlib.suppress(OSError, ValueError):  # they are being renewed at this moment
                self._pem = self._tls.read()
        return self._pem

    def open(self, address: str, pem: Pem | None) -> grpc.Channel:
        """Return a new channel, which opens nothing until its first call."""
        if pem is None:
            return grpc.insecure_channel(address, _OPTIONS)
        name = None if self._tls is None else self._tls.server_name
        options = _OPTIONS if name is None else (*_OPTIONS, (_TARGET_NAME, name))
        credentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.certificate)
        return grpc.secure_channel(address, credentials, options)
