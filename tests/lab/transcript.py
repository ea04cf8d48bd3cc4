"""A page that is followed to the letter: its commands are typed at terminals, its output compared.

In: the text of a page and a shell. Out: the number of commands, or a `Differs` that names the line
of the page. It never repairs a page. What an author must know:

- A block `console` is a terminal. A line after `$ ` is typed, a line after `> ` continues it, `^C`
  is Ctrl-C; every other line is what the terminal must show next. Blank lines do not count.
- A page has one terminal, unless `<!-- terminal 2 -->` stands above a block. A command may go on
  while the next blocks are followed; a block without a command is what it has shown meanwhile.
  When the page ends, each command must have ended, with the exit status 0 unless it was
  interrupted, and must have shown nothing that the page does not.
- Any other block whose first line is `# NAME` or `<!-- NAME -->` is written to that file.
- `…` alone stands for any lines, `…` in a line for any text, and a time of day for any other.
- `<!-- as root -->` and `<!-- needs the network -->` stand above blocks that install packages. They
  are followed only if the caller gives a shell for root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from lab.waiting import wait_until

DEADLINE = 60.0
"""Seconds that a terminal may take to show its next line."""

_ROOT, _NETWORK = "as root", "needs the network"

_HEIGHT, _WIDTH = 40, 100
_BLOCK = re.compile(r"^(?:<!-- ([^\n]+) -->\n)?```(\w+)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"(?:# (\w+\.\w+)|<!-- (\w+\.\w+) -->)\n")
_TIME = re.compile(r"\b\d\d:\d\d:\d\d\b")
_UNSEEN = re.compile(r"\x1b\[[?\d;]*[A-Za-z]|.*\r(?=.)")
"""A control sequence, or the part of a line that is written over."""

_PROMPT = re.compile(r"<the prompt after (\d+)>")
_ENVIRONMENT = {
    "PS1": "<the prompt after $?>",
    "PS2": "",
    "VIRTUAL_ENV_DISABLE_PROMPT": "1",
    "NO_COLOR": "1",
    "TERM": "xterm",
}
_MORE = "…"


class Differs(AssertionError):
    """A terminal shows something else than the page."""


class Block(NamedTuple):
    """A block of a page."""

    line: int
    """The line of the page on which it begins."""
    note: str
    """The comment above it."""
    language: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    for found in _BLOCK.finditer(page):
        line = page.count("\n", 0, found.start(2)) + 1
        yield Block(line, found[1] or "", found[2], found[3])


class Shell(NamedTuple):
    """How the shell of a terminal is started, and where it keeps the files of the page."""

    home: Path
    """The folder in which the shell starts, as this process sees it."""
    environment: Mapping[str, str]
    inside: Sequence[str] = ()
    """The words before the shell's own: how it gets into a container, for example."""


def follow(page: str, shell: Shell, *, root: Shell | None = None) -> int:
    """Do what the page says, block by block; return the number of commands that were typed.

    Without `root` nothing is installed: the blocks that install packages are left out.

    Raises:
        Differs: a terminal shows something else than the page.
    """
    typed = 0
    with _Desk() as desk:
        for block in blocks(page):
            if root is None and block.note in (_ROOT, _NETWORK):
                continue
            if block.language == "console":
                name = block.note if block.note.startswith(("terminal ", _ROOT)) else "terminal 1"
                mine = root if root is not None and name == _ROOT else shell
                terminal = desk.terminal(name, mine)
                typed += terminal.follow(block)
                if name == _ROOT:  # what it installs is used by others
                    terminal.await_prompt()
            elif name_of := _FILE.match(block.text):
                (shell.home / (name_of[1] or name_of[2])).write_text(block.text)
        desk.expect_nothing_else()
    return typed


class _Desk:
    """The terminals of a page; the end of the block ends their shells."""

    def __init__(self) -> None:
        self._terminals: dict[str, _Terminal] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in self._terminals.values():
            terminal.close()

    def terminal(self, name: str, shell: Shell) -> _Terminal:
        """Return the terminal of this name; its shell starts at the first use."""
        if name not in self._terminals:
            self._terminals[name] = _Terminal(shell)
        return self._terminals[name]

    def expect_nothing_else(self) -> None:
        """Wait until each command has ended.

        Raises:
            Differs: one shows more lines than the page.
        """
        for terminal in self._terminals.values():
            terminal.await_prompt()


