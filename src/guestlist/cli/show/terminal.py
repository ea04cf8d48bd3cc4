"""The terminal: the only way out of the command, for data and for messages.

In: text, which may hold names that strangers chose. Out: bytes on standard output or standard error
that a terminal shows and does not obey. Text is written whole, or the write fails. It goes to the
descriptor itself, because Python drops what an unbuffered stream (`python -u`) or a non-blocking
one does not take at once. If the reader has left, the disk is full or the stream was closed from
the start, the write finds that out, and not Python at its shutdown.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import NoReturn, TextIO

import guestlist
from guestlist.errors import one_line

_USUAL_WIDTH, _USUAL_HEIGHT = 80, 24

_explaining = threading.Lock()
"""A thread holds it while it writes to standard error, so that no two lines mix."""

_passing: list[str] = []
"""The line on standard error that the next output removes (`pass_by`); empty if there is none."""

LONGEST_REMOVAL = 1.0
"""Seconds that an end waits for a terminal that takes no output."""


class Unwritable(Exception):
    """Standard output cannot be written to, for a reason that is not a reader that has left."""


def escape(text: str) -> str:
    r"""Return the text on one line, with escapes for what a terminal must not get: `\n`, `\x1b`.

    Escaped are the characters that `str.isprintable` refuses (control, bidirectional and zero-width
    characters, line and paragraph separators, surrogates, blanks other than the space), those that
    the encoding of standard output lacks, and the backslash, so that no two texts look alike.
    """
    if text.isprintable() and "\\" not in text and _is_encodable(text):
        return text
    return "".join(
        char if _is_shown(char) else char.encode("unicode_escape").decode() for char in text
    )


def ellipsis() -> str:
    """Return what stands for a part that was cut off: three dots, in one cell if possible."""
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
    """Write all of the text to standard output, now.

    Args:
        text: what to write.
        exact: whether to fail if the encoding lacks a character, instead of escaping it.

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
        if _passing:
            remove_passing()
        _put(sys.stdout, text)
        _confirm(sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritable(f"cannot write to standard output: {error.strerror}") from error


def complain(message: str) -> None:
    """Print one line on standard error."""
    explain(f"guestlist: {escape(message)}\n")


def complain_of_surprise(label: str, error: Exception) -> None:
    """Print an error that guestlist does not expect; the traceback goes to the log."""
    logging.getLogger(guestlist.__name__).debug("the traceback:", exc_info=error)
    complain(
        f"{label}: unexpected {type(error).__name__}: {one_line(error)}; -v shows the traceback"
    )


def explain(text: str) -> None:
    """Print the command's own text, of several lines, on standard error; a failure is ignored."""
    if sys.stderr is not None:
        with _explaining, contextlib.suppress(OSError):
            _remove_passing()
            _put(sys.stderr, text)


def pass_by(line: Callable[[], str]) -> None:
    """Show a line on standard error that the next one replaces and any other output removes.

    `line` is called when nothing else is written; it returns the line, or "" to show none. The
    line is one of ASCII, as wide as standard error at most (`width_of_errors`).
    """
    with _explaining, contextlib.suppress(OSError):
        text = line()
        if [text] == _passing or not _takes_errors(0.0):
            return
        if text and sys.stderr is not None:
            _passing[:] = [text]
            _put(sys.stderr, f"\r{text}\x1b[J")
        else:
            _remove_passing()


def remove_passing(longest: float | None = None) -> None:
    """Remove the line that `pass_by` has shown, if there is one.

    It stays if the terminal takes no output for `longest` seconds, as after Ctrl-S. None: wait.
    """
    if _explaining.acquire(timeout=-1 if longest is None else longest):
        try:
            _remove_passing(longest)
        finally:
            _explaining.release()


def _remove_passing(longest: float | None = None) -> None:
    """Remove the line; a job in the background leaves it, and the prompt of the shell below it."""
    with contextlib.suppress(OSError):
        if _passing and _takes_errors(longest):
            _passing.clear()
            if person_reads_errors():
                _put(sys.stderr, "\r\x1b[J")


def _takes_errors(longest: float | None) -> bool:
    """Return whether standard error takes output, now or within some seconds."""
    if sys.stderr is None:
        return False
    room = select.poll()
    room.register(sys.stderr, select.POLLOUT)
    return bool(room.poll(None if longest is None else longest * 1000))


def _put(stream: TextIO, text: str) -> None:
    """Write all of the text, even if the stream takes little of it at a time."""
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
    """Return the one encoder of a stream: some encodings begin with a mark, once."""
    return codecs.getincrementalencoder(stream.encoding)("backslashreplace")


def _await_room(descriptor: int) -> None:
    """Return when a non-blocking descriptor takes more, or has failed. Ctrl-C interrupts it."""
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    room.poll()


def _confirm(stream: TextIO) -> None:
    """Raise what a file system reports only at a close, as NFS does for a full disk or quota."""
    try:
        copy = os.dup(stream.fileno())
    except OSError:  # no descriptor to spare, or none behind the stream
        return
    os.close(copy)


def hold_descriptors() -> None:
    """Open the null device in the place of a standard stream that is closed.

    Else libvirt's socket would get its number, and what a library prints would go to the socket.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def die_of(number: signal.Signals) -> NoReturn:
    """End the process as the signal would, so that a shell's loop around it ends too.

    Keeps the lock of standard error: no other thread writes a line that would stay.
    """
    if _explaining.acquire(timeout=LONGEST_REMOVAL):
        _remove_passing(LONGEST_REMOVAL)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # a signal does not end the first process of a container


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def person_reads_errors() -> bool:
    """Return whether standard error is a terminal that can be written over, in the foreground.

    Then a line about progress helps. A job in the background would write over a shell's line.
    """
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return False
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except OSError:  # it is not the terminal that controls this process: there are no jobs
        return True


def width_of_errors() -> int:
    """Return the cells in a line of standard error; 80 if it does not tell."""
    with contextlib.suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_WIDTH
    return _USUAL_WIDTH


def can_be_asked() -> bool:
    """Return whether a person can answer: this process has the terminal, as standard input."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def has_colours() -> bool:
    """Return whether standard output is a terminal that may be coloured (https://no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """Return the cells in a line of the terminal; None if standard output is no terminal."""
    return columns() if is_terminal() else None


def columns() -> int:
    """Return the cells in a line, also without a terminal: COLUMNS, the terminal's width, or 80.

    As `shutil.get_terminal_size`, whose module takes longer to import than the rest of `terminal`.
    """
    with contextlib.suppress(KeyError, ValueError):
        if (set_by_user := int(os.environ["COLUMNS"])) > 0:
            return set_by_user
    if sys.__stdout__ is not None:
        with contextlib.suppress(ValueError, OSError):  # a closed stream, or no terminal
            return os.get_terminal_size(sys.__stdout__.fileno()).columns or _USUAL_WIDTH
    return _USUAL_WIDTH


def height() -> int:
    """Return the lines of the terminal; 24 if it does not tell.

    LINES is not read, because readline sets it only once. If more lines were drawn than there are,
    the first would have scrolled away and could not be drawn over.
    """
    with contextlib.suppress(OSError):
        return os.get_terminal_size(sys.stdout.fileno()).lines or _USUAL_HEIGHT
    return _USUAL_HEIGHT


def can_redraw() -> bool:
    """Return whether standard output can be written over: a terminal that is not dumb."""
    return is_terminal() and os.environ.get("TERM") != "dumb"


def on_departure(call: Callable[[], None]) -> None:
    """Make a call on another thread when the reader of standard output has left.

    A command that writes seldom would find that out only at its next write, perhaps tomorrow; until
    then the `watch` of `guestlist watch | head -n 1` would stay. Costs nothing before.
    """
    if sys.stdout is None:
        return
    departure = select.poll()
    departure.register(sys.stdout, 0)  # errors and hang-ups are always reported

    def wait() -> None:
        departure.poll()
        call()

    threading.Thread(target=wait, daemon=True).start()


class LogLines(logging.Handler):
    """Prints the library's log on standard error, one line per record and line of a traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record."""
        level = record.levelname.lower()
        complain(f"{level}: {record.getMessage()}")
        if record.exc_info:
            for line in logging.Formatter().formatException(record.exc_info).split("\n"):
                complain(f"{level}:   {line}")
