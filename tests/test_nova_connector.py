"""The drop-in opens its connections aside: one attempt at a time, and no question waits long."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from lab.waiting import LONG, wait_until

from guestlist import AccessDenied, ConnectionFailed, threads
from guestlist.nova import connector
from guestlist.nova.connector import Connector


def test_an_attempt_that_succeeds_is_waited_for():
    attempts = []
    Connector(lambda: attempts.append(threading.current_thread())).connect()
    assert attempts != [threading.current_thread()]


def test_an_attempt_that_fails_is_the_callers_error_and_the_next_call_tries_again():
    outcomes = iter([AccessDenied("not you"), ValueError("odd"), None])

    def connect():
        if (error := next(outcomes)) is not None:
            raise error

    opener = Connector(connect)
    with pytest.raises(AccessDenied, match="not you"):
        opener.connect()
    with pytest.raises(ConnectionFailed, match="odd"):
        opener.connect()
    opener.connect()


def test_one_attempt_hangs_at_a_time_and_the_next_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(connector, "PATIENCE", 0.01)
    begun, fail, patience = threading.Semaphore(0), threading.Semaphore(0), []

    def connect():
        begun.release()
        fail.acquire(timeout=LONG)
        raise ConnectionFailed("no answer")

    opener = Connector(connect)
    for _ in range(2):
        for _ in range(3):
            with pytest.raises(ConnectionFailed, match="the attempt goes on"):
                opener.connect()
        patience.append(opener._patience)
        assert begun.acquire(timeout=LONG)
        assert not begun.acquire(blocking=False), "an attempt is under way"
        fail.release()
        wait_until(lambda: opener._attempt is None)
    assert patience == [0.01, 0.0]


def test_a_thread_that_cannot_be_started_is_no_attempt(monkeypatch):
    opener = Connector(lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(threads, "_idle", deque())  # one may wait for a job
        patched.setattr(threading.Thread, "start", _no_thread)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            opener.connect()
    opener.connect()


def _no_thread(_):
    raise RuntimeError("can't start new thread")
