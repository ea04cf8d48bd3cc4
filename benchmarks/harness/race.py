"""Entrants that take turns: A C B, B A C, ... so that a drift of the machine hits all alike.

In: commands. Out: seconds, by figure. An entrant is a process that stays and works when told to, or
a command that is run anew each time. One that does not find as many domains as there are is not
fast but wrong, and ends the benchmark.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Sequence
from typing import Protocol

Figures = dict[str, list[float]]
"""Seconds of each turn, by the name of what was timed."""


class Wrong(Exception):
    """An entrant failed, or did not find as many domains as there are."""


class Entrant(Protocol):
    """Whoever can take a turn."""

    def turn(self) -> dict[str, float]:
        """Do it once: seconds, by the name of what was timed.

        Raises:
            Wrong: it failed, or did not find everybody.
        """


class Resident:
    """A process that stays: a line to it is an order; its answer a count and nanoseconds.

    `figures` names the nanoseconds, in their order. Ends with the context.
    """

    def __init__(self, command: Sequence[str], figures: Sequence[str], expected: int) -> None:
        self._command, self._figures, self._expected = command, figures, expected
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def turn(self) -> dict[str, float]:
        """See `Entrant`."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write("\n")
            stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise Wrong(f"{self._command} ended with status {self._process.wait()}")
        found, *nanoseconds = map(int, answer.split())
        _check(self._command, found, self._expected)
        return {
            figure: duration / 1e9
            for figure, duration in zip(self._figures, nanoseconds, strict=True)
        }

    def __enter__(self) -> Resident:
        """Already running."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.communicate()


class Command:
    """A command that is run anew each time, and timed from outside.

    `expected` is how many lines it prints that are not empty.
    """

    def __init__(self, command: Sequence[str], figure: str, expected: int) -> None:
        self._command, self._figure, self._expected = command, figure, expected

    def turn(self) -> dict[str, float]:
        """See `Entrant`."""
        start = time.perf_counter()
        done = subprocess.run(self._command, capture_output=True, text=True, check=False)
        took = time.perf_counter() - start
        if done.returncode:
            raise Wrong(f"{self._command} ended with status {done.returncode}: {done.stderr}")
        _check(self._command, len(done.stdout.split()), self._expected)
        return {self._figure: took}


def race(entrants: Sequence[Entrant], rounds: int) -> Figures:
    """Everybody once a round, each round in an order drawn anew (the same in every run)."""
    chance = random.Random(rounds)
    figures: Figures = {}
    for _ in range(rounds):
        for entrant in chance.sample(entrants, len(entrants)):
            for figure, seconds in entrant.turn().items():
                figures.setdefault(figure, []).append(seconds)
    return figures


def _check(command: Sequence[str], found: int, expected: int) -> None:
    if found != expected:
        raise Wrong(f"{command} found {found} domains and there are {expected}")
