"""What every test finds: the laboratory's fixtures, and guestlist's own event loop."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from guestlist.event_loop import ensure_loop

# Examples are judged by what they show, not by how long they take. A pipeline tries the same each
# time. `--hypothesis-profile=long` tries many more.
settings.register_profile("short", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.register_profile("long", settings.get_profile("short"), max_examples=2_000)
settings.load_profile("short")

pytest_plugins = ["lab.fixtures", "lab.places"]


@pytest.fixture(scope="session")
def event_loop_thread():
    """guestlist turns libvirt's event loop; a process has one."""
    ensure_loop()
