"""Print a script that teaches a shell the words of `guestlist`.

In: the parser. Out: the script, on standard output. shtab makes it from the parser itself, so the
script has every option that the parser has.
"""

from __future__ import annotations

import argparse

import shtab

from guestlist.cli import arguments
from guestlist.cli.exits import Exit
from guestlist.cli.show import terminal


def run(options: argparse.Namespace) -> Exit:
    """Print the script for the shell asked for."""
    terminal.write(shtab.complete(arguments.parser(), shell=options.shell) + "\n")
    return Exit.OK
