"""Completion: what guestlist offers to a shell, and what bash, zsh and fish make of it."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path

import pytest
from lab.command import (
    COMMAND,
    NO_HOST,
    TEST_HOST,
    deaf_socket,
    environment,
    run,
    served,
    uri_of,
)
from lab.needs import require
from lab.nodes import Domain
from lab.shells import IN_EVERY_SHELL, PROGRAM, TAB, Shell, shell_available

from guestlist.cli import arguments
from guestlist.cli.completion import SHELLS, completers


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a `guestlist` that completes, and writes the words of other calls down."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "guestlist").write_text(PROGRAM.format(command=" ".join(COMMAND)))
    (folder / "guestlist").chmod(0o755)
    return folder


@pytest.fixture
def offered(programs: Path, tmp_path: Path):
    """Return a function that returns what guestlist offers for a line."""

    def offered(line: str, *, shell: str = "fish", **changes: str) -> list[str]:
        answer = tmp_path / "answer"
        ended = subprocess.run(
            ["sh", "-c", f"guestlist 8>{answer} 9>/dev/null"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(
                PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
                _ARGCOMPLETE="1",
                _ARGCOMPLETE_IFS="\n",
                _ARGCOMPLETE_SHELL=shell,
                _ARGCOMPLETE_SUPPRESS_SPACE="1",
                COMP_LINE=line,
                COMP_POINT=str(len(line)),
                COMP_TYPE="9",
                **changes,
            ),
            check=False,
        )
        assert (ended.stdout, ended.stderr) == ("", "")
        return answer.read_text().split("\n")

    return offered


def named(*names: str) -> list[Domain]:
    return [Domain(name, uuid.UUID(int=number)) for number, name in enumerate(names, 1)]


# What is offered


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", list(arguments.COMMANDS)),
        ("au", ["audit"]),
        ("fleet h", ["hosts"]),
        ("fleet ls --stan", [""]),
        ("fleet ls --endp", ["--endpoints"]),
        ("watch --on", ["--once"]),
        ("watch -f ", ["lines", "json"]),
        ("ls --li", ["--live"]),
        ("ls -f ", ["table", "json", "yaml", "csv", "name", "uuid"]),
        ("ls --format=j", ["--format=json"]),
        ("ls --sort st", ["state"]),
        ("usage --sort disk_v", ["disk_virtual_bytes"]),
        ("ls --columns nam", ["name"]),
        ("ls --columns name,sta", ["name,state"]),
        ("ls --columns name,nam", [""]),
        ("fleet ls --state pau", ["paused"]),
        ("ls --state running,shut", ["running,shut-off"]),
        ("watch --launcher libg", ["libguestfs"]),
        ("ls -c qemu:///sy", ["qemu:///system"]),
        ("completion ", list(SHELLS)),
        ("ls --timeout ", [""]),
        ("exporter --no-coll", [""]),
        ("agent --web.listen-address ", [""]),
    ],
)
def test_what_may_follow(offered, line: str, words: list[str]) -> None:
    assert offered(f"guestlist {line}") == words


def test_options_are_offered_where_nothing_else_can_follow(offered) -> None:
    assert {"--connect", "--all", "--live"} <= set(offered("guestlist ls "))


def test_a_word_comes_with_the_first_clause_of_its_help(offered) -> None:
    shown = offered("guestlist ls --timeo", _ARGCOMPLETE_DFS="\t")
    said = "how long a host may take to answer, the time to type a password included"
    assert shown == [f"--timeout\t{said}"]


def test_files_are_completed_for_options_that_take_one(offered, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "two words.yml").write_text("")
    (tmp_path / ".hidden").write_text("")
    assert offered("guestlist fleet ls --hosts ")[1:] == ["hosts.yml", "more/"]
    assert offered("guestlist fleet ls --hosts more/") == ["more/two words.yml"]
    assert offered("guestlist fleet ls --hosts .hid") == [".hidden"]
    assert offered("guestlist fleet ls --hosts none/") == [""]
    home = {"HOME": str(tmp_path), "shell": "bash"}
    assert offered("guestlist fleet ls --hosts ~/hos", **home) == ["~/hosts.yml"]


def test_hosts_of_the_file_are_completed(offered, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("node1: test:///a\nnode2: test:///b\nother: test:///c\n")
    assert offered("guestlist fleet ls --hosts hosts.yml --on n") == ["node1", "node2"]
    assert offered("guestlist fleet ls --hosts none.yml --on n") == [""]


def test_hosts_of_the_configuration_file_are_completed(offered, tmp_path: Path) -> None:
    file = tmp_path / "guestlist.toml"
    host = served(tmp_path, named("a", "ab"))
    file.write_text(f'[hosts]\nnode7 = "{host}"\n')
    assert offered("guestlist ls -c no", GUESTLIST_CONFIG=str(file)) == ["node7"]
    assert offered("guestlist ls -c node7 --name a", GUESTLIST_CONFIG=str(file)) == ["a", "ab"]
    file.write_text("nonsense")
    assert offered("guestlist ls -c no", GUESTLIST_CONFIG=str(file)) == [""]


def test_names_of_domains_are_those_of_the_hosts_that_the_line_names(offered, tmp_path) -> None:
    one, two = served(tmp_path, named("a", "ab")), served(tmp_path, named("ac"), "two")
    assert offered("guestlist show ", LIBVIRT_DEFAULT_URI=TEST_HOST) == ["test"]
    assert offered(f"guestlist show -c {one} -c {two} a") == ["a", "ab", "ac"]
    assert offered(f"guestlist show -c {one} a a") == ["a", "ab"]


def test_show_completes_the_domains_of_its_hosts(offered) -> None:
    assert "test" in offered(f"guestlist show -c {TEST_HOST} te")


def test_a_domain_that_is_shut_off_is_completed(offered, tmp_path: Path) -> None:
    off = Domain("off", uuid.UUID(int=1), active=False)
    assert offered(f"guestlist show -c {served(tmp_path, [off])} o") == ["off"]


def test_a_name_like_an_option_is_completed_after_two_dashes(offered, tmp_path: Path) -> None:
    host = served(tmp_path, named("-a", "b"))
    assert offered(f"guestlist show -c {host} ") == ["b"]
    assert offered(f"guestlist show -c {host} -- ") == ["-a", "b"]


def test_a_pattern_is_completed_that_matches_this_name_alone(offered, tmp_path: Path) -> None:
    host = served(tmp_path, named("a[1]", "a1", "a*"))
    shown = offered(f"guestlist ls -c {host} --name a")
    assert shown == ["a[*]", "a1", "a[[]1]"]
    assert run("ls", "-a", "-q", "-c", host, "--name", shown[2]).stdout == "a[1]\n"


def test_what_follows_a_colon_is_quoted_whatever_precedes_it(offered, tmp_path: Path) -> None:
    r"""It was cut after it was quoted: too early by a character for each backslash."""
    host = served(tmp_path, named(f"{BACKSLASHES};touch it;:b c"))
    line = f"guestlist show -c {host} {BACKSLASHES * 2}\\;touch\\ it\\;:"
    bash = {"shell": "bash", "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'@><=;|&(:"}
    assert offered(line, **bash) == [r"b\ c"]


@pytest.mark.parametrize("host", [NO_HOST, "none:///", "qemu+ssh://[::1]:1/system"])
def test_a_host_that_cannot_be_asked_offers_nothing_and_says_nothing(offered, host: str) -> None:
    assert "--connect" in offered(f"guestlist show -c {host} ")
    assert offered(f"guestlist show -c {host} a") == [""]


def test_a_host_that_never_answers_is_given_up(offered) -> None:
    assert completers.LONGEST < 2
    with deaf_socket() as deaf:
        assert offered(f"guestlist show -c {uri_of(deaf)} a") == [""]


def test_without_a_shell_that_asks_argcomplete_is_not_loaded_and_nothing_changes() -> None:
    assert run("ls", "-a", "-q", "-c", TEST_HOST).stdout == "test\n"
    assert run("completion", "bash").stdout != run("completion", "fish").stdout


# What the shells make of it


ODD = [
    "two words",
    "it's",
    'say "hi"',
    "$HOME*?[ab]",
    "{a,b}#~a\\b",
    "`id`;b&c|d",
    "!!(x)<x>^%1ä:=",
]
BACKSLASHES = "\\" * 15
FIRST = ["~root", "#5", "=ls", "*", "!!", "$HOME", "'"]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path, programs: Path):
    require(shell_available(request.param))
    with Shell(request.param, tmp_path, programs, LIBVIRT_DEFAULT_URI=TEST_HOST) as shell:
        yield shell


@pytest.mark.heavy
def test_a_shell_completes_options_values_and_names(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "two words.yml").write_text("node one: test:///a\n")
    for line, words in {
        f"ls --li{TAB}": ["ls", "--live"],
        f"ls -f js{TAB}": ["ls", "-f", "json"],
        f"ls --format=js{TAB}": ["ls", "--format=json"],
        f"ls --columns name,sta{TAB}": ["ls", "--columns", "name,state"],
        f"ls -c qemu:///sy{TAB}": ["ls", "-c", "qemu:///system"],
        f"fleet ls --hosts tw{TAB}--on no{TAB}": [
            *("fleet", "ls", "--hosts", "two words.yml", "--on", "node one"),
        ],
        f"show te{TAB}": ["show", "test"],
        f"show 'te{TAB}": ["show", "test"],
    }.items():
        assert shell.words(f"guestlist {line}") == words


@pytest.mark.heavy
@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_finds_the_code_where_the_help_text_puts_it(
    name: str, tmp_path: Path, programs: Path
) -> None:
    require(shell_available(name))
    with Shell(name, tmp_path, programs, IN_EVERY_SHELL) as shell:
        assert shell.words(f"guestlist ls --li{TAB}") == ["ls", "--live"]
        assert shell.words(f"guestlist ls --no-h{TAB}") == ["ls", "--no-headers"]


@pytest.mark.heavy
def test_a_shell_completes_one_command_of_several(shell: Shell) -> None:
    assert shell.words(f"true | guestlist ls --li{TAB}") == ["ls", "--live"]


@pytest.mark.heavy
def test_a_name_reaches_the_command_whatever_it_holds(shell: Shell, tmp_path: Path) -> None:
    names = [f"vm{number:02d}{odd}" for number, odd in enumerate(ODD)]
    host = served(tmp_path, named(*names))
    for name in names:
        words = shell.words(f"guestlist show -c {host} {name[:4]}{TAB}")
        assert words == ["show", "-c", host, name]


@pytest.mark.heavy
def test_a_name_is_completed_within(shell: Shell, tmp_path: Path) -> None:
    names = ["x y;z:1 2", "$(touch it):`id`;b", f"{BACKSLASHES};it=1:b"]
    typed = [r"x\ y\;z:", r"\$\(touch\ it\):", rf"{BACKSLASHES * 2}\;it=1:"]
    host = served(tmp_path, named(*names))
    for name, begun in zip(names, typed, strict=True):
        words = shell.words(f"guestlist show -c {host} {begun}{TAB}")
        assert words == ["show", "-c", host, name]


@pytest.mark.heavy
def test_a_name_may_begin_with_what_a_shell_replaces(shell: Shell, tmp_path: Path) -> None:
    for number, name in enumerate(FIRST):
        host = served(tmp_path, named(name), f"host{number}")
        words = shell.words(f"guestlist show -c {host} {TAB}")
        offers = shell.name == "bash" or not name.startswith("~")
        assert words == ["show", "-c", host, *([name] if offers else [])]
