"""guestlist's own threads: to start one, to wait for one, and the end of the interpreter.

In: jobs. Out: daemon threads with names. Every thread of the library is started here; `waiting` has
the ways to wait for one. Makes no libvirt call.

**What a signal can interrupt.** Python runs signal handlers on the main thread only. It runs them
when a function begins, when a loop jumps back, after a call of a C function, and while the thread
waits for a lock. The handler may raise an exception there. So on a caller's thread the library
relies on three things only:

- One call of a C function is atomic: `deque.append`, `dict.pop`, `lock.release`.
- `with lock` is safe if the lock is written in C. CPython 3.11 to 3.13 does not check for signals
  between taking the lock and entering the block, nor between leaving the block and releasing the
  lock. An `__enter__` written in Python is not safe: so `Condition`, `Event`, `Queue` and
  `contextlib.contextmanager` can stay locked for good. `Condition.wait`, too, takes its lock again
  in Python.
- Assignments without a call in between are atomic together.

Everything else that must not stop halfway runs on one of guestlist's own threads, through
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
from typing import Any, TypeVar

from guestlist.errors import InterpreterEnding, Reentered, ThreadUnavailable
from guestlist.unpatched import threading, time
from guestlist.waiting import Bell, Outcome

T = TypeVar("T")

_Task = tuple[Callable[[], object], str]
"""A job, and the name of its thread."""

LONGEST_END = 2.0
"""Seconds that the end of the interpreter waits for open connections to be closed."""

endings: dict[Callable[[], object], weakref.ref[Any] | None] = {}
"""Functions that close what is open, and the owner of each. The end of the interpreter calls them
in this order, each on a thread of its own if threads still start."""

LONGEST_IDLE = 10.0
"""Seconds that a thread waits for another job after its last one."""

IDLE = "guestlist-idle"
"""The name of a thread that waits for another job."""

_own: set[int] = set()
"""The numbers of guestlist's own threads."""

_is_ending = False
_is_over = False


class _Usher:
    """The thread that starts all others. It begins with the first start and then waits for work.

    `Thread.start` waits, in Python, until its thread runs. An exception from a signal handler
    during that wait can leave the new thread waiting for its starter for good. So a caller's thread
    never runs `Thread.start`; the usher does. If no thread can be started, the usher itself runs
    the jobs that must be done: Python 3.12 starts no thread once the main thread has ended.
    """

    def __init__(self) -> None:
        self._work: deque[Callable[[], object]] = deque()
        self._bell = Bell()
        self._parked: deque[object] = deque()

    def put(self, work: Callable[[], object]) -> None:
        """Queue work. Takes no lock and does not wait.

        Raises:
            RuntimeError: no usher is free, and no thread for another one can be started.
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
        """Forget the parent's ushers and work, in a forked child: threads do not survive a fork."""
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
            if self._parked[0] != me and not self._work:  # another usher waits; one is enough
                break
            self._bell.wait_for(lambda: self._work)
            self._parked.remove(me)
            try:
                work = self._work.popleft()
            except IndexError:  # another usher took the work
                continue
            work()
            del work  # it holds a job, and a job may hold libvirt's handles
        self._parked.remove(me)
        _own.discard(me)


_usher = _Usher()


class _Idle:
    """A thread that has done its job, and waits for another one.

    To start a thread takes longer than to open a connection to a daemon on the same machine (two
    tenths of a millisecond on an idle machine, a whole one on a busy one), and a Host needs threads
    one after the other: to open, to register for events, to close. So one thread waits.

    One call of C decides whether the thread has a job or ends (`dict.setdefault`), so neither an
    interrupted caller nor one that comes late leaves a job without a thread, or a thread for good.
    """

    def __init__(self) -> None:
        self._task: dict[str, _Task | None] = {}
        self._bell = Bell()

    def give(self, task: _Task) -> bool:
        """Give the thread a job; return False if it is about to end and takes none."""
        is_taken = self._task.setdefault("", task) is task
        self._bell.ring()
        return is_taken

    def wait(self) -> _Task | None:
        """Wait for a job on this thread; None: none came, and from now on none is taken."""
        self._bell.wait_for(lambda: self._task, LONGEST_IDLE)
        return self._task.setdefault("", None)


_idle: deque[_Idle] = deque()


def _give(task: _Task) -> bool:
    """Give a job to a thread that waits for one; return False if there is none."""
    try:
        return _idle.popleft().give(task)
    except IndexError:
        return False


def _next_task() -> _Task | None:
    """Wait on this thread for another job; None: the thread may end. One that waits is enough."""
    if _idle:
        return None
    idle = _Idle()
    threading.current_thread().name = IDLE
    _idle.append(idle)
    task = idle.wait()
    with contextlib.suppress(ValueError):  # the caller that gave the job has removed it
        _idle.remove(idle)
    return task


