"""The command line of `guestlist`: its parser, and the options checked.

In: the words after the command's name. Out: a namespace, in which the configuration file has filled
in what the words leave open. All is checked that can be checked without
asking a host. Words that make no sense end the process with status 2 and one line.

Each command declares its own options, in its package (`ls/__init__.py` …): ABOUT, EXAMPLES,
`add_options` and, where options exclude each other, `check_options`. Only the package of the given
command is imported; --help and `completion` import all of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, NoReturn

import guestlist
from guestlist.cli import configuration, exits
from guestlist.cli.exits import Exit
from guestlist.cli.options import CONFIGURATION_NOTE
from guestlist.cli.show import terminal
from guestlist.errors import short

COMMANDS = (
    "ls",
    "show",
    "usage",
    "watch",
    "fleet",
    "exporter",
    "agent",
    "audit",
    "check",
    "completion",
)

_PACKAGES = {"show": "show_domains"}
"""The packages of commands that are not named after their command: `show` is what shows things."""

_LONGEST_MESSAGE = 1_000
"""Characters of an error message, which may quote the words."""

_EXAMPLES = """\
examples:
  guestlist ls                 the active domains that Nova launched on this host
  guestlist ls -a              every domain: shut off, launched by others, Domain-0
  guestlist ls -a -f json      the same for a program
  guestlist show instance-0000002a     all about one domain, by name, UUID or id
  guestlist usage              what they use of the host: vCPUs, memory, disks
  guestlist watch              what happens to them, as it happens
  guestlist exporter           the same as metrics, for Prometheus
  guestlist agent              the same published in etcd, for 'guestlist fleet'
  guestlist audit --help       what differs between libvirt and Nova
  guestlist check              what this libvirt can do, and what to upgrade
  guestlist ls --help          more about listing, with examples

  source <(guestlist completion bash)      completion in this shell
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options, checked. `command` says which of the commands they are for.

    Raises:
        SystemExit: 0 after help that was asked for, 2 if the words make no sense.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    top, parsers = _parsers(words[:1] if words[:1] and words[0] in COMMANDS else COMMANDS)
    options, unknown = top.parse_known_args(words)
    if unknown:
        parsers.get(options.command, top).error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.command is None:
        terminal.explain(top.format_help())
        sys.exit(Exit.USAGE)
    configuration.fill_in(options)
    check = getattr(_package(options.command), "check_options", None)
    if check is not None:
        check(options, parsers[options.command])
    return options


def parser(of: str = "") -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    `of` is a line whose last word is not complete: if the words before it name commands, the parser
    knows only these.
    """
    before = of.rpartition(" ")[0].split()
    return _parsers([name for name in COMMANDS if name in before] or COMMANDS)[0]


def _parsers(names: Iterable[str]) -> tuple[_Parser, dict[str, _Parser]]:
    """Return the parser of the command line, and those of the commands of these names."""
    top = _Parser(
        prog="guestlist",
        description=(guestlist.__doc__ or "").partition("\n")[0],
        epilog=f"{_EXAMPLES}\n{CONFIGURATION_NOTE}\n{exits.in_words()}",
    )
    top.add_argument("--version", action="version", version=f"guestlist {guestlist.__version__}")
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    parsers: dict[str, _Parser] = {}
    for name in names:
        command = _package(name)
        parsers[name] = commands.add_parser(
            name,
            help=command.ABOUT,
            description=f"{command.ABOUT[0].upper()}{command.ABOUT[1:]}.",
            epilog=f"{command.EXAMPLES}\n{exits.in_words()}",
        )
        command.add_options(parsers[name])
    return top, parsers


def package(name: str) -> str:
    """Return the package of a command, by its full name."""
    return f"guestlist.cli.{_PACKAGES.get(name, name)}"


def _package(name: str) -> Any:
    return import_module(package(name))


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """argparse's own, told the width: it would import `shutil` to find that, for every option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=terminal.columns() - 2)


class _Parser(argparse.ArgumentParser):
    """argparse's own, except that all it prints goes through `terminal`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_HelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print one line and end the process with status 2."""
        terminal.complain(f"{short(message, _LONGEST_MESSAGE)}; see '{self.prog} --help'")
        sys.exit(Exit.USAGE)

    def _print_message(self, message: str, file: Any = None) -> None:  # noqa: ARG002  argparse's
        terminal.write(message)
