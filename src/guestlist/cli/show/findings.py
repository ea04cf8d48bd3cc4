"""What can be shown of a finding of an audit, column by column, and an audit as a record.

In: findings. Out: values under the names that JSON, YAML and CSV carry; the names are promises, and
docs/schemas/audit.schema.json has them all. Text is carried exactly. Asks no host and no Nova.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from guestlist.cli.show import words
from guestlist.cli.show.columns import Column, Value

if TYPE_CHECKING:
    from datetime import datetime

    from guestlist.audit.findings import Audit, Facts, Finding

KINDS = {
    "active-on-two-hosts": "active on two hosts",
    "running-though-shutoff": "runs, shut off in Nova",
    "wrong-host": "on the wrong host",
    "deleted-in-nova": "deleted in Nova",
    "unknown-to-nova": "unknown to Nova",
    "missing": "missing on its host",
    "power-state": "power state differs",
    "disk-gone": "disk is gone",
    "tap-without-domain": "tap without domain",
    "shared-name": "name shared",
    "shared-uuid": "UUID shared",
}
"""For people: the kinds of findings, in the order of `findings.Kind`."""


def _uuid(finding: Finding) -> str | None:
    return None if finding.uuid is None else str(finding.uuid)


def _of_libvirt(finding: Finding) -> str:
    return "; ".join(f"{host}: {_listed(facts)}" for host, facts in finding.libvirt.items())


def _listed(facts: Facts) -> str:
    """Return the facts of one side in a cell: `status=SHUTOFF, host=node1, task_state=`."""
    return ", ".join(f"{name}={'' if value is None else value}" for name, value in facts.items())


_COLUMNS: tuple[Column[Finding], ...] = (
    Column(
        "certainty",
        "certain, or possible: one more look could refute it",
        lambda finding: str(finding.certainty),
        colours={"certain": "31", "possible": "33"},
    ),
    Column(
        "kind",
        "what differs",
        lambda finding: str(finding.kind),
        title="finding",
        shown=KINDS.__getitem__,
    ),
    Column(
        "hosts",
        "the hosts that it is about",
        lambda finding: list(finding.hosts),
        title="host",
        least=8,
        folds=True,
    ),
    Column("uuid", "UUID of the domain, the same in Nova", _uuid),
    Column("name", "libvirt's name of the domain", lambda finding: finding.name),
    Column(
        "subject", "path of the disk, or name of the tap device", lambda finding: finding.subject
    ),
    Column(
        "server_name",
        "Nova's name of the server",
        lambda finding: finding.server_name,
        title="server",
        least=8,
        folds=True,
    ),
    Column("project_id", "Keystone's id of the project", lambda finding: finding.project_id),
    Column("libvirt", "what each host says", _of_libvirt),
    Column("nova", "what Nova says", lambda finding: _listed(finding.nova)),
    Column("reason", "what differs, in a sentence", lambda finding: finding.reason),
    Column("next_step", "what to look at next", lambda finding: finding.next_step),
)

COLUMNS: Mapping[str, Column[Finding]] = {column.name: column for column in _COLUMNS}
"""The columns of `guestlist audit`, by name. CSV has all of them."""


def domain_or_device(finding: Finding) -> str | None:
    """Return the name of the domain; that of the tap device where no domain is."""
    return finding.subject if finding.name is None else finding.name


IN_A_ROW: tuple[Column[Finding], ...] = (
    COLUMNS["certainty"],
    COLUMNS["kind"],
    COLUMNS["hosts"],
    Column("domain", "the domain, or the tap device", domain_or_device, least=8, folds=True),
    COLUMNS["server_name"],
)
"""The columns of a table. What the others tell stands in the lines below each row."""


def finding_record(finding: Finding) -> dict[str, Any]:
    """Return a finding as docs/schemas/audit.schema.json describes it."""
    exact: dict[str, Value] = {name: column.value(finding) for name, column in COLUMNS.items()}
    return {
        **exact,
        "libvirt": {host: dict(facts) for host, facts in finding.libvirt.items()},
        "nova": dict(finding.nova),
    }


def audit_record(
    audit: Audit, findings: Iterable[Finding], began: datetime, ended: datetime
) -> dict[str, Any]:
    """Return an audit, its findings in this order, as docs/schemas/audit.schema.json has it."""
    return {
        "began_at": words.instant(began, "microseconds"),
        "ended_at": words.instant(ended, "microseconds"),
        "complete": audit.complete,
        "incomplete": list(audit.incomplete),
        "counts": {
            "hosts": audit.hosts,
            "hosts_not_asked": audit.hosts_not_asked,
            "domains": audit.domains,
            "servers": audit.servers,
            "others": dict(audit.others),
        },
        "findings": [finding_record(finding) for finding in findings],
    }
