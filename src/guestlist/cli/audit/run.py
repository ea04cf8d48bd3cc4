"""Compare what libvirt runs with what Nova believes, once, and print what differs.

In: options. Out: on standard output the findings, certain ones first; on standard error a line for
each part that the audit could not look at, and one line that says what was compared. Prints nothing
on standard output if Nova or all hosts could not be looked at: `[]` would be an answer. Changes
nothing, on no side.
"""

from __future__ import annotations

import argparse
import logging
from datetime import UTC, datetime

import guestlist
from guestlist.audit.findings import Audit
from guestlist.cli import exits
from guestlist.cli.audit import watching
from guestlist.cli.audit.sides import AskedHosts, Sides
from guestlist.cli.exits import Exit
from guestlist.cli.show import terminal
from guestlist.cli.show.columns import in_order, record
from guestlist.cli.show.finding_lines import report, summary
from guestlist.cli.show.findings import COLUMNS, audit_record
from guestlist.cli.show.progress import Progress
from guestlist.cli.show.render import as_json, as_yaml, rendered
from guestlist.errors import GuestlistError
from guestlist.settings_file import BadSettings

log = logging.getLogger(guestlist.__name__)


def run(options: argparse.Namespace, hosts: AskedHosts | None = None) -> Exit:
    """Make an audit and print what it found; with `--watch`, repeat it until a signal ends it.

    `hosts` as for `Sides.of`.
    """
    try:
        progress = Progress()
        sides = Sides.of(options, progress, hosts)
        if options.watch is not None:
            watching.run(options, sides, progress)
        began = datetime.now(UTC)
        with progress:
            audit = sides.audit(progress.step)
    except (GuestlistError, BadSettings) as error:
        log.debug("the failure in full:", exc_info=error)
        terminal.complain(str(error))
        return exits.verdict(0, [error])
    if failures := sides.failures:
        for line in audit.incomplete:
            terminal.complain(line)
        return exits.verdict(0, failures)
    for line in audit.incomplete:
        terminal.complain(f"incomplete: {line}")
    text = shown(options, audit, began, datetime.now(UTC))
    terminal.write(text, exact=options.exact)
    terminal.complain(summary(audit))
    return status(audit)


def status(audit: Audit) -> Exit:
    """Return the exit status of an audit for which Nova and some host could be looked at."""
    if not audit.complete:
        return Exit.PARTIAL
    return Exit.FINDINGS if audit.findings else Exit.OK


def shown(options: argparse.Namespace, audit: Audit, began: datetime, ended: datetime) -> str:
    """Return the audit in the format that the options ask for."""
    sort = COLUMNS[options.sort] if options.sort else None
    findings = in_order(audit.findings, sort, reverse=options.reverse)
    match options.format:
        case "json":
            return as_json(audit_record(audit, findings, began, ended))
        case "yaml":
            return as_yaml(audit_record(audit, findings, began, ended))
        case "csv":
            columns = list(COLUMNS.values())
            records = [record(columns, finding) for finding in findings]
            return rendered("csv", columns, records, headers=options.headers, exact=options.exact)
    return report(
        findings,
        headers=options.headers,
        width=terminal.width(),
        colours=terminal.has_colours(),
    )
