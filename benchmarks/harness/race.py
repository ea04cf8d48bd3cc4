"""Entrants that take turns: A C B, B A C, ... so that a drift of the machine affects all alike.

In: commands. Out: seconds, by figure. An entrant is a process that stays and works when told to, or
a command that is run again for each turn. An entrant that does not find all domains is wrong, and
ends the benchmark.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Protocol, Self

Figures = dict[str, list[float]]
"""Seconds of each turn, by the name of what was timed."""

Seconds = dict[str, dict[int, list[float]]]
"""The same, and by the number of domains."""


class Wrong(Exception):
    """An entrant failed, or did not find as many domains as there are."""


class Entrant(Protocol):
    """Anything that can take a turn."""

    def turn(self) -> dict[str, float]:
        """Take a turn; return seconds, by the name of what was timed.

        Raises:
            Wrong: the entrant failed, or did not find all domains.
        """


class Resident:
    """A process that stays: a line to it is an order, a line from it the answer.

    Ends with the context.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, order: str) -> str:
        """Return the answer to an order.

        Raises:
            Wrong: the process ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(order + "\n")
            stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise Wrong(f"{self._command} ended with status {self._process.wait()}")
        return answer

    def __enter__(self) -> Self:
        """Return it; it runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.communicate()


class Lister(Resident):
    """A process that lists when it gets an empty line; it answers a count and nanoseconds.

    `figures` names the nanoseconds, in their order.
    """

    def __init__(self, command: Sequence[str], figures: Sequence[str], expected: int) -> None:
        super().__init__(command)
        self._figures, self._expected = figures, expected

    def turn(self) -> dict[str, float]:
        """Take a turn; see `Entrant`."""
        found, *nanoseconds = map(int, self.ask("").split())
        _check(self._command, found, self._expected)
        return {
            figure: duration / 1e9
            for figure, duration in zip(self._figures, nanoseconds, strict=True)
        }


class Command:
    """A command that is started for each turn, and timed from outside.

    `expected` is how many lines it prints that are not empty. None: any number.
    """

    def __init__(
        self,
        command: Sequence[str],
        figure: str,
        expected: int | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command, self._figure, self._expected = command, figure, expected
        self._environment = environment

    def turn(self) -> dict[str, float]:
        """Take a turn; see `Entrant`."""
        start = time.perf_counter()
        done = subprocess.run(
            self._command, capture_output=True, text=True, check=False, env=self._environment
        )
        took = time.perf_counter() - start
        if done.returncode:
            raise Wrong(f"{self._command} ended with status {done.returncode}: {done.stderr}")
        if self._expected is not None:
            _check(self._command, len(done.stdout.split()), self._expected)
        return {self._figure: took}


def race(entrants: Sequence[Entrant], rounds: int) -> Figures:
    """Give each entrant one turn a round, in a random order that is the same in every run."""
    chance = random.Random(rounds)
    figures: Figures = {}
    for _ in range(rounds):
        for entrant in chance.sample(entrants, len(entrants)):
            for figure, seconds in entrant.turn().items():
                figures.setdefault(figure, []).append(seconds)
    return figures


def keep(seconds: Seconds, size: int, figures: Figures) -> None:
    """Add the times at one number of domains."""
    for figure, times in figures.items():
        seconds.setdefault(figure, {})[size] = times


def _check(command: Sequence[str], found: int, expected: int) -> None:
    if found != expected:
        raise Wrong(f"{command} found {found} domains and there are {expected}")
