"""The terminal: the only way out of the command, for data and for what is said about it.

In: text, which may hold names that strangers chose. Out: bytes on standard output or standard error
that a terminal shows and does not obey. A reader that has left, a full disk and a stream that was
closed from the start are found out here, at the write, and not by Python as it shuts down.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, TextIO

_USUAL_HEIGHT = 24


class Unwritable(Exception):
    """Standard output does not take what is written to it."""


def escape(text: str) -> str:
    r"""The text on one line and harmless: `\n`, `\x1b`, `\u202e` for what is not to be printed.

    That is what `str.isprintable` denies (control, bidirectional and zero-width characters, line
    and paragraph separators, surrogates, blanks that are not the blank), and the backslash, so
    that no two texts look alike.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in text
    )


def write(text: str) -> None:
    """Put text on standard output, all of it, now.

    Raises:
        BrokenPipeError: nobody reads any more.
        Unwritable: standard output is closed, or on a full disk.
    """
    if sys.stdout is None:
        raise Unwritable("cannot write to standard output: it is closed")
    try:
        _put(sys.stdout, text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritable(f"cannot write to standard output: {error.strerror}") from error


def complain(message: str) -> None:
    """Say one line on standard error."""
    explain(f"guestlist: {escape(message)}\n")


def complain_of_surprise(whom: str, error: Exception) -> None:
    """Say that something failed which nobody foresaw; the traceback goes to the log."""
    logging.getLogger("guestlist").debug("the traceback:", exc_info=error)
    complain(f"{whom}: unexpected {type(error).__name__}: {error}; -v shows the traceback")


def explain(text: str) -> None:
    """Put text that is ours, of several lines, on standard error. There is nowhere to fail to."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            _put(sys.stderr, text)


def _put(stream: TextIO, text: str) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        # What is still buffered would fail again, with a traceback, when Python shuts down.
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), stream.fileno())
        raise


def hold_descriptors() -> None:
    """Fill the place of a standard stream that is closed: libvirt's socket would get its number,
    and with it whatever a library prints.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def die_of(number: signal.Signals) -> NoReturn:
    """End the process as the signal would, so that a shell's loop around it ends too."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # where a signal does not end us: as the first process of a container


def is_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout is not None and sys.stdout.isatty()


def can_be_asked() -> bool:
    """Whether a person can answer: standard input is a terminal, and this process has it now."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def has_colours() -> bool:
    """Whether standard output is a terminal that may be coloured (https://no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """The cells in a line of the terminal; None where standard output is none."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def height() -> int:
    """The lines of the terminal; 24 where it does not tell.

    Never what LINES says, which readline sets once: drawn in more lines than there are, what is to
    be drawn over has scrolled away.
    """
    with contextlib.suppress(OSError):
        return os.get_terminal_size(sys.stdout.fileno()).lines or _USUAL_HEIGHT
    return _USUAL_HEIGHT


def can_redraw() -> bool:
    """Whether what stands on standard output can be written over: a terminal that is not dumb."""
    return is_terminal() and os.environ.get("TERM") != "dumb"


def on_departure(call: Callable[[], None]) -> None:
    """Call, on another thread, when the reader of standard output has left.

    Who writes seldom would find that out at the next write only, perhaps tomorrow: the `watch` of
    `guestlist watch | head -n 1` would stay for as long. Costs nothing while the reader is there.
    """
    if sys.stdout is None:
        return
    departure = select.poll()
    departure.register(sys.stdout, 0)  # errors and hang-ups come unasked

    def wait() -> None:
        departure.poll()
        call()

    threading.Thread(target=wait, daemon=True).start()


class LogLines(logging.Handler):
    """The library's log, a line each on standard error; a traceback line by line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say the record."""
        level = record.levelname.lower()
        complain(f"{level}: {record.getMessage()}")
        if record.exc_info:
            for line in logging.Formatter().formatException(record.exc_info).split("\n"):
                complain(f"{level}:   {line}")
