"""What the demos share: paragraphs, commands as a person types them, and how a demo ends.

In: text, commands for the shell. Out: what a person sees, on standard output, in lines of a bounded
length.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn

_LONGEST = 100
_PIPE_CLOSED = 141


def say(text: str) -> None:
    """Print a paragraph that explains what follows."""
    print("\n" + textwrap.fill(text, width=80, break_on_hyphens=False), flush=True)


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of commands: `guestlist` is on the PATH, and these are set."""
    tools = Path(sys.executable).parent  # `guestlist` is installed beside this Python
    path = os.pathsep.join([str(tools), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, **variables}


def show_command(
    command: str,
    variables: dict[str, str],
    *,
    directory: Path | None = None,
    may_be: Collection[int] = (),
) -> int:
    """Print a command as a person types it in that directory, and its output; return its status.

    Raises:
        CalledProcessError: the status is neither 0 nor one of `may_be`.
    """
    print(f"$ {command}", flush=True)
    ended = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=directory,
        env=environment(**variables),
        stderr=subprocess.STDOUT,
        check=False,
    )
    if ended.returncode not in {0, *may_be}:
        ended.check_returncode()
    return ended.returncode


def show_until(process: subprocess.Popen[str], awaited: str) -> None:
    """Print what a process prints, up to the line that has these words."""
    assert process.stdout is not None
    for line in process.stdout:
        print(_bounded(line.rstrip("\n")), flush=True)
        if awaited in line:
            return
    raise SystemExit(f"demo: {process.args!r} ended by itself")


def run(main: Callable[[], int]) -> NoReturn:
    """Run a demo, and end the process with its status. What it started ends with it."""
    for each in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(each, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        if error.returncode != _PIPE_CLOSED:
            sys.exit(f"demo: status {error.returncode} of: {error.cmd[-1]}")
        sys.exit(_PIPE_CLOSED)
    except BrokenPipeError:  # the reader has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_PIPE_CLOSED)


def _bounded(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
