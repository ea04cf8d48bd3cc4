"""Try whether an etcd keeps a host to its own keys, and print what was found.

In: options. Out: on standard output a line for each hole: open, with what it means and the remedy;
closed; or unknown, with why the check could not be made. The exit status tells them apart.
"""

from __future__ import annotations

import argparse

from guestlist.cli import etcd_options, hosts
from guestlist.cli.exits import Exit
from guestlist.cli.fleet import sources
from guestlist.cli.show import terminal, words
from guestlist.cli.show.render import as_json, as_yaml
from guestlist.errors import GuestlistError
from guestlist.fleet.layout import Layout
from guestlist.fleet.security.checking import check
from guestlist.fleet.security.credentials import Credentials
from guestlist.fleet.security.findings import Finding, Report, Verdict

LONGEST = 5.0
"""Seconds that a member has for one attempt, at most."""


def run(options: argparse.Namespace) -> Exit:
    """Check and print."""
    hosts.show_log(verbose=options.verbose)
    try:
        report = _checked(options)
    except GuestlistError as error:
        return sources.failed(error)
    except (OSError, ValueError) as error:
        terminal.complain(str(error))
        return Exit.FAILED
    match options.format:
        case "json":
            terminal.write(as_json([_record(each) for each in report.findings]))
        case "yaml":
            terminal.write(as_yaml([_record(each) for each in report.findings]))
        case _:
            terminal.write("".join(f"{terminal.escape(line(each))}\n" for each in report.findings))
    return verdict(report)


def _checked(options: argparse.Namespace) -> Report:
    layout = Layout(options.fleet)
    timeout = min(options.timeout, LONGEST)
    credentials = Credentials(etcd_options.tls(options), etcd_options.login(options), timeout)
    host = options.host or credentials.user
    if host is None:
        raise ValueError("which host? Give --host: there is no certificate and no --user")
    return check(etcd_options.members(options), credentials, layout, host)


def verdict(report: Report) -> Exit:
    """Print how many holes there are, and return the status."""
    unknown = words.number(len(report.unknown), "check")
    terminal.complain(
        f"{words.number(len(report.open), 'hole')}"
        + (f"; {unknown} could not be made" if report.unknown else "")
    )
    if report.open:
        return Exit.HOLES
    return Exit.PARTIAL if report.unknown else Exit.OK


def line(found: Finding) -> str:
    """Return what was found of a hole, in one line."""
    hole, where = found.hole, ", ".join(found.members)
    match found.verdict:
        case Verdict.OPEN:
            return (
                f"HOLE     {hole.label}: {hole.means}. Remedy: {hole.remedy}. "
                f"Seen at {where}: {found.why}"
            )
        case Verdict.CLOSED:
            return f"closed   {hole.label}: {found.why}"
        case Verdict.UNKNOWN:
            return f"unknown  {hole.label}: could not be checked at {where}: {found.why}"


def _record(found: Finding) -> dict[str, object]:
    return {
        "hole": found.hole.label,
        "verdict": found.verdict.value,
        "members": list(found.members),
        "why": found.why,
        "means": found.hole.means,
        "remedy": found.hole.remedy,
    }
