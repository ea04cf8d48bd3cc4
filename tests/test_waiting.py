"""Waits that no signal misses."""

from __future__ import annotations

import signal
import sys
import threading

from lab.waiting import wait_until

from guestlist.waiting import Bell


def test_a_signal_that_interrupts_no_wait_is_heard():
    """Ctrl-C was heard only when something else ended the wait: `watch` then ran on for ever.

    A signal that the kernel hands to another thread has the same effect as one that comes just
    before the wait. Without the cure this test hangs, and its timeout ends it.
    """
    bell, heard = Bell(), []
    main = threading.get_ident()

    def waits():
        frame = sys._current_frames()[main]
        return bell._waiting and frame.f_code.co_name == "wait_for"

    def send():
        wait_until(waits)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(True))
    sender = threading.Thread(target=send)
    try:
        sender.start()
        assert bell.wait_for(lambda: heard)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
