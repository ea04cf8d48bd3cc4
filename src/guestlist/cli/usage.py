"""`guestlist usage`: what the instances of a host use, each of them and all together.

In: options. Out: on standard output what Nova would be told, by host in the order given and then by
name; on standard error, a line for each host, what of it could not be told. That is no failure: it
counts nothing, and the exit status stays 0.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple
from uuid import UUID

from guestlist.cli import hidden, hosts, terminal, words
from guestlist.cli.columns import USAGE_COLUMNS, Record, Use, in_order, record
from guestlist.cli.exits import Exit
from guestlist.cli.hosts import Answer
from guestlist.cli.render import as_json, as_yaml, rendered
from guestlist.driver import ComputeDriver
from guestlist.errors import short
from guestlist.host import Host
from guestlist.launcher import Anyone, NovaLaunched
from guestlist.records import Instance
from guestlist.usage import Usage

_NAMED = 3
"""How many unknowns are named on standard error; JSON names them all."""

_LONGEST = 120
"""Characters of each."""

_IMAGES_SHARE = 1 / 3
"""Of the timeout: how long it may take to measure images. The rest is libvirt's."""


class Used(NamedTuple):
    """What the instances use; where there are none everybody instead, as `ls` has it."""

    usage: Usage
    everybody: Sequence[Instance] | None


def run(options: argparse.Namespace) -> Exit:
    """Ask, say what is unknown, print. Where no host answered nothing is printed."""
    if not options.verbose:  # the log has each unknown by itself; `_sentence` is one for all
        logging.getLogger("guestlist.driver").setLevel(logging.ERROR)
        logging.getLogger("guestlist.details").setLevel(logging.ERROR)
    given = ["inactive", "dom0", *(["foreign"] if options.foreign else [])]
    nova = NovaLaunched(options.name_template, verify=options.verify)
    images_deadline = options.timeout * _IMAGES_SHARE

    def ask(host: Host) -> Used:
        usage = ComputeDriver(host, images_deadline=images_deadline).usage()
        return Used(usage, None if usage.instances else hidden.everybody(host, given))

    def uuids(used: Used) -> list[UUID]:
        return [one.uuid for one in used.usage.instances]

    ours = Anyone() if options.foreign else nova
    answers, status = hosts.ask(options, ask, ours, domains=uuids)
    hosts.complain_of_doubles(answers, "shown twice, and counted once in the total over hosts")
    for host, used, _ in answers:
        if used.everybody is not None:
            terminal.complain(f"{short(host)}: {hidden.sentence(used.everybody, given)}")
        if used.usage.unknown:
            terminal.complain(f"{short(host)}: {_sentence(used.usage.unknown)}")
    if answers:
        used_by = [Answer(host, used.usage, same_as) for host, used, same_as in answers]
        terminal.write(_shown(options, used_by), exact=options.exact)
    return status


def _sentence(unknown: Sequence[str]) -> str:
    """What could not be told, in one line however many and however long they are."""
    named = "; ".join(short(name, _LONGEST) for name in unknown[:_NAMED])
    more = len(unknown) - _NAMED
    rest = f"; and {more:,} more, which -f json names" if more > 0 else ""
    return f"not known, and counted as nothing: {named}{rest}"


def _shown(options: argparse.Namespace, answers: Sequence[Answer[Usage]]) -> str:
    match options.format:
        case "json":
            return as_json([_host_record(options, answer) for answer in answers])
        case "yaml":
            return as_yaml([_host_record(options, answer) for answer in answers])
    wasted = _wasted(options, answers) if options.format == "table" else set()
    columns = [column for column in USAGE_COLUMNS.values() if column.name not in wasted]
    rows = _ordered(options, answers)
    return rendered(
        options.format,
        columns,
        [record(columns, row) for row in rows],
        totals=_totals(answers),
        headers=options.headers,
        exact=options.exact,
    )


def _wasted(options: argparse.Namespace, answers: Sequence[Answer[Usage]]) -> set[str]:
    """The columns that a table has no use for."""
    several = len(hosts.distinct(options.connect)) > 1
    unknown = any(answer.value.unknown for answer in answers)
    return {"uuid", *([] if several else ["host"]), *([] if unknown else ["unknown"])}


def _ordered(options: argparse.Namespace, answers: Sequence[Answer[Usage]]) -> list[Use]:
    rows = [Use(host, one) for host, usage, _ in answers for one in usage.instances]
    sort = USAGE_COLUMNS[options.sort] if options.sort else None
    return in_order(rows, sort, reverse=options.reverse)


def _host_record(options: argparse.Namespace, answer: Answer[Usage]) -> dict[str, object]:
    """One host, as docs/schemas/usage.schema.json has it."""
    columns = [column for column in USAGE_COLUMNS.values() if column.name != "host"]
    return {
        "host": answer.host,
        "instances": [record(columns, row) for row in _ordered(options, [answer])],
        "total": _total(answer.value),
        "unknown": list(answer.value.unknown),
    }


def _total(usage: Usage) -> dict[str, Any]:
    """The sums, under the names of what they are sums of."""
    return {
        "vcpus": usage.vcpus_used,
        "memory_kib": usage.memory_used_kib,
        "disk_virtual_bytes": sum(one.disk_virtual_bytes or 0 for one in usage.instances),
        "disk_allocated_bytes": sum(one.disk_allocated_bytes or 0 for one in usage.instances),
        "disk_over_committed_bytes": usage.disk_over_committed_bytes,
        "block_devices": list(usage.block_devices),
    }


def _totals(answers: Sequence[Answer[Usage]]) -> list[Record]:
    """A row for each host, and where there are several one for all of them, each counted once."""
    sums = [
        {**_total(usage), "instances": len(usage.instances), "unknown": list(usage.unknown)}
        for _, usage, _ in answers
    ]
    whose = [answer.host for answer in answers]
    if len(answers) > 1:
        once = [each for each, answer in zip(sums, answers, strict=True) if not answer.same_as]
        sums.append({key: reduce(add, (each[key] for each in once)) for key in sums[0]})
        whose.append(words.number(len(once), "host"))
    return [
        {**each, "host": host, "name": words.number(each["instances"], "instance")}
        for host, each in zip(whose, sums, strict=True)
    ]
