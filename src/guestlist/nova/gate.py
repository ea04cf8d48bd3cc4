"""What stands between Nova and guestlist: switches, threads, and what fails.

In: questions of Nova's, on its threads, green or real. Out: guestlist's answers, or None, and then
Nova asks libvirt as it always did: where an option says so, after the driver is cleaned up, and
wherever guestlist fails. Never raises. What Nova may be changing is not believed from memory.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from oslo_log import log as logging

from guestlist import __version__
from guestlist.errors import GuestlistError
from guestlist.nova import green_threads, options
from guestlist.nova.questions import HostQuestions
from guestlist.records import DomainState, Instance
from guestlist.unpatched import threading

T = TypeVar("T")
LOG = logging.getLogger(__name__)

IN_HAND = 60.0
"""Seconds since Nova last took a domain in hand for which nothing that is remembered of it is
believed: it may be changing it, and some changes no event tells of."""

_GOING_ON = DomainState.RUNNING, DomainState.BLOCKED, DomainState.PAUSED, DomainState.PMSUSPENDED
"""States that a view is believed about. That a guest is shut down or crashed has consequences."""

_only_looking = contextvars.ContextVar("guestlist_only_looking", default=False)


class _Wants(NamedTuple):
    """What the options say, as it was read on a thread of Nova's."""

    is_on: bool
    name_template: str
    resync_interval: float | None


