"""`guestlist watch` as a process: what it prints, line by line, while a test changes domains."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any, Self

from lab.command import MAIN, environment
from lab.schemas import valid


class Watching:
    """`guestlist watch words…` while it runs; the end of the block kills it."""

    command: tuple[str, ...] = ("watch",)
    schema = "watch"

    def __init__(self, *words: str, **changes: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *self.command, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**changes),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """Return the next line without its time.

        Raises:
            AssertionError: it does not begin with a time.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert re.match(r"\d\d:\d\d:\d\d  \S", line), line or self.complaint()
        return line[10:].rstrip("\n")

    def lines(self, count: int) -> list[str]:
        """Return that many lines."""
        return [self.line() for _ in range(count)]

    def told(self) -> dict[str, Any]:
        """Return the next JSON object, which is as the schema describes it."""
        assert self.process.stdout is not None
        told: dict[str, Any] = valid(self.schema, self.process.stdout.readline())
        return told

    def told_of(self, change: str) -> dict[str, Any]:
        """Return the next JSON object of that kind."""
        while (told := self.told())["change"] != change:
            pass
        return told

    def complaint(self) -> str:
        """Return the next line on standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()
