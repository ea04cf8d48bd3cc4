"""Repeat the audit, and print what is new and what is resolved.

In: options. Out: on standard output a line, or a JSON object, for each finding that is new, has
become certain or is resolved; on standard error what the audit could not look at, once for as long
as it stays so. A failure ends one audit, and the next one begins after the usual pause.
Ends when a signal ends it or the reader of standard output has left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import NoReturn

import guestlist
from guestlist import threads
from guestlist.audit.findings import Audit
from guestlist.cli.audit.news import FindingNews, KnownFindings
from guestlist.cli.audit.sides import Sides
from guestlist.cli.show import terminal, words
from guestlist.cli.show.finding_lines import news_line, summary
from guestlist.cli.show.findings import finding_record
from guestlist.cli.show.progress import Progress
from guestlist.errors import GuestlistError, one_line
from guestlist.several.news_queue import NewsQueue

log = logging.getLogger(guestlist.__name__)

_Outcome = Audit | str
"""An audit; or in a line, why there is none."""


def run(options: argparse.Namespace, sides: Sides, progress: Progress) -> NoReturn:
    """Repeat the audit until a signal ends it. The progress is that of the first audit.

    Each audit runs on a thread of its own: the main thread hears signals, and that the reader of
    standard output has left.
    """
    queue: NewsQueue[_Outcome] = NewsQueue()
    terminal.on_departure(lambda: queue.put_now(BrokenPipeError()))
    known = KnownFindings()
    troubles = _Troubles(f"the audit is repeated every {options.watch:g} s")
    is_first = True
    while True:
        threads.start(
            partial(_audit, sides, queue, progress.step if is_first else None), "guestlist-audit"
        )
        with progress if is_first else contextlib.nullcontext():
            outcome = queue.get()
        if isinstance(outcome, str):
            troubles.tell([outcome])
        else:
            troubles.tell([f"incomplete: {line}" for line in outcome.incomplete])
            now = datetime.now(UTC)
            for news in known.news(outcome, partial(sides.can_refute, outcome)):
                terminal.write(_text(options, news, now))
            if is_first:
                terminal.complain(f"{summary(outcome)}; {troubles.promise}")
            is_first = False
        with contextlib.suppress(TimeoutError):
            queue.get(options.watch)


def _audit(sides: Sides, queue: NewsQueue[_Outcome], tell: Callable[[str], object] | None) -> None:
    """Make one audit and put its outcome into the queue."""
    try:
        outcome: _Outcome = sides.audit(tell)
    except Exception as error:
        log.debug("the failure in full:", exc_info=error)
        is_surprise = not isinstance(error, GuestlistError)
        outcome = f"unexpected {type(error).__name__}: " if is_surprise else ""
        outcome += one_line(error)
    queue.put(outcome)


class _Troubles:
    """What kept the audits from being complete, told once for as long as it stays so.

    `promise` says what happens next.
    """

    def __init__(self, promise: str) -> None:
        self.promise = promise
        self._told: frozenset[str] = frozenset()

    def tell(self, lines: list[str]) -> None:
        """Print those of the lines that the last audit did not have, or that there are none now."""
        for line in lines:
            if line not in self._told:
                terminal.complain(f"{line}; {self.promise}")
        if self._told and not lines:
            terminal.complain("the audit is complete again")
        self._told = frozenset(lines)


def _text(options: argparse.Namespace, news: FindingNews, at: datetime) -> str:
    if options.format == "json":
        told = {"event": str(news.event), "at": words.instant(at, "microseconds")}
        return json.dumps({**told, **finding_record(news.finding)}) + "\n"
    return news_line(news.event, news.finding, at, colours=terminal.has_colours())
