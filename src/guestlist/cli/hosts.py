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
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from guestlist import process
from guestlist.cli import exits, terminal
from guestlist.errors import ConnectionLost, GuestlistError
from guestlist.host import Host
from guestlist.launcher import LaunchedBy

log = logging.getLogger("guestlist")

T = TypeVar("T")

_GRACE = 1.0
"""Seconds past the timeout, in which whatever timed out further down may still say so itself."""


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
    hosts = named(options, launched_by)
    answers, failures = [], []
    for host, outcome in zip(hosts, _side_by_side(hosts, question, options.timeout), strict=True):
        if isinstance(outcome, Answer):
            answers.append(outcome)
        else:
            failures.append(outcome)
            _report(host, outcome)
    return answers, exits.verdict(len(answers), failures)


def named(
    options: argparse.Namespace,
    launched_by: LaunchedBy | None = None,
    heard_by: logging.Handler | None = None,
) -> list[Host]:
    """The hosts, each once, to be opened by whoever asks; from now on their log is heard.

    `heard_by` takes it where it is not to go straight to standard error.
    """
    _listen(heard_by or terminal.LogLines(), verbose=options.verbose)
    return [
        Host(uri, readonly=True, launched_by=launched_by, open_timeout=options.timeout)
        for uri in _each_once(options.connect)
    ]


def distinct(uris: Sequence[str] | None) -> list[str | None]:
    """The URIs, each once; libvirt's default where none was given."""
    return list(dict.fromkeys(uris)) if uris else [None]


def _each_once(uris: Sequence[str] | None) -> Iterator[str | None]:
    for uri in distinct(uris):
        if uri is not None and uris is not None and (times := uris.count(uri)) > 1:
            terminal.complain(f"{uri} was given {times} times and is asked once")
        yield uri


def _side_by_side(
    hosts: Sequence[Host], question: Callable[[Host], T], timeout: float
) -> list[Answer[T] | Exception]:
    outcomes: queue.Queue[tuple[int, Answer[T] | Exception]] = queue.Queue()

    def ask_one(place: int, host: Host) -> None:
        try:
            with host:
                value = question(host)
                outcome: Answer[T] | Exception = Answer(host.whom, value)
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
    return [by_place.get(place, silent(host.whom, timeout)) for place, host in enumerate(hosts)]


def silent(whom: str, timeout: float) -> ConnectionLost:
    """What a host is told of that did not answer in time, and said no word."""
    return ConnectionLost(
        f"no answer from {whom} within {timeout:g} s: its daemon accepts calls and does not "
        "finish them; ask again with a longer --timeout"
    )


def _report(host: Host, error: Exception) -> None:
    if isinstance(error, GuestlistError):
        log.debug("the failure in full:", exc_info=error)
        terminal.complain(str(error))
    else:
        terminal.complain_of_surprise(host.whom, error)


def _listen(handler: logging.Handler, *, verbose: bool) -> None:
    """Take the library's warnings; keep libvirt's own messages off the lines that say why."""
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)
    log.handlers[:] = [handler]
    log.propagate = False
    process.quiet()
