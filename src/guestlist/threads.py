"""guestlist's own threads: starting one, waiting for one, and the end of the interpreter.

In: jobs. Out: daemon threads with names, and ways to wait for them that an exception from a signal
handler cannot break. Every thread of the library is started here. Touches no libvirt.

**What a signal can interrupt.** Python runs signal handlers on the main thread only: when a
function begins, when a loop jumps back, after a call of a C function, and while it waits for a
lock. The handler may raise there. On a caller's thread the library therefore relies on three things
only:

- One call of a C function is atomic: `deque.append`, `dict.pop`, `lock.release`.
- `with lock` on a lock written in C is safe: CPython 3.11 to 3.13 checks for signals neither
  between taking the lock and entering the block, nor between leaving the block and releasing it. An
  `__enter__` written in Python is not safe. So `Condition`, `Event`, `Queue` and
  `contextlib.contextmanager` can stay locked for good; `Condition.wait`, too, takes its lock again
  in Python.
- Assignments without a call in between are atomic together.

Everything else that must not stop halfway runs on a thread of guestlist's, with
`run_uninterrupted`.

Source: CPython Python/ceval.c and bytecodes.c (CHECK_EVAL_BREAKER), Lib/threading.py.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from guestlist.errors import InterpreterEnding, Reentered, ThreadUnavailable
from guestlist.unpatched import threading, time

T = TypeVar("T")

LONGEST_END = 2.0
"""Seconds that the end of the interpreter waits for open connections to be closed."""

endings: dict[Callable[[], object], weakref.ref[Any] | None] = {}
"""Functions that close what is open, and the owner of each. At the interpreter's end they are
called in this order, each on a thread of its own where threads still start."""

_own: set[int] = set()
_is_ending = False
_is_over = False


class Bell:
    """Wakes the threads that wait for it. Takes no lock, so signal handlers may ring it.

    Change something, then ring: each waiting thread looks again at what has changed.
    """

    def __init__(self) -> None:
        self._waiting: deque[threading.Lock] = deque()

    def ring(self) -> None:
        """Wake every thread that waits, to look again."""
        while self._waiting:
            try:
                waiting = self._waiting[0]
                waiting.release()
            except IndexError:  # another thread rings, too
                return
            except RuntimeError:  # it did, or a ring before this was interrupted
                pass
            self._forget(waiting)

    def wait_for(self, is_so: Callable[[], object], timeout: float | None = None) -> bool:
        """Wait until it is so, `timeout` seconds at most; whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not is_so():
            left = -1.0
            if deadline is not None:
                left = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
                if left <= 0:
                    return False
            waiting = threading.Lock()
            waiting.acquire()
            self._waiting.append(waiting)
            try:
                if is_so():  # since before it was on the list
                    return True
                waiting.acquire(timeout=left)
            finally:
                self._forget(waiting)
        return True

    def _forget(self, waiting: threading.Lock) -> None:
        with contextlib.suppress(ValueError):  # the bell has rung
            self._waiting.remove(waiting)


class Outcome(Generic[T]):
    """The result of a job on another thread: a value or an error, once."""

    def __init__(self) -> None:
        self.is_there = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._bell = Bell()

    def of(self, job: Callable[[], T]) -> None:
        """Run the job on this thread and keep its result."""
        try:
            self._value = job()
        except BaseException as error:  # `get` raises it
            self._error = error
        self.is_there = True
        self._bell.ring()

    def wait(
        self, timeout: float | None = None, *, or_if: Callable[[], bool] | None = None
    ) -> bool:
        """Wait until it is there, `timeout` seconds at most; whether it is.

        `or_if` ends the wait as well; call `nudge` after a change of what it tells.
        """
        self._bell.wait_for(lambda: self.is_there or (or_if is not None and or_if()), timeout)
        return self.is_there

    def nudge(self) -> None:
        """Let those that wait look again."""
        self._bell.ring()

    def get(self) -> T:
        """Wait for it and return the value, or raise the job's error."""
        self.wait()
        error, self._error = self._error, None  # its frames hold this, and much else
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._value  # type: ignore[return-value]


class _Usher:
    """The thread that starts all others. It begins with the first start and then waits for work.

    `Thread.start` waits for its thread in Python. An exception from a signal handler in there can
    leave the new thread waiting for its starter for good, so no caller's thread runs it. If no
    thread can be started, the usher runs jobs that must be done by itself: Python 3.12 starts none
    once the main thread has ended.
    """

    def __init__(self) -> None:
        self._work: deque[Callable[[], object]] = deque()
        self._bell = Bell()
        self._parked: deque[object] = deque()

    def put(self, work: Callable[[], object]) -> None:
        """Queue work. Takes no lock and does not wait.

        Raises:
            RuntimeError: there is no usher yet, or it is busy, and no other can be started.
        """
        if not self._parked:
            _begin(self._serve)
        self._work.append(work)
        self._bell.ring()

    def do_here(self, job: Callable[[], object]) -> None:
        """Run a long job on the usher's thread; another usher takes the rest of the work."""
        if self._work:
            with contextlib.suppress(RuntimeError):
                _begin(self._serve)
        outcome: Outcome[object] = Outcome()
        outcome.of(job)

    def forget(self) -> None:
        """Start from nothing, in a forked child: threads do not survive a fork."""
        self._parked.clear()
        self._work.clear()

    def _serve(self) -> None:
        try:
            threading.Thread(target=self._run, name="guestlist-usher", daemon=True).start()
        except RuntimeError:
            self._run()

    def _run(self) -> None:
        me = threading.get_ident()
        _own.add(me)
        while True:
            self._parked.append(me)
            if self._parked[0] != me and not self._work:  # another waits, and one is enough
                break
            self._bell.wait_for(lambda: self._work)
            self._parked.remove(me)
            try:
                work = self._work.popleft()
            except IndexError:  # another usher has it
                continue
            work()
        self._parked.remove(me)
        _own.discard(me)


