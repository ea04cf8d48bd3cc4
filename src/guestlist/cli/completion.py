"""`guestlist completion`: a script that teaches a shell what may be said.

In: the parser. Out: the script, on standard output. Made by shtab, which reads the parser's own
words; so it is never behind them.
"""

from __future__ import annotations

import argparse

from guestlist.cli import arguments, terminal
from guestlist.cli.exits import Exit


def run(options: argparse.Namespace) -> Exit:
    """Print the script for the shell asked for."""
    import shtab  # noqa: PLC0415  not for the other commands

    terminal.write(shtab.complete(arguments.parser(), shell=options.shell) + "\n")
    return Exit.OK
