"""The hosts that the command line names, asked side by side.

In: their URIs and a question. Out: the answers, in the order the hosts were given, and the exit
status; a line on standard error for each host that failed. How many are asked at a time, and what
becomes of one that hangs, is up to `guestlist.several.asking`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import guestlist
from guestlist import process
from guestlist.cli import ending, exits
from guestlist.cli.show import terminal
from guestlist.cli.show.progress import Progress
from guestlist.errors import GuestlistError, short
from guestlist.host import Host
from guestlist.several.asking import HostAnswer, HostFailure, ask_in_order

if TYPE_CHECKING:
    import argparse
    from uuid import UUID

    from guestlist.launcher import LaunchedBy
    from guestlist.several.doubles import Identity

log = logging.getLogger(guestlist.__name__)

T = TypeVar("T")


class HostReply(NamedTuple, Generic[T]):
    """What a host answered. `host` is its URI, resolved by libvirt if none was given.

    `same_as` is the URI under which this host answered before; None if it did not (`doubles`).
    """

    host: str
    value: T
    same_as: str | None = None


def ask(
    options: argparse.Namespace,
    question: Callable[[Host], T],
    launched_by: LaunchedBy | None = None,
    domains: Callable[[T], Collection[UUID]] | None = None,
    among: Mapping[str, Host] | None = None,
) -> tuple[list[HostReply[T]], exits.Exit]:
    """Ask each host; return the replies, and the exit status that the failures of others make.

    `domains` returns the UUIDs of the domains in a value. With it, hosts to which two URIs lead are
    found. `among` has the hosts by the names that replies have; None: those of -c, by their URIs.
    """
    replies: dict[Host, HostReply[T]] = {}
    failures = []
    names = {host: name for name, host in (among or {}).items()}
    asked = named(options, launched_by) if among is None else list(names)
    with Progress() as progress:
        progress.domains_of(asked)
        outcomes = _asked(asked, question, options.timeout, tell=progress.hosts)
    for outcome in outcomes:
        if isinstance(outcome, HostAnswer):
            uri, value = outcome.value
            replies[outcome.host] = HostReply(names.get(outcome.host, uri), value)
        else:
            failures.append(outcome.error)
            _report(outcome)
    if domains is not None and len(replies) > 1:
        from guestlist.several import doubles  # noqa: PLC0415  not for a single host

        answers = [(host, domains(reply.value)) for host, reply in replies.items()]
        timeout = options.timeout
        repeated = doubles.repeated(
            answers, lambda some: _identities(some, doubles.identity, timeout)
        )
        for host, first in repeated.items():
            replies[host] = replies[host]._replace(same_as=replies[first].host)
    return list(replies.values()), exits.verdict(len(replies), failures)


def complain_of_doubles(replies: Iterable[HostReply[T]], consequence: str) -> None:
    """Print which replies are of one host, and the consequence."""
    for reply in replies:
        if reply.same_as is not None:
            one, other = short(reply.host), short(reply.same_as)
            terminal.complain(f"{one} is the same host as {other}: {consequence}")


def named(
    options: argparse.Namespace,
    launched_by: LaunchedBy | None = None,
    log_handler: logging.Handler | None = None,
) -> list[Host]:
    """Return the hosts of -c, each once, and libvirt's default host without any. As `made`."""
    return made(list(each_once(options.connect)), options, launched_by, log_handler)


def made(
    uris: Sequence[str | None],
    options: argparse.Namespace,
    launched_by: LaunchedBy | None = None,
    log_handler: logging.Handler | None = None,
) -> list[Host]:
    """Return the hosts of these URIs, not yet opened. From now on their log is shown.

    `log_handler` takes the log; None: it goes to standard error. ssh may ask for a password if one
    host is asked, from a terminal: with several hosts, several programs would ask at once. The
    hosts are closed when a signal ends the run.
    """
    show_log(log_handler, verbose=options.verbose)
    found = [
        Host(
            uri,
            readonly=True,
            launched_by=launched_by,
            open_timeout=options.timeout,
            prompts=len(uris) == 1 and terminal.can_be_asked(),
        )
        for uri in uris
    ]
    for host in found:
        ending.on_end(host.close)
    return found


def distinct(uris: Sequence[str] | None) -> list[str | None]:
    """Return the URIs, each once; libvirt's default (None) if none was given."""
    return list(dict.fromkeys(uris)) if uris else [None]


def each_once(uris: Sequence[str] | None) -> Iterator[str | None]:
    """Yield what `distinct` returns, and print which URIs were given more than once."""
    for uri in distinct(uris):
        if uri is not None and uris is not None and (times := uris.count(uri)) > 1:
            terminal.complain(f"{short(uri)} was given {times} times and is asked once")
        yield uri


def _asked(
    hosts: Sequence[Host],
    question: Callable[[Host], T],
    timeout: float,
    tell: Callable[[int, int], object] = lambda _outcomes, _hosts: None,
) -> list[HostAnswer[tuple[str, T]] | HostFailure]:
    """Ask and close each host; each value comes with the URI, which is known while it is open."""

    def ask_one(host: Host) -> tuple[str, T]:
        with host:
            value = question(host)
            return host.resolved_uri, value

    return ask_in_order(hosts, ask_one, timeout=timeout, tell=tell)


def _identities(
    hosts: Sequence[Host], identity: Callable[[Host], Identity], timeout: float
) -> list[Identity]:
    """Ask each host for its identity; None for one that does not tell in time."""
    outcomes = _asked(hosts, identity, timeout)
    return [each.value[1] if isinstance(each, HostAnswer) else None for each in outcomes]


def _report(failure: HostFailure) -> None:
    error = failure.error
    if isinstance(error, GuestlistError):
        log.debug("the failure in full:", exc_info=error)
        terminal.complain(str(error))
    else:
        terminal.complain_of_surprise(failure.host.label, error)


def show_log(handler: logging.Handler | None = None, *, verbose: bool) -> None:
    """Send the library's log to the handler, and libvirt's own messages nowhere.

    None: to standard error. Without `verbose` the log is its warnings and errors only.
    """
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)
    log.handlers[:] = [handler or terminal.LogLines()]
    log.propagate = False
    process.quiet()
