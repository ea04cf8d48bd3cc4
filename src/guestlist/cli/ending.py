"""How a run of the command ends: connections closed in order, and no program of guestlist left.

In: what must be closed, and the signals that end a process. Out: a process that ends as the signal
would have ended it. A libvirtd whose client is cut off instead of closed may crash, and an ssh that
waits for a password would stay on the terminal.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

LONGEST = 1.5
"""Seconds in which everything that is open is closed. A second signal ends the process at once."""

_ENDING = signal.SIGTERM, signal.SIGHUP

_closers: list[Callable[[], object]] = []


class Ended(BaseException):
    """A signal asks the process to end. Raised in the main thread, as KeyboardInterrupt is."""

    def __init__(self, number: int, _frame: FrameType | None) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


def on_end(close: Callable[[], object]) -> None:
    """Call `close` when a signal, or a reader that has left, ends the run."""
    _closers.append(close)


@contextlib.contextmanager
def heeding_signals() -> Iterator[None]:
    """Raise `Ended` for SIGTERM and SIGHUP, unless the process was started with them ignored."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {each: signal.getsignal(each) for each in _ENDING}
    heeded = [each for each, handler in before.items() if handler is signal.SIG_DFL]
    for each in heeded:
        signal.signal(each, _raise_ended)
    try:
        yield
    finally:
        for each in heeded:
            signal.signal(each, signal.SIG_DFL)


def _raise_ended(number: int, frame: FrameType | None) -> None:
    raise Ended(number, frame)


def close_all() -> None:
    """Close all that is open, side by side, within `LONGEST`."""
    with contextlib.suppress(ValueError):  # not the main thread
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    _refuse_questions()
    deadline = time.monotonic() + LONGEST
    closing = [threading.Thread(target=close, daemon=True) for close in _closers]
    _closers.clear()
    for thread in closing:
        thread.start()
    end_programs(opening_only=True)  # a close would wait for an attempt that is under way
    for thread in closing:
        thread.join(max(0.0, deadline - time.monotonic()))
    end_programs()


def _refuse_questions() -> None:
    from guestlist import threads  # noqa: PLC0415  not for --help

    threads.refuse_questions()


def end_programs(*, opening_only: bool = False) -> None:
    """End the programs that carry connections; with `opening_only` those not connected yet."""
    from guestlist import tunnel  # noqa: PLC0415  not for --help

    if opening_only:
        tunnel.end_begun()
    else:
        tunnel.end_all()
