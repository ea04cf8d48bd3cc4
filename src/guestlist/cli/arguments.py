"""What may be said to `guestlist`: the options and their help.

In: the words after the command's name. Out: a namespace in which all has been checked that can be
without asking a host. Words that make no sense end the process with status 2 and one line.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import guestlist
from guestlist.cli import columns, examples, terminal
from guestlist.cli.exits import MEANINGS, Exit
from guestlist.errors import InvalidNameTemplate, short

_LONGEST_TIMEOUT = 86_400.0

_LONGEST_MESSAGE = 1_000
"""Characters of what is wrong with the words, which it may quote."""

_TABLED = ("table", "json", "yaml", "csv")
_LISTED = ("name", "uuid")
_TOLD = ("lines", "json")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked. `command` says which of the subcommands they are for.

    Raises:
        SystemExit: 0 after help that was asked for, 2 where the words make no sense.
    """
    top = parser()
    options = top.parse_args(argv)
    if options.command is None:
        terminal.explain(top.format_help())
        sys.exit(Exit.USAGE)
    if options.command == "ls" and options.format in _LISTED:
        for option, given in {"--columns": options.columns, "--long": options.long}.items():
            if given:
                top.error(f"{option} goes with -f {', '.join(_TABLED)}, not with {options.format}")
    options.exact = _is_exact(top, options)
    if options.command == "ls" and options.live:
        if options.format != "table":
            top.error(f"--live goes with -f table, not with {options.format}")
        if not terminal.can_redraw():
            top.error("--live wants a terminal; for a pipe or a file there is 'guestlist watch'")
    return options


def _is_exact(top: argparse.ArgumentParser, options: argparse.Namespace) -> bool:
    """Whether values are to be written without escapes, which is never for a terminal."""
    wanted = {"--raw": ("csv",), "--null": _LISTED}
    for option, forms in wanted.items():
        if not getattr(options, option.removeprefix("--"), False):
            continue
        if options.format not in forms:
            allowed = " or ".join(f"-f {form}" for form in forms)
            top.error(f"{option} goes with {allowed}, not with {options.format}")
        if terminal.is_terminal():
            top.error(f"{option} wants a pipe or a file: a terminal would obey what a name holds")
        return True
    return False


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = _Parser(
        prog="guestlist",
        description=(guestlist.__doc__ or "").partition("\n")[0],
        epilog=f"{examples.TOP}\n{_exit_statuses()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"guestlist {guestlist.__version__}")
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    _add_ls(_command(commands, "ls", "list the domains of one host or several", examples.LS))
    _add_usage(_command(commands, "usage", "tell what the guests use", examples.USAGE))
    _add_watch(_command(commands, "watch", "tell what happens to the domains", examples.WATCH))
    _add_check(_command(commands, "check", "tell what to upgrade, if anything", examples.CHECK))
    _add_completion(
        _command(commands, "completion", "print a script for bash or zsh", examples.COMPLETION)
    )
    return top


def _command(
    commands: argparse._SubParsersAction[_Parser], name: str, about: str, examples: str
) -> _Parser:
    return commands.add_parser(
        name,
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        epilog=f"{examples}\n{_exit_statuses()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_ls(ls: argparse.ArgumentParser) -> None:
    _add_hosts(ls)
    label = ls.add_argument_group("whom to list", "By default: running, and launched by Nova.")
    label.add_argument("--inactive", action="store_true", help="also those that are shut off")
    label.add_argument("--foreign", action="store_true", help="also those that others launched")
    label.add_argument("--dom0", action="store_true", help="also Xen's Domain-0")
    label.add_argument(
        "-a", "--all", action="store_true", help="everybody: --inactive --foreign --dom0"
    )
    _add_ours(label)
    how = ls.add_argument_group("how to show them")
    _add_format(how, (*_TABLED, *_LISTED))
    how.add_argument(
        "-q",
        "--quiet",
        dest="format",
        action="store_const",
        const="name",
        help="names only, a line each: -f name",
    )
    how.add_argument(
        "-0",
        "--null",
        action="store_true",
        help="with -q (ls -q0) or -f uuid: end each exact name or UUID with NUL instead of a "
        "line's end, for xargs -0",
    )
    which = how.add_mutually_exclusive_group()
    which.add_argument(
        "--columns",
        metavar="A,B,…",
        action=_Columns,
        help="these columns, in this order; 'help' lists them",
    )
    which.add_argument(
        "-l",
        "--long",
        action="store_true",
        help="all columns; in a table, columns that repeat another one are left out. From 'vcpus' "
        "on they cost a call per domain, with --columns and --sort as well",
    )
    _add_order(how, columns.COLUMNS)
    how.add_argument(
        "--live",
        action="store_true",
        help="keep the table on the screen as it is on the host, until Ctrl-C",
    )


def _add_usage(usage: argparse.ArgumentParser) -> None:
    _add_hosts(usage)
    label = usage.add_argument_group(
        "whom to count",
        "By default: those that Nova launched, active or not; and the memory of Domain-0.",
    )
    label.add_argument(
        "-a",
        "--all",
        "--foreign",
        dest="foreign",
        action="store_true",
        help="also those that others launched, as Nova's own driver counts",
    )
    _add_ours(label)
    how = usage.add_argument_group("how to show it")
    _add_format(how, _TABLED)
    _add_order(how, columns.USAGE_COLUMNS)


def _add_watch(watch: argparse.ArgumentParser) -> None:
    _add_hosts(watch)
    label = watch.add_argument_group(
        "whom to watch", "By default: those that Nova launched, whatever their state."
    )
    label.add_argument("--foreign", action="store_true", help="also those that others launched")
    label.add_argument("--dom0", action="store_true", help="also Xen's Domain-0")
    label.add_argument("-a", "--all", action="store_true", help="everybody: --foreign --dom0")
    _add_ours(label)
    how = watch.add_argument_group("how to tell")
    _add_format(how, _TOLD)
    how.add_argument(
        "--once",
        action="store_true",
        help="tell who is there now, and end, with the status that ls would end with",
    )


def _add_check(check: argparse.ArgumentParser) -> None:
    _add_hosts(check)
    _add_format(check, ("table", "json", "yaml"))


def _add_completion(completion: argparse.ArgumentParser) -> None:
    completion.add_argument("shell", choices=("bash", "zsh"), help="the shell the script is for")


def _add_hosts(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-c",
        "--connect",
        metavar="URI",
        type=_uri,
        action="append",
        help="a host to ask, by libvirt URI; may be repeated. Without: libvirt's own default "
        "(LIBVIRT_DEFAULT_URI, then libvirt.conf, then what it finds). ssh asks for a password of "
        "one host at a terminal; else it fails, unless the URI says no_tty=0",
    )
    command.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long a host may take to answer, passwords included (%(default)g)",
    )
    command.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="on standard error also libvirt's own messages, and tracebacks",
    )


