"""Options that several commands share, and the checks of their values.

In: a command's parser. Out: the same, with options added. Asks no host and imports no libvirt.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence

from guestlist.cli.show import terminal

TABLE_FORMATS = ("table", "json", "yaml", "csv")
"""The formats that show columns."""

_LONGEST_TIMEOUT = 86_400.0

CSV_NOTE = """\
In CSV an apostrophe stands before a text that a spreadsheet would compute (its first
character that is not a blank is = + - @ or '), and likewise after each semicolon in
it. Numbers have none. To undo it, remove the apostrophe at the beginning and those
after a semicolon, then the escapes; --raw writes neither.
"""

CONFIGURATION_NOTE = """\
~/.config/guestlist.toml may name hosts (-c node1), a name template and the columns of
the table; GUESTLIST_CONFIG names another file. docs/configuration.md in guestlist's
source has its keys.
"""

BY_HOST = "by host as given, then by name"
"""The order of a table of several hosts, in words."""


def add_hosts(command: argparse.ArgumentParser) -> None:
    """Add the options that say which hosts to ask, and how."""
    command.add_argument(
        "-c",
        "--connect",
        metavar="URI",
        type=uri,
        action="append",
        help="a host to ask, by libvirt URI or by its alias in the configuration file; may be "
        "repeated. Default: libvirt's own "
        "(LIBVIRT_DEFAULT_URI, then libvirt.conf, then what it finds). With one host and a "
        "terminal, ssh may ask for a password; otherwise ssh fails if it needs one, unless the "
        "URI says no_tty=0",
    )
    add_patience(command)


def add_patience(
    command: argparse.ArgumentParser,
    about: str = "how long a host may take to answer, the time to type a password included",
) -> None:
    """Add the options on how long to wait, and how much to tell of failures.

    `about` says what --timeout limits.
    """
    command.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=30.0,
        help=f"{about} (default: %(default)g)",
    )
    command.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show libvirt's own messages and tracebacks as well, on standard error",
    )


NAME_TEMPLATE = "instance-%08x"
"""Nova's instance_name_template, unless nova.conf has another one."""


def add_ours(group: argparse._ActionsContainer) -> None:
    """Add the options that say which domains Nova launched."""
    group.add_argument(
        "--name-template",
        metavar="TEMPLATE",
        type=_name_template,
        help="Nova's instance_name_template, as in nova.conf (default: that of the configuration "
        f"file, else {NAME_TEMPLATE.replace('%', '%%')})",
    )
    group.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        help="trust Nova's metadata only, not the name: one call per domain (default: as the "
        "configuration file says, else no)",
    )


def add_order(
    group: argparse._ActionsContainer,
    known: Iterable[str],
    usual: str = BY_HOST,
) -> None:
    """Add the options of a table and of CSV. `known` are the columns to sort by.

    `usual` is the order if none is asked for, in words.
    """
    group.add_argument(
        "--sort",
        metavar="COLUMN",
        choices=tuple(known),
        help=f"sort by this column, unknown values last; default: {usual}",
    )
    group.add_argument("-r", "--reverse", action="store_true", help="reverse the order")
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


def add_format(group: argparse._ActionsContainer, formats: Sequence[str]) -> None:
    """Add the option that chooses one of these formats; the first is the default."""
    group.add_argument(
        "-f",
        "--format",
        "-o",
        metavar="FORMAT",
        choices=formats,
        default=formats[0],
        help=f"{', '.join(formats)}; default: %(default)s",
    )


def check_exact(
    options: argparse.Namespace, command: argparse.ArgumentParser, option: str, *formats: str
) -> bool:
    """Return whether the option is given that asks for exact values, in one of these formats.

    Refuses it with another format, and on a terminal: a terminal would obey what a name holds.
    """
    if not getattr(options, option.removeprefix("--")):
        return False
    if options.format not in formats:
        allowed = " or ".join(f"-f {each}" for each in formats)
        command.error(f"{option} goes with {allowed}, not with {options.format}")
    if terminal.is_terminal():
        command.error(f"{option} wants a pipe or a file: a terminal would obey what a name holds")
    return True


def uri(text: str) -> str:
    """Return the text of an option that is a URI; refuse what no URI has."""
    if not text:
        raise argparse.ArgumentTypeError("the URI is empty; leave -c out for libvirt's default")
    if not text.isprintable():
        raise argparse.ArgumentTypeError(
            f"a URI has no control characters and no bytes that are not UTF-8: {text}"
        )
    return text


def seconds(text: str) -> float:
    """Return the number of an option that is a time; refuse what is none."""
    # float() takes 1_0 and nan
    is_decimal = re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9}", text)
    found = float(text) if is_decimal else 0.0
    if not 0 < found <= _LONGEST_TIMEOUT:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no number of seconds above 0 and up to {_LONGEST_TIMEOUT:g}"
        )
    return found


def _name_template(text: str) -> str:
    # For the option only: --help does without.
    from guestlist.errors import InvalidNameTemplate  # noqa: PLC0415
    from guestlist.launcher import NameTemplate  # noqa: PLC0415

    try:
        NameTemplate(text)
    except InvalidNameTemplate as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
