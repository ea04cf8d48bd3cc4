"""docs/concurrency.md: each row names the tests that show it."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
ROWS = [
    line
    for line in (HERE.parent / "docs" / "concurrency.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| with")
]


def test_each_row_of_the_matrix_names_a_test_that_there_is():
    sources = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", sources, re.M))
    for row in ROWS:
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, row
        assert named <= there, row


def test_the_matrix_has_what_a_program_may_be_made_of():
    text = "\n".join(ROWS)
    for subject in (
        "plain threads",
        "asyncio",
        "libvirtaio",
        "eventlet",
        "gevent",
        "fork",
        "multiprocessing",
        "spawn",
        "forkserver",
        "gunicorn --preload",
        "Celery",
    ):
        assert subject in text