def _add_ours(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--name-template",
        metavar="TEMPLATE",
        type=_name_template,
        default="instance-%08x",
        help="Nova's instance_name_template, as in nova.conf (%(default)s)",
    )
    group.add_argument(
        "--verify",
        action="store_true",
        help="believe Nova's metadata only, not the name: one call per domain",
    )


def _add_order(group: argparse._ActionsContainer, known: Iterable[str]) -> None:
    group.add_argument(
        "--sort",
        metavar="COLUMN",
        choices=tuple(known),
        help="by this column, what is not known last; without: by host as given, then by name",
    )
    group.add_argument("-r", "--reverse", action="store_true", help="the other way round")
    group.add_argument(
        "--no-headers",
        dest="headers",
        action="store_false",
        help="no header above a table or CSV",
    )
    group.add_argument(
        "--raw",
        action="store_true",
        help="CSV with exact values: no escapes, and no apostrophe before what a spreadsheet "
        "would compute",
    )


def _add_format(group: argparse._ActionsContainer, forms: Sequence[str]) -> None:
    group.add_argument(
        "-f",
        "--format",
        "-o",
        metavar="FORMAT",
        choices=forms,
        default=forms[0],
        help=f"{', '.join(forms)}; without: %(default)s",
    )


def _uri(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the URI is empty; leave -c out for libvirt's default")
    if not text.isprintable():
        raise argparse.ArgumentTypeError(
            f"a URI has no control characters and no bytes that are not UTF-8: {text}"
        )
    return text


_is_decimal = re.compile(r"[0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9}").fullmatch


def _seconds(text: str) -> float:
    seconds = float(text) if _is_decimal(text) else 0.0  # float() takes 1_0 and nan
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no number of seconds above 0 and up to {_LONGEST_TIMEOUT:g}"
        )
    return seconds


def _name_template(text: str) -> str:
    from guestlist.launcher import NameTemplate  # noqa: PLC0415  not for --help

    try:
        NameTemplate(text)
    except InvalidNameTemplate as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _exit_statuses() -> str:
    lines = [f"  {status:<5}{meaning}" for status, meaning in MEANINGS.items()]
    signals = ["  130  interrupted by Ctrl-C", "  141  nobody reads standard output any more"]
    signals += ["  143  ended by SIGTERM"]
    return "\n".join(["exit status:", *lines, *signals])


class _Parser(argparse.ArgumentParser):
    """argparse, with what it prints leaving by the one way there is."""

    def error(self, message: str) -> NoReturn:
        """One line, and status 2."""
        terminal.complain(f"{short(message, _LONGEST_MESSAGE)}; see '{self.prog} --help'")
        sys.exit(Exit.USAGE)

    def _print_message(self, message: str, file: Any = None) -> None:  # noqa: ARG002  argparse's
        terminal.write(message)


class _Columns(argparse.Action):
    """`--columns a,b,c`, in any case; `--columns help` answers as --help does."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002  argparse's
    ) -> None:
        """Take the names."""
        names = [name.strip().lower() for name in values.split(",")]
        if names == ["help"]:
            terminal.write(columns.help_text())
            parser.exit()
        try:
            setattr(namespace, self.dest, columns.chosen(names))
        except KeyError as error:
            known = ", ".join(columns.COLUMNS)
            message = f"there is no column '{error.args[0]}'; there are: {known}"
            raise argparse.ArgumentError(self, message) from None
