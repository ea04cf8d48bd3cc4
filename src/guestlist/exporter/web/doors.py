"""All connections of the server: let in, counted, and cut.

In: listening sockets. Out: connections with a `Door` each. At most `most` are open. One more takes
the place of the one that has been without a request for longest; if all are being answered, it is
closed. So clients that only connect keep no scrape out.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Any

from guestlist.errors import one_line
from guestlist.exporter.web.door import Door, Patience
from guestlist.settings_file import BadSettings

log = logging.getLogger(__name__)

MOST = 1_024
"""Connections at a time; half of the descriptors that the process may open, if that is less."""

_PAUSE = 0.05
"""Seconds without accepting, where no descriptor is free."""


class Doors:
    """The open connections of a server.

    Args:
        new_handler: makes aiohttp's protocol for a connection.
        tls: returns the SSL context for a new connection; None: no TLS.
        patience: how long clients may take.
    """

    def __init__(
        self,
        new_handler: Callable[[], asyncio.Protocol],
        tls: Callable[[], ssl.SSLContext] | None,
        patience: Patience,
    ) -> None:
        self._new_handler = new_handler
        self._tls = tls
        self._patience = patience
        self._most = min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._open: dict[Door, asyncio.Task[None]] = {}
        self._by_transport: dict[asyncio.BaseTransport, Door] = {}

    def of(self, transport: asyncio.BaseTransport | None) -> Door | None:
        """Return the door of a transport; None after the connection's end."""
        return self._by_transport.get(transport) if transport is not None else None

    async def accept(self, listening: socket.socket) -> None:
        """Let clients in; never returns."""
        loop = asyncio.get_running_loop()
        is_told = False
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except ConnectionError:  # the client has left already
                continue
            except OSError as error:  # no descriptor, or no memory
                if not is_told:
                    log.warning("cannot accept a connection: %s", error.strerror)
                is_told = True
                self._make_room()
                await asyncio.sleep(_PAUSE)
                continue
            is_told = False
            if len(self._open) < self._most or self._make_room():
                self._let_in(client)
            else:
                client.close()
            await asyncio.sleep(0)  # also while clients queue

    def cut_idle(self) -> None:
        """Cut the connections that are not being answered."""
        while self._make_room():
            pass

    def cut_all(self) -> None:
        """Cut all connections."""
        for door in list(self._open):
            self._cut(door)

    def _let_in(self, client: socket.socket) -> None:
        door = Door(self._new_handler, self._patience, self._opened, self._used, self._closed)
        task = asyncio.get_running_loop().create_task(self._connect(door, client))
        self._open[door] = task

    async def _connect(self, door: Door, client: socket.socket) -> None:
        """Make the TLS handshake, if there is one, and give the door its connection."""
        is_connected = False
        try:
            options: dict[str, Any] = {}
            if self._tls is not None:
                options["ssl"] = self._tls()
                options["ssl_handshake_timeout"] = self._patience.handshake
                options["ssl_shutdown_timeout"] = self._patience.refusal
            loop = asyncio.get_running_loop()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(lambda: door, client, **options)
            is_connected = True
        except BadSettings:  # the log has it; exporter-toolkit refuses such connections as well
            client.close()
        except OSError as error:  # ssl.SSLError is one
            log.debug("a connection was not made: %s", one_line(error))
            client.close()
        finally:
            if not is_connected:
                self._closed(door)

    def _opened(self, door: Door) -> None:
        if door.transport is not None:
            self._by_transport[door.transport] = door

    def _used(self, door: Door) -> None:
        """Put the door at the end of the list: the first is the longest without a request."""
        if door in self._open:
            self._open[door] = self._open.pop(door)

    def _closed(self, door: Door) -> None:
        self._open.pop(door, None)
        if door.transport is not None:
            self._by_transport.pop(door.transport, None)

    def _make_room(self) -> bool:
        """Cut the connection that is longest without a request; return False if all have one."""
        idle = next((door for door in self._open if not door.is_busy), None)
        if idle is not None:
            self._cut(idle)
        return idle is not None

    def _cut(self, door: Door) -> None:
        task = self._open.pop(door)
        if door.transport is not None:
            door.cut("another client takes its place")
        task.cancel()
