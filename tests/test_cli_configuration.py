"""The configuration file of the command: what it may say, where it counts, and each mistake."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from lab.command import COMMAND, NO_HOST, TEST_HOST, environment, run, served
from lab.names import ROOT
from lab.nodes import handmade, nova_instance
from lab.schemas import valid
from lab.watching import Watching

from guestlist.cli import arguments, configuration
from guestlist.cli.exits import Exit

RUNNING = nova_instance(1)
OFF = nova_instance(2, active=False)
OURS_BY_ANOTHER_NAME = nova_instance(3, template="vm-%d", with_metadata=False)


class Home:
    """A directory in the place of ~/.config, and the command with it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "guestlist.toml"
        self.changes = {"GUESTLIST_CONFIG": "", "XDG_CONFIG_HOME": str(folder)}

    def says(self, text: str) -> Home:
        self.file.write_text(text)
        return self

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(*words, **self.changes)

    def refusal(self, *words: str) -> str:
        """Return the line with which the command refuses the file."""
        ended = self.run(*words)
        assert (ended.returncode, ended.stdout) == (Exit.USAGE, "")
        assert ended.stderr.count("\n") == 1
        assert ended.stderr[:-1].isprintable()
        return ended.stderr


@pytest.fixture
def home(tmp_path: Path) -> Home:
    folder = tmp_path / "config"
    folder.mkdir()
    return Home(folder)


@pytest.fixture
def one(tmp_path: Path) -> str:
    return served(tmp_path, [RUNNING, OFF, handmade(0), OURS_BY_ANOTHER_NAME], "one")


@pytest.fixture
def two(tmp_path: Path) -> str:
    return served(tmp_path, [nova_instance(4)], "two")


# Where it is


def test_it_is_in_the_home_where_no_other_folder_is_named(tmp_path: Path, one: str) -> None:
    folder = tmp_path / ".config"
    folder.mkdir()
    (folder / "guestlist.toml").write_text(f'[hosts]\none = "{one}"\n')
    for ignored in ("", "relative"):
        ended = run(
            "ls",
            "-qc",
            "one",
            HOME=str(tmp_path),
            XDG_CONFIG_HOME=ignored,
            GUESTLIST_CONFIG="",
        )
        assert ended.stdout == f"{RUNNING.name}\n"


def test_another_file_can_be_named(home: Home, tmp_path: Path, one: str) -> None:
    home.says("nonsense")
    other = tmp_path / "other.toml"
    other.write_text(f'[hosts]\none = "{one}"\n')
    changes = {**home.changes, "GUESTLIST_CONFIG": str(other)}
    assert run("ls", "-qc", "one", **changes).stdout == f"{RUNNING.name}\n"
    ended = run("ls", "-q", "-c", one, **{**home.changes, "GUESTLIST_CONFIG": os.devnull})
    assert ended.returncode == Exit.OK


def test_only_a_file_that_is_named_must_be_there(home: Home, one: str, tmp_path: Path) -> None:
    assert home.run("ls", "-q", "-c", one).returncode == Exit.OK
    nothing = tmp_path / "nothing.toml"
    ended = run("ls", "-c", one, GUESTLIST_CONFIG=str(nothing))
    said = f"guestlist: cannot read the configuration file {nothing}: No such file or directory\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (Exit.USAGE, "", said)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["ls", "--help"], ["ls", "--columns", "help"], ["fleet", "--help"]],
)
def test_help_does_not_read_it(home: Home, words: list[str]) -> None:
    assert home.says("nonsense").run(*words).returncode == Exit.OK


def test_without_one_nothing_more_is_loaded(home: Home, one: str) -> None:
    def loaded() -> set[str]:
        ended = subprocess.run(
            [sys.executable, "-X", "importtime", *COMMAND[1:], "ls", "-c", one],
            capture_output=True,
            text=True,
            env=environment(**home.changes),
            check=True,
        )
        return {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}

    only_with_a_file = {"tomllib", "pathlib", "guestlist.cli.configuration_file"}
    assert not loaded() & {*only_with_a_file, "guestlist.settings_file", "fnmatch", "difflib"}
    home.says("")
    assert loaded() >= only_with_a_file


# Hosts by alias


def test_a_host_by_its_alias(home: Home, one: str) -> None:
    home.says(f'[hosts]\none = "{one}"\n')
    for words in (["ls"], ["usage"], ["watch", "--once"], ["check"], ["fleet", "ls"]):
        by_alias = home.run(*words, "-c", "one", "-f", "json")
        assert by_alias.returncode == Exit.OK
        assert by_alias.stdout


