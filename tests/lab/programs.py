"""Programs of a test's own: what happens to a process happens to one that may be lost.

In: Python source and arguments. Out: what it printed, once it has ended; an error where it did not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LONG = 100.0
"""Seconds after which a program that has not ended counts as one that never does."""


def run(
    source: str | Path,
    *arguments: str,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run source, or a file of it (which processes that are not forked need), to its end.

    Raises:
        subprocess.TimeoutExpired: it does not end; its process group was killed.
    """
    what = [str(source)] if isinstance(source, Path) else ["-c", source]
    process = subprocess.Popen(
        [sys.executable, *options, *what, *arguments],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        out, err = process.communicate(timeout=LONG)
    except subprocess.TimeoutExpired as expired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        raise subprocess.TimeoutExpired(process.args, LONG, out, err) from expired
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def lines_of(source: str | Path, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """What a program prints that ends well, and says nothing on standard error."""
    ended = run(source, *arguments, options=options)
    assert (ended.returncode, ended.stderr) == (0, ""), f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout.splitlines()
