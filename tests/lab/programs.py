"""Python programs in processes of their own, for tests of what may kill or hang a process.

In: Python source and arguments. Out: what the program printed when it has ended, or a process that
the test talks to while it runs. No process outlives its test.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

LONG = 100.0
"""Seconds after which a program that has not ended counts as one that never ends."""


def run(
    source: str | Path,
    *arguments: str,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; return its output and its exit status.

    `source` is Python source, or the path of a file with it: a program whose child processes are
    not forked needs a file.

    Raises:
        subprocess.TimeoutExpired: it does not end; its process group was killed.
    """
    process = subprocess.Popen(
        _command(source, *arguments, options=options),
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
    """Run a program to its end; return the lines that it printed.

    It must exit with status 0 and write nothing on standard error.
    """
    ended = run(source, *arguments, options=options)
    assert (ended.returncode, ended.stderr) == (0, ""), f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout.splitlines()


@contextlib.contextmanager
def running(source: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program and wait for its first line, which must be "ready"; kill it in the end."""
    command = _command(source, *arguments)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def _command(source: str | Path, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    what = [str(source)] if isinstance(source, Path) else ["-c", source]
    return [sys.executable, *options, *what, *arguments]
