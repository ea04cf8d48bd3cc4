"""A shell on a pseudo-terminal: the words that it makes of a line in which a person presses Tab.

In: the shell's name, the programs that it finds, and lines. Out: the words of each line, as the
shell hands them to `guestlist`. The `guestlist` that it finds answers the shell's questions as the
real one does, and otherwise only writes its words down.
"""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from lab.command import environment
from lab.waiting import wait_until

TAB = "\t"
_READY = b"READY>"

PROGRAM = """\
#!/bin/sh
if [ -n "$_ARGCOMPLETE" ] || [ "$1" = completion ]; then exec {command} "$@"; fi
for word; do printf '%s\\0' "$word"; done >"$HOME/words.part" && mv "$HOME/words.part" "$HOME/words"
"""
"""`guestlist`, as the first lines here say; `command` is the real one."""

_PROMPT = {
    "bash": "PS1='READY''>'\n",
    "zsh": "PS1='READY''>'\nunsetopt prompt_sp\nautoload -Uz compinit\n",
    "fish": "set -g fish_greeting\nfunction fish_prompt; echo -n READY'>'; end\n",
}
"""The prompt's two parts are one word only when it is shown, and not in an echo of this text."""

IN_THIS_SHELL = {
    "bash": "source <(guestlist completion bash)\n",
    "zsh": "compinit -D -u\nsource <(guestlist completion zsh)\n",
    "fish": "guestlist completion fish | source\n",
}
IN_EVERY_SHELL = {
    "bash": "mkdir -p ~/.local/share/bash-completion/completions\n"
    "guestlist completion bash > ~/.local/share/bash-completion/completions/guestlist\n"
    ". /usr/share/bash-completion/bash_completion\n",
    "zsh": "mkdir -p ~/.zfunc\n"
    "guestlist completion zsh > ~/.zfunc/_guestlist\n"
    "fpath=(~/.zfunc $fpath)\n"
    "compinit -D -u\n",
    "fish": "mkdir -p ~/.config/fish/completions\n"
    "guestlist completion fish > ~/.config/fish/completions/guestlist.fish\n",
}
"""How a user gets completion, as `guestlist completion --help` says."""


def shell_available(shell: str) -> str | None:
    """Return why the shell cannot be run here; None if it can."""
    if shell == "bash" and not Path("/usr/share/bash-completion/bash_completion").exists():
        return "bash-completion is not installed"
    return None if shutil.which(shell) else f"{shell} is not installed"


class Shell:
    """An interactive shell with completion for `guestlist`; the end of the block kills it.

    `home` is the user's directory, and the one where the shell is; `programs` is first on its PATH.
    `way` is how it gets completion: a text for each shell.
    """

    def __init__(
        self,
        shell: str,
        home: Path,
        programs: Path,
        way: Mapping[str, str] = IN_THIS_SHELL,
        **changes: str,
    ) -> None:
        self.name = shell
        self._home = home
        rc = home / {"bash": ".bashrc", "zsh": ".zshrc", "fish": "start.fish"}[shell]
        rc.write_text(_PROMPT[shell] + way[shell])
        options = {
            "bash": ["--rcfile", str(rc), "-i"],
            "zsh": ["-i"],
            "fish": ["--init-command", f"source {rc}", "-i"],
        }
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", shell, *options[shell]],  # fish wants the terminal as its own
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=home,
            env=environment(
                HOME=str(home),
                ZDOTDIR=str(home),
                XDG_CONFIG_HOME=f"{home}/.config",
                XDG_DATA_HOME=f"{home}/.local/share",
                TERM="xterm",
                PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
                **changes,
            ),
        )
        os.close(theirs)
        self._shown = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def words(self, line: str) -> list[str]:
        """Return the words after `guestlist` in a line that is typed, each Tab answered."""
        made = self._home / "words"
        made.unlink(missing_ok=True)
        wait_until(lambda: _READY in self._read())
        self._shown = b""
        os.write(self._ours, f"{line}\r".encode())
        wait_until(lambda: self._read() is not None and made.exists())
        return made.read_text().split("\0")[:-1]

    def _read(self) -> bytes:
        """Return what the shell has shown since the last line. A shell that is not read stops."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._ours, 65536):
                self._shown += part
        return self._shown