def test_several_hosts_some_by_alias(home: Home, one: str, two: str) -> None:
    """A table shows what the user wrote; programs get URIs, as without the file."""
    home.says(f'[hosts]\none = "{one}"\n"node2.example.org" = "{two}"\n')
    words = ["ls", "-c", "one", "-c", "node2.example.org", "-c", TEST_HOST, "--foreign"]
    rows = home.run(*words).stdout.splitlines()
    assert [row.split()[0] for row in rows] == [
        *("HOST", "one", "one", "one"),
        *("node2.example.org", TEST_HOST),
    ]
    for form in ("json", "yaml", "csv"):
        by_uri = ["ls", "-c", one, "-c", two, "-c", TEST_HOST, "--foreign", "-f", form]
        assert home.run(*words, "-f", form).stdout == run(*by_uri).stdout
    used = home.run("usage", "-c", "one", "-c", two).stdout
    assert "one" in used.split()
    assert two in used.split()
    assert one not in used.split()


def test_an_alias_and_its_uri_are_one_host(home: Home, one: str) -> None:
    home.says(f'[hosts]\none = "{one}"\n')
    ended = home.run("ls", "-q", "-c", "one", "-c", one)
    assert ended.stdout == f"{RUNNING.name}\n"
    assert ended.stderr == f"guestlist: {one} was given 2 times and is asked once\n"


def test_a_message_names_the_uri(home: Home) -> None:
    home.says(f'[hosts]\ngone = "{NO_HOST}"\n')
    ended = home.run("ls", "-c", "gone")
    assert ended.returncode == Exit.UNREACHABLE
    assert ended.stderr.startswith(f"guestlist: cannot connect to {NO_HOST}: ")


def test_a_word_that_is_no_alias_is_libvirts(home: Home) -> None:
    home.says("[hosts]\n")
    ended = home.run("ls", "-c", "node99")
    assert ended.returncode == Exit.UNREACHABLE
    assert ended.stderr.startswith("guestlist: cannot connect to node99: ")


def test_an_alias_that_is_misspelt_is_said(home: Home) -> None:
    home.says(f'[hosts]\nnode7 = "{TEST_HOST}"\n')
    ended = home.run("ls", "-c", "nod7")
    said = "guestlist: the configuration file has no host 'nod7'; is it 'node7'?\n"
    assert ended.returncode == Exit.UNREACHABLE
    assert ended.stderr.startswith(f"{said}guestlist: cannot connect to nod7: ")
    far = home.run("ls", "-c", "zzz").stderr
    assert far.startswith("guestlist: the configuration file has no host 'zzz'\n")


def test_an_audit_asks_the_host_of_an_alias(home: Home, one: str, tmp_path: Path) -> None:
    home.says(f'[hosts]\none = "{one}"\n')
    servers = tmp_path / "servers.json"
    servers.write_text("[]")
    ended = home.run("audit", "--servers", str(servers), "-c", "one", "-f", "json")
    found = {each["uuid"] for each in valid("audit", ended.stdout)["findings"]}
    assert str(RUNNING.uuid) in found


def test_watch_names_several_hosts_by_alias(home: Home, one: str, two: str) -> None:
    home.says(f'[hosts]\none = "{one}"\n')
    with Watching("-c", "one", "-c", two, **home.changes) as watching:
        lines = sorted(watching.lines(2), reverse=True)
        assert lines[0] == f"{two}  watching 1 domain"
        assert lines[1].split(maxsplit=1) == ["one", "watching 2 domains"]
    ended = home.run("watch", "--once", "-f", "json", "-c", "one")
    assert valid("watch", ended.stdout)["host"] == one


def test_a_fleet_knows_a_host_by_its_alias(home: Home, one: str, tmp_path: Path) -> None:
    home.says(f'[hosts]\none = "{one}"\n')
    ended = home.run("fleet", "ls", "-f", "json", "-c", "one", "--on", "o*")
    assert {each["host"] for each in valid("fleet-ls", ended.stdout)} == {"one"}
    other = served(tmp_path, [nova_instance(9)], "other")
    hosts = tmp_path / "hosts.yml"
    hosts.write_text(f"one: {other}\n")
    ended = home.run("fleet", "ls", "-f", "json", "--hosts", str(hosts), "-c", "one")
    assert {each["host"] for each in json.loads(ended.stdout)} == {"one", one}


def test_a_service_takes_an_alias_and_nothing_else(home: Home, one: str) -> None:
    home.says(f'[hosts]\none = "{one}"\n')
    ended = home.run("exporter", "--print", "-c", "one")
    assert ended.returncode == Exit.OK
    assert RUNNING.name in ended.stdout
    home.says("nonsense")
    assert home.run("exporter", "--print", "-c", one).returncode == Exit.OK
    assert "it is no TOML text" in home.refusal("exporter", "--print", "-c", "one")


