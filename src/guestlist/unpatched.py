"""Threads, queues and sleep as Python has them, also where eventlet or gevent replaced them.

Both libraries put green versions into the modules `threading`, `queue` and `time`. libvirt's calls
and events need real threads. A green lock does not work between real threads, and a green thread
that makes a call stops all other green threads for as long as the call takes. So every module of
the library takes its threads from here: each name is looked up when it is used, in the original
module where the public one was replaced. A program makes its calls in a real thread
(`eventlet.tpool`, `gevent.get_hub().threadpool`).

A condition or a thread that was made before the replacement turns green with it; `is_mixed` tells
whether that has happened.

Source: eventlet's patcher (`original`); gevent's monkey (`saved`: what it replaced, by module).
"""

from __future__ import annotations

import builtins
import sys
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import InspectLoader

__all__ = ["green_by", "is_mixed", "queue", "subprocess", "threading", "time"]

_STAYS_REAL = frozenset(
    {"Lock", "RLock", "Empty", "Full", "current_thread", "get_ident", "monotonic", "sleep"}
)
"""Names whose objects a later replacement does not change: made in C, or used up at once."""

_IN_C = frozenset({"Lock", "get_ident", "monotonic", "sleep"})
"""Names of C functions. One that was found before a replacement stays the original for good, so it
is looked up once: a question to libvirt needs some ten of them."""

_made_before_replacement = False
"""Whether guestlist has made a thread, or something of one, with Python's own modules."""

_copies: dict[str, ModuleType] = {}


def green_by() -> str | None:
    """Return "gevent" or "eventlet" if it replaced Python's threads by green ones; else None."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None


def is_mixed() -> bool:
    """Return whether threads were replaced after guestlist made some: then neither kind works."""
    return _made_before_replacement and green_by() is not None


class _Module:
    """A stand-in for a module: each name is looked up in the original module when it is used."""

    def __init__(self, name: str) -> None:
        self._name = name
        if name != "subprocess":  # it takes 2 ms, and most processes start no program
            _ = self._public  # at the end of the interpreter no module is found

    @cached_property
    def _public(self) -> ModuleType:
        return import_module(self._name)

    def __getattr__(self, name: str) -> Any:
        global _made_before_replacement  # noqa: PLW0603  as `sys.modules` is one per process
        match green_by():
            case "gevent":
                module = _before_gevent(self._name)
            case "eventlet" if self._name != "subprocess":  # eventlet leaves this one as it is
                module = sys.modules["eventlet.patcher"].original(self._name)
            case _:
                module = self._public
                _made_before_replacement |= name not in _STAYS_REAL
        found = getattr(module, name)
        if name in _IN_C:
            vars(self)[name] = found
        return found


def _before_gevent(name: str) -> ModuleType:
    """Return a module as it was before gevent changed it: a copy, made once.

    gevent changes modules in place, and the functions of `threading` look their helpers up in that
    module. So the code of `threading` is run again, with the original `_thread`, `time` and `os`;
    only guestlist sees the copy.
    """
    if name in _copies:
        return _copies[name]
    if name in ("_thread", "time", "os"):
        copy = ModuleType(name)
        vars(copy).update(vars(import_module(name)))
        vars(copy).update(sys.modules["gevent.monkey"].saved.get(name, {}))
    else:
        copy = _run_again(name)
    return _copies.setdefault(name, copy)


def _run_again(name: str) -> ModuleType:
    spec = find_spec(name)
    assert spec is not None
    code = cast("InspectLoader", spec.loader).get_code(name)
    assert code is not None
    threads = ModuleType("_thread")
    vars(threads).update(vars(_before_gevent("_thread")))
    # Up to Python 3.12 the code of `threading` marks the thread that runs it as the main thread for
    # good: another thread that joins it would wait for ever.
    vars(threads)["_set_sentinel"] = threads.allocate_lock
    imported = {"_thread": threads}

    def importing(wanted: str, *rest: Any) -> ModuleType:
        if wanted in imported:
            return imported[wanted]
        if wanted in ("threading", "time", "os"):
            return _before_gevent(wanted)
        return builtins.__import__(wanted, *rest)

    copy = ModuleType(name)
    copy.__spec__ = spec
    vars(copy)["__builtins__"] = {**vars(builtins), "__import__": importing}
    exec(code, vars(copy))  # noqa: S102  the code of the standard library
    original = vars(_before_gevent("_thread"))
    if "_set_sentinel" in vars(copy):
        vars(copy)["_set_sentinel"] = original["_set_sentinel"]
    return copy


if TYPE_CHECKING:
    import queue
    import subprocess
    import threading
    import time
else:
    threading, queue, time, subprocess = map(_Module, ("threading", "queue", "time", "subprocess"))
