"""Print what the instances of a host use, each of them and all together.

In: options. Out: on standard output what Nova would be told, by host in the order given and then by
name; on standard error, one line for each host, which values are not known. That is no failure: an
unknown value counts as nothing, and the exit status stays 0.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple
from uuid import UUID

from guestlist import details, driver
from guestlist.cli import hidden, hosts
from guestlist.cli.exits import Exit
from guestlist.cli.hidden import Kinds
from guestlist.cli.hosts import HostReply
from guestlist.cli.show import terminal, words
from guestlist.cli.show.columns import USAGE_COLUMNS, Record, UsageRow, in_order, record
from guestlist.cli.show.render import as_json, as_yaml, rendered
from guestlist.driver import ComputeDriver
from guestlist.errors import short
from guestlist.host import Host
from guestlist.launcher import Anyone, NovaLaunched
from guestlist.usage import Usage

_NAMED = 3
"""Unknown values that standard error names; JSON names them all."""

_LONGEST = 120
"""Characters of each."""

_IMAGES_SHARE = 1 / 3
"""The share of the timeout in which images are measured. The rest is for libvirt."""


class _HostUsage(NamedTuple):
    """What the instances use; if there are none, the kinds of all domains, as for `ls`."""

    usage: Usage
    hidden: Sequence[Kinds] | None


def run(options: argparse.Namespace) -> Exit:
    """Ask the hosts and print. Prints nothing on standard output if no host answered."""
    if not options.verbose:  # they name each unknown value by itself; `_sentence` is one for all
        for log in (driver.log, details.log):
            log.setLevel(logging.ERROR)
    given = ["inactive", "dom0", *(["foreign"] if options.foreign else [])]
    nova = NovaLaunched(options.name_template, verify=options.verify)
    images_deadline = options.timeout * _IMAGES_SHARE

    def ask(host: Host) -> _HostUsage:
        usage = ComputeDriver(host, images_deadline=images_deadline).usage()
        return _HostUsage(usage, None if usage.instances else hidden.kinds_on(host, given))

    def uuids(used: _HostUsage) -> list[UUID]:
        return [one.uuid for one in used.usage.instances]

    ours = Anyone() if options.foreign else nova
    replies, status = hosts.ask(options, ask, ours, domains=uuids)
    hosts.complain_of_doubles(replies, "shown twice, and counted once in the total over hosts")
    for host, used, _ in replies:
        if used.hidden is not None:
            hidden.explain(host, used.hidden, given)
        if used.usage.unknown:
            terminal.complain(f"{short(host)}: {_sentence(used.usage.unknown)}")
    if replies:
        used_by = [HostReply(host, used.usage, same_as) for host, used, same_as in replies]
        terminal.write(_shown(options, used_by), exact=options.exact)
    return status


def _sentence(unknown: Sequence[str]) -> str:
    """Return one line, of bounded length, that names what is not known."""
    named = "; ".join(short(name, _LONGEST) for name in unknown[:_NAMED])
    more = len(unknown) - _NAMED
    rest = f"; and {more:,} more, which -f json names" if more > 0 else ""
    return f"not known, and counted as nothing: {named}{rest}"


def _shown(options: argparse.Namespace, replies: Sequence[HostReply[Usage]]) -> str:
    match options.format:
        case "json":
            return as_json([_host_record(options, reply) for reply in replies])
        case "yaml":
            return as_yaml([_host_record(options, reply) for reply in replies])
    needless = _needless(options, replies) if options.format == "table" else set()
    columns = [column for column in USAGE_COLUMNS.values() if column.name not in needless]
    rows = _ordered(options, replies)
    return rendered(
        options.format,
        columns,
        [record(columns, row) for row in rows],
        totals=_totals(replies),
        headers=options.headers,
        exact=options.exact,
    )


def _needless(options: argparse.Namespace, replies: Sequence[HostReply[Usage]]) -> set[str]:
    """Return the columns that a table does without."""
    several = len(hosts.distinct(options.connect)) > 1
    unknown = any(reply.value.unknown for reply in replies)
    return {"uuid", *([] if several else ["host"]), *([] if unknown else ["unknown"])}


def _ordered(options: argparse.Namespace, replies: Sequence[HostReply[Usage]]) -> list[UsageRow]:
    rows = [UsageRow(host, one) for host, usage, _ in replies for one in usage.instances]
    sort = USAGE_COLUMNS[options.sort] if options.sort else None
    return in_order(rows, sort, reverse=options.reverse)


def _host_record(options: argparse.Namespace, reply: HostReply[Usage]) -> dict[str, object]:
    """Return one host as docs/schemas/usage.schema.json describes it."""
    columns = [column for column in USAGE_COLUMNS.values() if column.name != "host"]
    return {
        "host": reply.host,
        "instances": [record(columns, row) for row in _ordered(options, [reply])],
        "total": _total(reply.value),
        "unknown": list(reply.value.unknown),
    }


def _total(usage: Usage) -> dict[str, Any]:
    """Return the sums, each under the name of its column."""
    return {
        "vcpus": usage.vcpus_used,
        "memory_kib": usage.memory_used_kib,
        "disk_virtual_bytes": sum(one.disk_virtual_bytes or 0 for one in usage.instances),
        "disk_allocated_bytes": sum(one.disk_allocated_bytes or 0 for one in usage.instances),
        "disk_over_committed_bytes": usage.disk_over_committed_bytes,
        "block_devices": list(usage.block_devices),
    }


def _totals(replies: Sequence[HostReply[Usage]]) -> list[Record]:
    """Return a row for each host, and one for several hosts, in which each host counts once."""
    sums = [
        {**_total(usage), "instances": len(usage.instances), "unknown": list(usage.unknown)}
        for _, usage, _ in replies
    ]
    labels = [reply.host for reply in replies]
    if len(replies) > 1:
        once = [each for each, reply in zip(sums, replies, strict=True) if not reply.same_as]
        sums.append({key: reduce(add, (each[key] for each in once)) for key in sums[0]})
        labels.append(words.number(len(once), "host"))
    return [
        {**each, "host": host, "name": words.number(each["instances"], "instance")}
        for host, each in zip(labels, sums, strict=True)
    ]