class _Terminal:
    """A shell on a pseudo-terminal, and what it has shown that the page has not told yet."""

    def __init__(self, shell: Shell) -> None:
        self._at = 0
        self._shown = ""
        self._busy = True
        self._skips = self._interrupted = False
        self._status = 0
        self._at_prompt = 0
        """The process group in the foreground while the shell waits for a command: its own."""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _HEIGHT, _WIDTH, 0, 0))
        modes = termios.tcgetattr(theirs)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        self._process = subprocess.Popen(
            [*shell.inside, "setsid", "--ctty", "sh", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=shell.home,
            env={**shell.environment, **_ENVIRONMENT},
        )
        os.close(theirs)

    def close(self) -> None:
        """Hang up: the shell ends, and what runs in its foreground."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGHUP)
        os.close(self._ours)
        self._process.wait()

    def follow(self, block: Block) -> int:
        """Type what the block types, and compare what it shows; return the number of commands."""
        commands = 0
        for self._at, line in enumerate(block.text.splitlines(), block.line + 1):
            if line.startswith("$ "):
                self.await_prompt()
                self._type(f"{line[2:]}\n")
                commands += 1
            elif line.startswith("> "):
                self._type(f"{line[2:]}\n")
            elif line == "^C":
                wait_until(lambda: os.tcgetpgrp(self._ours) != self._at_prompt)
                self._type("\x03")
                self._interrupted = True
            elif line == _MORE:
                self._skips = True
            elif line:
                self._expect(line)
        return commands

    def await_prompt(self) -> None:
        """Wait until the last command has ended.

        Raises:
            Differs: it shows more lines than the page, or has failed.
        """
        if not self._busy:
            return
        line = "nothing"
        while (shown := self._next()) is not None:
            line = shown
            if not self._skips:
                raise Differs(f"line {self._at}: the terminal shows one more line: {line!r}")
        if self._status and not self._interrupted:
            raise Differs(f"line {self._at}: status {self._status}; its last line is {line!r}")
        self._busy = self._skips = self._interrupted = False

    def _expect(self, line: str) -> None:
        parts = _TIME.sub("hh:mm:ss", line).split(_MORE)
        wanted = re.compile(".*".join(map(re.escape, parts)))
        while (shown := self._next()) is not None:
            if wanted.fullmatch(_TIME.sub("hh:mm:ss", shown)):
                self._skips = False
                return
            if not self._skips:
                raise Differs(f"line {self._at}: expected {line!r}, the terminal shows {shown!r}")
        raise Differs(f"line {self._at}: expected {line!r}, the command has ended")

    def _type(self, text: str) -> None:
        if not self._busy:
            self._at_prompt = os.tcgetpgrp(self._ours)
        self._busy = True
        os.write(self._ours, text.encode())

    def _next(self) -> str | None:
        """Return the next line that is not blank; None: the shell waits for a command."""
        deadline = time.monotonic() + DEADLINE
        while True:
            line, end, rest = self._shown.partition("\n")
            if prompt := _PROMPT.search(line):
                if seen := _seen(line[: prompt.start()]):
                    self._shown = self._shown[prompt.start() :]
                    return seen
                self._shown = self._shown[prompt.end() :]
                self._status = int(prompt[1])
                return None
            if end:
                self._shown = rest
                if seen := _seen(line):
                    return seen
                continue
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._ours], [], [], left)[0]:
                raise Differs(f"line {self._at}: the terminal shows nothing for {DEADLINE:.0f} s")
            self._shown += self._read()

    def _read(self) -> str:
        """Return what the terminal shows next, to the end of a character."""
        try:
            read = os.read(self._ours, 65536)
            while True:
                with contextlib.suppress(UnicodeDecodeError):
                    return read.decode()
                read += os.read(self._ours, 1)
        except OSError:  # Linux says so that the other side has closed
            raise Differs(f"line {self._at}: the shell has ended") from None


def _seen(line: str) -> str:
    return _UNSEEN.sub("", line.rstrip("\r")).rstrip()
