"""The hosts that the command line names, asked side by side.

In: their URIs and a question. Out: the answers, in the order the hosts were given, and the exit
status; a line on standard error for each host that failed. One that hangs holds up nobody else's
answer, nor Ctrl-C, nor the end of the process: each is asked on a daemon thread of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from guestlist import process
from guestlist.cli import doubles, ending, exits, terminal
from guestlist.cli.doubles import Identity
from guestlist.errors import ConnectionLost, GuestlistError, short
from guestlist.host import Host
from guestlist.launcher import LaunchedBy

log = logging.getLogger("guestlist")

T = TypeVar("T")

_GRACE = 1.0
"""Seconds past the timeout, in which whatever timed out further down may still say so itself."""


class Answer(NamedTuple, Generic[T]):
    """What a host answered. `host` is its URI, resolved by libvirt where none was given.

    `same_as` is the URI under which this host answered before; None unless it did (`doubles`).
    """

    host: str
    value: T
    same_as: str | None = None


def ask(
    options: argparse.Namespace,
    question: Callable[[Host], T],
    launched_by: LaunchedBy | None = None,
    domains: Callable[[T], Collection[UUID]] | None = None,
) -> tuple[list[Answer[T]], exits.Exit]:
    """Ask each host; the answers of those that did, and what the others make of the exit status.

    `domains` are the UUIDs in an answer. Given them, hosts that two URIs lead to are found.
    """
    hosts = named(options, launched_by)
    answers: dict[Host, Answer[T]] = {}
    failures = []
    for host, outcome in zip(hosts, _side_by_side(hosts, question, options.timeout), strict=True):
        if isinstance(outcome, Answer):
            answers[host] = outcome
        else:
            failures.append(outcome)
            _report(host, outcome)
    if domains is not None:
        asked = [(host, domains(answer.value)) for host, answer in answers.items()]
        repeated = doubles.repeated(asked, lambda some: _identities(some, options.timeout))
        for host, first in repeated.items():
            answers[host] = answers[host]._replace(same_as=answers[first].host)
    return list(answers.values()), exits.verdict(len(answers), failures)


def complain_of_doubles(answers: Iterable[Answer[T]], consequence: str) -> None:
    """Say which answers are of one host, and what comes of it."""
    for answer in answers:
        if answer.same_as is not None:
            one, other = short(answer.host), short(answer.same_as)
            terminal.complain(f"{one} is the same host as {other}: {consequence}")


def _identities(hosts: Sequence[Host], timeout: float) -> list[Identity]:
    """Who each host is; None of one that does not tell in time."""
    outcomes = _side_by_side(hosts, doubles.identity, timeout)
    return [outcome.value if isinstance(outcome, Answer) else None for outcome in outcomes]


def named(
    options: argparse.Namespace,
    launched_by: LaunchedBy | None = None,
    heard_by: logging.Handler | None = None,
) -> list[Host]:
    """The hosts, each once, to be opened by whoever asks; from now on their log is heard.

    `heard_by` takes it where it is not to go straight to standard error. ssh may ask for a password
    where one host is asked, from a terminal: several would ask at once. They are closed when a
    signal ends the run.
    """
    _listen(heard_by or terminal.LogLines(), verbose=options.verbose)
    uris = list(_each_once(options.connect))
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
    """The URIs, each once; libvirt's default where none was given."""
    return list(dict.fromkeys(uris)) if uris else [None]


def _each_once(uris: Sequence[str] | None) -> Iterator[str | None]:
    for uri in distinct(uris):
        if uri is not None and uris is not None and (times := uris.count(uri)) > 1:
            terminal.complain(f"{short(uri)} was given {times} times and is asked once")
        yield uri


def _side_by_side(
    hosts: Sequence[Host], question: Callable[[Host], T], timeout: float
) -> list[Answer[T] | Exception]:
    outcomes: queue.Queue[tuple[int, Answer[T] | Exception]] = queue.Queue()

    def ask_one(place: int, host: Host) -> None:
        try:
            with host:
                value = question(host)
                outcome: Answer[T] | Exception = Answer(host.resolved_uri, value)
        except Exception as error:
            outcome = error
        outcomes.put((place, outcome))

    for place, host in enumerate(hosts):
        threading.Thread(target=ask_one, args=(place, host), daemon=True).start()
    by_place: dict[int, Answer[T] | Exception] = {}
    deadline = time.monotonic() + timeout + _GRACE
    with contextlib.suppress(queue.Empty):
        while len(by_place) < len(hosts):
            place, outcome = outcomes.get(timeout=max(0, deadline - time.monotonic()))
            by_place[place] = outcome
    return [by_place.get(place, silent(host.label, timeout)) for place, host in enumerate(hosts)]


def silent(label: str, timeout: float) -> ConnectionLost:
    """What a host is told of that did not answer in time, and said no word."""
    return ConnectionLost(
        f"no answer from {label} within {timeout:g} s: its daemon accepts calls and does not "
        "finish them; ask again with a longer --timeout"
    )


def _report(host: Host, error: Exception) -> None:
    if isinstance(error, GuestlistError):
        log.debug("the failure in full:", exc_info=error)
        terminal.complain(str(error))
    else:
        terminal.complain_of_surprise(host.label, error)


def _listen(handler: logging.Handler, *, verbose: bool) -> None:
    """Take the library's warnings; keep libvirt's own messages off the lines that say why."""
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)
    log.handlers[:] = [handler]
    log.propagate = False
    process.quiet()
