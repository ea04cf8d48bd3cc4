"""A pseudo-terminal with the command on it, and what a person would see there.

In: the words of a command line, and the bytes that it sends. Out: the lines on the screen. `Screen`
knows the control sequences that the command may send, and fails on any other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from typing import Self

from lab.command import COMMAND, MAIN, environment

_PART = re.compile(r"\x1b\[(?P<facts>[?\d;]*)(?P<what>[A-Za-z])|[\r\n]|[^\x1b\r\n]")


class Screen:
    """What a terminal shows of the bytes it was sent: its lines, and the place of its cursor."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.rows = [""] * height
        self.row = self.column = 0
        self.modes = {"?25": True, "?7": True}
        self.above: list[str] = []
        self.colours: set[str] = set()

    def obey(self, text: str) -> None:
        """Do what the text tells a terminal.

        Raises:
            AssertionError: the text has a control sequence that the command may not send.
        """
        at = 0
        while at < len(text):
            part = _PART.match(text, at)
            assert part, f"not to be sent to a terminal: {text[at : at + 20]!r}"
            at = part.end()
            if part["what"]:
                self._control(part["what"], part["facts"])
            else:
                self._put(part[0])

    def _put(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self._down()
        else:
            if self.column == self.width:
                if self.modes["?7"]:
                    self._down()
                    self.column = 0
                else:
                    self.column -= 1
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + char + line[self.column + 1 :]
            self.column += 1

    def _down(self) -> None:
        if self.row == self.height - 1:
            self.above.append(self.rows.pop(0))
            self.rows.append("")
        else:
            self.row += 1

    def _control(self, what: str, facts: str) -> None:
        match what, facts:
            case "A", _:
                self.row = max(0, self.row - int(facts or 1))
            case "H", "":
                self.row = self.column = 0
            case "J", "":
                self.rows[self.row] = self.rows[self.row][: self.column]
                self.rows[self.row + 1 :] = [""] * (self.height - self.row - 1)
            case "J", "2":
                self.rows = [""] * self.height
            case "m", _:
                self.colours.add(facts)
            case (("h" | "l"), ("?25" | "?7")):
                self.modes[facts] = what == "h"
            case _:
                raise AssertionError(f"not to be sent to a terminal: {facts}{what}")

    @property
    def is_being_drawn(self) -> bool:
        """Whether a drawing has begun and its end has not come: the cursor is hidden."""
        return not self.modes["?25"]

    @property
    def lines(self) -> list[str]:
        """The lines down to the last one that is not empty."""
        text = "\n".join(row.rstrip() for row in self.rows).rstrip("\n")
        return text.split("\n") if text else []

    @property
    def table(self) -> list[str]:
        """The lines above the last one."""
        return self.lines[:-1]

    @property
    def status(self) -> str:
        """The last line."""
        return self.lines[-1] if self.lines else ""


class OnTerminal:
    """`guestlist words…` on a terminal while it runs; the end of the block kills it.

    `stdout` takes standard output in place of the terminal; `main` runs in place of the command.
    """

    def __init__(
        self,
        *words: str,
        height: int = 24,
        width: int = 200,
        stdout: int | None = None,
        main: str = MAIN,
        **changes: str,
    ) -> None:
        self.screen = Screen(height, width)
        self._ours, theirs = pty.openpty()
        self._resize(theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-c", main, *words],
            stdin=subprocess.DEVNULL,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            env=environment(**{"TERM": "xterm", **changes}),
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def shows(self, seen: Callable[[Screen], bool]) -> Screen:
        """Return the screen as soon as `seen` accepts it. It is shown no half of a drawing.

        Raises:
            OSError: the command ended before.
        """
        while self.screen.is_being_drawn or not seen(self.screen):
            self.screen.obey(self._read())
        return self.screen

    def end(self) -> Screen:
        """Return the screen when the command has ended."""
        with contextlib.suppress(OSError):  # Linux says so that the other side has closed
            while True:
                self.screen.obey(self._read())
        return self.screen

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._ours, key)

    def resize(self, height: int, width: int) -> None:
        """Change the size as a window does: its terminal has a new size, and starts empty."""
        self.screen = Screen(height, width)
        self._resize(self._ours)
        self.process.send_signal(signal.SIGWINCH)

    def _resize(self, terminal: int) -> None:
        size = struct.pack("HHHH", self.screen.height, self.screen.width, 0, 0)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)

    def _read(self) -> str:
        text = os.read(self._ours, 65536)
        while True:  # to the end of a character
            with contextlib.suppress(UnicodeDecodeError):
                whole = text.decode()
                if not re.search(r"\x1b(\[[?\d;]*)?$", whole):
                    return whole
            text += os.read(self._ours, 1)


class Live(OnTerminal):
    """`guestlist ls --live words…` on a terminal."""

    def __init__(self, *words: str, height: int = 24, width: int = 200, **changes: str) -> None:
        super().__init__(
            "ls", "--live", *words, height=height, width=width, stdout=None, main=MAIN, **changes
        )

    def in_step(self, there: int) -> Screen:
        """Return the screen as soon as the host is in step and has that many domains."""
        status = re.compile(rf"{there} domains?, 1 host in step; ")
        return self.shows(lambda screen: bool(status.match(screen.status)))


def on_a_terminal(*words: str, width: int = 80, **changes: str) -> str:
    """Return what the command prints on a terminal of that width, with plain line ends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with subprocess.Popen(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment(**{"TERM": "xterm", **changes}),
    ) as command:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # Linux says so that the other side has closed
            pass
        finally:
            os.close(ours)
        assert command.stderr is not None
        assert (command.stderr.read(), command.wait()) == (b"", 0)
    return shown.decode().replace("\r\n", "\n")
