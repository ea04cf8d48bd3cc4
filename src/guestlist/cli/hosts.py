"""The hosts that the command line names, asked side by side.

In: their URIs and a question. Out: the answers, in the order the hosts were given, and the exit
status; a line on standard error for each host that failed. One that hangs holds up nobody else's
answer, nor Ctrl-C, nor the end of the process: each is asked on a daemon thread of its own.
"""

from __future__ import annotations

import argparse
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import libvirt

from guestlist.cli import exits, terminal
from guestlist.errors import GuestlistError
from guestlist.host import Host
from guestlist.launcher import LaunchedBy

log = logging.getLogger("guestlist")

T = TypeVar("T")


class Answer(NamedTuple, Generic[T]):
    """What a host answered. `host` is its URI, resolved by libvirt where none was given."""

    host: str
    value: T


def ask(
    options: argparse.Namespace,
    question: Callable[[Host], T],
    launched_by: LaunchedBy | None = None,
) -> tuple[list[Answer[T]], exits.Exit]:
    """Ask each host; the answers of those that did, and what the others make of the exit status."""
    _listen(verbose=options.verbose)
    hosts = [
        Host(uri, readonly=True, launched_by=launched_by, open_timeout=options.timeout)
        for uri in _each_once(options.connect)
    ]
    answers, failures = [], []
    for host, outcome in zip(hosts, _side_by_side(hosts, question), strict=True):
        if isinstance(outcome, Answer):
            answers.append(outcome)
        else:
            failures.append(outcome)
            _report(host, outcome)
    return answers, exits.verdict(len(answers), failures)


def distinct(uris: Sequence[str] | None) -> list[str | None]:
    """The URIs, each once; libvirt's default where none was given."""
    return list(dict.fromkeys(uris)) if uris else [None]


def _each_once(uris: Sequence[str] | None) -> Iterator[str | None]:
    for uri in distinct(uris):
        if uri is not None and uris is not None and (times := uris.count(uri)) > 1:
            terminal.complain(f"{uri} was given {times} times and is asked once")
        yield uri


def _side_by_side(
    hosts: Sequence[Host], question: Callable[[Host], T]
) -> list[Answer[T] | Exception]:
    outcomes: queue.SimpleQueue[tuple[int, Answer[T] | Exception]] = queue.SimpleQueue()

    def ask_one(place: int, host: Host) -> None:
        try:
            with host:
                value = question(host)
                outcome: Answer[T] | Exception = Answer(_whom(host), value)
        except Exception as error:
            outcome = error
        outcomes.put((place, outcome))

    for place, host in enumerate(hosts):
        threading.Thread(target=ask_one, args=(place, host), daemon=True).start()
    by_place = dict(outcomes.get() for _ in hosts)
    return [by_place[place] for place in range(len(hosts))]


def _whom(host: Host) -> str:
    return host._connection.whom


def _report(host: Host, error: Exception) -> None:
    if isinstance(error, GuestlistError):
        log.debug("the failure in full:", exc_info=error)
        terminal.complain(str(error))
    else:
        terminal.complain_of_surprise(_whom(host), error)


def _listen(*, verbose: bool) -> None:
    """Take the library's warnings, and libvirt's own messages away from standard error.

    libvirt would print each error as it happens, over the line that says what it means.
    """
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)
    log.handlers[:] = [terminal.LogLines()]
    log.propagate = False
    libvirt.registerErrorHandler(lambda _, error: log.debug("libvirt: %s", error[2]), None)
