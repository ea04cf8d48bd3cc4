"""libvirt's events in this process: shown to a test, and delayed for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import libvirt
from lab.nodes import domain_xml, nova_instance
from lab.waiting import LONG

from guestlist.connection import Connection
from guestlist.event_loop import Stream

_PASSER_BY = replace(nova_instance(9_999), active=False)


@contextmanager
def witness(uri: str) -> Iterator[Stream]:
    """Collect each event that another connection of this process receives; see `Stream`."""
    connection = Connection(uri)
    try:
        stream = connection.peer().lifecycle()
        assert stream is not None
        yield stream
    finally:
        connection.close()


@contextmanager
def loop_held_up(uri: str, connection: libvirt.virConnect) -> Iterator[None]:
    """Let libvirt's event loop deliver nothing in this block. `connection` is to the same host."""
    held, released = threading.Event(), threading.Event()

    def hold_up(*_: object) -> None:
        held.set()
        released.wait(LONG)

    with witness(uri) as events:
        events.subscribe(hold_up)
        try:
            connection.defineXML(domain_xml(_PASSER_BY)).undefine()
            assert held.wait(LONG)
            yield
        finally:
            released.set()
