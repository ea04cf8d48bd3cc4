"""Threads, queues and sleep as Python has them, where eventlet has put green ones in their place.

eventlet's `monkey_patch` replaces what is in the modules `threading`, `queue` and `time`. A green
lock is no lock between the real threads that libvirt's calls and events need, and a green thread
that makes a call stops all others for as long as that takes. So every module of the library has its
threads from here. Whoever uses the library from a green thread makes its calls in a real one
(`eventlet.tpool`). Must be imported after `monkey_patch`, if that is called at all.

Source: eventlet's patcher (`original`); OpenStack Nova keeps its own event thread in the same way.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["queue", "threading", "time"]

if TYPE_CHECKING:
    import queue
    import threading
    import time
else:

    def _module(name: str) -> object:
        patcher = sys.modules.get("eventlet.patcher")
        if patcher is None or not patcher.is_monkey_patched("thread"):
            return import_module(name)
        return patcher.original(name)

    threading, queue, time = map(_module, ("threading", "queue", "time"))