class Gate:
    """One driver's way to guestlist. Threads may share it.

    Args:
        uri: what Nova connects to.
        conf: Nova's configuration, with the options of `[guestlist]`.
        proven: the methods that guestlist may answer for, which the log tells.
    """

    def __init__(self, uri: str | None, conf: Any, proven: frozenset[str] = frozenset()) -> None:
        self._uri = uri
        self._conf = conf
        self._proven = proven
        self._questions: HostQuestions | None = None
        self._followed: float | None = None
        self._is_shut = not green_threads.are_separable()
        self._in_hand: dict[str, float] = {}
        self._taking = threading.Lock()
        self._said: dict[str, str] = {}
        self._saying = threading.Lock()
        self._is_announced = False
        self._wanting = threading.Lock()
        self._lock = threading.Lock()
        self._wanted: _Wants
        self._want()
        if self._is_shut:
            LOG.error(
                "guestlist was used before eventlet replaced Python's threads, and answers "
                "nothing: Nova asks libvirt itself"
            )
        green_threads.relay_log()
        conf.register_mutate_hook(self._on_reload)

    # Its life

    def open(self) -> None:
        """Open the connections and start the live view now instead of at the first question."""
        self._is_shut = not green_threads.are_separable()
        if self._options.enabled:
            self.ask("connect", HostQuestions.connect)
        else:
            self._announce()

    def close(self) -> None:
        """Answer no more, and let guestlist's connections go."""
        self._is_shut = True
        self._attempt("disconnect", self._furnish)

    @property
    def is_on(self) -> bool:
        """Whether Nova is to be answered."""
        return not self._is_shut and bool(self._options.enabled)

    def _on_reload(self, *_: object) -> None:
        """The options may be others. Nova's main thread does not wait for a connection to close."""
        options.forget_cached(self._conf)
        self._want()
        threading.Thread(target=self._follow_options, name="guestlist-nova", daemon=True).start()

    def _follow_options(self) -> None:
        """In a real thread."""

        def follow() -> None:
            questions = self._become()
            if questions is not None:
                questions.connect()
            self._announce()

        self._attempt("follow the options", follow)

    def _furnish(self) -> HostQuestions | None:
        """Have connections and a live view as the options say."""
        self._want()
        return green_threads.aside(self._become)

    def _want(self) -> None:
        """Read what the options say now. Whoever reads later has the last word."""
        with self._wanting:
            self._is_announced = False
            interval = self._options.resync_interval if self._options.live_view else None
            self._wanted = _Wants(self.is_on, self._conf.instance_name_template, interval)

    def _become(self) -> HostQuestions | None:
        """Be as was wanted last. In a real thread."""
        with self._lock:
            wanted, name_template, interval = self._wanted
            interval = interval if wanted else None
            if self._questions is None and wanted:
                self._questions = HostQuestions(self._uri, name_template=name_template)
                self._followed = None
            questions = self._questions
            if questions is not None and interval != self._followed:
                questions.follow(resync_interval=interval)
                self._followed = interval
            if questions is not None and not wanted:
                questions.close()
                self._questions = None
            return self._questions

    # Questions

    def ask(self, what: str, question: Callable[[HostQuestions], T]) -> T | None:
        """What guestlist says; None where there is none. Other green threads go on meanwhile."""
        if not self.is_on:
            return None

        def put() -> T | None:
            questions = self._questions or self._furnish()
            if questions is None:
                return None
            answer = green_threads.aside(lambda: self._put(question, questions))
            self._announce()
            return answer

        return self._attempt(what, put)

    def _put(self, question: Callable[[HostQuestions], T], questions: HostQuestions) -> T:
        """Ask in a real thread. `close` does not wait for questions under way, and one of them
        may have connected again.
        """
        try:
            return question(questions)
        finally:
            if questions is not self._questions:
                questions.close()

    def _attempt(self, what: str, act: Callable[[], T | None]) -> T | None:
        """What comes of it; None where guestlist fails, which the log says."""
        try:
            outcome = act()
        except GuestlistError as error:
            self._say(what, str(error))
            return None
        except Exception:
            LOG.exception("guestlist failed (%s); Nova asks libvirt itself", what)
            return None
        self._unsay(what)
        return outcome

    def undisputed(self, instance: Any) -> Instance | None:
        """What the live view has of an instance, if that is beyond doubt and nothing new.

        The view must be in step, have been held against a list lately, and no event may have named
        the domain since; the domain must not be shut down; neither may Nova have it in hand, nor
        what the caller has of it be anything else.
        """
        longest = self._options.max_list_age
        if not longest or self._wanted.resync_interval is None or self.is_in_hand(instance.uuid):
            return None
        known = self.ask(
            "read the live view", lambda questions: questions.undisputed(instance.uuid, longest)
        )
        return known if known is not None and known.state in _GOING_ON else None

    def wants(self, option: str) -> bool:
        """Whether an option is on, and with it the whole."""
        return self.is_on and bool(getattr(self._options, option))

    # What Nova has in hand

    def take_in_hand(self, uuid: str) -> None:
        """Nova asks for a domain, perhaps to change it."""
        if not _only_looking.get():
            with self._taking:
                self._in_hand[uuid] = time.monotonic()

    @staticmethod
    @contextlib.contextmanager
    def only_looking() -> Iterator[None]:
        """Within, Nova changes no domain that it asks for."""
        token = _only_looking.set(True)
        try:
            yield
        finally:
            _only_looking.reset(token)

    def is_in_hand(self, uuid: str) -> bool:
        """Whether Nova may be changing a domain."""
        return time.monotonic() - self._in_hand.get(uuid, -math.inf) < IN_HAND

    def in_hand(self) -> list[str]:
        """The UUIDs of those that Nova may be changing, or may have changed since the last call."""
        with self._taking:  # nobody is dropped who is taken in hand again just now
            uuids = list(self._in_hand)
            for uuid in uuids:
                if not self.is_in_hand(uuid):
                    del self._in_hand[uuid]
        return uuids

    @property
    def _options(self) -> Any:
        return self._conf[options.GROUP.name]

    def _say(self, what: str, failure: str) -> None:
        """Log a failure: once, whatever the question, until one that failed so succeeds."""
        questions = self._questions
        self._is_announced &= questions is not None and questions.is_connected
        with self._saying:
            is_new = failure not in self._said.values()
            self._said[what] = failure
        if is_new:
            LOG.warning("guestlist: %s: %s; Nova asks libvirt itself", what, failure)

    def _unsay(self, what: str) -> None:
        """A question has been answered: why it was not before is news again."""
        if not self._said:
            return
        with self._saying:
            over = self._said.get(what)
            self._said = {each: why for each, why in self._said.items() if why != over}

    def _announce(self) -> None:
        """Log what guestlist answers for: once, until the options are others or something fails."""
        if self._is_announced:
            return
        self._is_announced = True
        if not self.is_on:
            LOG.info(
                "guestlist answers nothing: it is switched off, and every method is Nova's own"
            )
            return
        left = {
            "get_info": self._options.live_view and self._options.max_list_age,
            "_get_disk_over_committed_size_total": self._options.disk_facts,
        }
        names = ", ".join(sorted(name for name in self._proven if left.get(name, True)))
        LOG.info("guestlist %s answers for %s; all else is Nova's own", __version__, names)
