"""A stand-in for an etcd without holes: a real one behind a relay that refuses what it must.

In: a real etcd, which has holes, and the credentials of one user. Out: an address with TLS. The
relay passes every call on to the real etcd, with the credentials of that user. It refuses three
itself, with etcd's own words: a watch without an end, from a key on; a write inside a nested
transaction that the user has no right to; a compaction.

It says nothing about etcd 3.5.33 itself: it shows that the check finds no hole where each attempt
is refused. Source: the advisories GHSA-xg4h-6gfc-h4m8, GHSA-rfx7-8w68-q57q, GHSA-q8m4-xhhv-38mg.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc

from guestlist.fleet.etcd.messages import MESSAGES, METHODS

_DENIED = "etcdserver: permission denied"


class RepairedEtcd:
    """A context manager that listens on loopback.

    Args:
        behind: the address of the real etcd.
        pki: the folder of the user's certificate: cacert.pem, clientcert.pem, clientkey.pem.
        server: the folder of the relay's own certificate: servercert.pem, serverkey.pem.
        own: how the user's own keys begin.
    """

    def __init__(self, behind: str, pki: Path, server: Path, own: Callable[[bytes], bool]) -> None:
        ca = (pki / "cacert.pem").read_bytes()
        self._own = own
        self._channel = grpc.secure_channel(
            behind,
            grpc.ssl_channel_credentials(
                ca, (pki / "clientkey.pem").read_bytes(), (pki / "clientcert.pem").read_bytes()
            ),
        )
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=[_Handler(self)])
        pair = (server / "serverkey.pem").read_bytes(), (server / "servercert.pem").read_bytes()
        credentials = grpc.ssl_server_credentials([pair], ca, require_client_auth=True)
        self.endpoint = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self.refused: list[str] = []
        """The calls that the relay has refused."""

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._channel.close()

    def answer(self, path: str, request: bytes, context: Any) -> bytes:
        """Pass a call on, or refuse it."""
        name = path.rpartition("/")[2]
        nested = name == "Txn" and any(
            not self._own(key) for key in _nested_keys(MESSAGES["TxnRequest"].FromString(request))
        )
        if nested or name == "Compact":
            self.refused.append(name)
            context.abort(grpc.StatusCode.PERMISSION_DENIED, _DENIED)
        call = self._channel.unary_unary(path)
        try:
            found: bytes = call(request, timeout=5)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        return found

    def answers(self, path: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Pass a stream on; answer as etcd does where a watch is denied."""
        first = next(requests)
        asked = METHODS["Watch"].request.FromString(first)
        if path.endswith("/Watch") and asked.create_request.range_end == b"\0":
            self.refused.append("Watch")
            denied = MESSAGES["WatchResponse"](
                watch_id=-1, created=True, canceled=True, cancel_reason=_DENIED
            )
            yield denied.SerializeToString()
            return
        stream = self._channel.stream_stream(path)(_all(first, requests))
        context.add_callback(stream.cancel)
        yield from stream


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, relay: RepairedEtcd) -> None:
        self._relay = relay

    def service(self, call: Any) -> Any:
        path = call.method
        if path.endswith(("/Watch", "/LeaseKeepAlive")):
            return grpc.stream_stream_rpc_method_handler(
                lambda requests, context: self._relay.answers(path, requests, context)
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._relay.answer(path, request, context)
        )


def _all(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _nested_keys(txn: Any, depth: int = 0) -> Iterator[bytes]:
    """Yield the keys that are written inside nested transactions."""
    for operation in (*txn.success, *txn.failure):
        if operation.WhichOneof("one") == "request_txn":
            yield from _nested_keys(operation.request_txn, depth + 1)
        elif operation.WhichOneof("one") == "request_put" and depth:
            yield operation.request_put.key
