"""The terminal: the only way out of the command, for data and for what is said about it.

In: text, which may hold names that strangers chose. Out: bytes on standard output or standard error
that a terminal shows and does not obey. Text is written whole or the write fails: it goes to the
descriptor itself, because Python drops what an unbuffered stream (`python -u`) or a non-blocking
one does not take at once. A reader that has left, a full disk and a stream that was closed from the
start are found here, at the write, and not by Python as it shuts down.
"""

from __future__ import annotations

import codecs
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
from functools import cache
from typing import NoReturn, TextIO

from guestlist.errors import one_line

_USUAL_HEIGHT = 24

_explaining = threading.Lock()
"""Held by a thread while it writes to standard error, so that no line stands inside another."""


class Unwritable(Exception):
    """Standard output does not take what is written to it."""


def escape(text: str) -> str:
    r"""The text on one line and harmless: `\n`, `\x1b`, `\u202e` for what is not to be printed.

    That is what `str.isprintable` denies (control, bidirectional and zero-width characters, line
    and paragraph separators, surrogates, blanks that are not the blank), what the encoding of
    standard output lacks, and the backslash, so that no two texts look alike.
    """
    if text.isprintable() and "\\" not in text and _is_encodable(text):
        return text
    return "".join(
        char if _is_shown(char) else char.encode("unicode_escape").decode() for char in text
    )


def ellipsis() -> str:
    """What stands for the part of a text that was cut off: three dots, in one cell if it can."""
    return "…" if _is_encodable("…") else "..."


def _is_shown(char: str) -> bool:
    return char.isprintable() and char != "\\" and _is_encodable(char)


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def write(text: str, *, exact: bool = False) -> None:
    """Put text on standard output, all of it, now.

    Args:
        text: what to put there.
        exact: no character may become an escape because the encoding lacks it.

    Raises:
        BrokenPipeError: the reader has left.
        Unwritable: standard output is closed, on a full disk, at the limit of a file's size, or
            cannot take the text exactly.
    """
    if sys.stdout is None:
        raise Unwritable("cannot write to standard output: it is closed")
    if exact and not _is_encodable(text):
        raise Unwritable(
            f"cannot write to standard output: its encoding, {sys.stdout.encoding}, lacks a "
            "character of these values; set PYTHONIOENCODING=utf-8"
        )
    try:
        _put(sys.stdout, text)
        _confirm(sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritable(f"cannot write to standard output: {error.strerror}") from error


def complain(message: str) -> None:
    """Say one line on standard error."""
    explain(f"guestlist: {escape(message)}\n")


def complain_of_surprise(label: str, error: Exception) -> None:
    """Say that something failed which nobody foresaw; the traceback goes to the log."""
    logging.getLogger("guestlist").debug("the traceback:", exc_info=error)
    complain(
        f"{label}: unexpected {type(error).__name__}: {one_line(error)}; -v shows the traceback"
    )


def explain(text: str) -> None:
    """Put text that is ours, of several lines, on standard error. There is nowhere to fail to."""
    if sys.stderr is not None:
        with _explaining, contextlib.suppress(OSError):
            _put(sys.stderr, text)


def _put(stream: TextIO, text: str) -> None:
    """Write all of the text, however little the stream takes at a time."""
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:  # a program that calls `main` may have put a StringIO there
        stream.write(text)
        stream.flush()
        return
    stream.flush()  # what such a program printed before
    left = memoryview(_encoder(stream).encode(text))
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            _await_room(descriptor)


@cache
def _encoder(stream: TextIO) -> codecs.IncrementalEncoder:
    """The one encoder of a stream: some encodings begin with a mark, once."""
    return codecs.getincrementalencoder(stream.encoding)("backslashreplace")


def _await_room(descriptor: int) -> None:
    """Return when a non-blocking descriptor takes more, or has failed. Ctrl-C interrupts it."""
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    room.poll()


def _confirm(stream: TextIO) -> None:
    """Raise what a file system tells only at a close, as NFS does of a full disk or quota."""
    try:
        copy = os.dup(stream.fileno())
    except OSError:  # no descriptor to spare, or none behind the stream
        return
    os.close(copy)


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
