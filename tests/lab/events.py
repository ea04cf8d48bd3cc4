"""libvirt's default event loop, for processes that turn it themselves."""

from __future__ import annotations

import threading

import libvirt


def turn_events() -> None:
    """Have a thread turn the loop for the rest of this process.

    Only connections opened after this get events and keepalive. libvirt takes one event loop in the
    life of a process and cannot let go of it.
    """

    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=turn, name="libvirt-events", daemon=True).start()
