"""The Python of README and docs/python.md runs, against libvirt's in-process test driver."""

from __future__ import annotations

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

pytest_plugins = ["lab.needs"]


@pytest.fixture
def default_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Host()` open libvirt's test driver in a snippet."""
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/python.md"],
    fixtures=["default_uri"],
).pytest()