def test_completion_gets_the_aliases_and_no_error(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in home.changes.items():
        monkeypatch.setenv(name, value)
    assert configuration.aliases() == {}
    home.says('[hosts]\nlab = "test:///default"\n')
    assert configuration.aliases() == {"lab": "test:///default"}
    home.says("nonsense")
    assert configuration.aliases() == {}
    monkeypatch.setenv("GUESTLIST_CONFIG", "/nonexistent")
    assert configuration.aliases() == {}


# Values of options


def test_a_name_template_unless_one_is_given(home: Home, one: str) -> None:
    home.says('name_template = "vm-%d"\n')
    ours = home.run("ls", "-q", "-c", one).stdout.split()
    assert ours == [RUNNING.name, OURS_BY_ANOTHER_NAME.name]
    given = home.run("ls", "-q", "-c", one, "--name-template", "instance-%08x").stdout.split()
    assert given == [RUNNING.name]


def test_verify_unless_an_option_says_no(home: Home, tmp_path: Path) -> None:
    impostor = nova_instance(1, with_metadata=False)
    uri = served(tmp_path, [impostor], "impostor")
    home.says("verify = true\n")
    assert home.run("ls", "-q", "-c", uri).stdout == ""
    assert home.run("ls", "-q", "-c", uri, "--no-verify").stdout.split() == [impostor.name]
    home.says("verify = false\n")
    assert home.run("ls", "-q", "-c", uri, "--verify").stdout == ""


def test_columns_of_the_table_alone(home: Home, one: str, two: str) -> None:
    home.says('columns = ["State", "name"]\n')

    def header(*words: str) -> list[str]:
        return home.run("ls", *words).stdout.splitlines()[0].split()

    assert header("-c", one) == ["STATE", "NAME"]
    assert header("-a", "-c", one) == ["STATE", "NAME"]
    assert header("-c", one, "-c", two) == ["HOST", "STATE", "NAME"]
    assert header("-c", one, "--columns", "uuid") == ["UUID"]
    assert header("-l", "-c", one)[:3] == ["ID", "NAME", "UUID"]
    for words in (["-f", "json"], ["-f", "yaml"], ["-f", "csv"], ["-q"], ["-f", "uuid"]):
        assert home.run("ls", "-c", one, *words).stdout == run("ls", "-c", one, *words).stdout
    home.says('columns = ["name", "host"]\n')
    assert header("-c", one, "-c", two) == ["NAME", "HOST"]


# Mistakes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hosts\n", "it is no TOML text: "),
        ("\n\nname_template == 1\n", "(at line 3, column "),
        ("verify = true\nverify = true\n", "(at line 2, column "),
        ("hots = 1", "there is no key 'hots'; is it 'hosts'?"),
        ("zzz = 1", "there is no key 'zzz'; there are: name_template, verify, columns, hosts"),
        ('"a\\u001b[31m" = 1', "there is no key 'a"),
        ("name_template = 1", "name_template has a value of another kind; write name_template = "),
        ('name_template = "vm"', "name_template: instance_name_template 'vm' cannot be used"),
        ('verify = "yes"', "verify has a value of another kind; write verify = true"),
        ("verify = 1", "verify has a value of another kind; write verify = true"),
        ('columns = "name"', 'columns has a value of another kind; write columns = ["name", '),
        ("columns = []", "columns is no list of names; write columns = "),
        ('columns = ["name", 1]', "columns is no list of names; write columns = "),
        ('columns = ["stat"]', "columns: there is no column 'stat'; is it 'state'?"),
        ('columns = ["zzz"]', "columns: there is no column 'zzz'; there are: host, id, name"),
        ('hosts = ["a"]', "hosts has a value of another kind; write [hosts] and, below it, node1"),
        ('[hosts]\na = ""', "[hosts]: 'a' has an empty URI; write, for example, a = "),
        ("[hosts]\na = 1", "[hosts]: 'a' has no text; write, for example, a = "),
        ('[hosts]\na = "node1"', "[hosts]: 'a' has 'node1', which is no libvirt URI"),
        ('[hosts]\na = "qemu:///\\u001b"', "[hosts]: 'a' has a control character in its URI"),
        ('[hosts]\n"qemu:///system" = "a:b"', "[hosts]: 'qemu:///system' is no alias"),
        ('[hosts]\n"qemu:system" = "a:b"', "[hosts]: 'qemu:system' is no alias"),
        ('[hosts]\n"" = "qemu:///system"', "[hosts]: '' is no alias"),
        ('[hosts]\n"-a" = "qemu:///system"', "[hosts]: '-a' is no alias"),
        ('[hosts]\n"a b" = "qemu:///system"', "[hosts]: 'a b' is no alias"),
        ('[hosts]\n"a\\u202eb" = "qemu:///system"', "[hosts]: 'a"),
        ('[hosts]\nn.a = "qemu:///system"', "[hosts]: 'n' is a table; put a name that has a dot"),
        ('[hosts]\ncolumns = ["name"]', "[hosts] has 'columns', a key that stands above [hosts]"),
        (f"a = {'9' * 5000}", "it has a number that is too long"),
        (f"{'a.' * 300_000}a = 1", "line 1 has more than 10,000 bytes"),
        (f"\n[a{'.a' * 5_000}]", "line 2 has more than 10,000 bytes"),
        (f"a = {'[' * 9_000}", "it is no TOML text: too many brackets within brackets"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_place(home: Home, text: str, said: str) -> None:
    line = home.says(text).refusal("ls", "-c", TEST_HOST)
    assert line.startswith(f"guestlist: {home.file}: ")
    assert said in line
    assert len(line) < 1500


def test_a_text_in_another_encoding(home: Home) -> None:
    home.file.write_bytes(b'verify = true\nname_template = "\xff"\n')
    said = f"guestlist: {home.file}: line 2 is no text in UTF-8\n"
    assert home.refusal("ls", "-c", TEST_HOST) == said


def test_what_is_no_file_of_a_sensible_size(home: Home) -> None:
    cannot = f"guestlist: cannot read the configuration file {home.file}: "
    home.file.mkdir()
    assert home.refusal("ls") == f"{cannot}it is no regular file\n"
    home.file.rmdir()
    os.mkfifo(home.file)
    assert home.refusal("ls") == f"{cannot}it is no regular file\n"
    home.file.unlink()
    home.file.write_bytes(bytes(1_000_001))
    assert home.refusal("ls") == f"{cannot}it has more than 1,000,000 bytes\n"
    home.file.unlink()
    home.file.symlink_to(home.file)
    assert home.refusal("ls").startswith(cannot)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")
def test_a_file_that_may_not_be_read() -> None:
    """As another user: root may read every file. A folder that is closed counts as without one."""
    script = (
        "import os\n"
        "from guestlist.cli import configuration, configuration_file\n"
        "from guestlist.settings_file import BadSettings\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: print(configuration.read())\n"
        "except BadSettings as error: print(error)"
    )

    def said() -> str:
        return subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env=environment(**home.changes),
            check=True,
        ).stdout

    with tempfile.TemporaryDirectory(prefix="gl-", dir="/tmp") as place:
        folder = Path(place)
        home = Home(folder).says("verify = true")
        home.file.chmod(0)
        folder.chmod(0o755)
        assert said() == f"cannot read the configuration file {home.file}: Permission denied\n"
        folder.chmod(0o700)
        assert said() == f"{configuration.Settings()}\n"


def test_every_command_that_has_a_template_refuses_it(home: Home) -> None:
    home.says("nonsense")
    for words in (
        ["usage"],
        ["watch"],
        ["fleet", "ls", "-c", TEST_HOST],
        ["audit", "--servers", "-"],
        ["check", "-c", "lab"],
    ):
        assert "it is no TOML text" in home.refusal(*words)
    assert home.run("check", "-c", TEST_HOST).returncode == Exit.OK


def test_words_win_over_the_file_for_every_command() -> None:
    """Whatever fills in, each command ends up with a template and a decision."""
    for words in (["ls"], ["usage"], ["watch"], ["audit", "--servers", "-"]):
        options: argparse.Namespace = arguments.parse(words)
        assert (options.name_template, options.verify) == ("instance-%08x", False)
        assert (options.aliases, options.usual_columns) == ({}, None)
        options = arguments.parse([*words, "--name-template", "a%d", "--verify"])
        assert (options.name_template, options.verify) == ("a%d", True)


# The page about it


def test_the_examples_of_the_page_are_what_the_command_does(home: Home, tmp_path: Path) -> None:
    """Each command that has output below it, with the file that the page shows."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    home.says(text)
    shown = re.findall(r"^\$ (.*)\n((?:(?!\$ |```).*\n)+)", page, re.M)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "guestlist").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (programs / "guestlist").chmod(0o755)
    changes = {**home.changes, "PATH": f"{programs}:{os.environ['PATH']}"}
    assert len(shown) > 5
    for command, output in shown:
        ended = subprocess.run(
            command,
            shell=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env=environment(**changes),
            check=False,
        )
        assert ended.stdout == output, command


def test_the_page_has_every_key() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    keys = [*configuration.Settings._fields]
    assert [
        key for key in keys if f"| `{key}` |" not in page and f"| `[{key}]` |" not in page
    ] == []
