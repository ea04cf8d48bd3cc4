"""docs/tutorial.md is followed to the letter, in order; and what follows a page finds each lie."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab.daemon import Daemon
from lab.needs import require
from lab.transcript import Differs, Shell, blocks, follow

TUTORIAL = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()

_ITS_DAEMON = """
mkdir -p /run/libvirt && mount -t tmpfs none /run/libvirt
for name in libvirt-sock libvirt-sock-ro; do ln -s "$0" "/run/libvirt/$name"; done
agent=$(command -v pkttyagent) && mount --bind /dev/null "$agent"
exec "$@"
"""
"""Lets a shell of root find the socket `$0` where it looks for the daemon of the system. virsh does
not look for polkit, which may be installed here and does not run. The mounts are the shell's alone.
"""


@pytest.fixture
def reader(own_daemon: Daemon) -> Shell:
    """A reader who has installed what the page says, and whose libvirt daemon is this one.

    It is found where libvirt looks for one: an ordinary user's own, or, by root, the system's.
    """
    require(None if shutil.which("virsh") else "virsh is not installed")
    home = own_daemon.directory / "home"
    home.mkdir()
    (home / "guestlist-env").symlink_to(sys.prefix)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    if os.geteuid() == 0:
        inside = ("unshare", "--mount", "sh", "-c", _ITS_DAEMON, own_daemon.socket)
        namespaces = subprocess.run([*inside, "true"], capture_output=True, check=False)
        require(None if namespaces.returncode == 0 else "this machine makes no namespaces")
        return Shell(home, environment, inside)
    runtime = home / "run" / "libvirt"
    runtime.mkdir(parents=True)
    (runtime / "libvirt-sock").symlink_to(own_daemon.socket)
    return Shell(home, {**environment, "XDG_RUNTIME_DIR": str(runtime.parent)})


def test_the_tutorial_works_as_printed(reader: Shell) -> None:
    assert follow(TUTORIAL, reader) > 15


def test_only_the_installation_is_left_out_where_nothing_is_installed() -> None:
    notes = [block.note for block in blocks(TUTORIAL) if not block.note.startswith("terminal")]
    assert [note for note in notes if note] == ["as root", "needs the network"]


# What follows a page


@pytest.fixture
def plain(tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})


def page(*lines: str, note: str = "") -> str:
    """Return a page with a block of a terminal."""
    return "\n".join([*([f"<!-- {note} -->"] if note else []), "```console", *lines, "```", ""])


@pytest.mark.parametrize(
    "lines",
    [
        ("$ echo a; echo; echo b", "a", "b", "$ true", "$ echo c", "c"),
        ("$ printf 'no newline'", "no newline", "$ echo a", "a"),
        ("$ for each in a b", "> do echo $each; done", "a", "b"),
        ("$ seq 9", "1", "…", "8", "9", "$ seq 3", "…"),
        ("$ echo at 12:34:56 on 7", "at 01:02:03 on …"),
        ("$ cd /; x=2", "$ echo $PWD $x", "/ 2"),
        ("$ sleep 1000", "^C", "$ echo a", "a"),
    ],
)
def test_what_is_as_printed_is_followed(plain: Shell, lines: tuple[str, ...]) -> None:
    assert follow(page(*lines), plain) == sum(line.startswith("$ ") for line in lines)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("$ echo b", "a"), "line 3: expected 'a', the terminal shows 'b'"),
        (("$ true", "a"), "line 3: expected 'a', the command has ended"),
        (("$ echo a", "$ true"), "line 3: the terminal shows one more line: 'a'"),
        (("$ echo a; echo b", "a"), "line 3: the terminal shows one more line: 'b'"),
        (("$ seq 9", "1", "…", "10"), "line 5: expected '10', the command has ended"),
        (("$ exit 0", "a"), "line 3: the shell has ended"),
        (("$ echo a; false", "…"), "line 3: status 1; its last line is 'a'"),
        (("$ sleep 1000", "^C", "$ false"), "line 4: status 1; its last line is 'nothing'"),
    ],
)
def test_what_is_not_as_printed_is_found(plain: Shell, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(Differs, match=f"^{said}"):
        follow(page(*lines), plain)


def test_terminals_share_files_and_a_command_goes_on_in_one_while_another_is_used(
    plain: Shell,
) -> None:
    parts = [
        "```python\n# greet.py\nprint('hello')\n```\n",
        page("$ mkfifo pipe", "$ cat pipe"),
        page(f"$ {sys.executable} greet.py > pipe", note="terminal 2"),
        page("hello", "$ echo over", "over"),
    ]
    assert follow("\n".join(parts), plain) == 4


def test_packages_are_installed_by_root_and_by_nobody_else(plain: Shell) -> None:
    root = Shell(plain.home, {**plain.environment, "WHO": "root"})
    text = page("$ echo install $WHO", "install root", note="as root") + page("$ echo $WHO")
    assert follow(text, plain, root=root) == 2
    assert follow(text, plain) == 1
