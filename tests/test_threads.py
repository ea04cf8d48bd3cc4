"""guestlist's own threads."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import pytest
from lab.waiting import wait_until

from guestlist import threads


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
