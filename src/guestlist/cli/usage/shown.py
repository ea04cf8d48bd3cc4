"""What instances use, in the format asked for: rows, and totals of each host and of all.

In: what the instances of each host use, as a caller has found it out. Out: text. Asks no host.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from functools import reduce
from operator import add
from typing import Any

from guestlist.cli.hosts import HostReply
from guestlist.cli.show import words
from guestlist.cli.show.columns import (
    USAGE_COLUMNS,
    Record,
    UsageRow,
    in_order,
    record,
    with_aliases,
)
from guestlist.cli.show.render import as_json, as_yaml, rendered
from guestlist.usage import Usage


def text(
    options: argparse.Namespace,
    replies: Sequence[HostReply[Usage]],
    *,
    several: bool,
    not_known: Collection[str] = (),
) -> str:
    """Return what the instances use in the format that the options ask for.

    Args:
        options: those of `guestlist usage`.
        replies: the hosts, and what the instances of each use.
        several: whether a table names the host of each row.
        not_known: columns of which nothing is known, of no instance.
    """
    match options.format:
        case "json":
            return as_json([_host_record(options, reply, not_known) for reply in replies])
        case "yaml":
            return as_yaml([_host_record(options, reply, not_known) for reply in replies])
    needless = set[str]()
    if options.format == "table":
        needless = _needless(replies, several=several) | set(not_known)
    columns = with_aliases(
        (column for column in USAGE_COLUMNS.values() if column.name not in needless),
        options.aliases,
    )
    unknown: Record = dict.fromkeys(each for each in not_known if each not in needless)
    rows = _ordered(options, replies)
    return rendered(
        options.format,
        columns,
        [record(columns, row) | unknown for row in rows],
        totals=_totals(replies),
        headers=options.headers,
        exact=options.exact,
    )


def _needless(replies: Sequence[HostReply[Usage]], *, several: bool) -> set[str]:
    """Return the columns that a table does without."""
    unknown = any(reply.value.unknown for reply in replies)
    return {"uuid", *([] if several else ["host"]), *([] if unknown else ["unknown"])}


def _ordered(options: argparse.Namespace, replies: Sequence[HostReply[Usage]]) -> list[UsageRow]:
    rows = [UsageRow(host, one) for host, usage, _ in replies for one in usage.instances]
    sort = USAGE_COLUMNS[options.sort] if options.sort else None
    return in_order(rows, sort, reverse=options.reverse)


def _host_record(
    options: argparse.Namespace, reply: HostReply[Usage], not_known: Collection[str]
) -> dict[str, object]:
    """Return one host as docs/schemas/usage.schema.json describes it."""
    columns = [column for column in USAGE_COLUMNS.values() if column.name != "host"]
    unknown: Record = dict.fromkeys(not_known)
    return {
        "host": reply.host,
        "instances": [record(columns, row) | unknown for row in _ordered(options, [reply])],
        "total": _total(reply.value) | unknown,
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
