"""Make the users and roles of a fleet, and say what was done.

In: options. Out: on standard output a line for each step; on standard error the holes of the etcd.
Changes nothing where there is a hole, unless --insecure is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from guestlist.cli import etcd_options, hosts
from guestlist.cli.exits import Exit
from guestlist.cli.fleet import sources
from guestlist.cli.fleet.check.run import LONGEST, line
from guestlist.cli.show import terminal
from guestlist.errors import GuestlistError
from guestlist.fleet.layout import Layout
from guestlist.fleet.security.credentials import Credentials
from guestlist.fleet.security.findings import Verdict
from guestlist.fleet.setup import Setup, users_of


def run(options: argparse.Namespace) -> Exit:
    """Set up, or say what is missing."""
    hosts.show_log(verbose=options.verbose)
    try:
        with _opened(options) as setup:
            return _dry_run(setup) if options.dry_run else _set_up(setup, options)
    except GuestlistError as error:
        return sources.failed(error)
    except (OSError, ValueError) as error:
        terminal.complain(str(error))
        return Exit.FAILED


def _opened(options: argparse.Namespace) -> Setup:
    users = users_of(options.fleet, options.host, options.reader)
    credentials = Credentials(
        etcd_options.tls(options), etcd_options.login(options), min(options.timeout, LONGEST)
    )
    return Setup(etcd_options.members(options), credentials, Layout(options.fleet), users)


def _dry_run(setup: Setup) -> Exit:
    _write(f"would {each.words}" for each in setup.steps())
    return Exit.OK


def _set_up(setup: Setup, options: argparse.Namespace) -> Exit:
    report = setup.lock()
    for each in report.findings:
        if each.verdict is not Verdict.CLOSED:
            terminal.complain(line(each))
    if report.open and not options.insecure:
        setup.unlock()
        terminal.complain("nothing was set up: close the holes, or give --insecure")
        return Exit.HOLES
    _write(setup.make())
    return Exit.OK


def _write(steps: Iterable[str]) -> None:
    """Print each step as soon as it is done; or that there are none."""
    is_missing = False
    for each in steps:
        is_missing = True
        terminal.write(f"{terminal.escape(each)}\n")
    if not is_missing:
        terminal.write("nothing is missing\n")
