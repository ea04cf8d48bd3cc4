"""`./dev pictures`, docs/pictures/command.svg: the command at work, from a real run.

A private libvirtd (as in `./dev demo`) has the domains of a compute host. The command runs on a
terminal, over that daemon, while the host changes. Everything in the picture is what the command
printed. Only the times of day are replaced: each line of `watch` is one second after the line
before, so that another run makes the same picture.
"""

from __future__ import annotations

import codecs
import fcntl
import itertools
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.churn import populated
from lab.daemon import Daemon
from lab.nodes import appliance, handmade, nova_instance
from pictures.made import main
from pictures.terminal import picture

NAME = "command.svg"
WIDTH = 88
TITLE = "guestlist at a terminal"
DESCRIPTION = (
    "guestlist ls lists the running guests that Nova launched; guestlist ls -a with columns lists "
    "all domains of the host, with their state, who launched them, their size and owner; guestlist "
    "watch prints each change when it happens, and its cause."
)

HOST = [
    *(nova_instance(n, active=n != 4, paused=n == 3) for n in range(1, 6)),
    appliance(1),
    handmade(0),
]
LISTINGS = (
    "guestlist ls",
    "guestlist ls -a --columns name,state,launcher,vcpus,memory_mib,nova_name,project",
)
WATCH = "guestlist watch -a"

_ENVIRONMENT = {"TERM": "xterm", "XDG_CONFIG_HOME": "/nonexistent"}
"""So that no configuration of this machine's user changes the picture."""

_IS_TIME = re.compile(r"^(\x1b\[[\d;]*m)?\d\d:\d\d:\d\d", re.M)
_FIRST_SECOND = 50


def drawn() -> str:
    """Run the commands over a daemon, and return the picture of the terminal."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    with Daemon() as daemon, populated(daemon.uri(), HOST) as connection:
        guest = connection.lookupByUUID(HOST[3].uuid.bytes)
        shown = [_shown(line, daemon.uri(), []) for line in LISTINGS]
        shown.append(
            _shown(
                WATCH,
                daemon.uri(),
                [
                    ("watching", lambda: None),
                    ("started", guest.create),
                    ("paused", guest.suspend),
                    ("stopped", guest.destroy),
                    ("undefined", guest.undefine),
                ],
            )
        )
    text = "\n".join(shown)
    return picture(text, title=TITLE, description=DESCRIPTION, width=WIDTH)


def _shown(line: str, uri: str, doings: Sequence[tuple[str, Callable[[], object]]]) -> str:
    """Return a command line and what it prints on a terminal.

    `doings` are done in turn: each when the terminal shows the words of the one before; then the
    command is interrupted. Without any the command ends by itself.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    unset = {"NO_COLOR", "COLUMNS", "PYTHONPATH"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    text, decoder = "", codecs.getincrementaldecoder("utf-8")()
    with subprocess.Popen(
        [sys.executable, "-m", *line.split()],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**environment, **_ENVIRONMENT, "LIBVIRT_DEFAULT_URI": uri},
    ) as command:
        os.close(theirs)
        for awaited, do in doings:
            do()
            while awaited not in text:
                text += decoder.decode(os.read(ours, 65536))
        if doings:
            command.send_signal(signal.SIGINT)
        try:
            while chunk := os.read(ours, 65536):
                text += decoder.decode(chunk)
        except OSError:  # Linux says so that the other side has closed
            os.close(ours)
    if not doings and command.returncode:
        raise SystemExit(f"pictures: status {command.returncode} of {line}: {text}")
    seconds = itertools.count(_FIRST_SECOND)
    text = _IS_TIME.sub(lambda found: f"{found[1] or ''}03:02:{next(seconds)}", text)
    return f"$ {line}\n" + text.replace("\r\n", "\n")


if __name__ == "__main__":
    main(NAME, drawn)
