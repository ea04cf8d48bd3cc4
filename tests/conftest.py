"""What every test finds: the laboratory's fixtures, and guestlist's own event loop."""

from __future__ import annotations

import pytest

from guestlist.events import ensure_loop

pytest_plugins = ["lab.fixtures", "lab.places"]


@pytest.fixture(scope="session")
def event_loop_thread():
    """guestlist turns libvirt's event loop; a process has one."""
    ensure_loop()
