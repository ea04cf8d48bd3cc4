"""`guestlist ls`: its options, and what it does with them.

In: the parser of the command. Out: the same, with the options of `ls`.

    run         asks the hosts once and prints
    live        keeps the table on the screen as it is on the hosts
    selection   what the options choose: domains, columns, order
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from guestlist.cli import filters
from guestlist.cli import options as common
from guestlist.cli.show import columns, terminal
from guestlist.cli.show.columns import Column, DomainRow

ABOUT = "list the domains of one host or several"

EXAMPLES = f"""\
examples:
  guestlist ls
      the active domains (running, paused) that Nova launched on this host
  guestlist ls --inactive
      those that are shut off as well
  guestlist ls -a -c test:///default
      every domain of libvirt's built-in test host, which needs no daemon
  guestlist ls -c qemu+ssh://node1/system -c qemu+ssh://node2/system
      two hosts, asked at the same time
  guestlist ls -f uuid | xargs -r -n 1 virsh dominfo
      a command for each domain
  guestlist ls -q0 | xargs -r -0 -I NAME virsh dominfo --domain NAME
      by name, whatever it holds: blanks, quotes, a leading '-'
  guestlist ls -a --columns name,launcher --sort launcher
      who launched what
  guestlist ls -l
      with vCPUs, memory, disks, addresses, owner, flavor and age
  guestlist ls --columns nova_name,project,memory_mib --sort memory_mib --reverse
      some columns, the domain with the most memory first
  guestlist ls -a -l --live
      the table on the screen, updated while the host changes
  guestlist ls --inactive --project shop -f uuid
      the domains of a project
  guestlist ls --state paused,crashed --name 'instance-0000*'
      by state and name
  guestlist ls --launcher libguestfs
      the appliances of libguestfs
  guestlist ls --inactive -f csv > guests.csv
      for a spreadsheet: no name becomes a formula
  guestlist ls --inactive -f csv --raw | my-program
      for a program: exact values
  guestlist ls --name-template 'vm-%(uuid)s'
      where nova.conf has another instance_name_template

A control or bidirectional character in a name is shown as an escape (\\x1b,
\\u202e), and a backslash as two; JSON, YAML, --raw and -0 carry the exact name. A
value that is not known is '-' in a table and null in JSON, and is sorted last. The
keys of JSON are those of --columns help; docs/schemas/ls.schema.json in guestlist's
source has them all.

{filters.NOTE}
{common.CONFIGURATION_NOTE}
{common.CSV_NOTE}"""

_LINE_FORMATS = ("name", "uuid")


def add_options(ls: argparse.ArgumentParser) -> None:
    """Add the options of `ls`."""
    common.add_hosts(ls)
    domains = add_domains(ls)
    domains.add_argument("--dom0", action="store_true", help="also Xen's Domain-0")
    domains.add_argument(
        "-a", "--all", action="store_true", help="all domains: --inactive --foreign --dom0"
    )
    common.add_ours(domains)
    filters.add_filters(domains)
    add_look(ls, columns.COLUMNS).add_argument(
        "--live",
        action="store_true",
        help="keep the table on the screen, and update it while the host changes, until Ctrl-C",
    )


def add_domains(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say which domains to list, and return their group."""
    domains = command.add_argument_group(
        "which domains to list",
        "By default: the active ones (running, paused, …) that Nova launched.",
    )
    domains.add_argument("--inactive", action="store_true", help="also those that are shut off")
    domains.add_argument("--foreign", action="store_true", help="also those that others launched")
    return domains


def add_look(
    command: argparse.ArgumentParser,
    known: Mapping[str, Column[DomainRow]],
    usual: str = common.BY_HOST,
) -> argparse._ArgumentGroup:
    """Add the options that say how to show domains, in these columns, and return their group.

    `usual` is the order if none is asked for, in words.
    """
    how = command.add_argument_group("how to show them")
    common.add_format(how, (*common.TABLE_FORMATS, *_LINE_FORMATS))
    how.add_argument(
        "-q",
        "--quiet",
        dest="format",
        action="store_const",
        const="name",
        help="names only, one per line: -f name",
    )
    how.add_argument(
        "-0",
        "--null",
        action="store_true",
        help="with -q (-q0) or -f uuid: end each exact name or UUID with NUL instead of a "
        "line's end, for xargs -0",
    )
    which = how.add_mutually_exclusive_group()
    which.add_argument(
        "--columns",
        metavar="A,B,…",
        action=_Columns,
        known=known,
        help="these columns, in this order; 'help' lists them",
    )
    which.add_argument(
        "-l",
        "--long",
        action="store_true",
        help="all columns; in a table, columns that repeat another one are left out. Columns from "
        "'vcpus' on cost one call per domain, with --columns and --sort as well",
    )
    common.add_order(how, known, usual)
    return how


def check_options(options: argparse.Namespace, ls: argparse.ArgumentParser) -> None:
    """Refuse options that exclude each other; set `exact`."""
    check_look(options, ls)
    if options.live:
        if options.format != "table":
            ls.error(f"--live goes with -f table, not with {options.format}")
        if not terminal.can_redraw():
            ls.error("--live wants a terminal; for a pipe or a file there is 'guestlist watch'")


def check_look(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse options of `add_look` that exclude each other; set `exact`."""
    if options.format in _LINE_FORMATS:
        for option, given in {"--columns": options.columns, "--long": options.long}.items():
            if given:
                formats = ", ".join(common.TABLE_FORMATS)
                command.error(f"{option} goes with -f {formats}, not with {options.format}")
    is_raw = common.check_exact(options, command, "--raw", "csv")
    options.exact = is_raw or common.check_exact(options, command, "--null", *_LINE_FORMATS)


class _Columns(argparse.Action):
    """`--columns a,b,c`, in upper or lower case; `--columns help` prints the list and ends."""

    def __init__(self, known: Mapping[str, Column[DomainRow]], **options: Any) -> None:
        super().__init__(**options)
        self._known = known

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
            terminal.write(columns.help_text(self._known))
            parser.exit()
        try:
            setattr(namespace, self.dest, columns.chosen(names, self._known))
        except KeyError as error:
            known = ", ".join(self._known)
            message = f"there is no column '{error.args[0]}'; there are: {known}"
            raise argparse.ArgumentError(self, message) from None