def _begin(job: Callable[[], object]) -> None:
    """Start a bare thread in one call of C, and do not wait for it."""
    if hasattr(threading, "_start_joinable_thread"):  # Python 3.13
        threading._start_joinable_thread(job, daemon=True)
    else:
        threading._start_new_thread(job, ())  # type: ignore[attr-defined]


def start(job: Callable[[], object], name: str) -> None:
    """Run a job on a daemon thread of its own.

    If an exception from a signal handler ends this call, the job may or may not have begun.

    Raises:
        ThreadUnavailable: no thread could be started: a limit of the system, or of a container.
        InterpreterEnding: the interpreter ends and starts no thread any more.
    """
    if is_over():
        raise InterpreterEnding(f"cannot start thread {name!r}: the interpreter is ending")
    if _give((job, name)):
        return
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
    """Run a job on a thread that no signal handler interrupts, and return its result.

    An exception from a signal handler ends the wait; the job goes on. If the caller is one of
    guestlist's own threads, the job runs on that thread.

    Raises:
        ThreadUnavailable, InterpreterEnding: see `start`; the job did not run.
    """
    if threading.get_ident() in _own:
        return job()
    outcome: Outcome[T] = Outcome()
    start(partial(outcome.of, job), name)
    return outcome.get()


def later(job: Callable[[], object], name: str) -> None:
    """Run a job on a thread, and do not wait for it.

    Takes no lock, so a finalizer may call this on any thread at any moment. If no thread can be
    started, the usher runs the job; without an usher the job is dropped.
    """
    if not is_over() and not _give((job, name)):
        with contextlib.suppress(RuntimeError):
            _usher.put(partial(_do, job, name))


def _do(job: Callable[[], object], name: str) -> None:
    if _launch(job, name) is not None:
        _usher.do_here(job)


def finish(job: Callable[[], object], name: str, *, wait: bool) -> None:
    """Run a job that must not be skipped, on a thread that no signal handler interrupts.

    With `wait` this returns when the job has ended; an exception from a signal handler ends the
    wait only. If no thread can be started the job runs on this thread. After the end of the
    interpreter it does not run.
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
    """Start a thread; return the error if that fails. Call it where no signal interrupts."""
    try:
        threading.Thread(target=_run, args=([(job, name)],), name=name, daemon=True).start()
    except RuntimeError as error:
        return error
    return None


def _unavailable(name: str, why: RuntimeError) -> ThreadUnavailable:
    return ThreadUnavailable(
        f"cannot start thread {name!r}: {why}; raise the limit on processes and threads "
        "(ulimit -u, pids.max, TasksMax) and ask again"
    )


def _run(first: list[_Task]) -> None:
    """Do a job, and then what other jobs come. The thread keeps none that is done."""
    _own.add(threading.get_ident())
    try:
        task: _Task | None = first.pop()
        while task is not None:
            task[0]()
            task = None
            if (task := _next_task()) is not None:
                threading.current_thread().name = task[1]
    finally:
        _own.discard(threading.get_ident())


def end_orphans() -> None:
    """Call the endings of owners that are gone: an interrupt may have stopped their `__del__`."""
    for ending, owner in list(endings.items()):
        if owner is not None and owner() is None:
            later(ending, "guestlist-close")


def is_held_here(lock: threading.RLock) -> bool:
    """Return whether this thread holds the lock, and this code interrupts the thread's question."""
    return lock._is_owned()  # type: ignore[attr-defined, no-any-return]


def reentered(what: str) -> Reentered:
    """Return the error for a thread that would wait for itself or disturb its own question."""
    return Reentered(
        f"cannot {what}: this thread is in the middle of another question, and a signal handler or "
        "a finalizer has interrupted it; ask after that, or in another thread"
    )


# The end of the interpreter


def is_over() -> bool:
    """Return whether the interpreter has ended: threads neither start nor run any more."""
    return _is_over or sys.is_finalizing()


def is_ending() -> bool:
    """Return whether the interpreter ends: connections are being closed for good, or are closed."""
    return _is_ending


def refuse_questions() -> None:
    """Refuse new questions, because the process ends: they would open closed connections again."""
    global _is_ending  # noqa: PLW0603  a process ends once
    _is_ending = True


def at_the_end(what: str) -> InterpreterEnding:
    """Return the error for a question that comes after that."""
    return InterpreterEnding(
        f"cannot {what}: the interpreter is ending, and guestlist has closed its connections"
    )


def _end() -> None:
    """Close everything that is open while threads still run. Refuse all further questions."""
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
    _idle.clear()
    _usher.forget()


atexit.register(_end)
os.register_at_fork(after_in_child=_forget_parent)
