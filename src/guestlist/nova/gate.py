"""The gate between Nova and guestlist: switches, threads and failures.

In: Nova's questions, on its threads, green or real. Out: guestlist's answers. Where the answer is
None, Nova asks libvirt as it always did: if an option says so, after the driver was cleaned up, and
where guestlist fails. Never raises. Notes which domains Nova may be changing: what is remembered of
those is not used.
"""

from __future__ import annotations

import contextvars
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from oslo_log import log as logging

from guestlist import __version__
from guestlist.errors import GuestlistError
from guestlist.nova import green_threads, options
from guestlist.nova.live_answers import Facts, Reason, may_answer
from guestlist.nova.questions import HostQuestions
from guestlist.records import Instance
from guestlist.unpatched import threading

T = TypeVar("T")
LOG = logging.getLogger(__name__)

CHANGE_SECONDS = 60.0
"""Seconds after Nova last used a domain for which it may be changing the domain. No event tells of
some of these changes, so nothing that is remembered of the domain is used meanwhile."""

_only_looking = contextvars.ContextVar("guestlist_only_looking", default=False)


class _Wants(NamedTuple):
    """What the options said when a thread of Nova's read them."""

    is_on: bool
    name_template: str
    resync_interval: float | None


class OnlyLooking:
    """Within, on this thread, Nova changes no domain that it uses. A context manager.

    Not by contextlib, which takes 8 µs more: `instance_exists` takes 200.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        """Begin."""
        self._token = _only_looking.set(True)

    def __exit__(self, *_: object) -> None:
        """End."""
        _only_looking.reset(self._token)


class Gate:
    """One driver's way to guestlist. Threads may share it.

    Args:
        uri: what Nova connects to.
        conf: Nova's configuration, with the options of `[guestlist]`.
        proven: the methods that guestlist may answer for; the log names them.
    """

    def __init__(self, uri: str | None, conf: Any, proven: frozenset[str] = frozenset()) -> None:
        self._uri = uri
        self._conf = conf
        self._proven = proven
        self._host: HostQuestions | None = None
        self._followed: float | None = None
        self._is_shut = not green_threads.are_separable()
        self._used_at: dict[str, float] = {}
        self._using = threading.Lock()
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
        """Answer nothing from now on, and close guestlist's connections."""
        self._is_shut = True
        self._attempt("disconnect", self._furnish)

    @property
    def is_on(self) -> bool:
        """Whether guestlist answers Nova's questions."""
        return not self._is_shut and bool(self._options.enabled)

    def _on_reload(self, *_: object) -> None:
        """Follow the options that Nova has read again.

        A thread of its own closes connections: Nova's main thread does not wait for that.
        """
        options.forget_cached(self._conf)
        self._want()
        threading.Thread(target=self._follow_options, name="guestlist-nova", daemon=True).start()

    def _follow_options(self) -> None:
        """Open or close what the options say. Runs in a real thread."""

        def follow() -> None:
            host = self._become()
            if host is not None:
                host.connect()
            self._announce()

        self._attempt("follow the options", follow)

    def _furnish(self) -> HostQuestions | None:
        """Return the host to ask, made or closed as the options say now."""
        self._want()
        return green_threads.aside(self._become)

    def _want(self) -> None:
        """Read the options. Of two threads the one that reads later decides."""
        with self._wanting:
            self._is_announced = False
            interval = self._options.resync_interval if self._options.live_view else None
            self._wanted = _Wants(self.is_on, self._conf.instance_name_template, interval)

    def _become(self) -> HostQuestions | None:
        """Make or close the host and its live view as the options said last. In a real thread."""
        with self._lock:
            wanted, name_template, interval = self._wanted
            interval = interval if wanted else None
            if self._host is None and wanted:
                self._host = HostQuestions(self._uri, name_template=name_template)
                self._followed = None
            host = self._host
            if host is not None and interval != self._followed:
                host.follow(resync_interval=interval)
                self._followed = interval
            if host is not None and not wanted:
                host.close()
                self._host = None
            return self._host

    # Questions

    def ask(self, what: str, question: Callable[[HostQuestions], T]) -> T | None:
        """Return guestlist's answer; None where there is none. Other green threads run meanwhile.

        On native threads the question is asked on the caller's own thread.
        """
        if not self.is_on:
            return None

        def put() -> T | None:
            host = self._host or self._furnish()
            if host is None:
                return None
            answer = green_threads.aside(lambda: self._put(question, host))
            self._announce()
            return answer

        return self._attempt(what, put)

    def _put(self, question: Callable[[HostQuestions], T], host: HostQuestions) -> T:
        """Ask in a real thread.

        `close` does not wait for questions that are under way, and one of these may have connected
        again: then it closes the host a second time.
        """
        try:
            return question(host)
        finally:
            if host is not self._host:
                host.close()

    def _attempt(self, what: str, act: Callable[[], T | None]) -> T | None:
        """Return what `act` returns; None where guestlist fails, and the log says why."""
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

    def live_answer(
        self, uuid: str, *, allows_cache: bool, task_state: str | None, power_state: int | None
    ) -> Instance | None:
        """Return an instance from the live view; None where `may_answer` says to ask libvirt.

        Args:
            uuid: the instance.
            allows_cache: the caller allows a cached answer.
            task_state: the one in Nova's record; None where it was not loaded.
            power_state: likewise.
        """
        facts = Facts(
            allows_cache=allows_cache,
            has_view=self._wanted.resync_interval is not None,
            max_list_age=self._options.max_list_age,
            is_being_changed=self.is_being_changed(uuid),
            task_state=task_state,
            power_state=power_state,
        )
        reason = may_answer(facts)
        if reason is Reason.NOT_READ:
            facts = self.ask("read the live view", lambda host: host.look(uuid, facts)) or facts
            reason = may_answer(facts)
        return facts.view.instance if facts.view is not None and reason is None else None

    def wants(self, option: str) -> bool:
        """Whether an option is on, and guestlist answers at all."""
        return self.is_on and bool(getattr(self._options, option))

    # What Nova may be changing

    def note_use(self, uuid: str) -> None:
        """Note that Nova uses a domain, perhaps to change it."""
        if not _only_looking.get():
            with self._using:
                self._used_at[uuid] = time.monotonic()

    def is_being_changed(self, uuid: str) -> bool:
        """Whether Nova may be changing a domain."""
        return time.monotonic() - self._used_at.get(uuid, -math.inf) < CHANGE_SECONDS

    def being_changed(self) -> list[str]:
        """Return the domains that Nova may be changing, or may have changed since the last call."""
        with self._using:  # a domain that Nova uses again just now stays
            uuids = list(self._used_at)
            for uuid in uuids:
                if not self.is_being_changed(uuid):
                    del self._used_at[uuid]
        return uuids

    # The log

    @property
    def _options(self) -> Any:
        return self._conf[options.GROUP.name]

    def _say(self, what: str, failure: str) -> None:
        """Log a failure once, whichever question met it, until such a question succeeds."""
        host = self._host
        self._is_announced &= host is not None and host.is_connected
        with self._saying:
            is_new = failure not in self._said.values()
            self._said[what] = failure
        if is_new:
            LOG.warning("guestlist: %s: %s; Nova asks libvirt itself", what, failure)

    def _unsay(self, what: str) -> None:
        """Note that a question was answered: its last failure is logged again if it comes back."""
        if not self._said:
            return
        with self._saying:
            over = self._said.get(what)
            self._said = {each: why for each, why in self._said.items() if why != over}

    def _announce(self) -> None:
        """Log what guestlist answers for: once, and again after new options or a failure."""
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
