"""Requests on a socket, one JSON line each; each is answered when it is done.

In: the number of an open socket, in `LAB_SOCKET`. Out: one line for each request, with what it
logged and which processes it started. Each request has a thread of its own. That thread, and the
one that reads, are green where Nova is patched. `tests/lab/nova.py` is at the other end.
"""

import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NamedTuple

TICK_SECONDS = 0.01
PROCESS_EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.system"}
COMMAND = 1
"""The index of the command among the arguments of the event subprocess.Popen."""


class Witness(logging.Handler):
    """Records for each request what it logs and which processes it starts.

    A thread that serves no request counts for all requests that are under way.
    """

    def __init__(self):
        super().__init__()
        self._mine = threading.local()
        self._open = {}

    def begin(self, request):
        self._mine.request = request
        self._open[request] = {"log": [], "processes": []}

    def end(self, request):
        return self._open.pop(request)

    def _accounts(self):
        mine = self._open.get(getattr(self._mine, "request", None))
        return [mine] if mine else list(self._open.values())

    def emit(self, record):
        entry = [record.levelname, record.name, record.getMessage()]
        if record.exc_info:
            entry[2] += "\n" + "".join(traceback.format_exception(*record.exc_info))
        for account in self._accounts():
            account["log"].append(entry)

    def audit(self, event, arguments):
        if event in PROCESS_EVENTS:
            command = arguments[COMMAND] if event == "subprocess.Popen" else [event]
            for account in self._accounts():
                account["processes"].append(" ".join(map(os.fsdecode, command)))


class Pulse:
    """A thread that ticks, and measures how long other threads have kept it from ticking."""

    def __init__(self):
        self._last = time.monotonic()
        self._longest = 0.0
        threading.Thread(target=self._tick, name="pulse", daemon=True).start()

    def longest_gap(self):
        """Return the longest gap since the last call, in seconds, the current gap included."""
        longest = max(self._longest, time.monotonic() - self._last)
        self._longest = 0.0
        return longest

    def _tick(self):
        while True:
            time.sleep(TICK_SECONDS)
            now = time.monotonic()
            self._longest = max(self._longest, now - self._last)
            self._last = now


class Timed(NamedTuple):
    """What a request returned, and its seconds without the making of its arguments."""

    seconds: float
    value: object


class Requests:
    """The requests that every process of Nova's answers. Each public method is a request."""

    def __init__(self):
        self._pulse = Pulse()

    def vitals(self):
        """Return how many threads and descriptors this process has, and whether it has eventlet."""
        return {
            "threads": len(list(Path("/proc/self/task").iterdir())),
            "fds": len(list(Path("/proc/self/fd").iterdir())) - 1,
            "eventlet": "eventlet" in sys.modules,
        }

    def longest_gap(self):
        return self._pulse.longest_gap()


class Desk:
    """Takes requests and answers them."""

    def __init__(self):
        self._socket = socket.socket(fileno=int(os.environ["LAB_SOCKET"]))
        self._sending = threading.Lock()
        self._witness = Witness()
        self._served = False

    def serve(self, start, set_up=lambda: None):
        """Set up Nova and start, as request 0; then put each request to what `start` returned.

        Returns when the other end of the socket is closed.
        """
        self._served = True

        def begin():
            set_up()
            logging.getLogger().addHandler(self._witness)  # after Nova has set up its own handlers
            return start()

        sys.addaudithook(self._witness.audit)
        if requests := self._answer(0, begin, {}):
            for line in self._socket.makefile("r", encoding="utf-8"):
                request = json.loads(line)
                what = getattr(requests, request.pop("do"))
                arguments = (request.pop("id"), what, request)
                threading.Thread(target=self._answer, args=arguments, daemon=True).start()

    def fail(self, error):
        """Answer request 0 with an error, unless it was answered."""

        def start():
            raise error

        if not self._served:
            self.serve(start)

    def _answer(self, number, what, arguments):
        """Do a request and send its answer. Returns the value, or None if it failed."""
        value = error = None
        self._witness.begin(number)
        begun = time.monotonic()
        try:
            value = what(**arguments)
        except BaseException as problem:  # a driver that does not load exits
            error = [type(problem).__name__, str(problem), traceback.format_exc()]
        seconds = time.monotonic() - begun
        if isinstance(value, Timed):
            seconds, value = value
        reply = {"id": number, "error": error, "seconds": seconds, **self._witness.end(number)}
        reply["value"] = None if isinstance(value, Requests) else value
        with self._sending:
            self._socket.sendall(json.dumps(reply, default=repr).encode() + b"\n")
        return value
