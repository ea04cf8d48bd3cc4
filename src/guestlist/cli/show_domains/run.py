"""Show all that is known about the domains that the words of the command line mean.

In: options. Out: on standard output each domain once, in the order of the words and then of the
hosts; on standard error a line for each word for which no domain was found. Prints nothing on
standard output if no host answered: `[]` would be an answer.

A domain that migrates may leave a host that is asked late for one that was asked early, and be in
no reply. So a word for which no domain was found on several hosts is asked once more: a domain that
has migrated once is then on the host to which it went.
"""

from __future__ import annotations

import argparse
from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from guestlist.cli import hosts
from guestlist.cli.exits import Exit
from guestlist.cli.hosts import HostReply
from guestlist.cli.ls import selection
from guestlist.cli.show import terminal, words
from guestlist.cli.show.render import as_json, as_yaml
from guestlist.cli.show_domains import found, lines, matching, records
from guestlist.cli.show_domains.found import FoundDomain, Sizes
from guestlist.cli.show_domains.matching import Matches
from guestlist.errors import short
from guestlist.handle import Handle
from guestlist.host import Host, find
from guestlist.records import Snapshot

_IMAGES_SHARE = 1 / 3
"""The share of the timeout in which images are measured. The rest is for libvirt."""

_LONGEST = 80
"""Characters of a word in a message."""

_MEANINGS = {
    None: "the id, UUID or name",
    "id": "the id",
    "uuid": "the UUID",
    "name": "the name",
    "nova_name": "in Nova the name",
}
"""What a word was taken for, by the column that --by names."""


class _OnHost(NamedTuple):
    """What a host has for the words."""

    matches: Matches
    snapshot: Snapshot
    sizes: Sizes


def run(options: argparse.Namespace) -> Exit:
    """Ask the hosts and print."""
    wanted = tuple(dict.fromkeys(options.domains))
    replies, status = _ask(options, wanted)
    if not replies:
        return status
    missing = _missing(wanted, replies)
    if missing and len(replies) > 1 and status is Exit.OK:
        options.connect = list(dict.fromkeys(options.connect))  # what it repeats was told
        later, status = _ask(options, missing)
        replies = [*_merged(replies, later)]
        missing = _missing(wanted, replies)
    hosts.complain_of_doubles(replies, "its domains are shown twice")
    for host, on_host, _ in replies:
        for word in on_host.matches.also_names:
            terminal.complain(
                f"{short(host)}: another domain has the name {short(word, _LONGEST)}: "
                "--by name shows that one"
            )
    terminal.write(_text(options.format, _in_order(wanted, replies)))
    for word in missing:
        terminal.complain(_sentence(word, options.by, replies, is_certain=status is Exit.OK))
    return Exit.NOT_FOUND if missing and status is Exit.OK else status


def _ask(
    options: argparse.Namespace, wanted: Iterable[str]
) -> tuple[list[HostReply[_OnHost]], Exit]:
    """Ask the hosts for the domains that the words mean."""

    def ask(host: Host) -> _OnHost:
        matches, snapshot = _found(host, wanted, options.by)
        return _OnHost(
            matches, snapshot, found.measured(host, snapshot, options.timeout * _IMAGES_SHARE)
        )

    return hosts.ask(
        options, ask, selection.ours(options), domains=lambda on_host: on_host.snapshot.keys()
    )


def _merged(
    replies: Iterable[HostReply[_OnHost]], later: Iterable[HostReply[_OnHost]]
) -> Iterator[HostReply[_OnHost]]:
    """Yield the replies, each with what its host has for the words that were asked again."""
    again = {reply.host: reply.value for reply in later}
    for reply in replies:
        first, more = reply.value, again.get(reply.host)
        if more is None:
            yield reply
        else:
            by_word = {**first.matches.by_word, **more.matches.by_word}
            also_names = [*first.matches.also_names, *more.matches.also_names]
            snapshot = Snapshot([*first.snapshot.values(), *more.snapshot.values()])
            value = _OnHost(Matches(by_word, also_names), snapshot, {**first.sizes, **more.sizes})
            yield reply._replace(value=value)


def _found(host: Host, wanted: Iterable[str], by: str | None) -> tuple[Matches, Snapshot]:
    """Return what the words mean on a host, and these domains with details.

    Cost: see `snapshot.find`.
    """
    if by == "nova_name":
        everything = find(host, lambda domains: {one.uuid for one in domains})
        matches = matching.matches_in_nova(wanted, everything.instances)
        uuids = matches.uuids
        chosen = (one for one in everything.values() if one.uuid.bytes in uuids)
        return matches, Snapshot(chosen, cost=everything.cost)
    meant = [Matches({})]

    def choose(domains: Sequence[Handle]) -> Container[bytes]:
        meant[0] = matching.matches(wanted, by, domains)
        return meant[0].uuids

    snapshot = find(host, choose)
    return meant[0], snapshot


def _in_order(wanted: Iterable[str], replies: Sequence[HostReply[_OnHost]]) -> list[FoundDomain]:
    """Return the domains by word and then by host, each of a host once."""
    now = datetime.now(UTC)
    there = [
        dict(found.domains(host, on_host.snapshot, on_host.sizes, now))
        for host, on_host, _ in replies
    ]
    ordered = []
    for word in wanted:
        for domains, (_, on_host, _) in zip(there, replies, strict=True):
            for uuid in on_host.matches.by_word.get(word, ()):
                one = domains.pop(UUID(bytes=uuid), None)
                if one is not None:
                    ordered.append(one)
    return ordered


def _missing(wanted: Iterable[str], replies: Sequence[HostReply[_OnHost]]) -> list[str]:
    """Return the words for which no host has a domain."""
    return [
        word
        for word in wanted
        if not any(
            UUID(bytes=uuid) in on_host.snapshot
            for _, on_host, _ in replies
            for uuid in on_host.matches.by_word.get(word, ())
        )
    ]


def _sentence(
    word: str, by: str | None, replies: Sequence[HostReply[_OnHost]], *, is_certain: bool
) -> str:
    where = short(replies[0].host)
    if len(replies) > 1:
        where = f"the {words.number(len(replies), 'host')} that answered"
    text = f"no domain on {where} has {_MEANINGS[by]} {short(word, _LONGEST)}"
    if not is_certain:
        return f"{text}; it may be on a host that failed"
    return text if by else f"{text}; --by nova_name looks for the name that its owner gave it"


def _text(form: str, domains: Sequence[FoundDomain]) -> str:
    match form:
        case "json":
            return as_json([records.domain_record(one) for one in domains])
        case "yaml":
            return as_yaml([records.domain_record(one) for one in domains])
    width, colours = terminal.width(), terminal.has_colours()
    blocks = (
        "".join(f"{line}\n" for line in lines.lines(one, width=width, colours=colours))
        for one in domains
    )
    return "\n".join(blocks)