_usher = _Usher()


def _begin(job: Callable[[], object]) -> None:
    """Start a bare thread, in one call of C, and do not wait for it."""
    if hasattr(threading, "_start_joinable_thread"):  # Python 3.13
        threading._start_joinable_thread(job, daemon=True)
    else:
        threading._start_new_thread(job, ())  # type: ignore[attr-defined]


def start(job: Callable[[], object], name: str) -> None:
    """Run a job on a daemon thread of its own.

    A caller that is interrupted in here cannot tell whether the job has begun.

    Raises:
        ThreadUnavailable: no thread could be started: a limit of the system, or of a container.
        InterpreterEnding: the interpreter ends, and starts no threads any more.
    """
    if is_over():
        raise InterpreterEnding(f"cannot start thread {name!r}: the interpreter is ending")
    if threading.get_ident() in _own:
        failure = _launch(job, name)
    else:
        launched: Outcome[RuntimeError | None] = Outcome()
        try:
            _usher.put(partial(launched.of, partial(_launch, job, name)))
        except RuntimeError as error:
            raise _unavailable(name, error) from error
        failure = launched.get()
    if failure is not None:
        raise _unavailable(name, failure) from failure


def run_uninterrupted(job: Callable[[], T], name: str) -> T:
    """Run a job where no signal handler interrupts it, and return its result.

    An exception from a signal handler ends the wait; the job goes on. On a thread of guestlist's
    the job runs right there.

    Raises:
        ThreadUnavailable, InterpreterEnding: as `start`; the job did not run.
    """
    if threading.get_ident() in _own:
        return job()
    outcome: Outcome[T] = Outcome()
    start(partial(outcome.of, job), name)
    return outcome.get()


def later(job: Callable[[], object], name: str) -> None:
    """Run a job on a thread, and do not wait for it.

    Takes no lock, so a finalizer may call it on any thread at any moment. If no thread can be
    started, the usher runs the job; without an usher it is dropped.
    """
    if not is_over():
        with contextlib.suppress(RuntimeError):
            _usher.put(partial(_do, job, name))


def _do(job: Callable[[], object], name: str) -> None:
    if _launch(job, name) is not None:
        _usher.do_here(job)


def finish(job: Callable[[], object], name: str, *, wait: bool) -> None:
    """Run a job that must not be skipped where no signal handler interrupts it.

    If no thread can be started it runs here, and after the interpreter's end not at all.
    """
    if is_over():
        return
    if not wait:
        later(job, name)
        return
    try:
        run_uninterrupted(job, name)
    except ThreadUnavailable:
        if not is_over():
            job()


def _launch(job: Callable[[], object], name: str) -> RuntimeError | None:
    """Start a thread with a name, on a thread that no signal interrupts; why it could not be."""
    try:
        threading.Thread(target=_run, args=(job,), name=name, daemon=True).start()
    except RuntimeError as error:
        return error
    return None


def _unavailable(name: str, why: RuntimeError) -> ThreadUnavailable:
    return ThreadUnavailable(
        f"cannot start thread {name!r}: {why}; raise the limit on processes and threads "
        "(ulimit -u, pids.max, TasksMax) and ask again"
    )


def _run(job: Callable[[], object]) -> None:
    _own.add(threading.get_ident())
    try:
        job()
    finally:
        _own.discard(threading.get_ident())


def end_orphans() -> None:
    """Call the endings whose owner was dropped: an interrupt may have stopped its `__del__`."""
    for ending, owner in list(endings.items()):
        if owner is not None and owner() is None:
            later(ending, "guestlist-close")


def is_held_here(lock: threading.RLock) -> bool:
    """Whether this thread holds the lock, so that this code interrupts a question of its own."""
    return lock._is_owned()  # type: ignore[attr-defined, no-any-return]


def reentered(what: str) -> Reentered:
    """The error for a thread that would wait for itself, or disturb what it was doing."""
    return Reentered(
        f"cannot {what}: this thread is in the middle of another question, and a signal handler or "
        "a finalizer has interrupted it; ask after that, or in another thread"
    )


# The end of the interpreter


def is_over() -> bool:
    """Whether threads neither start nor run any more."""
    return _is_over or sys.is_finalizing()


def is_ending() -> bool:
    """Whether the interpreter ends: connections are being closed for good, or are closed."""
    return _is_ending


def refuse_questions() -> None:
    """Let no question begin any more, because the process ends: it would open what was closed."""
    global _is_ending  # noqa: PLW0603  a process ends once
    _is_ending = True


def at_the_end(what: str) -> InterpreterEnding:
    """The error for a question that comes after that."""
    return InterpreterEnding(
        f"cannot {what}: the interpreter is ending, and guestlist has closed its connections"
    )


def _end() -> None:
    """Close everything that is open while threads still run. No question is answered any more."""
    global _is_ending, _is_over  # noqa: PLW0603  an interpreter ends once
    _is_ending = True
    try:
        outcomes: list[Outcome[object]] = []
        for ending in list(endings):
            outcomes.append(Outcome())
            later(partial(outcomes[-1].of, ending), "guestlist-end")
        deadline = time.monotonic() + LONGEST_END
        for outcome in outcomes:
            outcome.wait(deadline - time.monotonic())
    finally:
        _is_over = True


def _forget_parent() -> None:
    """Forget the parent's connections and threads, in a forked child."""
    endings.clear()
    _own.clear()
    _usher.forget()


atexit.register(_end)
os.register_at_fork(after_in_child=_forget_parent)
