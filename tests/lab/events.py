"""libvirt's default event loop, for processes that run it themselves."""

from __future__ import annotations

import threading

import libvirt


def turn_events() -> None:
    """Start a thread that runs the loop until this process ends.

    Only connections opened after this get events and keepalive. A process can give libvirt one
    event loop, and cannot replace it.
    """

    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=turn, name="libvirt-events", daemon=True).start()
