"""What every test finds: the laboratory's fixtures, and guestlist's own event loop."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from lab.quick import QUICK

from guestlist.event_loop import ensure_loop

# No example has a deadline. A pipeline tries the same examples each time.
# `--hypothesis-profile=long` tries many more.
settings.register_profile("short", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.register_profile("quick", settings.get_profile("short"), max_examples=10)
settings.register_profile("long", settings.get_profile("short"), max_examples=2_000)

# The processes that tests start keep compiled modules, outside the source: compiling guestlist
# takes a third of a short `guestlist ls`.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
_BYTECODE = Path(__file__).parents[1] / ".cache" / "bytecode"
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(_BYTECODE))

# A shell lets what it starts in the background ignore Ctrl-C, and nohup SIGHUP. The processes that
# tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No test depends on the configuration file of the person who runs it.
os.environ["GUESTLIST_CONFIG"] = os.devnull

pytest_plugins = ["lab.fixtures", "lab.places"]


def pytest_configure(config: pytest.Config) -> None:
    """Load a profile before the tests are imported; hypothesis then loads the one that is named."""
    settings.load_profile("quick" if os.environ.get(QUICK) else "short")


@pytest.fixture(scope="session")
def event_loop_thread():
    """Start guestlist's own event loop; a process has one."""
    ensure_loop()
