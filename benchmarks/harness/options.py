"""The options that every benchmark has; each adds its own."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
"""The directory that a full run writes to."""


class Options:
    """A parser with `--output` and `--quick`, and `--sizes` and `--rounds` if they have defaults.

    `full` has the defaults of a full run, `quick` those of a quick one.
    """

    def __init__(
        self, name: str, description: str, full: Mapping[str, object], quick: Mapping[str, object]
    ) -> None:
        self._name = name
        self._full = {"output": PAGES, **full}
        self._quick = {"output": None, **quick}
        self.parser = argparse.ArgumentParser(
            prog=f"./dev bench {name}",
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        add = self.parser.add_argument
        if "sizes" in full:
            add("--sizes", type=int, nargs="+", metavar="N", help="how many domains")
        if "rounds" in full:
            add("--rounds", type=int, metavar="N", help="turns that each entrant takes")
        add("--output", type=Path, help="the directory to write to")
        add(
            "--quick",
            action="store_true",
            help="few domains and turns, to see that it works; written only where --output says",
        )

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the options; `command` is the line that was typed."""
        self.parser.set_defaults(**(self._quick if "--quick" in arguments else self._full))
        options = self.parser.parse_args(arguments)
        if "sizes" in options:
            options.sizes = sorted(set(options.sizes))
        options.command = shlex.join(["./dev", "bench", self._name, *arguments])
        return options
