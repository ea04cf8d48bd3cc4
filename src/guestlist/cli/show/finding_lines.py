"""Findings of an audit for people: a table with lines below each row, and news of one line each.

In: findings. Out: text. What strangers chose in it is escaped (`terminal.escape`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from guestlist.cli.show import table, words
from guestlist.cli.show.columns import record
from guestlist.cli.show.findings import IN_A_ROW, KINDS, domain_or_device
from guestlist.cli.show.terminal import escape

if TYPE_CHECKING:
    from guestlist.audit.findings import Audit, Facts, Finding

_GAP = "  "

_LABELS = 9
"""Cells of the labels in the lines below a row."""

_LEAST = 30
"""Cells that the text beside a label gets, also on a terminal that is narrower."""

_COLOURS = {"new": "31", "certain": "31", "resolved": "32"}


def report(findings: Sequence[Finding], *, headers: bool, width: int | None, colours: bool) -> str:
    """Return the findings as a table. Below each row: both sides, the reason and the next step.

    On a terminal the lines below a row are folded between words; elsewhere each is one line.
    """
    lines = table.lines(
        IN_A_ROW,
        [record(IN_A_ROW, finding) for finding in findings],
        notes=[list(_below(finding, width)) for finding in findings],
        headers=headers,
        width=width,
        colours=colours,
    )
    return "".join(f"{line}\n" for line in lines) if findings else ""


def _below(finding: Finding, width: int | None) -> Iterator[str]:
    for label, text in _notes(finding):
        room = None if width is None else max(_LEAST, width - len(_GAP) - _LABELS)
        for place, part in enumerate(_wrapped(escape(text), room)):
            yield f"{_GAP}{'' if place else label:<{_LABELS}}{part}"


def _notes(finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield what the lines below a row tell, each part with its label."""
    if finding.uuid is not None:
        project = f", project {finding.project_id}" if finding.project_id else ""
        yield "uuid", f"{finding.uuid}{project}"
    if finding.subject is not None and finding.name is not None:
        yield "disk", finding.subject
    for host, facts in finding.libvirt.items():
        if facts:
            yield "libvirt", f"{host}: {_of_libvirt(finding, facts)}"
    if finding.nova:
        yield "Nova", _of_nova(finding, finding.nova)
    yield "reason", finding.reason
    yield "next", finding.next_step


def _of_libvirt(finding: Finding, facts: Facts) -> str:
    """Return what a host says: `running (booted), id 7`."""
    if facts.get("domain", "") is None:
        return "no domain"
    has_reason = facts.get("reason") not in (None, "unknown")
    reason = f" ({facts['reason']})" if has_reason else ""
    number = f", id {facts['id']}" if facts.get("id") is not None else ""
    name = facts.get("domain", finding.name)
    other = f", named {name}" if name != finding.name else ""
    uuid = facts.get("uuid", str(finding.uuid))
    another = f", uuid {uuid}" if uuid != str(finding.uuid) else ""
    return f"{facts.get('state', '-')}{reason}{number}{other}{another}"


def _of_nova(finding: Finding, facts: Facts) -> str:
    """Return what Nova says: `SHUTOFF, power state shutdown, no task, on node1, changed …`.

    A list without --long tells no power state, and no task either: then "no task" would be a guess.
    """
    parts = [str(facts.get("status", "-"))]
    name = facts.get("instance_name")
    if name is not None and name != finding.name:
        parts.append(f"named {name}")
    if facts.get("power_state") is not None:
        parts.append(f"power state {facts['power_state']}")
    if facts.get("task_state"):
        parts.append(f"task {facts['task_state']}")
    elif facts.get("power_state") is not None:
        parts.append("no task")
    if host := facts.get("hypervisor_hostname") or facts.get("host"):
        parts.append(f"on {host}")
    if facts.get("updated"):
        parts.append(f"changed {facts['updated']}")
    return ", ".join(parts)


def _wrapped(text: str, room: int | None) -> list[str]:
    """Return the text in lines of at most that many cells, if no word is longer."""
    if room is None:
        return [text]
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if table.cells(longer) <= room or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def news_line(event: str, finding: Finding, at: datetime, *, colours: bool) -> str:
    """Return what happened to a finding, in one line with its end."""
    attributes = _COLOURS.get(event) if colours else None
    word = f"\x1b[{attributes}m{event}\x1b[0m" if attributes else event
    server = f" ({finding.server_name})" if finding.server_name is not None else ""
    parts = [
        f"{at.astimezone():%H:%M:%S}",
        word + " " * (len("resolved") - len(event)),
        f"{finding.certainty}: {KINDS[finding.kind]}",
        escape(",".join(finding.hosts)),
        escape(f"{domain_or_device(finding) or finding.uuid}{server}"),
    ]
    reason = "" if event == "resolved" else f": {escape(finding.reason)}"
    return _GAP.join(filter(None, parts)) + reason + "\n"


def summary(audit: Audit) -> str:
    """Return in one sentence what the audit compared and how much it found."""
    total = len(audit.findings)
    certain = sum(finding.certainty == "certain" for finding in audit.findings)
    if not total:
        found = "no finding" if audit.complete else "no finding in an incomplete audit"
    elif certain in (0, total):
        found = f"{words.number(total, 'finding')}, {'certain' if certain else 'possible'}"
    else:
        found = f"{total:,} findings, {certain:,} certain and {total - certain:,} possible"
    others = sum(audit.others.values())
    counted = [f"{words.number(others, 'domain')} of other launchers"] if others else []
    left = audit.hosts_not_asked
    asked = "was not asked" if left == 1 else "were not asked"
    not_asked = [f"{words.number(left, 'host')} with servers {asked}"] if left else []
    return "; ".join(
        [
            f"{found}: {words.number(audit.domains, 'domain')} on "
            f"{words.number(audit.hosts, 'host')} against {words.number(audit.servers, 'server')}",
            *(f"{each} {'was' if others == 1 else 'were'} counted" for each in counted),
            *not_asked,
            "nothing was changed",
        ]
    )
