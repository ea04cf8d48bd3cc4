"""guestlist's own threads."""

from __future__ import annotations

import gc
import threading
import weakref
from functools import partial

import pytest
from lab.waiting import wait_until

from guestlist import threads


def test_a_thread_that_has_done_its_job_does_the_next_one():
    did = []

    def job():
        did.append((threading.get_ident(), threading.current_thread().name))

    threads.run_uninterrupted(job, "guestlist-one")
    wait_until(lambda: threads._idle)
    threads.run_uninterrupted(job, "guestlist-two")
    assert [name for _, name in did] == ["guestlist-one", "guestlist-two"]
    assert len({number for number, _ in did}) == 1


def test_jobs_that_wait_for_each_other_have_a_thread_each():
    meeting = threading.Barrier(3, timeout=30)
    for _ in range(20):
        for name in "ab":
            threads.start(meeting.wait, f"guestlist-{name}")
        meeting.wait()


def test_a_thread_that_waits_too_long_ends_and_a_job_that_comes_late_is_done(monkeypatch):
    monkeypatch.setattr(threads, "LONGEST_IDLE", 0.0)
    for _ in range(200):
        assert threads.run_uninterrupted(lambda: 7, "guestlist-brief") == 7
    wait_until(lambda: not threads._idle)


class Handle:
    """Something that a job holds, as a helper's job holds libvirt's handles."""


@pytest.mark.parametrize("begin", [threads.start, threads.later, threads.run_uninterrupted])
def test_a_job_that_has_run_holds_nothing(begin):
    """The thread that starts others held the last job, and so kept a closed connection open."""
    handle = Handle()
    held = weakref.ref(handle)
    gc.disable()
    try:
        begin(partial(isinstance, handle, Handle), "guestlist-test")
        del handle
        wait_until(lambda: held() is None)
    finally:
        gc.enable()
